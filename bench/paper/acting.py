"""Comparison of ways to act: the mode of cql, a sample, or the best of N proposals of cql or bfn.

The weights of a run stay the same; only the way to act changes.

    python -m bench.paper.acting RUN --env cog/PickTray-v0 --episodes 100 --out results/acting.json
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from cogdata.intervals import wilson
from cogdata.storage.store import Store
from cogdata.system.machine import usable_cores
from commands.evaluate import eval_env_of
from trainers.algos.bfn import Bfn
from trainers.algos.cql import Cql
from trainers.checkpoint import load_training
from trainers.evaluation.evaluate import evaluate, open_policy

ACTING_FIRST_SEED = 5_000
"""First evaluation seed; the results table and its curves use others."""
RULES: dict[str, dict[str, dict[str, Any]]] = {
    "cql": {
        "mode": {"acting_samples": 1, "stochastic": False},
        "sample": {"acting_samples": 1, "stochastic": True},
        **{f"best of {count}": {"acting_samples": count} for count in (4, 16, 64)},
    },
    "bfn": {f"best of {count}": {"acting_samples": count} for count in (1, 2, 4, 8, 16, 64)},
}
"""Algorithm → name of a way to act → changed settings."""


def measure(store: Store, run: str, update: int | None, env: str, episodes: int) -> dict[str, Any]:
    """Evaluate a run with every way to act on the same seeds."""
    policy = open_policy(store, run, update)
    learner = policy.learner
    if not isinstance(learner, Bfn | Cql):
        raise SystemExit(f"{run} is of {learner.name}: name a run of cql or bfn")
    if not any("critics" in name or name == "average" for name in learner.acting):
        load_training(store, run, learner, policy.update)  # the Qs, if only the policy acts
        if isinstance(learner, Cql):  # there are no averages of the Qs then
            learner.acting = (*learner.acting, "critics")
    parts, size = learner.spec.obs.names, learner.spec.obs.images[0].shape[0]
    world = eval_env_of(env, size, parts)
    trained, found = learner.config, {}
    for name, rule in RULES[learner.name].items():
        learner.config = replace(learner.config, **rule)
        seeds = range(ACTING_FIRST_SEED, ACTING_FIRST_SEED + episodes)
        rows = evaluate(policy, world, seeds, workers=usable_cores()).rows
        won = sum(rows.column("success").to_pylist())
        low, high = wilson(won, episodes)
        found[name] = {"successes": won, "interval": [round(low, 3), round(high, 3)]}
        print(f"{name:<12}{won:>4}/{episodes}", flush=True)
    return {
        "run": run, "update": policy.update, "env": env, "episodes": episodes,
        "first_seed": ACTING_FIRST_SEED, "config": trained.to_dict(), "rules": found,
    }  # fmt: skip


def main() -> None:
    """Read the command line, evaluate, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", help="of cql or bfn; the newest checkpoint of each")
    parser.add_argument("--update", type=int, help="another checkpoint, one of the newest two")
    parser.add_argument("--env", default="cog/PickTray-v0")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--root", default="cog-store")
    parser.add_argument("--out", type=Path, help="JSON file of the figures")
    options = parser.parse_args()
    store = Store(options.root)
    found = [measure(store, run, options.update, options.env, options.episodes) for run in options.runs]
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
