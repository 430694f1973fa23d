"""Episodes of another robot, and a mixture of them, whose numbers tell which episode and step they are of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from cogdata.episode import Episode, EpisodeMeta
from cogdata.features import EpisodeSpec, Feature, Per
from cogdata.storage.manifest import EPISODES, REWARDS, Manifest, MixtureInfo, SourceCounts, Stats
from cogdata.storage.parts import PartWriter
from cogdata.storage.samples import MEMBERS
from cogdata.storage.store import Store

COLUMNS = pa.schema(
    [
        *(one for one in EPISODES if one.name not in ("observations", "members", "embodiment")),
        ("observations", pa.int32()),
        ("members", MEMBERS),
        ("embodiment", pa.string()),
    ]
)


def spec_of(joints: int = 2, motors: int = 1) -> EpisodeSpec:
    """Declare an arm of so many joints and motors."""
    return EpisodeSpec(
        observations=(
            Feature("camera", "uint8", (2, 2, 1), codec="zst"),
            Feature("joints", "float64", (joints,)),
            Feature("subtask", "string"),
        ),
        action=Feature("action", "float32", (motors,), Per.TRANSITION),
        extras=(
            Feature("instruction", "string", per=Per.EPISODE),
            Feature("mass_kg", "float64", per=Per.EPISODE),
            Feature("intervention", "bool", per=Per.TRANSITION),
        ),
        rate_hz=10.0,
    )


def arm_episode(
    index: int, steps: int = 4, *, final: bool = True, joints: int = 2, motors: int = 1, **changes: Any
) -> Episode:
    """Step t of episode i: joints and camera are 10 i + t, the action is 10 i + t + 0.5, the reward t + 1."""
    rows = steps + final
    number = 10 * index + np.arange(rows)
    values: dict[str, Any] = {
        "meta": EpisodeMeta("arm", index, "lab:Arm", "replay", {}, 0.0, index, None, None),
        "spec": spec_of(joints, motors),
        "observations": {
            "camera": np.broadcast_to(number[:, None, None, None], (rows, 2, 2, 1)).astype(np.uint8),
            "joints": np.repeat(number[:, None].astype(np.float64), joints, axis=1),
            "subtask": np.array([None, *["reach", "grasp"] * rows][:rows], object),
        },
        "action": np.repeat(number[:steps, None] + 0.5, motors, axis=1).astype(np.float32),
        "reward": np.arange(1, steps + 1, dtype=np.float32),
        "terminated": np.zeros(steps, bool),
        "truncated": np.zeros(steps, bool),
        "predicates": {},
        "phase": ("replay",) * steps,
        "extras": {
            "instruction": np.array([f"take cup {index}"], object),
            "mass_kg": np.array([index / 4]),
            "intervention": np.arange(steps) == 1,
        },
    }
    return Episode(**values | changes)


def write_arm(store: Store, episodes: Sequence[Episode]) -> list[dict[str, Any]]:
    """Commit episodes 0 … n - 1 and return their rows."""
    rows = []
    for index, episode in enumerate(episodes):  # a part each: they may be declared in different ways
        name = f"arm{index}"
        meta = EpisodeMeta(**vars(episode.meta) | {"collection": name, "index": 0})
        writer = PartWriter(store, name, 0, 1)
        writer.add(Episode(**vars(episode) | {"meta": meta}))
        path = f"collections/{name}/{writer.commit().part}/episodes.parquet"
        rows += store.read_table(path).to_pylist()
    return rows


def arm_manifest(
    rows: Sequence[Mapping[str, Any]],
    *,
    changes: Mapping[int, Mapping[str, Any]] | None = None,
    times: Sequence[Sequence[int]] | None = None,
    sources: Sequence[str] | None = None,
    weights: dict[str, float] | None = None,
    **info: Any,
) -> Manifest:
    """Freeze rows in memory.

    Args:
        rows: Of episodes.parquet.
        changes: Number of a row → columns that differ, for example t_start.
        times: t of the chosen steps of each row: a mixture step by step.
        sources: Source of each row; None: "data".
        weights: Shares.
        info: ``declared`` and ``selection`` of the head.
    """
    named = sources or ["data"] * len(rows)
    entries = [
        {name: row[name] for name in COLUMNS.names if name in row}
        | {"source": source, "reward": None, "weight": 1.0, "t_start": 0, "t_end": row["steps"]}
        | dict((changes or {}).get(number, {}))
        for number, (row, source) in enumerate(zip(rows, named, strict=True))
    ]
    table = pa.Table.from_pylist(entries, schema=COLUMNS)
    rewards = None
    if times is not None:
        labels = {"episode_id": [row["episode_id"] for row in rows], "t": times}
        rewards = pa.table(labels | {"reward": [[None] * len(t) for t in times]}, schema=REWARDS)
    counts = {name: SourceCounts(named.count(name), 0, 0, 0) for name in sorted(set(named))}
    head = MixtureInfo(
        name="arms", version=1, digest="0" * 64, sql="", shape="episode" if times is None else "step",
        weights=weights or {}, counts=counts, image_size=None, scene_fields=(),
        created_at="2026-01-01T00:00:00", cogdata_version="0", **({"declared": spec_of()} | info),
    )  # fmt: skip
    return Manifest(head, table, rewards, Stats({}, {}))
