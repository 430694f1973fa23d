"""A learning curve: evaluations of checkpoints of a run, or of a chain of runs, over training time.

    python -m bench.paper.curve RUN --env cog/PickTray-v0 --env cog/PlaceTray-v0 --every 3000 --episodes 50 \
        --last 250 --out results/pixels.json --plot docs/pixels.png
    python -m bench.paper.curve STAGE-1 STAGE-2 …  # minutes are added over the stages

Success is that of the last step, on seeds from 0, which no collected episode has.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

from cogdata.intervals import wilson
from cogdata.storage.runs import read_run
from cogdata.storage.store import Store
from cogdata.system.machine import usable_cores
from commands.evaluate import eval_env_of
from trainers.checkpoint import list_checkpoints, read_info
from trainers.evaluation.evaluate import evaluate, open_policy, write_evaluation


def chosen(updates: list[int], every: int) -> list[int]:
    """Return the checkpoints to evaluate: multiples of ``every`` and the last one."""
    return sorted({*(update for update in updates if update % every == 0), updates[-1]})


def evaluate_checkpoint(store: Store, run: str, update: int, env: str, episodes: int) -> dict[str, Any]:
    """Evaluate a checkpoint and write the evaluation into the store."""
    policy = open_policy(store, run, update)
    parts, size = policy.learner.spec.obs.names, policy.learner.spec.obs.images[0].shape[0]
    world = eval_env_of(env, size, parts)
    found = evaluate(policy, world, list(range(episodes)), workers=usable_cores())
    write_evaluation(store, found)
    low, high = wilson(found.successes, episodes)
    return {
        "run": run, "update": update, "env": env, "episodes": episodes, "successes": found.successes,
        "interval": [round(low, 3), round(high, 3)],
    }  # fmt: skip


def measure(store: Store, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Evaluate the chosen checkpoints of the chain, the very last one on more episodes."""
    points, before = [], 0.0
    for run in options.runs:
        updates = [update for update in list_checkpoints(store, run) if update <= options.until]
        for update in chosen(updates, options.every):
            minutes = (before + read_info(store, run, update).seconds) / 60
            end = run == options.runs[-1] and update == updates[-1]
            for env in options.env:
                point = evaluate_checkpoint(
                    store, run, update, env, options.last if end else options.episodes
                )
                points.append(point | {"minutes": round(minutes, 1)})
                print(
                    f"{minutes:6.1f} min  {update:>7,}  {env}  {point['successes']}/{point['episodes']}",
                    flush=True,
                )
        before += read_info(store, run, updates[-1]).seconds
    return points


def draw(points: list[dict[str, Any]], path: Path) -> None:
    """Plot success against minutes, a line per environment, with 95 % intervals."""
    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3), dpi=110)
    for env in dict.fromkeys(point["env"] for point in points):
        own = [point for point in points if point["env"] == env]
        minutes = [point["minutes"] for point in own]
        axes.plot(
            minutes, [point["successes"] / point["episodes"] for point in own], marker="o", ms=3, label=env
        )
        low, high = zip(*(point["interval"] for point in own), strict=True)
        axes.fill_between(minutes, low, high, alpha=0.15)
    axes.set(xlabel="minutes of training", ylabel="success", ylim=(-0.02, 1.02))
    axes.legend(loc="lower right", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    """Read the command line, evaluate, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", help="run ids, each begun from the one before")
    parser.add_argument("--env", action="append", required=True)
    parser.add_argument("--every", type=int, default=3_000, help="updates between evaluated checkpoints")
    parser.add_argument("--until", type=int, default=10**9, help="leave later checkpoints alone")
    parser.add_argument("--episodes", type=int, default=50, help="of each checkpoint but the last")
    parser.add_argument("--last", type=int, default=250, help="episodes of the last one")
    parser.add_argument("--root", default="cog-store")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the figures")
    parser.add_argument("--plot", type=Path, help="PNG file of the curve")
    options = parser.parse_args()
    store = Store(options.root)
    points = measure(store, options)
    runs = [vars(read_run(store, run)) for run in options.runs]
    options.out.write_text(json.dumps({"points": points, "runs": runs}, indent=1) + "\n")
    if options.plot is not None:
        draw(points, options.plot)


if __name__ == "__main__":
    main()
