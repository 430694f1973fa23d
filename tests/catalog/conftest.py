"""Small synthetic stores for the catalog's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cogdata.episode import Episode, EpisodeMeta
from cogdata.parts import PART_SIZE, CollectionInfo, PartWriter, write_collection
from cogdata.rng import generator
from cogdata.store import Store

Collect = Callable[..., str]


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
        image=rng.integers(0, 256, (steps + 1, pixels, pixels, 3), dtype=np.uint8),
        robot=np.arange((steps + 1) * 10, dtype=np.float32).reshape(steps + 1, 10) / 100 + index,
        scene=np.full((steps + 1, len(fields)), index, np.float32),
        action=np.repeat(np.arange(steps, dtype=np.float32)[:, None] / 100, 8, axis=1),
        reward=placed[1:].astype(np.float32),
        terminated=np.zeros(steps, bool),
        truncated=truncated,
        predicates={"placed": placed, "grasped": np.ones(steps + 1, bool)},
        phase=("approach",) * (steps - 1) + ("hold",),
        scene_fields=tuple(fields),
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


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty local store."""
    root = tmp_path / "store"
    root.mkdir()
    return Store(str(root))


@pytest.fixture
def tray(store: Store) -> Store:
    """12 weak grasps (4 of them solved) and 9 placements (3 solved), 4 actions each."""
    collect_into(store, "grasps", 0, 12)
    collect_into(store, "placements", 0, 9, policy="place", env="cog/PlaceTray-v0")
    return store
