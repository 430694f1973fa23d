"""Benchmark of the camera: position errors, and their effect on the success of grasping scripts.

Positions are compared with the simulator's, scene by scene, at 64×64 px. The same episodes are collected
twice, with positions from the simulator and from the camera.

    python -m bench.perception --scenes 500 --episodes 300
"""

from __future__ import annotations

import argparse

import numpy as np

from cogdata.intervals import wilson
from collectors.collect import collect_episode, request
from collectors.envs import make
from collectors.localize import LOCALIZERS, locate_objects, simulated_camera

MOVABLE_LANDMARKS = (
    ("cog/PickTray-v0", "object"),
    ("cog/DrawerOpen-v0", "target"),
    ("cog/DrawerBlocked2-v0", "object"),
    ("cog/DrawerOpenRandomized-v0", "target"),
    ("cog/DrawerBlocked2Randomized-v0", "object"),
)
GRASPING_POLICIES = ("grasp", "grasp_from_drawer")


def errors_m(env: str, landmark: str, scenes: int) -> list[float]:
    """Return the distances between the camera's and the simulator's positions, for seeds 0 to scenes - 1.

    The distance of a hidden object is infinite.
    """
    world, found = make(env, observations=("robot",)), []
    for seed in range(scenes):
        robot = world.reset(seed=seed)[0]["robot"]
        place = locate_objects(world, seed, robot).update(robot).get(landmark, np.full(3, np.inf))
        found.append(float(np.linalg.norm(place - world.view().at(landmark))))
    world.close()
    return found


def successes(policy: str, localize: str, episodes: int) -> int:
    """Return the number of episodes in which a policy reaches its goal."""
    asked = request(policy, localize=localize, image_size=16)
    return sum(collect_episode(asked, index).success is True for index in range(episodes))


def main() -> None:
    """Print a table of errors and one of successes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=500)
    parser.add_argument("--episodes", type=int, default=300)
    asked = parser.parse_args()
    camera = simulated_camera()
    print(f"calibration: {camera.points} points, {camera.error_px:.2f} px, {camera.error_m * 1e3:.1f} mm")
    print(f"{'environment':32} {'thing':8} {'mean mm':>8} {'95 % mm':>8} {'most mm':>8}")
    for env, landmark in MOVABLE_LANDMARKS:
        off = np.array(errors_m(env, landmark, asked.scenes)) * 1e3
        print(
            f"{env:32} {landmark:8} {off.mean():8.1f} {np.quantile(off, 0.95):8.1f} {off.max():8.1f}",
            flush=True,
        )
    print(f"{'policy':20} {'places from':12} {'success':>8}")
    for policy in GRASPING_POLICIES:
        for localize in LOCALIZERS:
            won = successes(policy, localize, asked.episodes)
            low, high = wilson(won, asked.episodes)
            print(
                f"{policy:20} {localize:12} {won / asked.episodes:8.1%} [{low:.1%}, {high:.1%}]", flush=True
            )


if __name__ == "__main__":
    main()
