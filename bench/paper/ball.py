"""Overlap of the drawer's prior and task data: ball positions after pulling, and where grasps succeed.

    python -m bench.paper.ball --out results/ball.json

`drawer_open` acts in closed drawers, with the ball's earlier and its current rolling resistance; measured is
the ball's displacement in the drawer. `grasp_from_drawer` acts in open drawers with balls along the whole
drawer; measured is its success by position.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np

from collectors.envs import ENVS, CogEnv, EnvSpec
from collectors.policies import make_policy
from collectors.tasks import drawer
from collectors.tasks.drawer import DrawerTask, SceneSpread

ROLLING_RESISTANCES_M: Final = (0.002, drawer.BALL_ROLLING_M)
BALL_HORIZON: Final = 30
BALL_FIRST_SEED: Final = 20_000
BIN_M: Final = 0.005
ANYWHERE: Final = SceneSpread(target_x_m=(drawer.RANDOMIZED.target_x_m[0], drawer.TARGET_X_M[1]))


def play(env: CogEnv, policy: str, seed: int) -> tuple[dict[str, float], dict[str, float], dict[str, bool]]:
    """Run a script; return the scene before and after, and the final predicates."""
    first, _ = env.reset(seed=seed)
    script = make_policy(policy, rng=np.random.default_rng(seed))
    for _ in range(BALL_HORIZON):
        last, _, _, _, info = env.step(script.act(env.view())[0])
    before, after = (dict(zip(env.scene_fields, obs["scene"].tolist(), strict=True)) for obs in (first, last))
    return before, after, info["predicates"]


def pull(rolling_m: float, episodes: int) -> dict[str, Any]:
    """Measure the ball's displacement in the drawer, m, over episodes that opened it."""
    moved = []
    with patch.object(drawer, "BALL_ROLLING_M", rolling_m):
        env = CogEnv(ENVS["cog/DrawerClosed-v0"], observations=("scene",), horizon=BALL_HORIZON)
        for seed in range(BALL_FIRST_SEED, BALL_FIRST_SEED + episodes):
            before, after, holds = play(env, "drawer_open", seed)
            if holds["drawer_open"]:
                places = [scene["target_x_m"] - scene["drawer_open_m"] for scene in (before, after)]
                moved.append(places[1] - places[0])
        env.close()
    at = np.quantile(moved, [0, 0.05, 0.5, 0.95, 1]).round(4).tolist()
    return {"rolling_m": rolling_m, "opened": len(moved), "moved_m_0_5_50_95_100": at}


def grasp(episodes: int) -> list[dict[str, Any]]:
    """Count episodes and grasps by the ball's initial position, world x, in bins of 5 mm."""
    task = partial(DrawerTask, start=drawer.OPEN, spread=ANYWHERE)
    env = CogEnv(EnvSpec("cog/DrawerOpen-v0", task, BALL_HORIZON, ""), observations=("scene",))
    won = defaultdict[int, list[bool]](list)
    for seed in range(BALL_FIRST_SEED, BALL_FIRST_SEED + episodes):
        before, _, holds = play(env, "grasp_from_drawer", seed)
        won[int(before["target_x_m"] / BIN_M)].append(holds["grasped"])
    env.close()
    return [
        {"from_x_m": round(number * BIN_M, 3), "episodes": len(found), "grasped": sum(found)}
        for number, found in sorted(won.items())
    ]


def main() -> None:
    """Read the command line, measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--episodes", type=int, default=300, help="of each kind")
    parser.add_argument("--out", type=Path, help="JSON file of the figures")
    options = parser.parse_args()
    found = {
        "first_seed": BALL_FIRST_SEED,
        "pulled": [pull(rolling_m, options.episodes) for rolling_m in ROLLING_RESISTANCES_M],
        "grasped": grasp(options.episodes),
    }
    text = json.dumps(found, indent=1)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
