"""`cog demo`: from an empty folder to an evaluated policy."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.collect import local_engine, run_collection
from commands.evaluate import evaluate_run
from commands.requests import check_updates
from commands.shared import Seed, open_root, say, say_frozen, seed_range, update_catalog, worker_count
from commands.train import train_run

if TYPE_CHECKING:
    from cogdata.storage.store import Store

DEMO_ENVS = ("cog/PickTray-v0", "cog/PlaceTray-v0")
DEMO_METHODS = {"bc": "behaviour cloning", "bfn": "COG, best of N in sample"}


def demo_command(
    prior: Annotated[int, typer.Option(help="Weak grasps to collect.")] = 2000,
    task: Annotated[int, typer.Option(help="Placements to collect.")] = 1000,
    episodes: Annotated[int, typer.Option(help="To evaluate each method on, per environment.")] = 100,
    updates: Annotated[
        int | None, typer.Option(help="Gradient updates of each method; else the preset's.")
    ] = None,
    workers: Annotated[str, typer.Option(help="Processes: a number, or auto for one per core.")] = "auto",
    seed: Seed = 0,
    root: Annotated[str, typer.Option("--root", help="Store to fill.")] = "cog-demo",
) -> None:
    """From nothing to an evaluated policy: collect, freeze place_in_tray, train, evaluate, report."""
    from catalog.recipes import refreeze
    from cogdata.storage.manifest import read_manifest
    from cogdata.system.machine import usable_cores
    from trainers.algos import configure
    from trainers.training.request import TrainRequest

    check_updates(updates)
    began, store = time.monotonic(), open_root(root)
    count, chosen = worker_count(workers), seed_range(None, episodes)
    _collect(store, {"weak_grasp": prior, "place": task}, seed, count)
    frozen = refreeze(store, "place_in_tray")
    say_frozen(frozen)
    manifest = read_manifest(store, frozen.info.ref)
    evaluated = []
    for algo in DEMO_METHODS:
        config = configure(algo, "fast", [f"updates={updates}"] if updates is not None else [])
        run, _ = train_run(
            store,
            manifest,
            TrainRequest(algo, config, "fast", "state", seed, "cpu", usable_cores()),
            again="the same command",
        )
        evaluated += [
            (algo, evaluate_run(store, run, env, chosen, update=None, workers=count, record=0))
            for env in DEMO_ENVS
        ]
    update_catalog(store)
    _demo_report(store, manifest, evaluated, time.monotonic() - began)


def _collect(store: Store, wanted: dict[str, int], seed: int, workers: int) -> None:
    """Collect what is missing of so many episodes of each policy."""
    from collectors.collect import plan, request

    for policy, episodes in wanted.items():
        planned = plan(store, request(policy, root_seed=seed), episodes)
        if planned.missing:
            say(f"collecting {planned.missing:,} episodes of {policy} in {planned.asked.env}")
            run_collection(store, planned, local_engine(workers))


def _demo_report(store: Store, manifest: Any, evaluated: list[tuple[str, Any]], seconds: float) -> None:  # noqa: ANN401
    from trainers.evaluation.lineage import lineage, sheets
    from trainers.evaluation.report import Report, Score, render, text_table
    from trainers.training.runlog import read_metrics

    scores = [
        Score(
            found.run, DEMO_METHODS[algo], found.rows["env"][0].as_py(), found.successes, found.rows.num_rows
        )
        for algo, found in evaluated
    ]
    runs = list(dict.fromkeys(score.run for score in scores))
    report = Report(
        title="Place in tray: two skills joined that nobody ever showed together",
        summary=(
            f"Weak grasps without reward and placements that start in the gripper, in one mixture; state "
            f"observations; evaluated on {scores[0].episodes} scenes per start. The command took "
            f"{seconds / 60:.1f} minutes."
        ),
        scores=scores,
        sheets=sheets(store, manifest),
        curves={run: read_metrics(store, run) for run in runs},
        lineage=lineage(store, manifest, [found for _, found in evaluated]),
    )
    store.write_text("report.html", render(report))
    figures = [vars(score) | {"rate": score.rate} for score in scores]
    found = {"seconds": round(seconds), "mixture_digest": manifest.info.digest, "scores": figures}
    store.write_text("report.json", json.dumps(found, indent=2))
    say()
    say(text_table(scores))
    say()
    say(f"{seconds / 60:.1f} minutes · {store.path('report.html')}")
