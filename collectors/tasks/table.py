"""What the scenes have in common: the table, boxes that are open at the top, what holding a thing means."""

from __future__ import annotations

import math
from typing import Final

from collectors.sim import Box, Link, Rgb, Simulation, Vec3

TABLE_TOP_M: Final = -0.374
TABLE_SIZE_M: Final[Vec3] = (1.0, 1.5, 0.05)
TABLE_M: Final[Vec3] = (0.75, -0.2, TABLE_TOP_M - TABLE_SIZE_M[2] / 2)
GRASPED_ABOVE_M: Final = -0.25
GRASPED_WITHIN_M: Final = 0.1
"""A thing is grasped when it is higher than this and so near to the end effector [published]."""
SETTLE_STEPS: Final = 12
"""Time steps of the simulation that a scene gets to come to rest before an episode starts."""

_TABLE: Final[Rgb] = (0.80, 0.72, 0.58)


def add_table(sim: Simulation) -> None:
    """Put the table into an empty world."""
    sim.add("table", (Link("table", (Box(TABLE_SIZE_M, _TABLE),)),), TABLE_M)


def is_grasped(at_m: Vec3, ee_m: Vec3) -> bool:
    """Judge whether a thing is lifted, and by the hand."""
    return at_m[2] > GRASPED_ABOVE_M and math.dist(at_m, ee_m) < GRASPED_WITHIN_M


def open_box(
    size_m: Vec3, wall_m: float, color: Rgb, *, floor_m: float, floor_color: Rgb, base_m: float = 0.0
) -> tuple[Box, ...]:
    """Make a box that is open at the top: a floor and four walls.

    Args:
        size_m: Outer edge lengths.
        wall_m: Thickness of the walls.
        color: Of the walls.
        floor_m: Thickness of the floor.
        floor_color: Of the floor.
        base_m: Height of its underside in the link's frame.
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
