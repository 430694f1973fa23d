"""Observation of a scripted policy: positions and predicates of the scene."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cogdata.errors import unknown

Point = NDArray[np.float64]
"""A position in the world, m.  # (3,)"""


@dataclass(frozen=True)
class SceneView:
    """State of a scene at one step.

    Attributes:
        ee_m: End-effector position.  # (3,)
        turned_rad: Rotation of the hand from pointing down: Euler angles alpha, beta, gamma.  # (3,)
        gripper_open: Whether the last gripper command was to open.
        landmarks: Positions that the task names, such as "object" and "tray".
        predicates: Predicate → whether it holds at this step.
    """

    ee_m: Point
    turned_rad: Point
    gripper_open: bool
    landmarks: Mapping[str, Point]
    predicates: Mapping[str, bool]

    def at(self, landmark: str) -> Point:
        """Return the position of a landmark.  # (3,).

        Raises:
            CogError: The scene has no such landmark: the policy was made for another one.
        """
        if landmark not in self.landmarks:
            raise unknown("landmark of this scene", landmark, self.landmarks)
        return self.landmarks[landmark]

    @property
    def object_m(self) -> Point:
        """Position of the landmark "object".  # (3,)."""
        return self.at("object")

    @property
    def tray_m(self) -> Point:
        """Position of the landmark "tray".  # (3,)."""
        return self.at("tray")
