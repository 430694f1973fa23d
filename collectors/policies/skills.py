"""What scripts are made of: reaching from above, grasping, carrying and letting go, going home.

Numbers marked [paper] come from arXiv 2010.14500, [published] from its code; the others were chosen here, for
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
"""Mean and spread of "near enough" [paper]."""
THRESHOLD_MIN_M: Final = 0.02
OVERHEAD_M: Final = 0.03
"""Come down only when the horizontal error is smaller than this [published]."""
GRASP_DEPTH_M: Final = 0.015
"""The end effector aims this far above a thing's centre; it stops a threshold earlier."""
LIFTED_M: Final = -0.23
"""A thing is lifted when it is above this [published]."""
LIFT_M: Final = 0.1
"""How far above itself the end effector aims when it lifts."""
EMPTY_HEIGHT_M: Final = -0.15
"""Where the end effector stops when it lifted nothing."""
DROP_HEIGHT_M: Final = -0.36
"""Height of the drop point, a little below where a block's centre is when it stands in the tray."""
OVER_GOAL_M: Final = 0.025
"""Lower what is held only when the horizontal error is smaller than this."""
HELD_WITHIN_M: Final = 0.1
"""A thing farther than this from the end effector is not held."""
ARRIVE_GAIN: Final = 5 / 7
"""While the fingers move the arm has time to get where it is told: aim at the goal, not past it."""
RELEASE_UP_M: Final = 0.03
RETREAT_HEIGHT_M: Final = -0.18
"""Where the end effector waits after letting go."""
TURN_GAIN: Final = 3.0
"""Turn command per rad of error; a command of 1 turns by 0.35 rad."""
CLEAR_OF_TRAY_M: Final = 0.13
"""Nothing is lifted or dropped nearer to the tray's middle, unless it is meant for the tray."""
IN_TRAY_WITHIN_M: Final = 0.05
"""What is so near to the tray's middle lies in it, and is lifted straight up."""


def draw_threshold(rng: np.random.Generator) -> float:
    """Draw a "near enough" in m, never so small that noise keeps the arm from it for ever."""
    return max(THRESHOLD_MIN_M, float(rng.normal(*THRESHOLD_M)))


def reach(name: str, goal: Goal, threshold_m: float) -> Phase:
    """Reach a point from above with the gripper open.

    Args:
        name: Of the phase.
        goal: Where to.
        threshold_m: How near is near enough.
    """

    def approach(view: SceneView, _start: SceneView) -> NDArray[np.float64]:
        # a stray way home with the fingers around a thing would fling it
        way = overhead_first(goal(view) - view.ee_m, OVERHEAD_M)
        return command(way, gripper=OPEN_GRIPPER, neutral=NOT_NEUTRAL)

    def near(view: SceneView, _start: SceneView) -> bool:
        return bool(np.linalg.norm(goal(view) - view.ee_m) < threshold_m)

    return Phase(name, approach, near)


def grasping(
    goal: Goal, threshold_m: float, thing: str = "object", *, closing_gain: float = 0.0
) -> list[Phase]:
    """Approach from above, close, lift; hold the height and drift sideways with the noise.

    The drift is what spreads the end of a grasp over the states that other episodes start from.

    Args:
        goal: Where to close the fingers.
        threshold_m: How near is near enough.
        thing: Landmark of what is to be lifted: away from the tray, so that it does not fall in if it slips.
        closing_gain: Part of the way to the goal that is commanded while the fingers close.
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
    """Carry what is held to a point, let go, move up; a hand that holds nothing opens at once.

    Args:
        goal: Where to let go.
        threshold_m: How near is near enough.
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
    """Go to the neutral pose and stay there, shaken by the noise alone."""

    def go(_view: SceneView, _start: SceneView) -> NDArray[np.float64]:
        return command(gripper=OPEN_GRIPPER, neutral=GO_NEUTRAL)

    def rest(_view: SceneView, _start: SceneView) -> NDArray[np.float64]:
        return command(gripper=OPEN_GRIPPER)

    return [Phase("neutral", go, lambda view, start: view is not start), Phase("rest", rest, never)]


def unless(done: Test, phase: Phase) -> Phase:
    """The same phase, left out or cut short once that is done."""
    return replace(phase, until=lambda view, start: done(view, start) or phase.until(view, start))


def upright(phases: Sequence[Phase]) -> list[Phase]:
    """Let phases also turn the hand back to pointing down, from which noise and contacts turn it away."""

    def turning(rule: Rule) -> Rule:
        def turned(view: SceneView, start: SceneView) -> NDArray[np.float64]:
            action = rule(view, start)
            action[3:6] = -TURN_GAIN * view.turned_rad
            return action

        return turned

    return [replace(phase, command=turning(phase.command)) for phase in phases]


def overhead_first(way: Point, within_m: float) -> Point:
    """Keep the height until the goal is straight below."""
    x, y, z = way.tolist()
    return np.array([x, y, z if math.hypot(x, y) < within_m else 0.0])


def above(thing: str, height_m: float = GRASP_DEPTH_M) -> Goal:
    """Make the goal that is straight above a landmark, wherever that is now."""

    def goal(view: SceneView) -> Point:
        x, y, z = view.at(thing).tolist()
        return np.array([x, y, z + height_m])

    return goal


def in_tray(view: SceneView) -> Point:
    """Where to let go of what shall lie in the tray."""
    return np.array([view.tray_m[0], view.tray_m[1], DROP_HEIGHT_M])


def fixed(x_m: float, y_m: float, z_m: float) -> Goal:
    """Make the goal that stays where it is."""
    place = np.array([x_m, y_m, z_m])
    return lambda _view: place


def clear_of_tray(point: Point, tray: Point) -> Point:
    """Push a point sideways, away from the tray, if it is too near: nothing dropped there may fall in."""
    out = point[:2] - tray[:2]
    distance = float(np.linalg.norm(out))
    if distance >= CLEAR_OF_TRAY_M or distance == 0.0:
        return point
    x, y = tray[:2] + out * (CLEAR_OF_TRAY_M / distance)
    return np.array([x, y, point[2]])


def _holds(view: SceneView) -> bool:
    return bool(np.linalg.norm(view.object_m - view.ee_m) < HELD_WITHIN_M)


def _held(view: SceneView) -> Point:
    """Where the object is, or the end effector if it holds none."""
    return view.object_m if _holds(view) else view.ee_m
