"""What a scripted policy sees of a world: places and facts, no simulator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cogdata.errors import unknown

Point = NDArray[np.float64]
"""A place in the world, m.  # (3,)"""


@dataclass(frozen=True)
class SceneView:
    """One moment of a scene.

    Attributes:
        ee_m: End-effector position.  # (3,)
        turned_rad: How the hand is turned from pointing down: Euler angles alpha, beta, gamma.  # (3,)
        gripper_open: What the gripper was last told to be.
        landmarks: The places that a task names, such as "object" and "tray".
        predicates: What the task judges true at this moment.
    """

    ee_m: Point
    turned_rad: Point
    gripper_open: bool
    landmarks: Mapping[str, Point]
    predicates: Mapping[str, bool]

    def at(self, landmark: str) -> Point:
        """Where a landmark is.  # (3,).

        Raises:
            CogError: The scene has no such landmark: the policy was made for another one.
        """
        if landmark not in self.landmarks:
            raise unknown("landmark of this scene", landmark, self.landmarks)
        return self.landmarks[landmark]

    @property
    def object_m(self) -> Point:
        """Where the object to be handled is.  # (3,)."""
        return self.at("object")

    @property
    def tray_m(self) -> Point:
        """The tray's centre.  # (3,)."""
        return self.at("tray")
