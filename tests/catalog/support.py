"""Small synthetic collections, runs and mixtures for the catalog's tests."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from catalog.index.db import connect
from catalog.index.sync import TABLES
from cogdata.episode import Episode, EpisodeMeta
from cogdata.layout1 import layout1_spec
from cogdata.rng import generator
from cogdata.storage.collections import CollectionInfo, write_collection
from cogdata.storage.manifest import MixtureInfo
from cogdata.storage.parts import PART_SIZE, PartWriter
from cogdata.storage.runs import EVALUATIONS, RunInfo, write_run
from cogdata.storage.store import Store


def make_episode(collection: str, index: int, **options: Any) -> Episode:
    """An episode whose numbers can be told from its index.

    Of T = ``steps`` actions; action[t] = t / 100; every third episode (index % 3 == 0) ends in success, with
    reward 1 on its last two steps.
    """
    steps = options.get("steps", 4)
    pixels = options.get("image_size", 4)
    fields = options.get("scene_fields", ("object_x_m", "object_y_m"))
    solved = index % 3 == 0
    rng = generator(collection, index)
    placed = np.zeros(steps + 1, bool)
    placed[-2:] = solved
    truncated = np.zeros(steps, bool)
    truncated[-1] = True
    return Episode(
        meta=EpisodeMeta(
            collection=collection,
            index=index,
            env=options.get("env", "cog/PickTray-v0"),
            policy=options.get("policy", "weak_grasp"),
            policy_params={"threshold_m": 0.04 + index / 1000},
            noise=options.get("noise", 0.2),
            seed=1000 + index,
            task="placed",
            goal="placed",
        ),
        spec=layout1_spec((pixels, pixels), fields, ("placed", "grasped")),
        observations={
            "image": rng.integers(0, 256, (steps + 1, pixels, pixels, 3), dtype=np.uint8),
            "robot": (np.arange((steps + 1) * 10).reshape(steps + 1, 10) / 100 + index).astype(np.float32),
            "scene": np.full((steps + 1, len(fields)), index, np.float32),
        },
        action=np.repeat(np.arange(steps, dtype=np.float32)[:, None] / 100, 8, axis=1),
        reward=placed[1:].astype(np.float32),
        terminated=np.zeros(steps, bool),
        truncated=truncated,
        predicates={"placed": placed, "grasped": np.ones(steps + 1, bool)},
        phase=("approach",) * (steps - 1) + ("hold",),
    )


def collect_into(store: Store, name: str, start: int, stop: int, **options: Any) -> str:
    """Commit episodes [start, stop) of a collection, part by part, as ``cog collect`` would."""
    write_collection(
        store,
        CollectionInfo(
            name=name,
            command=f"cog collect --name {name}",
            policy=options.get("policy", "weak_grasp"),
            env=options.get("env", "cog/PickTray-v0"),
            noise=options.get("noise", 0.2),
            root_seed=7,
            image_size=options.get("image_size", 4),
            horizon=options.get("steps", 4),
            success_range=(0.2, 0.5),
            part_size=PART_SIZE,
            created_at="2026-11-20T10:00:00+00:00",
            cogdata_version="0.1.0",
            code="",
            libraries={"numpy": "2.4"},
            host="test",
        ),
    )
    while start < stop:
        end = min(stop, (start // PART_SIZE + 1) * PART_SIZE)
        writer = PartWriter(store, name, start, end)
        for index in range(start, end):
            writer.add(make_episode(name, index, **options))
        writer.commit()
        start = end
    return name


def write_run_of(store: Store, run: str, mixture: MixtureInfo, **origin: Any) -> RunInfo:
    """A run that was trained on a mixture, from fresh weights if ``origin`` says nothing else."""
    info = RunInfo(
        run=run,
        mixture=mixture.name,
        mixture_version=mixture.version,
        mixture_digest=mixture.digest,
        algo="bfn",
        preset="fast",
        obs="state",
        seed=3,
        updates=1000,
        batch_size=256,
        config={"gamma": 0.95},
        device="cpu",
        threads=2,
        memory_bytes=1_000_000,
        created_at="2026-11-21T09:00:00+01:00",
        cogdata_version="0.1.0",
        **origin,
    )
    write_run(store, info)
    return info


def write_evaluation(store: Store, run: str, name: str, successes: list[bool]) -> None:
    """One row per judged episode."""
    rows = [
        {
            "run": run,
            "evaluation": name,
            "env": "cog/PickTray-v0",
            "update": 1000,
            "checkpoint_digest": "ab" * 32,
            "seed": 100 + number,
            "success": success,
            "solved": success,
            "first_reward_t": 7 if success else None,
            "steps": 40,
            "total_reward": 1.0 if success else 0.0,
            "stochastic": False,
            "created_at": datetime(2026, 11, 21, 10, 0),
            "placed": success,
            "grasped": True,
            "purpose": "evaluation",
        }
        for number, success in enumerate(successes)
    ]
    store.write_table(
        f"runs/{run}/evaluations/{name}.parquet", pa.Table.from_pylist(rows, schema=EVALUATIONS)
    )


def edit_json(store: Store, path: str, **changes: Any) -> None:
    """Change some fields of a JSON file in the store."""
    store.write_text(path, json.dumps(json.loads(store.read_text(path)) | changes))


def catalog_rows(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table of the catalog, sorted, without the layout's own."""
    with connect(store) as con:
        tables = sorted({name for names in TABLES.values() for name in names} | {"files"})
        return {table: sorted(con.execute(f"FROM base.{table}").fetchall(), key=repr) for table in tables}
