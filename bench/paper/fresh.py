"""Evaluation of the results' checkpoints on fresh seeds, which were not used to choose any setting.

Outcomes are written into the store of the run as rows of ``evaluations``, as ``cog eval`` does; existing
evaluations are reused.

    python -m bench.paper.fresh results/table1/*-bfn-s?.json --roots cog-store --out results/fresh_scenes.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cogdata.storage.manifest import read_info
from cogdata.storage.store import Store, open_store
from commands.evaluate import eval_env_of
from trainers.checkpoint import list_checkpoints
from trainers.obs_kinds import OBS_KINDS
from trainers.paper.ablations import CONDITION_LABELS
from trainers.paper.figures import METHOD_LABELS
from trainers.paper.files import read_result
from trainers.paper.reproduce import Evaluator
from trainers.paper.results import Evaluated, Result

FRESH_FIRST_SEED = 50_000
"""First evaluation seed; the results table, its curves and the other benchmarks use others."""


def store_of(result: Result, roots: list[str]) -> Store:
    """Return the store with the evaluated checkpoint."""
    last = result.runs[-1]
    for root in roots:
        store = open_store(root)
        if last.updates in list_checkpoints(store, last.run):
            return store
    raise SystemExit(f"{last.run} at {last.updates} is in none of {', '.join(roots)}")


def evaluate_again(store: Store, result: Result, there: Evaluated, workers: int) -> Evaluated:
    """Evaluate the same checkpoint in the same environment, on as many fresh seeds."""
    run, features = result.runs[-1].run, OBS_KINDS[result.experiment.obs]
    size = read_info(store, result.data.mixture).camera_size[0]
    evaluator = Evaluator(store, run, lambda env: eval_env_of(env, size, features), lambda _: None, workers)
    seeds = range(FRESH_FIRST_SEED, FRESH_FIRST_SEED + there.episodes)
    found = evaluator.evaluate(there.update, there.env, seeds)
    if found.checkpoint_digest != there.checkpoint_digest:
        raise SystemExit(
            f"{run} at {there.update} in {store.url} is not the checkpoint of {result.experiment.name}"
        )
    return found


def table(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Format Markdown rows: condition, observation, method, successes on table and fresh seeds, seeds."""
    sums: dict[tuple[str, str, str], tuple[int, int, int, int]] = {}
    for line in lines:
        _, obs, _, method, _ = line["result"].split("-")
        key = (line["env"], "poses" if obs == "state" else "pixels", method)
        before, after, scenes, seeds = sums.get(key, (0, 0, 0, 0))
        won = line["outcomes"].count("1")
        sums[key] = (before + line["table"], after + won, scenes + len(line["outcomes"]), seeds + 1)
    return [
        f"| {CONDITION_LABELS[env]} | {seen} | {METHOD_LABELS[method]} "
        f"| {before}/{scenes} | {after}/{scenes} | {seeds} |"
        for (env, seen, method), (before, after, scenes, seeds) in sums.items()
    ]


def main() -> None:
    """Evaluate, print a line per condition, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--roots", nargs="+", default=["cog-store"], help="stores that may hold the runs")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    lines: list[dict[str, Any]] = []
    for path in asked.results:
        result = read_result(path)
        store = store_of(result, asked.roots)
        for there in result.evaluated:
            again = evaluate_again(store, result, there, asked.workers)
            print(
                f"{path.stem:<52}{there.env:<24}{there.successes:>4}/{there.episodes}"
                f"{again.successes:>6}/{again.episodes}",
                flush=True,
            )
            lines.append(
                {
                    "result": path.stem,
                    "env": there.env,
                    "first_seed": FRESH_FIRST_SEED,
                    "checkpoint_digest": again.checkpoint_digest,
                    "table": there.successes,
                    "outcomes": again.outcomes,
                }
            )
    print("\n".join(table(lines)))
    if asked.out is not None:
        asked.out.write_text(json.dumps(lines, indent=1) + "\n")


if __name__ == "__main__":
    main()
