"""What a store holds, read through the interfaces that collecting, training and evaluating use."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch

from catalog.index.sync import sync
from catalog.query import run_query
from cogdata.storage.collections import list_collections, read_collection
from cogdata.storage.manifest import read_manifest
from cogdata.storage.runs import list_runs, read_run
from cogdata.storage.store import Store
from cogdata.streaming.stream import Stream, StreamOptions
from tests.golden.core import files_read
from trainers.checkpoint import load_policy
from trainers.training.batches import tensor_obs
from trainers.training.request import resume_request, run_id

ROWS: Final = ("collections", "parts", "episodes", "steps", "mixtures", "mixture_episodes", "runs")
SUMS: Final = (
    "select count(*) as rows, sum(reward)::double as reward, sum(robot[1])::double as ee_x, "
    "sum(action[8])::double as neutral, count(grasped) as judged from steps"
)


def _actions(store: Store, run: str) -> list[list[float]]:
    """What a run's newest checkpoint does in the first batch of seed 7 of its mixture."""
    learner, _ = load_policy(store, run)
    info = read_run(store, run)
    frozen = read_manifest(store, f"{info.mixture}@{info.mixture_version}")
    batch = next(Stream(store, frozen, StreamOptions(4, 7, memory_bytes=2**24)).batches())
    noise = torch.randn((4, *learner.noise_shape), generator=torch.Generator().manual_seed(7))
    obs = tensor_obs(batch.obs, learner.spec.obs.names, torch.device("cpu"))
    with torch.no_grad():
        actions: list[list[float]] = learner.act(obs, noise).tolist()
    return actions


def _named(store: Store, run: str) -> str:
    """The name that asking for a run's settings again gives it."""
    info = read_run(store, run)
    return run_id(read_manifest(store, f"{info.mixture}@{info.mixture_version}"), resume_request(store, run))


def _declared(store: Store) -> dict[str, Any]:
    """What SQL says of features and of every column of steps, where a collection declares its own."""
    heads = [read_collection(store, name) for name in list_collections(store)]
    if all(head.spec is None for head in heads):
        return {}
    columns = run_query(store, "describe steps").table.to_pylist()
    sums = ", ".join(
        f"count({name}) as n_{name}, sum({f'list_sum({name})' if kind.endswith('[]') else name}::double) as {name}"
        for name, kind in ((one["column_name"], one["column_type"]) for one in columns)
        if kind.removesuffix("[]") in ("FLOAT", "DOUBLE", "BIGINT", "INTEGER", "BOOLEAN")
    )
    return {
        "declared": {head.name: None if head.spec is None else head.spec.identity() for head in heads},
        "columns": run_query(store, f"select {sums} from steps").table.to_pylist()[0],
        "features": run_query(store, "select count(*) as n from features").table["n"][0].as_py(),
        "instructions": run_query(
            store, "select instruction from episodes where instruction is not null order by episode_id"
        ).table["instruction"].to_pylist(),
        "layers": run_query(
            store, "select layer, version, episodes from layers order by layer, version"
        ).table.to_pylist(),
        "captions": run_query(
            store, "select caption, count(*) as n from episodes group by 1 order by 1"
        ).table.to_pylist(),
        "evaluations": [
            row | {"predicates": dict(row["predicates"])}
            for row in run_query(
                store, "select seed, success, total_reward, predicates from evaluations order by seed"
            ).table.to_pylist()
        ],
    }  # fmt: skip


def everything(root: Path) -> dict[str, Any]:
    """What is true of a store, as JSON."""
    store = Store(str(root))
    report = sync(store)
    return {
        **_declared(store),
        "problems": list(report.problems),
        "rows": {
            view: run_query(store, f"select count(*) as n from {view}").table["n"][0].as_py() for view in ROWS
        },
        "steps": run_query(store, SUMS).table.to_pylist()[0],
        **files_read(root),
        "runs": {run: _named(store, run) for run in list_runs(store)},
        "actions": {run: _actions(store, run) for run in list_runs(store)},
    }
