"""The tray scene: a block and a tray on a table; the task is to put the block into the tray.

Positions, sizes and success tests are measured from the published world (Widow250PickTray-v0,
Widow250PlaceTray-v0 of roboverse @ a443f79); our own choices are listed apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from collectors.robots import widowx
from collectors.robots.widowx import WidowX
from collectors.sim import Box, Link, Rgb, Simulation, Vec3
from collectors.tasks import Located
from collectors.tasks.table import SETTLE_STEPS, TABLE_TOP_M, add_table, is_grasped, open_box

InitialCondition = Literal["object_on_table", "object_in_gripper"]

TRAY_M: Final[Vec3] = (0.5, 0.25, TABLE_TOP_M)
"""Position of the middle of the tray's underside."""
TRAY_SIZE_M: Final[Vec3] = (0.117, 0.112, 0.031)
TRAY_WALL_M: Final = 0.004
OBJECT_SIZE_M: Final[Vec3] = (0.028, 0.056, 0.050)
OBJECT_KG: Final = 0.05
OBJECT_LOW_M: Final = (0.49, 0.18)
OBJECT_HIGH_M: Final = (0.75, 0.27)
OBJECT_FROM_TRAY_M: Final = 0.11
HELD_M: Final[Vec3] = (0.600, 0.155, -0.22)
"""Initial position of the object when an episode starts with it in the gripper."""

PLACED_BELOW_M: Final = -0.32
PLACED_WITHIN_M: Final = 0.04

# Our own choices: the variation of blocks, and of the initial grasp.
SIZE_SPREAD: Final = 0.1
COLOR_SPREAD: Final = 0.1
TRAY_FREE_LOW_M: Final[Vec3] = (0.49, 0.16, TABLE_TOP_M)
TRAY_FREE_HIGH_M: Final[Vec3] = (0.76, 0.29, TABLE_TOP_M)
"""Region in which objects may be dropped, slightly larger than the region where they start."""
HELD_DEPTH_M: Final = (0.032, 0.056)
HELD_OFF_CENTRE_M: Final = 0.016
FINGER_GAP_M: Final = 0.0002

_TRAY_WALL: Final[Rgb] = (0.30, 0.52, 0.90)
_TRAY_FLOOR: Final[Rgb] = (0.16, 0.32, 0.66)
_OBJECT: Final[Rgb] = (0.12, 0.62, 0.22)


@dataclass(frozen=True)
class TrayBlock:
    """Size and colour of the block of one episode."""

    size_m: Vec3
    color: Rgb


class TrayTask:
    """Put the block into the tray.

    Args:
        sim: Simulation to build in.
        robot: Robot of the simulation.
        initial: Initial condition of an episode.
    """

    scene_fields = (
        "object_x_m", "object_y_m", "object_z_m", "object_qx", "object_qy", "object_qz", "object_qw",
        "object_width_m", "object_depth_m", "object_height_m",
    )  # fmt: skip
    predicates = ("grasped", "placed")
    task_predicate = "placed"
    located: Final = {"object": Located("object", TABLE_TOP_M + OBJECT_SIZE_M[2] / 2)}

    def __init__(self, sim: Simulation, robot: WidowX, *, initial: InitialCondition) -> None:
        self._sim = sim
        self._robot = robot
        self._initial: InitialCondition = initial
        self._block = TrayBlock(OBJECT_SIZE_M, _OBJECT)

    def build(self, rng: np.random.Generator) -> None:
        """Build table, tray, robot and block, and simulate until they are at rest."""
        self._block = draw_block(rng)
        add_table(self._sim)
        self._sim.add("tray", (tray_link(),), TRAY_M)
        if self._initial == "object_in_gripper":
            self._build_held(rng)
        else:
            self._robot.build()
            x, y = draw_place(rng)
            self._add_block((x, y, TABLE_TOP_M + self._block.size_m[2] / 2))
        self._sim.step(SETTLE_STEPS)

    def _build_held(self, rng: np.random.Generator) -> None:
        """Build the arm around the block, with fingers just off it and closing."""
        depth = rng.uniform(*HELD_DEPTH_M)
        off_centre = rng.uniform(-HELD_OFF_CENTRE_M, HELD_OFF_CENTRE_M)
        x, y, z = HELD_M
        joints = widowx.inverse((x, y + off_centre, z + depth), widowx.POINTING_DOWN)
        grip = (self._block.size_m[0] + widowx.FINGER_THICKNESS_M) / 2
        self._robot.build(joints=joints, finger_m=grip + FINGER_GAP_M)
        self._add_block(HELD_M)

    def _add_block(self, at_m: Vec3) -> None:
        block = self._block
        link = Link("object", (Box(block.size_m, block.color),), mass_kg=OBJECT_KG, friction=1.0)
        self._sim.add("object", (link,), at_m)

    def scene(self) -> NDArray[np.float32]:
        """Return pose and size of the block.  # (10,)."""
        position, quat = self._sim.pose("object")
        return np.array([*position, *quat, *self._block.size_m], np.float32)

    def predicate_values(self, ee_m: Vec3) -> dict[str, bool]:
        """Return whether `grasped` and `placed` hold in the current state."""
        at = self._sim.pose("object")[0]
        low = at[2] < PLACED_BELOW_M
        return {
            "grasped": is_grasped(at, ee_m),
            "placed": low and math.dist(at[:2], TRAY_M[:2]) < PLACED_WITHIN_M,
        }

    def landmarks(self) -> dict[str, NDArray[np.float64]]:
        """Return the positions of object, tray and free region.  # (3,) each."""
        return {
            "object": np.array(self._sim.pose("object")[0]),
            "tray": np.array(TRAY_M),
            "free_low": np.array(TRAY_FREE_LOW_M),
            "free_high": np.array(TRAY_FREE_HIGH_M),
        }


def draw_block(rng: np.random.Generator) -> TrayBlock:
    """Draw size and colour of a block, each number independently."""
    sizes = np.array(OBJECT_SIZE_M) * rng.uniform(1 - SIZE_SPREAD, 1 + SIZE_SPREAD, 3)
    colors = np.clip(np.array(_OBJECT) + rng.uniform(-COLOR_SPREAD, COLOR_SPREAD, 3), 0, 1)
    (width, depth, height), (red, green, blue) = sizes.tolist(), colors.tolist()
    return TrayBlock((width, depth, height), (red, green, blue))


def draw_place(rng: np.random.Generator) -> tuple[float, float]:
    """Draw a position on the table, uniform over the region and clear of the tray.  # (2,)."""
    while True:
        x, y = rng.uniform(OBJECT_LOW_M, OBJECT_HIGH_M).tolist()
        if math.dist((x, y), TRAY_M[:2]) >= OBJECT_FROM_TRAY_M:
            return x, y


def tray_link() -> Link:
    """Build the tray, a box open at the top."""
    box = open_box(TRAY_SIZE_M, TRAY_WALL_M, _TRAY_WALL, floor_m=TRAY_WALL_M, floor_color=_TRAY_FLOOR)
    return Link("tray", box)
