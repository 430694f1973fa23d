"""The replay pool: decoded episodes in memory as flat arrays, into which transitions are indices.

A transition is the index of its first observation, so no observation is held twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cogdata.episode import Float32, UInt8
from cogdata.schema import ACTION_DIM, ROBOT_DIM
from cogdata.streaming.plan import Int64
from cogdata.streaming.transitions import Batch, Observation


@dataclass
class Pool:
    """Replay pool of F observations; action, reward and terminated stand at the observation acted from.

    Attributes:
        image: uint8 (F, H, W, 3) or None.
        robot: float32 (F, 10) or None.
        scene: float32 (F, S) or None.
        action: float32 (F, 8).
        reward: float32 (F,).
        terminated: bool (F,).
        source: int16 (F,).
    """

    image: UInt8 | None
    robot: Float32 | None
    scene: Float32 | None
    action: Float32
    reward: Float32
    terminated: NDArray[np.bool_]
    source: NDArray[np.int16]

    @classmethod
    def empty(cls, count: int, columns: Sequence[str], image_size: tuple[int, int], scene_dim: int) -> Pool:
        """Allocate a pool of ``count`` observations with these observation features."""
        return cls(
            np.empty((count, *image_size, 3), np.uint8) if "image" in columns else None,
            np.empty((count, ROBOT_DIM), np.float32) if "robot" in columns else None,
            np.empty((count, scene_dim), np.float32) if "scene" in columns else None,
            np.zeros((count, ACTION_DIM), np.float32),
            np.zeros(count, np.float32),
            np.zeros(count, bool),
            np.zeros(count, np.int16),
        )

    @staticmethod
    def observation_bytes(columns: Sequence[str], image_size: tuple[int, int], scene_dim: int) -> int:
        """Return the bytes of one observation with its action, reward and flags."""
        sizes = {"image": image_size[0] * image_size[1] * 3, "robot": 4 * ROBOT_DIM, "scene": 4 * scene_dim}
        return sum(sizes[name] for name in columns) + 4 * ACTION_DIM + 4 + 1 + 2

    def copy_rows(self, target: int, other: Pool, start: int, count: int) -> None:
        """Copy ``count`` observations of another pool, from index ``start`` on, to index ``target``."""
        for name, values in vars(self).items():
            if values is not None:
                values[target : target + count] = getattr(other, name)[start : start + count]

    def gather(self, indices: Int64) -> Batch:
        """Return the batch of the transitions that begin at these indices."""
        return Batch(
            obs=self._observe(indices),
            action=self.action[indices],
            reward=self.reward[indices],
            next_obs=self._observe(indices + 1),
            terminated=self.terminated[indices],
            source=self.source[indices],
        )

    def _observe(self, indices: Int64) -> Observation:
        return Observation(
            image=None if self.image is None else self.image[indices],
            robot=None if self.robot is None else self.robot[indices],
            scene=None if self.scene is None else self.scene[indices],
        )
