"""Ablations of the default settings: learners on the tray task from states, one setting changed at a time.

Every ablation is a run of the store. All are evaluated on the same seeds, with the object on the table, where
no rewarded episode starts, and with it in the gripper.

    cog collect --policy weak_grasp --episodes 2000 && cog collect --policy place --episodes 1000
    python -m bench.paper.ablations --root cog-store --updates 4000 --out results/ablations.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cli

EVALUATION_ENVS = ("cog/PickTray-v0", "cog/PlaceTray-v0")
UNBALANCED = "place_in_tray_unbalanced"
SETTING_ABLATIONS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "bfn, the defaults": ("bfn", "place_in_tray", ()),
    "success is not absorbing": ("bfn", "place_in_tray", ("success=continuing",)),
    "discount .99": ("bfn", "place_in_tray", ("discount=0.99",)),
    "discount .9": ("bfn", "place_in_tray", ("discount=0.9",)),
    "targets follow at .005": ("bfn", "place_in_tray", ("target_rate=0.005",)),
    "one critic": ("bfn", "place_in_tray", ("critics=1",)),
    "four critics": ("bfn", "place_in_tray", ("critics=4",)),
    "the average follows at .02": ("bfn", "place_in_tray", ("average_rate=0.02",)),
    "learning rate 3e-4": ("bfn", "place_in_tray", ("learning_rate=3e-4",)),
    "uniform over transitions": ("bfn", UNBALANCED, ()),
    "cql, the defaults": ("cql", "place_in_tray", ()),
    "cql, LayerNorm in the critics": ("cql", "place_in_tray", ("layer_norm=true",)),
    "iql, the defaults": ("iql", "place_in_tray", ()),
    "bc": ("bc", "place_in_tray", ()),
    "bc, flow head": ("bc", "place_in_tray", ("head=flow",)),
    "bc, mixture head, hybrid actions": ("bc", "place_in_tray", ("head=mixture", "hybrid=true")),
}
"""Name → algorithm, mixture, settings."""


def cog(root: str, *command: str) -> str:
    """Run a command; return what it printed."""
    done = subprocess.run(
        [sys.executable, cli.__file__, *command, "--root", root],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def freeze_unbalanced(root: str) -> None:
    """Freeze the recipe's mixture without its shares: batches are uniform over transitions."""
    sql = (
        "select episode_id, source, reward from mixture_episodes "
        "where mixture = 'place_in_tray' and version = 1"
    )
    cog(root, "query", sql, "--as", UNBALANCED)


def measure(root: str, name: str, updates: int, seed: int, episodes: int) -> dict[str, Any]:
    """Train and evaluate an ablation."""
    algo, mixture, settings = SETTING_ABLATIONS[name]
    chosen = [word for setting in settings for word in ("--set", setting)]
    said = cog(
        root, "train", "--mixture", mixture, "--algo", algo, "--obs", "state", "--updates", str(updates),
        "--seed", str(seed), "--threads", "1", "--guard", "off", *chosen,
    )  # fmt: skip
    run = said.strip().splitlines()[-1].split(":")[0]
    env_options = [word for env in EVALUATION_ENVS for word in ("--env", env)]
    cog(
        root,
        "eval",
        run,
        *env_options,
        "--episodes",
        str(episodes),
        "--workers",
        "1",
        "--update",
        str(updates),
    )
    sql = (
        f"select env, count(*) filter (success) as successes from evaluations where run = '{run}' and "
        f"update = {updates} and seed < {episodes} and purpose = 'evaluation' group by env"
    )
    rows = json.loads(cog(root, "query", sql, "--format", "json"))
    found = {row["env"]: row["successes"] for row in rows}
    return {"variant": name, "run": run, "settings": list(settings), "seed": seed, "successes": found}


def main() -> None:
    """Read the command line, measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", default="cog-store", help="store with weak grasps and placements")
    parser.add_argument("--updates", type=int, default=4_000)
    parser.add_argument("--episodes", type=int, default=50, help="evaluation episodes per environment")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file of the figures")
    options = parser.parse_args()
    cog(
        options.root,
        "train",
        "--mixture",
        "place_in_tray",
        "--algo",
        "bc",
        "--obs",
        "state",
        "--updates",
        "1",
    )
    freeze_unbalanced(options.root)
    results = []
    print(f"{'variant':<36}{'on the table':>14}{'in the gripper':>16}   of {options.episodes}")
    for name in SETTING_ABLATIONS:
        found = measure(options.root, name, options.updates, options.seed, options.episodes)
        results.append(found)
        table, gripper = (found["successes"][env] for env in EVALUATION_ENVS)
        print(f"{name:<36}{table:>14}{gripper:>16}", flush=True)
        if options.out is not None:
            head = {"updates": options.updates, "episodes": options.episodes}
            options.out.write_text(json.dumps({**head, "variants": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
