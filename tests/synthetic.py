"""Small episodes, collections and mixtures whose numbers can be told from their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from cogdata.episode import Episode, EpisodeMeta
from cogdata.layout1 import layout1_spec
from cogdata.rng import generator
from cogdata.storage.manifest import EPISODES, Manifest, MixtureInfo, SourceCounts, Stats, mixture_digest
from cogdata.storage.parts import PART_SIZE, PartWriter
from cogdata.storage.store import Store


def make_episode(collection: str, index: int, *, steps: int = 4, size: int = 4) -> Episode:
    """Frame t of episode i: robot[0] = i, robot[1] = t; every third episode is rewarded on its last step."""
    rng = generator("synthetic", collection, index)
    robot = np.zeros((steps + 1, 10), np.float32)
    robot[:, 0], robot[:, 1] = index, np.arange(steps + 1)
    placed = np.zeros(steps + 1, bool)
    placed[-1] = index % 3 == 0
    truncated = np.arange(steps) == steps - 1
    return Episode(
        meta=EpisodeMeta(collection, index, "cog/PickTray-v0", "weak_grasp", {"threshold_m": 0.04}, 0.2,
                         1000 + index, "placed", "placed"),
        spec=layout1_spec((size, size), ("object_x_m", "object_y_m"), ("placed", "grasped")),
        observations={
            "image": rng.integers(0, 256, (steps + 1, size, size, 3), np.uint8),
            "robot": robot,
            "scene": np.full((steps + 1, 2), index, np.float32),
        },
        action=rng.uniform(-0.9, 0.9, (steps, 8)).astype(np.float32),
        reward=placed[1:].astype(np.float32),
        terminated=np.zeros(steps, bool),
        truncated=truncated,
        predicates={"placed": placed, "grasped": ~placed},
        phase=("approach",) * (steps - 1) + ("hold",),
    )  # fmt: skip


def write_episodes(store: Store, collection: str, count: int, **options: Any) -> list[dict[str, Any]]:
    """Commit episodes 0 … count - 1 and return their rows."""
    rows: list[dict[str, Any]] = []
    for start in range(0, count, PART_SIZE):
        stop = min(start + PART_SIZE, count)
        writer = PartWriter(store, collection, start, stop)
        for index in range(start, stop):
            writer.add(make_episode(collection, index, **options))
        path = f"collections/{collection}/{writer.commit().part}/episodes.parquet"
        rows += store.read_table(path).to_pylist()
    return rows


def make_manifest(
    rows: Sequence[dict[str, Any]],
    sources: Sequence[str],
    *,
    weights: dict[str, float] | None = None,
    reward: dict[str, float] | None = None,
    rewards: pa.Table | None = None,
    row_weight: Sequence[float] | None = None,
) -> Manifest:
    """Freeze rows in memory, one source name each."""
    entries = [
        {
            **{name: row[name] for name in EPISODES.names if name in row},
            "source": source,
            "reward": (reward or {}).get(source),
            "weight": row_weight[i] if row_weight else 1.0,
            "t_start": 0,
            "t_end": row["steps"],
        }
        for i, (row, source) in enumerate(zip(rows, sources, strict=True))
    ]
    table = pa.Table.from_pylist(entries, schema=EPISODES)
    counts = {
        name: SourceCounts(
            sum(s == name for s in sources),
            sum(r["steps"] for r, s in zip(rows, sources, strict=True) if s == name),
            0,
            0,
        )
        for name in set(sources)
    }
    info = MixtureInfo(
        name="synthetic",
        version=1,
        digest=mixture_digest(table, rewards, weights or {}),
        sql="",
        shape="episode" if rewards is None else "step",
        weights=weights or {},
        counts=counts,
        image_size=(rows[0]["image_height"], rows[0]["image_width"]),
        scene_fields=tuple(rows[0]["scene_fields"]),
        created_at="2026-01-01T00:00:00",
        cogdata_version="0",
    )
    unit = {"robot": [0.0] * 10, "scene": [0.0] * 2, "action": [0.0] * 8}
    return Manifest(info, table, rewards, Stats(unit, {name: [1.0] * len(v) for name, v in unit.items()}))
