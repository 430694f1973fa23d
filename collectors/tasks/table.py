"""Common parts of the scenes: the table, open boxes, the test of a grasp."""

from __future__ import annotations

import math
from typing import Final

from collectors.sim import Box, Link, Rgb, Simulation, Vec3

TABLE_TOP_M: Final = -0.374
TABLE_SIZE_M: Final[Vec3] = (1.0, 1.5, 0.05)
TABLE_M: Final[Vec3] = (0.75, -0.2, TABLE_TOP_M - TABLE_SIZE_M[2] / 2)
GRASPED_ABOVE_M: Final = -0.25
GRASPED_WITHIN_M: Final = 0.1
"""Least height, and largest distance from the end effector, of a grasped object [published]."""
SETTLE_STEPS: Final = 12
"""Number of simulation steps before an episode, in which the scene comes to rest."""

_TABLE: Final[Rgb] = (0.80, 0.72, 0.58)


def add_table(sim: Simulation) -> None:
    """Add the table to a simulation."""
    sim.add("table", (Link("table", (Box(TABLE_SIZE_M, _TABLE),)),), TABLE_M)


def is_grasped(at_m: Vec3, ee_m: Vec3) -> bool:
    """Return whether an object is lifted and near the end effector."""
    return at_m[2] > GRASPED_ABOVE_M and math.dist(at_m, ee_m) < GRASPED_WITHIN_M


def open_box(
    size_m: Vec3, wall_m: float, color: Rgb, *, floor_m: float, floor_color: Rgb, base_m: float = 0.0
) -> tuple[Box, ...]:
    """Build a box that is open at the top: a floor and four walls.

    Args:
        size_m: Outer edge lengths.
        wall_m: Thickness of the walls.
        color: Colour of the walls.
        floor_m: Thickness of the floor.
        floor_color: Colour of the floor.
        base_m: Height of the underside in the link's frame.
    """
    length, depth, height = size_m
    across, along, middle = (length - wall_m) / 2, (depth - wall_m) / 2, base_m + height / 2
    return (
        Box((length, depth, floor_m), floor_color, at_m=(0.0, 0.0, base_m + floor_m / 2)),
        Box((wall_m, depth, height), color, at_m=(-across, 0.0, middle)),
        Box((wall_m, depth, height), color, at_m=(across, 0.0, middle)),
        Box((length, wall_m, height), color, at_m=(0.0, -along, middle)),
        Box((length, wall_m, height), color, at_m=(0.0, along, middle)),
    )
