"""A transition (s, a, r, s') and a batch of them, as numpy arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cogdata.episode import Bool, Float32, UInt8

OBSERVATIONS: Final = ("image", "robot", "scene")
"""The observation features that a stream can deliver."""


@dataclass(frozen=True)
class Observation:
    """B observations; a feature that was not asked for is None.

    Attributes:
        image: uint8 (B, H, W, 3).
        robot: float32 (B, 10).
        scene: float32 (B, S).
    """

    image: UInt8 | None
    robot: Float32 | None
    scene: Float32 | None


@dataclass(frozen=True)
class Batch:
    """B transitions.

    Attributes:
        obs: s.
        action: float32 (B, 8).
        reward: float32 (B,), relabelled by the mixture.
        next_obs: s'.
        terminated: bool (B,); s' is absorbing, as the environment reported (time limits are not).
        source: int16 (B,), index into the stream's ``sources``.
    """

    obs: Observation
    action: Float32
    reward: Float32
    next_obs: Observation
    terminated: Bool
    source: NDArray[np.int16]
