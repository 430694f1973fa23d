"""Scripts for picking and placing: algorithms 1 and 2 of the paper's appendix A.1, as phases.

Each `…_policy` draws its episode's thresholds and targets first, then builds its phases.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from cogdata.schema import ACTION_DIM
from collectors.policies.script import LIMIT, Phase, ScriptedPolicy, never
from collectors.policies.skills import (
    CLEAR_OF_TRAY_M,
    DROP_HEIGHT_M,
    RETREAT_HEIGHT_M,
    Goal,
    above,
    clear_of_tray,
    draw_threshold,
    dropping,
    fixed,
    going_home,
    grasping,
    in_tray,
)
from collectors.policies.view import Point, SceneView

BY_TRAY_M: Final = 0.105
"""Distance from the tray's middle within which no object starts, so that one there was pushed."""
REGION_LOW_M: Final = (0.49, 0.16)
REGION_HIGH_M: Final = (0.76, 0.29)
"""Region of random grasps, slightly wider than the region where objects start."""
BLIND_LOW_M: Final = (0.43, 0.16)
BLIND_HIGH_M: Final = (0.62, 0.32)
"""Region of blind grasps around the tray, of which a third is above the tray."""
GRASP_HEIGHT_M: Final = -0.334
"""End-effector height of grasps at a random point of the table."""
NEAR_M: Final = 0.06
"""Largest offset in x and in y of a near grasp from the object."""
TRAY_XY_M: Final = (0.5, 0.25)


def grasp_policy(*, noise: float, rng: np.random.Generator) -> ScriptedPolicy:
    """Grasp the object and hold it up."""
    threshold = draw_threshold(rng)
    return ScriptedPolicy(
        grasping(above("object"), threshold), {"grasp_threshold_m": threshold}, noise=noise, rng=rng
    )


def weak_grasp_policy(*, noise: float, rng: np.random.Generator) -> ScriptedPolicy:
    """Grasp the object, or with probability 1/2 at a random point; avoid an object pushed to the tray."""
    threshold = draw_threshold(rng)
    drawn = {"grasp_threshold_m": threshold, "at_random": float(rng.random() < 0.5)}
    goal: Goal = _above_object_or_away
    if drawn["at_random"]:
        x, y = _point_clear_of_tray(rng)
        drawn |= {"grasp_x_m": x, "grasp_y_m": y}
        goal = fixed(x, y, GRASP_HEIGHT_M)
    return ScriptedPolicy(grasping(goal, threshold), drawn, noise=noise, rng=rng)


def blind_grasp_policy(*, noise: float, rng: np.random.Generator) -> ScriptedPolicy:
    """Grasp at a random point of the table and tray, independent of the object."""
    threshold = draw_threshold(rng)
    x, y = rng.uniform(BLIND_LOW_M, BLIND_HIGH_M).tolist()
    drawn = {"grasp_threshold_m": threshold, "grasp_x_m": x, "grasp_y_m": y}
    return ScriptedPolicy(grasping(fixed(x, y, GRASP_HEIGHT_M), threshold), drawn, noise=noise, rng=rng)


def near_grasp_policy(*, noise: float, rng: np.random.Generator) -> ScriptedPolicy:
    """Grasp at a random point near the object: on it, on its edge or beside it."""
    threshold = draw_threshold(rng)
    away_x, away_y = rng.uniform(-NEAR_M, NEAR_M, 2).tolist()
    drawn = {"grasp_threshold_m": threshold, "away_x_m": away_x, "away_y_m": away_y}
    return ScriptedPolicy(grasping(beside(away_x, away_y), threshold), drawn, noise=noise, rng=rng)


def place_policy(*, noise: float, rng: np.random.Generator) -> ScriptedPolicy:
    """Carry the held object above the tray and open the gripper."""
    threshold = draw_threshold(rng)
    phases = dropping(in_tray, threshold)
    return ScriptedPolicy(phases, {"drop_threshold_m": threshold}, noise=noise, rng=rng)


def pick_place_policy(*, noise: float, rng: np.random.Generator) -> ScriptedPolicy:
    """Grasp the object, drop it into the tray or, with probability 1/2, elsewhere; go to the neutral pose."""
    drawn = {"grasp_threshold_m": draw_threshold(rng), "drop_threshold_m": draw_threshold(rng)}
    drawn["in_tray"] = float(rng.random() < 0.5)
    goal: Goal = in_tray
    if not drawn["in_tray"]:
        across, along = rng.random(2).tolist()
        drawn |= {"drop_across": across, "drop_along": along}
        goal = anywhere(across, along)
    *grasping_it, _hold = grasping(above("object"), drawn["grasp_threshold_m"])
    *dropping_it, _retreat = dropping(goal, drawn["drop_threshold_m"])
    return ScriptedPolicy([*grasping_it, *dropping_it, *going_home()], drawn, noise=noise, rng=rng)


def random_policy(*, noise: float, rng: np.random.Generator) -> ScriptedPolicy:
    """Draw every action uniformly: the baseline that any policy must beat."""

    def anything(_view: SceneView, _start: SceneView) -> Point:
        return rng.uniform(-LIMIT, LIMIT, ACTION_DIM)

    return ScriptedPolicy([Phase("random", anything, never)], {}, noise=0.0, rng=rng)


def _above_object_or_away(view: SceneView) -> Point:
    """Point above the object, or above the hand if the object is at the tray and could be pushed in."""
    if np.linalg.norm(view.object_m[:2] - view.tray_m[:2]) > BY_TRAY_M:
        return above("object")(view)
    x, y, _ = view.ee_m.tolist()
    return np.array([x, y, RETREAT_HEIGHT_M])


def beside(away_x: float, away_y: float) -> Goal:
    """Return the goal at an offset from the object's first position, clear of the tray."""
    found: list[Point] = []
    away = np.array([away_x, away_y, 0.0])

    def goal(view: SceneView) -> Point:
        if not found:
            found.append(clear_of_tray(above("object")(view) + away, view.tray_m))
        return found[0]

    return goal


def anywhere(across: float, along: float) -> Goal:
    """Return the goal at these fractions of the scene's free region, clear of its tray."""

    def goal(view: SceneView) -> Point:
        low, high = view.at("free_low"), view.at("free_high")
        x, y, _ = (low + np.array([across, along, 0.0]) * (high - low)).tolist()
        return clear_of_tray(np.array([x, y, DROP_HEIGHT_M]), view.tray_m)

    return goal


def _point_clear_of_tray(rng: np.random.Generator) -> tuple[float, float]:
    while True:
        x, y = rng.uniform(REGION_LOW_M, REGION_HIGH_M).tolist()
        if math.dist((x, y), TRAY_XY_M) >= CLEAR_OF_TRAY_M:
            return x, y
