"""Scripts for picking and placing: algorithms 1 and 2 of the paper's appendix A.1, as phases.

Each `…_policy` draws its episode's thresholds and targets first, then lists its phases. Numbers marked
[paper] come from arXiv 2010.14500, [published] from its code; the others were chosen here, for noise 0.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cogdata.schema import ACTION_DIM
from collectors.policies.script import (
    CLOSE,
    GO_NEUTRAL,
    LIMIT,
    NOT_NEUTRAL,
    OPEN,
    Phase,
    ScriptedPolicy,
    command,
    never,
)
from collectors.policies.view import Point, SceneView

Goal = Callable[[SceneView], Point]

THRESHOLD_M: Final = (0.04, 0.01)
"""Mean and spread of "near enough" [paper]."""
THRESHOLD_MIN_M: Final = 0.02
OVERHEAD_M: Final = 0.03
"""Come down only when the horizontal error is smaller than this [published]."""
GRASP_DEPTH_M: Final = 0.015
"""The end effector aims this far above the object's centre; it stops a threshold earlier."""
LIFTED_M: Final = -0.23
"""An object is lifted when it is above this [published]."""
LIFT_M: Final = 0.1
"""How far above itself the end effector aims when it lifts."""
EMPTY_HEIGHT_M: Final = -0.15
"""Where the end effector stops when it lifted nothing."""
DROP_HEIGHT_M: Final = -0.36
"""Height of the drop point, a little below where a block's centre is when it stands in the tray."""
OVER_TRAY_M: Final = 0.025
"""Lower what is held only when the horizontal error is smaller than this."""
HELD_WITHIN_M: Final = 0.1
"""An object farther than this from the end effector is not held."""
RELEASE_GAIN: Final = 5 / 7
"""While letting go the arm has time to get where it is told: aim at the drop point, not past it."""
RELEASE_UP_M: Final = 0.03
RETREAT_HEIGHT_M: Final = -0.18
"""Where the end effector waits after letting go."""
CLEAR_OF_TRAY_M: Final = 0.13
"""Nothing is lifted or dropped nearer to the tray's middle, unless it is meant for the tray."""
BY_TRAY_M: Final = 0.105
"""An object this near to the tray's middle was pushed there: none starts there."""
REGION_LOW_M: Final = (0.49, 0.16)
REGION_HIGH_M: Final = (0.76, 0.29)
"""The part of the workspace where objects are grasped and dropped, a little wider than where they start."""
GRASP_HEIGHT_M: Final = -0.334
"""End-effector height for grasping at a random point of the table."""
TRAY_XY_M: Final = (0.5, 0.25)


def grasp_policy(*, noise: float, rng: np.random.Generator) -> ScriptedPolicy:
    """Grasp the object and hold it up."""
    threshold = _threshold(rng)
    return ScriptedPolicy(
        _grasping(_above_object, threshold), {"grasp_threshold_m": threshold}, noise=noise, rng=rng
    )


def weak_grasp_policy(*, noise: float, rng: np.random.Generator) -> ScriptedPolicy:
    """Grasp the object, or with probability 1/2 at a random point; leave alone what has got to the tray."""
    threshold = _threshold(rng)
    drawn = {"grasp_threshold_m": threshold, "at_random": float(rng.random() < 0.5)}
    goal: Goal = _above_object_or_away
    if drawn["at_random"]:
        x, y = _point_clear_of_tray(rng)
        drawn |= {"grasp_x_m": x, "grasp_y_m": y}
        goal = _fixed((x, y, GRASP_HEIGHT_M))
    return ScriptedPolicy(_grasping(goal, threshold), drawn, noise=noise, rng=rng)


def place_policy(*, noise: float, rng: np.random.Generator) -> ScriptedPolicy:
    """Carry the object that is already held over the tray and let go."""
    threshold = _threshold(rng)
    phases = _dropping(_in_tray, threshold)
    return ScriptedPolicy(phases, {"drop_threshold_m": threshold}, noise=noise, rng=rng)


def pick_place_policy(*, noise: float, rng: np.random.Generator) -> ScriptedPolicy:
    """Grasp the object, drop it into the tray or, with probability 1/2, elsewhere; go to the neutral pose."""
    drawn = {"grasp_threshold_m": _threshold(rng), "drop_threshold_m": _threshold(rng)}
    drawn["in_tray"] = float(rng.random() < 0.5)
    goal: Goal = _in_tray
    if not drawn["in_tray"]:
        x, y = _point_clear_of_tray(rng)
        drawn |= {"drop_x_m": x, "drop_y_m": y}
        goal = _fixed((x, y, DROP_HEIGHT_M))
    *grasping, _hold = _grasping(_above_object, drawn["grasp_threshold_m"])
    *dropping, _retreat = _dropping(goal, drawn["drop_threshold_m"])
    phases = [
        *grasping,
        *dropping,
        Phase("neutral", _to_neutral, lambda view, start: view is not start),
        Phase("rest", lambda view, start: command(gripper=OPEN), never),
    ]
    return ScriptedPolicy(phases, drawn, noise=noise, rng=rng)


def random_policy(*, noise: float, rng: np.random.Generator) -> ScriptedPolicy:
    """Draw every action uniformly: the floor that any policy must beat."""

    def anything(_view: SceneView, _start: SceneView) -> NDArray[np.float64]:
        return rng.uniform(-LIMIT, LIMIT, ACTION_DIM)

    return ScriptedPolicy([Phase("random", anything, never)], {}, noise=0.0, rng=rng)


def _grasping(goal: Goal, threshold_m: float) -> list[Phase]:
    """Approach from above, close, lift; hold the height and drift sideways with the noise.

    The drift is what spreads the end of a grasp over the states that other episodes start from.
    """

    def approach(view: SceneView, _start: SceneView) -> NDArray[np.float64]:
        # a stray way home with the fingers around the object would fling it
        way = _overhead_first(goal(view) - view.ee_m, OVERHEAD_M)
        return command(way, gripper=OPEN, neutral=NOT_NEUTRAL)

    def near(view: SceneView, _start: SceneView) -> bool:
        return bool(np.linalg.norm(goal(view) - view.ee_m) < threshold_m)

    def close(_view: SceneView, _start: SceneView) -> NDArray[np.float64]:
        return command(gripper=CLOSE, neutral=NOT_NEUTRAL)

    def closed(view: SceneView, _start: SceneView) -> bool:
        return not view.gripper_open

    def lift(view: SceneView, start: SceneView) -> NDArray[np.float64]:
        way = _clear_of_tray(start.ee_m, view.tray_m) - view.ee_m
        way[2] = LIFT_M
        return command(way, gripper=CLOSE)

    def lifted(view: SceneView, _start: SceneView) -> bool:
        return bool(view.object_m[2] > LIFTED_M or view.ee_m[2] > EMPTY_HEIGHT_M)

    def hold(view: SceneView, start: SceneView) -> NDArray[np.float64]:
        return command(np.array([0.0, 0.0, start.ee_m[2] - view.ee_m[2]]), gripper=CLOSE)

    return [
        Phase("approach", approach, near),
        Phase("close", close, closed),
        Phase("lift", lift, lifted),
        Phase("hold", hold, never),
    ]


def _dropping(goal: Goal, threshold_m: float) -> list[Phase]:
    """Carry what is held to a point, let go, move up."""

    def carry(view: SceneView, _start: SceneView) -> NDArray[np.float64]:
        return command(_overhead_first(goal(view) - _held(view), OVER_TRAY_M), gripper=CLOSE)

    def there(view: SceneView, _start: SceneView) -> bool:
        return bool(np.linalg.norm(goal(view) - _held(view)) < threshold_m)

    def let_go(view: SceneView, _start: SceneView) -> NDArray[np.float64]:
        way = RELEASE_GAIN * (goal(view) - _held(view))
        way[2] = RELEASE_UP_M
        return command(way, gripper=OPEN)

    def is_open(view: SceneView, _start: SceneView) -> bool:
        return view.gripper_open

    def retreat(view: SceneView, start: SceneView) -> NDArray[np.float64]:
        above = np.array([start.ee_m[0], start.ee_m[1], RETREAT_HEIGHT_M])
        return command(above - view.ee_m, gripper=OPEN)

    return [Phase("carry", carry, there), Phase("open", let_go, is_open), Phase("retreat", retreat, never)]


def _to_neutral(_view: SceneView, _start: SceneView) -> NDArray[np.float64]:
    return command(gripper=OPEN, neutral=GO_NEUTRAL)


def _held(view: SceneView) -> Point:
    """Where the object is, or the end effector if it holds none."""
    near = np.linalg.norm(view.object_m - view.ee_m) < HELD_WITHIN_M
    return view.object_m if near else view.ee_m


def _overhead_first(way: Point, within_m: float) -> Point:
    """Keep the height until the goal is straight below."""
    x, y, z = way.tolist()
    return np.array([x, y, z if math.hypot(x, y) < within_m else 0.0])


def _above_object(view: SceneView) -> Point:
    x, y, z = view.object_m.tolist()
    return np.array([x, y, z + GRASP_DEPTH_M])


def _above_object_or_away(view: SceneView) -> Point:
    """Over the object, but straight up if it was pushed to the tray: chasing it could push it in."""
    if np.linalg.norm(view.object_m[:2] - view.tray_m[:2]) > BY_TRAY_M:
        return _above_object(view)
    x, y, _ = view.ee_m.tolist()
    return np.array([x, y, RETREAT_HEIGHT_M])


def _in_tray(view: SceneView) -> Point:
    return np.array([view.tray_m[0], view.tray_m[1], DROP_HEIGHT_M])


def _clear_of_tray(point: Point, tray: Point) -> Point:
    """Push a point sideways, away from the tray, if it is too near: nothing dropped there may fall in."""
    out = point[:2] - tray[:2]
    distance = float(np.linalg.norm(out))
    if distance >= CLEAR_OF_TRAY_M or distance == 0.0:
        return point
    x, y = tray[:2] + out * (CLEAR_OF_TRAY_M / distance)
    return np.array([x, y, point[2]])


def _fixed(point: tuple[float, float, float]) -> Goal:
    place = np.array(point)
    return lambda _view: place


def _threshold(rng: np.random.Generator) -> float:
    """Draw a "near enough" in m, never so small that noise keeps the arm from it for ever."""
    return max(THRESHOLD_MIN_M, float(rng.normal(*THRESHOLD_M)))


def _point_clear_of_tray(rng: np.random.Generator) -> tuple[float, float]:
    while True:
        x, y = rng.uniform(REGION_LOW_M, REGION_HIGH_M).tolist()
        if math.dist((x, y), TRAY_XY_M) >= CLEAR_OF_TRAY_M:
            return x, y
