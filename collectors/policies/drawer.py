"""Scripts for the drawer scene: algorithm 3 of the paper, and chains of it with picking and placing.

A finger is lowered behind the handle's bar and pulls; the gripper stays open. Every prior script ends by
moving to the neutral pose, in which episodes of the task begin.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from collectors.policies.script import NOT_NEUTRAL, OPEN_GRIPPER, Phase, Rule, ScriptedPolicy, Test, command
from collectors.policies.skills import (
    ARRIVE_GAIN,
    above,
    draw_threshold,
    dropping,
    going_home,
    grasping,
    in_tray,
    reach,
    unless,
    upright,
)
from collectors.policies.view import Point, SceneView

HOOK_DEPTH_M: Final = 0.015
"""Target height of the end effector above the handle's middle; it stops a threshold earlier."""
HOOK_FORWARD_M: Final = 0.008
"""Target distance in front of the handle: the hand is wide, and the cabinet near."""
AIM_M: Final = 0.028
"""Standard deviation of the fingers' position error at the handle, which makes these scripts fail."""
OUT, IN = 1.0, -1.0
"""Directions of a drawer's motion along x."""
PULL_M: Final = 0.1
"""Distance of the target ahead of the end effector when it pulls or pushes."""
BALL_DEPTH_M: Final = 0.040
"""Target height of the end effector above the ball, where its fingers just reach the drawer's floor: pressing
harder would turn the hand."""
BALL_NEARER: Final = 0.4
"""Factor of the drawn threshold for the ball, which is small and round."""
HALF_HEARTED: Final = 0.45
"""Fraction of the closing episodes that stop pushing early, which leaves the drawer half open."""
STOP_M: Final = (0.07, 0.115)
"""Interval of the drawer's opening when such a push ends."""
SLIDE_ABOVE_M: Final = 0.048
"""Height of the end effector over the handle while it moves it."""
LET_GO_M: Final = 0.02
"""Distance of the target behind the end effector when it leaves a drawer, whose friction holds a finger."""
HALF_HAND_WIDTH_M: Final = 0.058
"""Half of the hand's width and a margin: nearer to the cabinet the hand cannot be lowered."""
FORWARD_MAX_M: Final = 0.008
LOST_M: Final = 0.05
"""Distance of the hand ahead of the handle from which on it no longer moves it."""
NOTICED_M: Final = (LOST_M, 0.2)
"""Interval of the distance ahead at which a retrying script notices it; so the data contain the failure."""
RISE_M: Final = 0.1
TRAVEL_HEIGHT_M: Final = -0.2
"""Height above both drawers."""
FINGER_REACH_M: Final = 0.044
"""Distance from the end effector to the outside of an open finger."""
BEFORE_TOP_M: Final = FINGER_REACH_M + 0.03
"""Distance from the top drawer's front at which the end effector is lowered."""
PUSH_ABOVE_M: Final = 0.045
"""Height of the end effector above the top drawer's middle when it pushes: a finger is 5.5 cm long."""
DROP_SPREAD_M: Final = 0.025
"""Largest offset in x and y of the bottle's drop point from the tray's best reachable point."""


def drawer_open_policy(*, noise: float, rng: np.random.Generator) -> ScriptedPolicy:
    """Pull the bottom drawer open."""
    drawn = _draw_hook(rng)
    phases = [*_sliding(drawn, OUT, _is("drawer_open")), *going_home()]
    return ScriptedPolicy(upright(phases), drawn, noise=noise, rng=rng)


def drawer_close_policy(*, noise: float, rng: np.random.Generator) -> ScriptedPolicy:
    """Push the bottom drawer shut, in a part of the episodes only half."""
    drawn = _draw_hook(rng)
    drawn["handle_aim_m"] = abs(drawn["handle_aim_m"])  # negative: the fingers would be inside
    drawn["stop_m"] = float(rng.uniform(*STOP_M)) if rng.random() < HALF_HEARTED else 0.0

    def shut(view: SceneView, start: SceneView) -> bool:
        left_m = float(view.at("handle")[0] - view.at("handle_shut")[0])
        return left_m < drawn["stop_m"] or view.predicates["drawer_closed"]

    phases = [*_sliding(drawn, IN, shut), *going_home()]
    return ScriptedPolicy(upright(phases), drawn, noise=noise, rng=rng)


def suboptimal_policy(*, noise: float, rng: np.random.Generator) -> ScriptedPolicy:
    """Pull the bottom drawer open or, half of the time, push it shut."""
    drawn = _draw_hook(rng) | {"opening": float(rng.random() < 0.5)}
    way, done = (OUT, "drawer_open") if drawn["opening"] else (IN, "drawer_closed")
    phases = [*_sliding(drawn, way, _is(done)), *going_home()]
    return ScriptedPolicy(upright(phases), drawn, noise=noise, rng=rng)


def flipping_policy(*, noise: float, rng: np.random.Generator) -> ScriptedPolicy:
    """Pull or push the bottom drawer, drawn anew at every step [published]."""
    drawn = _draw_hook(rng)

    def either_way(view: SceneView, start: SceneView) -> NDArray[np.float64]:
        return _slide(OUT if rng.random() < 0.5 else IN)(view, start)

    phases = [_hook(drawn), Phase("flip", either_way, _is("drawer_open")), *going_home()]
    return ScriptedPolicy(upright(phases), drawn, noise=noise, rng=rng)


def close_top_then_open_policy(*, noise: float, rng: np.random.Generator) -> ScriptedPolicy:
    """Push the top drawer shut, then pull the bottom one open."""
    drawn = _draw_hook(rng) | {"push_threshold_m": draw_threshold(rng)}
    phases = [
        *_closing_top(drawn["push_threshold_m"]),
        *_sliding(drawn, OUT, _is("drawer_open")),
        *going_home(),
    ]
    return ScriptedPolicy(upright(phases), drawn, noise=noise, rng=rng)


def clear_blocker_then_open_policy(*, noise: float, rng: np.random.Generator) -> ScriptedPolicy:
    """Put the bottle into the tray, go to neutral, pull the bottom drawer open; retry once after a miss."""
    drawn = {"grasp_threshold_m": draw_threshold(rng), "drop_threshold_m": draw_threshold(rng)}
    first, second = _draw_hook(rng), _draw_hook(rng)
    noticed_m = float(rng.uniform(*NOTICED_M))
    across_m, along_m = rng.uniform(-DROP_SPREAD_M, DROP_SPREAD_M, 2).tolist()
    drawn |= {"drop_across_m": across_m, "drop_along_m": along_m, "noticed_m": noticed_m}
    drawn |= first | {f"second_{name}": value for name, value in second.items()}
    off_middle = np.array([across_m, along_m, 0.0])
    *picking, _hold = grasping(above("object"), drawn["grasp_threshold_m"])
    *placing, _retreat = dropping(lambda view: in_tray(view) + off_middle, drawn["drop_threshold_m"])
    home, _rest = going_home()  # rising and moving to the handle takes 6 more of the 80 steps
    is_open = _is("drawer_open")
    phases = [
        *picking,
        *placing,
        home,
        *_sliding(first, OUT, is_open, noticed_m),
        *(unless(is_open, phase) for phase in (home, *_sliding(second, OUT, is_open, noticed_m))),
        *going_home(),
    ]
    return ScriptedPolicy(upright(phases), drawn, noise=noise, rng=rng)


def grasp_from_drawer_policy(*, noise: float, rng: np.random.Generator) -> ScriptedPolicy:
    """Grasp the ball in the open drawer and hold it up; collects the task data."""
    threshold = BALL_NEARER * draw_threshold(rng)
    phases = grasping(_over_ball, threshold, "target", closing_gain=ARRIVE_GAIN)
    return ScriptedPolicy(upright(phases), {"grasp_threshold_m": threshold}, noise=noise, rng=rng)


def _is(predicate: str) -> Test:
    return lambda view, _start: view.predicates[predicate]


def _draw_hook(rng: np.random.Generator) -> dict[str, float]:
    """Draw the distance threshold at the handle, and the fingers' position error."""
    return {"handle_threshold_m": draw_threshold(rng), "handle_aim_m": float(rng.normal(0.0, AIM_M))}


def _hook(drawn: Mapping[str, float]) -> Phase:
    """Lower the fingers on both sides of the handle."""
    miss = np.array([HOOK_FORWARD_M + drawn["handle_aim_m"], 0.0, 0.0])
    handle = above("handle", HOOK_DEPTH_M)
    return reach("to the handle", lambda view: handle(view) + miss, drawn["handle_threshold_m"])


def _slide(way: float) -> Rule:
    """Move along x with the fingertips below the handle's bar, so that they do not slip over it."""

    def slide(view: SceneView, start: SceneView) -> NDArray[np.float64]:
        height_m = view.at("handle")[2] + SLIDE_ABOVE_M
        move = np.array([way * PULL_M, start.ee_m[1] - view.ee_m[1], height_m - view.ee_m[2]])
        return command(move, gripper=OPEN_GRIPPER, neutral=NOT_NEUTRAL)

    return slide


def _sliding(drawn: Mapping[str, float], way: float, done: Test, lost_m: float = LOST_M) -> list[Phase]:
    """Hook the handle, move the drawer until `done` or until the hand loses the handle, and rise."""

    def over(view: SceneView, start: SceneView) -> bool:
        ahead_m = way * (view.ee_m[0] - view.at("handle")[0])
        return bool(ahead_m > lost_m) or done(view, start)

    name = "pull" if way == OUT else "push"
    return [_hook(drawn), Phase(name, _slide(way), over), _rise(-way * LET_GO_M)]


def _closing_top(threshold_m: float) -> list[Phase]:
    """Lower the hand in front of the top drawer and push it shut."""

    def before(view: SceneView) -> Point:
        x, y, z = view.at("top_drawer").tolist()
        return np.array([x + BEFORE_TOP_M, y, z + PUSH_ABOVE_M])

    def push(view: SceneView, _start: SceneView) -> NDArray[np.float64]:
        _, y, z = (before(view) - view.ee_m).tolist()
        return command(np.array([IN * PULL_M, y, z]), gripper=OPEN_GRIPPER, neutral=NOT_NEUTRAL)

    return [
        reach("before the top", before, threshold_m),
        Phase("push top", push, _is("top_drawer_closed")),
        _rise(LET_GO_M),
    ]


def _rise(aside_m: float) -> Phase:
    """Rise above both drawers, with a sideways move that frees the fingers from the handle."""

    def rise(view: SceneView, start: SceneView) -> NDArray[np.float64]:
        x, y, _ = (start.ee_m - view.ee_m).tolist()
        return command(np.array([x + aside_m, y, RISE_M]), gripper=OPEN_GRIPPER, neutral=NOT_NEUTRAL)

    return Phase("rise", rise, lambda view, _start: bool(view.ee_m[2] > TRAVEL_HEIGHT_M))


def _over_ball(view: SceneView) -> Point:
    """Point above the ball, moved forward where the cabinet leaves no room for the hand."""
    x, y, z = view.at("target").tolist()
    room_m = float(view.at("top_drawer")[0]) + HALF_HAND_WIDTH_M - x
    return np.array([x + min(max(room_m, 0.0), FORWARD_MAX_M), y, z + BALL_DEPTH_M])
