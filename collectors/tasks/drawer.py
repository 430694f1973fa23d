"""The drawer scene: a cabinet of two drawers, a ball in the lower one, a bottle that can stand in the way.

Positions, sizes and success tests are measured from the published world (roboverse @ a443f79); our own
choices are listed apart. There are no artificial attachments: the drawers slide on joints with dry friction,
and a finger behind the handle's bar pulls the lower one open.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from collectors.robots.widowx import WidowX
from collectors.sim import Box, Cylinder, Link, Quat, Rgb, Shape, Simulation, Sphere, Vec3
from collectors.tasks import Located
from collectors.tasks.table import SETTLE_STEPS, TABLE_TOP_M, add_table, is_grasped, open_box

Interval = tuple[float, float]

CABINET_M: Final = (0.47, 0.2)
"""Position of the cabinet's middle, x and y."""
SHELL_SIZE_M: Final[Vec3] = (0.125, 0.15, 0.06)
"""Size of the cabinet around one drawer, which opens along +x: 5 mm shorter than published, so that its front
is flush and the hand, 10.3 cm wide, fits between it and the handle."""
SHELL_BACK_M: Final = -0.065
"""Position of the cabinet's back along x, from the middle of the drawer."""
STACKED_M: Final = 0.07
"""Height of the top drawer above the bottom one."""
DRAWER_SIZE_M: Final[Vec3] = (0.12, 0.14, 0.04)
DRAWER_WALL_M: Final = 0.005
DRAWER_FLOOR_M: Final = 0.01
DRAWER_HEIGHT_M: Final = -0.35
"""Height of the bottom drawer's middle."""
FLOOR_M: Final = DRAWER_HEIGHT_M - DRAWER_SIZE_M[2] / 2 + DRAWER_FLOOR_M
"""Height of the bottom drawer's floor."""
TRAVEL_M: Final = 0.125
HANDLE_FORWARD_M: Final = 0.114
"""Distance from the middle of the drawer to the handle's bar."""
HANDLE_LENGTH_M: Final = 0.14
HANDLE_RADIUS_M: Final = 0.008
DRAWER_FRICTION: Final = 10.0
"""Friction coefficient of drawers and handles; the published 1000 exceeds the engine's maximum, 10."""
OPEN_ABOVE: Final = 0.95
CLOSED_BELOW: Final = 0.05
"""Fractions of a drawer's travel beyond which it is open or closed."""
TARGET_SIZE_M: Final = 0.036
TARGET_KG: Final = 0.05
TARGET_X_M: Final[Interval] = (0.575 - 0.47 - TRAVEL_M, 0.605 - 0.47 - TRAVEL_M)
"""Interval of the ball's position along x, from the middle of the bottom drawer."""
BOTTLE_TRAY_M: Final[Vec3] = (0.80, 0.0, TABLE_TOP_M)
BOTTLE_TRAY_SIZE_M: Final[Vec3] = (0.19, 0.18, 0.05)
BOTTLE_TRAY_WALL_M: Final = 0.005
BOTTLE_TRAY_TARGET_M: Final[Vec3] = (0.775, 0.0, TABLE_TOP_M)
"""Middle of the reachable part of the bottle's tray."""

# Our own choices. The bottle is flat, so it lies still and fits between fingers that open 5.6 cm wide.
BOTTLE_SIZE_M: Final[Vec3] = (0.032, 0.080, 0.052)
NECK_RADIUS_M: Final = 0.010
NECK_LENGTH_M: Final = 0.030
BOTTLE_KG: Final = 0.1
SLIDE_FORCE_N: Final = 2.0
"""Dry friction of a drawer on its rails."""
DRAWER_KG: Final = 0.3
BALL_ROLLING_M: Final = 0.01
"""Rolling resistance of the ball, with which it does not roll through a moving drawer."""
PLATE_M: Final = 0.005
POST_M: Final = 0.008
CORRIDOR_X_M: Final[Interval] = (0.55, 0.76)
CORRIDOR_Y_M: Final = 0.13
"""Region in front of the cabinet, x interval and half width in y, in which a bottle blocks the drawer."""
_LYING_M: Final = TABLE_TOP_M + BOTTLE_SIZE_M[2] / 2
BOTTLE_IN_THE_WAY: Final = Located("object", _LYING_M, off_m=(-0.001, -0.014))
BOTTLE_IN_TRAY: Final = Located("object", _LYING_M, off_m=(-0.008, 0.014))
"""The neck shifts the middle of the silhouette by 1.4 cm; the tray hides a part of a bottle in it."""
PUT_DOWN_BELOW_M: Final = -0.30
DRAWER_FREE_LOW_M: Final[Vec3] = (0.62, 0.02, TABLE_TOP_M)
DRAWER_FREE_HIGH_M: Final[Vec3] = (0.78, 0.30, TABLE_TOP_M)
"""Region in which objects may be dropped, including in front of the drawer, where they block it."""

_CABINET: Final[Rgb] = (0.50, 0.42, 0.36)
_DRAWER: Final[Rgb] = (0.95, 0.95, 0.93)
_DRAWER_FLOOR: Final[Rgb] = (0.72, 0.74, 0.78)
_HANDLE: Final[Rgb] = (0.95, 0.48, 0.05)
_TARGET: Final[Rgb] = (0.10, 0.60, 0.18)
_BOTTLE: Final[Rgb] = (0.15, 0.30, 0.85)
_CAP: Final[Rgb] = (0.95, 0.85, 0.10)
_BOTTLE_TRAY: Final[Rgb] = (0.55, 0.20, 0.60)
_BOTTLE_TRAY_FLOOR: Final[Rgb] = (0.40, 0.12, 0.45)

_ALONG_Y: Final[Quat] = (math.sqrt(0.5), 0.0, 0.0, math.sqrt(0.5))
BOTTOM, TOP = 1, 2
"""Link numbers of the two drawers."""


@dataclass(frozen=True)
class Start:
    """Distribution of initial states; every number is drawn uniformly from its interval.

    Attributes:
        open_m: Opening of the bottom drawer.
        top_open_m: Opening of the top drawer.
        bottle_x_m: Position of the bottle, world x.
        bottle_y_m: Position of the bottle, world y.
        bottle_turn_rad: Rotation of the bottle around z.
        fallen: Probability that the bottle lies on its narrow side.
    """

    open_m: Interval = (0.0, 0.0)
    top_open_m: Interval = (0.0, 0.0)
    bottle_x_m: Interval = (0.75, 0.81)  # in the tray, where scripts put it
    bottle_y_m: Interval = (-0.04, 0.015)
    bottle_turn_rad: Interval = (-0.35, 0.35)
    fallen: float = 0.25


OPEN: Final = Start(open_m=(0.97 * TRAVEL_M, TRAVEL_M))
CLOSED: Final = Start()
BLOCKED_1: Final = Start(top_open_m=(0.45 * TRAVEL_M, 0.55 * TRAVEL_M))
BLOCKED_2: Final = Start(
    bottle_x_m=(0.63, 0.65), bottle_y_m=(0.2, 0.2), bottle_turn_rad=(0.0, 0.0), fallen=0.0
)


@dataclass(frozen=True)
class SceneSpread:
    """Randomization of scenes beyond the initial state; numbers are drawn uniformly from their intervals.

    Attributes:
        shift_x_m: Shift of the cabinet along x, with a bottle that stands before it.
        shift_y_m: Shift of the cabinet along y.
        target_x_m: Position of the target along x, from the bottom drawer's middle.
        target_y_m: Position of the target along y, from the bottom drawer's middle.
        shapes: Shapes of the target, keys of `TARGET_SHAPES`.
        size: Factor of the target's size.
        hue: Largest change of each colour channel of target and bottle.
    """

    shift_x_m: Interval = (0.0, 0.0)
    shift_y_m: Interval = (0.0, 0.0)
    target_x_m: Interval = TARGET_X_M
    target_y_m: Interval = (0.0, 0.0)
    shapes: tuple[str, ...] = ("ball",)
    size: Interval = (1.0, 1.0)
    hue: float = 0.0


PUBLISHED: Final = SceneSpread()
RANDOMIZED: Final = SceneSpread(
    shift_x_m=(-0.05, 0.05),
    # nearer to the arm the hand cannot reach the handle, further away a bottle leaves the image
    shift_y_m=(-0.01, 0.06),
    target_x_m=(-0.035, 0.035),
    target_y_m=(-0.045, 0.045),
    shapes=("ball", "cube", "cylinder"),
    size=(0.85, 1.1),
    hue=0.15,
)


class DrawerTask:
    """Take the ball out of the bottom drawer.

    Args:
        sim: Simulation to build in.
        robot: Robot of the simulation.
        start: Distribution of initial states.
        spread: Randomization of the scenes.
    """

    scene_fields = (
        "target_x_m", "target_y_m", "target_z_m",
        "object_x_m", "object_y_m", "object_z_m", "object_qx", "object_qy", "object_qz", "object_qw",
        "handle_x_m", "handle_y_m", "handle_z_m", "top_drawer_x_m", "top_drawer_y_m", "top_drawer_z_m",
        "drawer_open_m", "top_drawer_open_m", "target_size_m",
    )  # fmt: skip
    predicates = ("grasped", "drawer_open", "drawer_closed", "top_drawer_closed", "blocker_moved")
    task_predicate = "grasped"

    def __init__(
        self, sim: Simulation, robot: WidowX, *, start: Start, spread: SceneSpread = PUBLISHED
    ) -> None:
        self._sim = sim
        self._robot = robot
        self._start = start
        self._spread = spread
        self._cabinet = CABINET_M
        self._size_m = TARGET_SIZE_M
        self.located: Final = {
            "target": Located("target", FLOOR_M + TARGET_SIZE_M / 2),
            "object": BOTTLE_IN_THE_WAY if self._blocks() else BOTTLE_IN_TRAY,
        }

    def build(self, rng: np.random.Generator) -> None:
        """Build table, tray, cabinet, robot, ball and bottle, and simulate until they are at rest."""
        start, spread = self._start, self._spread
        shift_x = float(rng.uniform(*spread.shift_x_m))
        shift_y = float(rng.uniform(*spread.shift_y_m))
        self._cabinet = (CABINET_M[0] + shift_x, CABINET_M[1] + shift_y)
        opened = float(rng.uniform(*start.open_m))
        top_opened = float(rng.uniform(*start.top_open_m))
        # nearest first: the renderer does not shade objects hidden behind drawn ones
        self._sim.add("cabinet", CABINET, (*self._cabinet, DRAWER_HEIGHT_M))
        self._sim.place_joints("cabinet", (BOTTOM, TOP), (opened, top_opened))
        self._sim.brake_joints("cabinet", (BOTTOM, TOP), SLIDE_FORCE_N)
        self._robot.build()
        self._add_target(rng, opened)
        self._add_bottle(rng, (shift_x, shift_y) if self._blocks() else (0.0, 0.0))
        self._sim.add("tray", (BOTTLE_TRAY,), BOTTLE_TRAY_M)
        add_table(self._sim)
        self._sim.step(SETTLE_STEPS)

    def _blocks(self) -> bool:
        """Whether the bottle starts before the cabinet."""
        return self._start.bottle_x_m[1] < CORRIDOR_X_M[1]

    def _add_target(self, rng: np.random.Generator, opened_m: float) -> None:
        spread = self._spread
        x = self._cabinet[0] + opened_m + float(rng.uniform(*spread.target_x_m))
        y = self._cabinet[1] + float(rng.uniform(*spread.target_y_m))
        self._size_m = TARGET_SIZE_M * float(rng.uniform(*spread.size))
        shape = TARGET_SHAPES[spread.shapes[int(rng.integers(len(spread.shapes)))]]
        color = _near(_TARGET, spread.hue, rng)
        link = Link(
            "target",
            (shape(self._size_m, color),),
            mass_kg=TARGET_KG,
            friction=1.0,
            rolling_friction=BALL_ROLLING_M,
        )
        self._sim.add("target", (link,), (x, y, FLOOR_M + self._size_m / 2))

    def _add_bottle(self, rng: np.random.Generator, shift_m: tuple[float, float]) -> None:
        start = self._start
        x = float(rng.uniform(*start.bottle_x_m)) + shift_m[0]
        y = float(rng.uniform(*start.bottle_y_m)) + shift_m[1]
        turn = float(rng.uniform(*start.bottle_turn_rad))
        fallen = float(rng.random()) < start.fallen
        floor = TABLE_TOP_M if self._blocks() else TABLE_TOP_M + BOTTLE_TRAY_WALL_M
        link = bottle(_near(_BOTTLE, self._spread.hue, rng))
        height = BOTTLE_SIZE_M[0 if fallen else 2]
        self._sim.add("object", (link,), (x, y, floor + height / 2), _lying(turn, fallen=fallen))

    def opened_m(self) -> tuple[float, float]:
        """Return the openings of the bottom and the top drawer."""
        bottom, top = self._sim.joint_positions("cabinet", (BOTTOM, TOP))
        return bottom, top

    def _fronts(self, bottom_m: float, top_m: float) -> tuple[Vec3, Vec3]:
        """Return the positions of the handle's bar and of the top drawer's front."""
        x, y = self._cabinet
        handle = (x + bottom_m + HANDLE_FORWARD_M, y, DRAWER_HEIGHT_M)
        top = (x + top_m + DRAWER_SIZE_M[0] / 2, y, DRAWER_HEIGHT_M + STACKED_M)
        return handle, top

    def scene(self) -> NDArray[np.float32]:
        """Return the state of ball, bottle and drawers.  # (19,)."""
        position, quat = self._sim.pose("object")
        bottom, top = self.opened_m()
        handle, front = self._fronts(bottom, top)
        target = self._sim.pose("target")[0]
        values = [*target, *position, *quat, *handle, *front, bottom, top, self._size_m]
        return np.array(values, np.float32)

    def predicate_values(self, ee_m: Vec3) -> dict[str, bool]:
        """Return for every predicate whether it holds in the current state."""
        bottom, top = self.opened_m()
        return {
            "grasped": is_grasped(self._sim.pose("target")[0], ee_m),
            "drawer_open": bottom > OPEN_ABOVE * TRAVEL_M,
            "drawer_closed": bottom < CLOSED_BELOW * TRAVEL_M,
            "top_drawer_closed": top < CLOSED_BELOW * TRAVEL_M,
            "blocker_moved": self._is_clear(self._sim.pose("object")[0]),
        }

    def _is_clear(self, at_m: Vec3) -> bool:
        """Return whether a bottle at a position lies outside the region in front of the drawer."""
        x, y = at_m[0] - (self._cabinet[0] - CABINET_M[0]), at_m[1] - self._cabinet[1]
        before = CORRIDOR_X_M[0] < x < CORRIDOR_X_M[1] and abs(y) < CORRIDOR_Y_M
        return at_m[2] < PUT_DOWN_BELOW_M and not before

    def landmarks(self) -> dict[str, NDArray[np.float64]]:
        """Return positions of ball, bottle, tray, handle, top drawer and the free region.  # (3,) each."""
        handle, front = self._fronts(*self.opened_m())
        shut, _ = self._fronts(0.0, 0.0)
        return {
            "target": np.array(self._sim.pose("target")[0]),
            "object": np.array(self._sim.pose("object")[0]),
            "tray": np.array(BOTTLE_TRAY_TARGET_M),
            "handle": np.array(handle),
            "handle_shut": np.array(shut),
            "top_drawer": np.array(front),
            "free_low": np.array(DRAWER_FREE_LOW_M),
            "free_high": np.array(DRAWER_FREE_HIGH_M),
        }


def _lying(turn_rad: float, *, fallen: bool) -> Quat:
    """Return the rotation around z, after a quarter turn around y if the bottle has fallen."""
    c, s = math.cos(turn_rad / 2), math.sin(turn_rad / 2)
    if not fallen:
        return (0.0, 0.0, s, c)
    half = math.sqrt(0.5)
    return (-s * half, c * half, s * half, c * half)


def _ball(size_m: float, color: Rgb) -> Shape:
    return Sphere(size_m / 2, color)


def _cube(size_m: float, color: Rgb) -> Shape:
    return Box((size_m, size_m, size_m), color)


def _cylinder(size_m: float, color: Rgb) -> Shape:
    return Cylinder(size_m / 2, size_m, color)


TARGET_SHAPES: Final = {"ball": _ball, "cube": _cube, "cylinder": _cylinder}


def _near(color: Rgb, hue: float, rng: np.random.Generator) -> Rgb:
    red, green, blue = np.clip(np.array(color) + rng.uniform(-hue, hue, 3), 0, 1).tolist()
    return red, green, blue


def bottle(color: Rgb) -> Link:
    """Build the bottle, lying along y: a flat body and a neck."""
    neck_y = (BOTTLE_SIZE_M[1] + NECK_LENGTH_M) / 2
    neck = Cylinder(NECK_RADIUS_M, NECK_LENGTH_M, _CAP, at_m=(0.0, neck_y, 0.0), quat=_ALONG_Y)
    return Link("object", (Box(BOTTLE_SIZE_M, color), neck), mass_kg=BOTTLE_KG, friction=1.0)


def _shell() -> Link:
    """Build the cabinet around the bottom drawer's middle: sides, back and two plates above the drawers."""
    length, depth, room = SHELL_SIZE_M
    low, high = TABLE_TOP_M - DRAWER_HEIGHT_M, STACKED_M + room / 2
    plate, side = (length, depth, PLATE_M), (length, PLATE_M, high - low)
    x = SHELL_BACK_M + length / 2
    middle, aside = (low + high) / 2, (depth - PLATE_M) / 2
    return Link(
        "shell",
        (
            Box(plate, _CABINET, at_m=(x, 0.0, high - PLATE_M / 2)),
            Box(plate, _CABINET, at_m=(x, 0.0, STACKED_M / 2)),
            Box(side, _CABINET, at_m=(x, -aside, middle)),
            Box(side, _CABINET, at_m=(x, aside, middle)),
            Box((PLATE_M, depth, high - low), _CABINET, at_m=(SHELL_BACK_M + PLATE_M / 2, 0.0, middle)),
        ),
    )


def _drawer(name: str, height_m: float, shapes: tuple[Shape, ...]) -> Link:
    return Link(
        name, shapes, mass_kg=DRAWER_KG, joint="prismatic", at_m=(0.0, 0.0, height_m), axis=(1.0, 0.0, 0.0),
        friction=DRAWER_FRICTION, limits=(0.0, TRAVEL_M),
    )  # fmt: skip


def _handle() -> tuple[Shape, ...]:
    """Build the handle: a bar on two posts."""
    front, post = DRAWER_SIZE_M[0] / 2, HANDLE_FORWARD_M - DRAWER_SIZE_M[0] / 2
    end = (HANDLE_LENGTH_M - POST_M) / 2
    posts = [Box((post, POST_M, POST_M), _HANDLE, at_m=(front + post / 2, y, 0.0)) for y in (-end, end)]
    bar = Cylinder(
        HANDLE_RADIUS_M, HANDLE_LENGTH_M, _HANDLE, at_m=(HANDLE_FORWARD_M, 0.0, 0.0), quat=_ALONG_Y
    )
    return (bar, *posts)


_BOX: Final = open_box(
    DRAWER_SIZE_M, DRAWER_WALL_M, _DRAWER, floor_m=DRAWER_FLOOR_M, floor_color=_DRAWER_FLOOR,
    base_m=-DRAWER_SIZE_M[2] / 2,
)  # fmt: skip
BOTTLE_TRAY: Final = Link(
    "tray",
    open_box(
        BOTTLE_TRAY_SIZE_M,
        BOTTLE_TRAY_WALL_M,
        _BOTTLE_TRAY,
        floor_m=BOTTLE_TRAY_WALL_M,
        floor_color=_BOTTLE_TRAY_FLOOR,
    ),
)
CABINET: Final = (
    _shell(),
    _drawer("bottom", 0.0, (*_BOX, *_handle())),
    _drawer("top", STACKED_M, _BOX),
)
