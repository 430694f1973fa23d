"""Benchmark of the catalog: time of indexing, queries, freezing and verifying with many episodes.

The store is synthetic: real parts of episodes with random numbers and 4×4 images, with the policies and
environments of the recipe ``drawer_all`` in its proportions. Times are wall time in this process, including
opening the catalog and comparing it with the files. Building the store takes about 1.3 ms per episode.

    python -m bench.catalog --episodes 60000
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from catalog.doctor import verify
from catalog.index.db import catalog_path
from catalog.index.sync import rebuild, sync
from catalog.mixtures.mixture import freeze
from catalog.query import run_query
from catalog.recipes import RECIPES, Need, recipe_sql
from cogdata.episode import Episode, EpisodeMeta
from cogdata.layout1 import layout1_spec
from cogdata.rng import generator
from cogdata.storage.collections import CollectionInfo, write_collection
from cogdata.storage.parts import PART_SIZE, PartWriter
from cogdata.storage.store import Store

RECIPE = "drawer_all"
DRAWER_SCENE_FIELDS = tuple(
    f"{thing}_{axis}_m" for thing in ("target", "object", "drawer", "top_drawer") for axis in "xyz"
)

CATALOG_QUERIES = {
    "count": "select count(*) from episodes",
    "group": "select policy, env, count(*), avg(success::int), sum(steps) from episodes group by all",
    "filter": "select episode_id, seed from episodes where not solved and noise > 0.1 order by seed",
    "json": "select avg((policy_params->>'threshold_m')::double) from episodes where policy = 'pick_place'",
    "join": "select c.command, count(*) from episodes e join collections c using (collection) group by all",
    "describe": "describe episodes",
    "all rows": "select * from episodes",
}
STEP_QUERIES = {
    "steps: count": "select count(*) from steps",
    "steps: group": "select phase, count(*), avg(robot[3]), avg(reward) from steps group by all",
    "steps: by policy": "select policy, avg(reward), max(t) from steps join episodes using (episode_id) "
    "group by all",
    "steps: one episode": "select t, robot from steps where episode_id like '%/0000042' order by t",
    "steps: relabel": "select episode_id, bool_or(grasped) from steps group by all",
}
STEP_SHAPE = "select episode_id, t, grasped as reward from steps where action is not null"


def build(store: Store, episodes: int, steps: int) -> int:
    """Write the episodes of the recipe, about ``episodes`` in total; return their exact number."""
    needs = RECIPES[RECIPE].needs
    whole = sum(need.episodes for need in needs)
    written = 0
    for number, need in enumerate(needs):
        name, count = f"{need.policy}-{number}", max(round(episodes * need.episodes / whole), 1)
        info = CollectionInfo(
            name, f"cog collect --for {RECIPE}", need.policy, need.env, 0.2, 0, 4, steps, (0.0, 1.0),
            PART_SIZE, "2026-11-20T10:00:00+00:00", "0", "", {}, "bench",
        )  # fmt: skip
        write_collection(store, info)
        for start in range(0, count, PART_SIZE):
            writer = PartWriter(store, name, start, min(start + PART_SIZE, count))
            for index in range(start, min(start + PART_SIZE, count)):
                writer.add(episode(name, need, index, steps))
            writer.commit()
        written += count
    return written


def episode(collection: str, need: Need, index: int, steps: int) -> Episode:
    """Return an episode of incompressible numbers; 70 % of the task's are solved, 1 % of the prior's."""
    rng = generator(collection, index)
    grasped = np.zeros(steps + 1, bool)
    grasped[-5:] = rng.random() < (0.7 if need.source == "task" else 0.01)
    return Episode(
        meta=EpisodeMeta(
            collection, index, need.env, need.policy, {"threshold_m": float(rng.normal(0.04, 0.01))}, 0.2,
            int(rng.integers(2**62)), "grasped", "grasped",
        ),
        spec=layout1_spec((4, 4), DRAWER_SCENE_FIELDS, ("grasped", "drawer_open")),
        observations={
            "image": rng.integers(0, 256, (steps + 1, 4, 4, 3), np.uint8),
            "robot": rng.random((steps + 1, 10), np.float32),
            "scene": rng.random((steps + 1, len(DRAWER_SCENE_FIELDS)), np.float32),
        },
        action=rng.uniform(-0.9, 0.9, (steps, 8)).astype(np.float32),
        reward=grasped[1:].astype(np.float32),
        terminated=np.zeros(steps, bool),
        truncated=np.arange(steps) == steps - 1,
        predicates={"grasped": grasped, "drawer_open": rng.random(steps + 1) < 0.5},
        phase=("approach",) * (steps - 1) + ("hold",),
    )  # fmt: skip


def times_ms(action: Callable[[], object], repeat: int) -> list[float]:
    """Run an action repeatedly; return the milliseconds of each run, ascending."""
    taken = []
    for _ in range(repeat):
        began = time.perf_counter()
        action()
        taken.append(1000 * (time.perf_counter() - began))
    return sorted(taken)


def show(name: str, taken: list[float]) -> None:
    """Print median, minimum and maximum."""
    spread = f"({taken[0]:.1f} to {taken[-1]:.1f}, {len(taken)} times)" if len(taken) > 1 else ""
    print(f"{name:24} {statistics.median(taken):9.1f} ms   {spread}", flush=True)


def measure(store: Store, repeat: int) -> None:
    """Measure and print every operation."""
    show("sync, everything new", times_ms(partial(sync, store), 1))
    print(f"{'catalog':24} {catalog_path(store).stat().st_size / 1e6:9.1f} MB")
    show("sync, nothing new", times_ms(partial(sync, store), repeat))
    show("rebuild", times_ms(partial(rebuild, store), 3))
    for name, sql in CATALOG_QUERIES.items():
        show(name, times_ms(partial(run_query, store, sql), repeat))
    for name, sql in STEP_QUERIES.items():
        show(name, times_ms(partial(run_query, store, sql), 5))
    recipe = partial(freeze, store, RECIPE, recipe_sql(RECIPE), weights=RECIPES[RECIPE].weights)
    show("freeze the recipe", times_ms(recipe, 1))
    show("freeze, step shape", times_ms(partial(freeze, store, "steps", STEP_SHAPE), 1))
    show("verify", times_ms(partial(verify, store), 1))


def main() -> None:
    """Build a store, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=15_000)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--repeat", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cogdata-bench-") as folder:
        store = Store(str(Path(folder) / "store"))
        episodes = build(store, options.episodes, options.steps)
        size = f"{episodes:,} episodes, {episodes * options.steps:,} transitions"
        print(f"{size}; {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}", flush=True)
        measure(store, options.repeat)


if __name__ == "__main__":
    main()
