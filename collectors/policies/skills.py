"""Skills that scripts are composed of: reaching, grasping, dropping, moving to the neutral pose.

Numbers marked [paper] are from arXiv 2010.14500, [published] from its code; the others were chosen here for
noise 0.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from collectors.policies.script import (
    CLOSE_GRIPPER,
    GO_NEUTRAL,
    NOT_NEUTRAL,
    OPEN_GRIPPER,
    Phase,
    Rule,
    Test,
    command,
    never,
)
from collectors.policies.view import Point, SceneView

Goal = Callable[[SceneView], Point]

THRESHOLD_M: Final = (0.04, 0.01)
"""Mean and standard deviation of the distance threshold [paper]."""
THRESHOLD_MIN_M: Final = 0.02
OVERHEAD_M: Final = 0.03
"""Horizontal error below which the hand is lowered [published]."""
GRASP_DEPTH_M: Final = 0.015
"""Target height of the end effector above an object's centre; it stops a threshold earlier."""
LIFTED_M: Final = -0.23
"""Height above which an object counts as lifted [published]."""
LIFT_M: Final = 0.1
"""Distance of the target above the end effector when it lifts."""
EMPTY_HEIGHT_M: Final = -0.15
"""Height at which the end effector stops after a failed grasp."""
DROP_HEIGHT_M: Final = -0.36
"""Height of the drop point, slightly below the centre of a block that stands in the tray."""
OVER_GOAL_M: Final = 0.025
"""Horizontal error below which a held object is lowered."""
HELD_WITHIN_M: Final = 0.1
"""Distance from the end effector below which an object counts as held."""
ARRIVE_GAIN: Final = 5 / 7
"""Gain of motions while the fingers move, when the arm has time to reach its target without overshoot."""
RELEASE_UP_M: Final = 0.03
RETREAT_HEIGHT_M: Final = -0.18
"""Height at which the end effector waits after dropping an object."""
TURN_GAIN: Final = 3.0
"""Turn command per rad of error; a command of 1 turns by 0.35 rad."""
CLEAR_OF_TRAY_M: Final = 0.13
"""Least distance from the tray's middle for lifting and dropping, except into the tray."""
IN_TRAY_WITHIN_M: Final = 0.05
"""Distance from the tray's middle below which an object lies in the tray and is lifted straight up."""


def draw_threshold(rng: np.random.Generator) -> float:
    """Draw a distance threshold in m, with a minimum that the arm reaches despite the noise."""
    return max(THRESHOLD_MIN_M, float(rng.normal(*THRESHOLD_M)))


def reach(name: str, goal: Goal, threshold_m: float) -> Phase:
    """Build the phase of reaching a point from above with the gripper open.

    Args:
        name: Name of the phase.
        goal: Point to reach.
        threshold_m: Distance from the goal at which the phase ends.
    """

    def approach(view: SceneView, _start: SceneView) -> NDArray[np.float64]:
        # going to neutral by noise with the fingers around an object would throw it
        way = overhead_first(goal(view) - view.ee_m, OVERHEAD_M)
        return command(way, gripper=OPEN_GRIPPER, neutral=NOT_NEUTRAL)

    def near(view: SceneView, _start: SceneView) -> bool:
        return bool(np.linalg.norm(goal(view) - view.ee_m) < threshold_m)

    return Phase(name, approach, near)


def grasping(
    goal: Goal, threshold_m: float, thing: str = "object", *, closing_gain: float = 0.0
) -> list[Phase]:
    """Build the phases of a grasp: approach from above, close, lift, hold.

    During hold the hand keeps its height and drifts sideways with the noise. The drift spreads the ends of
    grasps over the states that other episodes start from.

    Args:
        goal: Point at which to close the fingers.
        threshold_m: Distance from the goal at which the approach ends.
        thing: Landmark of the object; it is lifted away from the tray, into which it could slip.
        closing_gain: Gain of the motion to the goal while the fingers close.
    """

    def close(view: SceneView, _start: SceneView) -> NDArray[np.float64]:
        way = closing_gain * (goal(view) - view.ee_m)
        return command(way, gripper=CLOSE_GRIPPER, neutral=NOT_NEUTRAL)

    def closed(view: SceneView, _start: SceneView) -> bool:
        return not view.gripper_open

    def lift(view: SceneView, start: SceneView) -> NDArray[np.float64]:
        in_it = np.linalg.norm(start.ee_m[:2] - view.tray_m[:2]) < IN_TRAY_WITHIN_M
        way = (start.ee_m if in_it else clear_of_tray(start.ee_m, view.tray_m)) - view.ee_m
        way[2] = LIFT_M
        return command(way, gripper=CLOSE_GRIPPER)

    def lifted(view: SceneView, _start: SceneView) -> bool:
        return bool(view.at(thing)[2] > LIFTED_M or view.ee_m[2] > EMPTY_HEIGHT_M)

    def hold(view: SceneView, start: SceneView) -> NDArray[np.float64]:
        return command(np.array([0.0, 0.0, start.ee_m[2] - view.ee_m[2]]), gripper=CLOSE_GRIPPER)

    return [
        reach("approach", goal, threshold_m),
        Phase("close", close, closed),
        Phase("lift", lift, lifted),
        Phase("hold", hold, never),
    ]


def dropping(goal: Goal, threshold_m: float) -> list[Phase]:
    """Build the phases of a drop: carry the held object to a point, open, retreat upwards.

    Without a held object the gripper opens at once.

    Args:
        goal: Point at which to open the gripper.
        threshold_m: Distance from the goal at which the carrying ends.
    """

    def carry(view: SceneView, _start: SceneView) -> NDArray[np.float64]:
        return command(overhead_first(goal(view) - _held(view), OVER_GOAL_M), gripper=CLOSE_GRIPPER)

    def there(view: SceneView, _start: SceneView) -> bool:
        return not _holds(view) or bool(np.linalg.norm(goal(view) - view.object_m) < threshold_m)

    def let_go(view: SceneView, _start: SceneView) -> NDArray[np.float64]:
        way = ARRIVE_GAIN * (goal(view) - _held(view))
        way[2] = RELEASE_UP_M
        return command(way, gripper=OPEN_GRIPPER)

    def is_open(view: SceneView, _start: SceneView) -> bool:
        return view.gripper_open

    def retreat(view: SceneView, start: SceneView) -> NDArray[np.float64]:
        above = np.array([start.ee_m[0], start.ee_m[1], RETREAT_HEIGHT_M])
        return command(above - view.ee_m, gripper=OPEN_GRIPPER)

    return [Phase("carry", carry, there), Phase("open", let_go, is_open), Phase("retreat", retreat, never)]


def going_home() -> list[Phase]:
    """Build the phases of moving to the neutral pose and resting there, with noise only."""

    def go(_view: SceneView, _start: SceneView) -> NDArray[np.float64]:
        return command(gripper=OPEN_GRIPPER, neutral=GO_NEUTRAL)

    def rest(_view: SceneView, _start: SceneView) -> NDArray[np.float64]:
        return command(gripper=OPEN_GRIPPER)

    return [Phase("neutral", go, lambda view, start: view is not start), Phase("rest", rest, never)]


def unless(done: Test, phase: Phase) -> Phase:
    """Return the phase with an additional end: it is skipped or ended once `done` is true."""
    return replace(phase, until=lambda view, start: done(view, start) or phase.until(view, start))


def upright(phases: Sequence[Phase]) -> list[Phase]:
    """Return the phases with commands that also turn the hand back to pointing down."""

    def turning(rule: Rule) -> Rule:
        def turned(view: SceneView, start: SceneView) -> NDArray[np.float64]:
            action = rule(view, start)
            action[3:6] = -TURN_GAIN * view.turned_rad
            return action

        return turned

    return [replace(phase, command=turning(phase.command)) for phase in phases]


def overhead_first(way: Point, within_m: float) -> Point:
    """Return the motion without its vertical part until the goal is within a horizontal distance."""
    x, y, z = way.tolist()
    return np.array([x, y, z if math.hypot(x, y) < within_m else 0.0])


def above(thing: str, height_m: float = GRASP_DEPTH_M) -> Goal:
    """Return the goal above the current position of a landmark."""

    def goal(view: SceneView) -> Point:
        x, y, z = view.at(thing).tolist()
        return np.array([x, y, z + height_m])

    return goal


def in_tray(view: SceneView) -> Point:
    """Return the drop point above the tray's middle."""
    return np.array([view.tray_m[0], view.tray_m[1], DROP_HEIGHT_M])


def fixed(x_m: float, y_m: float, z_m: float) -> Goal:
    """Return a constant goal."""
    place = np.array([x_m, y_m, z_m])
    return lambda _view: place


def clear_of_tray(point: Point, tray: Point) -> Point:
    """Move a point away from the tray if it is too near, so that no dropped object falls in."""
    out = point[:2] - tray[:2]
    distance = float(np.linalg.norm(out))
    if distance >= CLEAR_OF_TRAY_M or distance == 0.0:
        return point
    x, y = tray[:2] + out * (CLEAR_OF_TRAY_M / distance)
    return np.array([x, y, point[2]])


def _holds(view: SceneView) -> bool:
    return bool(np.linalg.norm(view.object_m - view.ee_m) < HELD_WITHIN_M)


def _held(view: SceneView) -> Point:
    """Return the position of the held object, or of the end effector if it holds none."""
    return view.object_m if _holds(view) else view.ee_m
