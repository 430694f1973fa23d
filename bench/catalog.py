"""The catalog: how long indexing, queries and freezing take over a store of many episodes.

The store is synthetic and has no pictures: parts of episode and step tables with the columns and types of
real ones, and their commits. Times are wall time in this process; each opens the catalog and compares it
with the files.

    python -m bench.catalog --episodes 15000
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from catalog.db import catalog_path
from catalog.mixture import freeze
from catalog.query import STEPS, run_query
from catalog.sync import rebuild, sync
from cogdata.parts import PART_EPISODES, PART_SIZE, CollectionInfo, Commit, part_name, write_collection
from cogdata.rng import generator
from cogdata.store import Store

POLICIES = {"weak_grasp": "cog/PickTray-v0", "place": "cog/PlaceTray-v0"}
SCENE = tuple(f"object_{name}" for name in ("x_m", "y_m", "z_m", "qx", "qy", "qz", "qw"))

CATALOG_QUERIES = {
    "count": "select count(*) from episodes",
    "group": "select policy, env, count(*), avg(success::int), sum(steps) from episodes group by all",
    "filter": "select episode_id, seed from episodes where not solved and noise > 0.1 order by seed",
    "json": "select avg((policy_params->>'threshold_m')::double) from episodes where policy = 'place'",
    "join": "select c.command, count(*) from episodes e join collections c using (collection) group by all",
    "describe": "describe episodes",
    "all rows": "select * from episodes",
}
STEP_QUERIES = {
    "steps: count": "select count(*) from steps",
    "steps: group": "select phase, count(*), avg(robot[3]), avg(reward) from steps group by all",
    "steps: one episode": "select t, robot, action from steps where episode_id = 'place/0000042' order by t",
    "steps: relabel": "select episode_id, bool_or(placed) from steps group by all",
}
FREEZES = {
    "freeze, episode shape": "select episode_id, policy as source from episodes",
    "freeze, step shape": "select episode_id, t, placed as reward from steps where action is not null",
}


def build(store: Store, episodes: int, steps: int) -> int:
    """Write two collections of half the episodes each; return the number of parts."""
    count = 0
    for policy, env in POLICIES.items():
        info = CollectionInfo(
            policy, f"cog collect --policy {policy}", policy, env, 0.2, 0, 48, steps, (0.0, 1.0), PART_SIZE,
            "2026-11-20T10:00:00+00:00", "0", "", {}, "bench",
        )  # fmt: skip
        write_collection(store, info)
        for start in range(0, episodes // 2, PART_SIZE):
            write_part(store, info, start, min(start + PART_SIZE, episodes // 2))
            count += 1
    return count


def write_part(store: Store, info: CollectionInfo, start: int, stop: int) -> None:
    """Write the tables and the commit of one part; there is no shard behind them."""
    part = part_name(start, stop)
    folder = f"collections/{info.name}/{part}"
    episodes = [episode_row(info, part, index) for index in range(start, stop)]
    store.write_table(f"{folder}/episodes.parquet", pa.Table.from_pylist(episodes, schema=PART_EPISODES))
    floats = [f"{name}.list.element" for name in ("robot", "scene", "action")]
    store.write_table(
        f"{folder}/steps.parquet", step_rows(info, start, stop), compression_level=6, store_schema=False,
        write_statistics=False, use_byte_stream_split=floats, use_dictionary=["episode_id", "phase"],
    )  # fmt: skip
    steps = info.horizon * (stop - start)
    commit = Commit(info.name, part, start, stop, stop - start, steps, steps + stop - start, 0, {})
    store.write_text(f"{folder}/COMMIT.json", json.dumps(asdict(commit)))


def episode_row(info: CollectionInfo, part: str, index: int) -> dict[str, object]:
    """A row as large as real ones: a digest of its own, drawn parameters, three in ten solved."""
    rng = generator(info.name, index)
    solved = bool(rng.random() < 0.3)
    drawn = {"threshold_m": float(rng.normal(0.04, 0.01)), "goal_x_m": float(rng.random())}
    return {
        "episode_id": f"{info.name}/{index:07d}", "collection": info.name, "part": part,
        "episode_index": index, "env": info.env, "policy": info.policy, "noise": info.noise,
        "seed": int(rng.integers(2**62)), "policy_params": json.dumps(drawn),
        "task": "placed", "goal": "grasped", "image_height": 48, "image_width": 48,
        "scene_fields": list(SCENE),
        "steps": info.horizon, "total_reward": float(solved), "success": solved, "solved": solved,
        "terminated": False, "truncated": True, "digest": rng.bytes(32).hex(),
        "shard": f"collections/{info.name}/{part}/frames.tar", "frames_offset": index, "frames_size": 15_000,
        "frames_crc32": 1, "steps_offset": index, "steps_size": 4_000, "steps_crc32": 1,
    }  # fmt: skip


def step_rows(info: CollectionInfo, start: int, stop: int) -> pa.Table:
    """One row per observation, floats that do not compress."""
    rows, count = info.horizon + 1, (stop - start) * (info.horizon + 1)
    rng = generator(info.name, "steps", start)
    last = np.tile(np.arange(rows) == info.horizon, stop - start)

    def lists(size: int, mask: NDArray[np.bool_] | None = None) -> pa.Array:
        values = pa.array(rng.random(count * size, np.float32))
        fixed = pa.FixedSizeListArray.from_arrays(values, size, mask=None if mask is None else pa.array(mask))
        return fixed.cast(pa.list_(pa.float32()))

    columns = {
        "episode_id": pa.array(np.repeat([f"{info.name}/{index:07d}" for index in range(start, stop)], rows)),
        "t": pa.array(np.tile(np.arange(rows, dtype=np.int32), stop - start)),
        "robot": lists(10),
        "scene": lists(len(SCENE)),
        "action": lists(8, last),
        "reward": pa.array((rng.random(count) < 0.02).astype(np.float32), mask=last),
        "terminated": pa.array(np.zeros(count, bool), mask=last),
        "truncated": pa.array(np.zeros(count, bool), mask=last),
        "phase": pa.array(np.tile(["approach"] * (rows - 1) + ["hold"], stop - start), mask=last),
        "grasped": pa.array(rng.random(count) < 0.3),
        "placed": pa.array(rng.random(count) < 0.02),
    }
    empty = pa.nulls(count, pa.bool_())
    return pa.table({name: columns.get(name, empty) for name in STEPS.names}, STEPS)


def times_ms(action: Callable[[], object], repeat: int) -> list[float]:
    """Run an action again and again; return the milliseconds of each time, ascending."""
    taken = []
    for _ in range(repeat):
        began = time.perf_counter()
        action()
        taken.append(1000 * (time.perf_counter() - began))
    return sorted(taken)


def show(name: str, taken: list[float]) -> None:
    """Print median, least and most."""
    spread = f"({taken[0]:.1f} to {taken[-1]:.1f}, {len(taken)} times)" if len(taken) > 1 else ""
    print(f"{name:24} {statistics.median(taken):9.1f} ms   {spread}")


def main() -> None:
    """Build a store, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=15_000)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--repeat", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cogdata-bench-") as folder:
        store = Store(str(Path(folder) / "store"))
        parts = build(store, options.episodes, options.steps)
        size = f"{options.episodes:,} episodes, {options.episodes * options.steps:,} transitions"
        print(f"{size}, {parts} parts; {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}")
        show("sync, everything new", times_ms(partial(sync, store), 1))
        print(f"{'catalog':24} {catalog_path(store).stat().st_size / 1e6:9.1f} MB")
        show("sync, nothing new", times_ms(partial(sync, store), options.repeat))
        show("rebuild", times_ms(partial(rebuild, store), 3))
        for name, sql in CATALOG_QUERIES.items():
            show(name, times_ms(partial(run_query, store, sql), options.repeat))
        for name, sql in STEP_QUERIES.items():
            show(name, times_ms(partial(run_query, store, sql), 5))
        for number, (name, sql) in enumerate(FREEZES.items()):
            show(name, times_ms(partial(freeze, store, f"mix{number}", sql), 1))


if __name__ == "__main__":
    main()
