"""Decoded episodes in memory: flat arrays that transitions are indices into, so no frame is held twice."""

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
    """Flat arrays over F frames; action, reward and terminated belong to the frame they leave.

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
    def empty(cls, frames: int, columns: Sequence[str], image_size: tuple[int, int], scene_dim: int) -> Pool:
        """Make room for ``frames`` frames of the columns asked for."""
        return cls(
            np.empty((frames, *image_size, 3), np.uint8) if "image" in columns else None,
            np.empty((frames, ROBOT_DIM), np.float32) if "robot" in columns else None,
            np.empty((frames, scene_dim), np.float32) if "scene" in columns else None,
            np.zeros((frames, ACTION_DIM), np.float32),
            np.zeros(frames, np.float32),
            np.zeros(frames, bool),
            np.zeros(frames, np.int16),
        )

    @staticmethod
    def frame_bytes(columns: Sequence[str], image_size: tuple[int, int], scene_dim: int) -> int:
        """Bytes per frame."""
        sizes = {"image": image_size[0] * image_size[1] * 3, "robot": 4 * ROBOT_DIM, "scene": 4 * scene_dim}
        return sum(sizes[name] for name in columns) + 4 * ACTION_DIM + 4 + 1 + 2

    def copy_rows(self, target: int, other: Pool, start: int, count: int) -> None:
        """Copy ``count`` frames of another pool, from ``start``, to ``target``."""
        for name, values in vars(self).items():
            if values is not None:
                values[target : target + count] = getattr(other, name)[start : start + count]

    def gather(self, frames: Int64) -> Batch:
        """Build the batch of the transitions that leave these frames."""
        return Batch(
            obs=self._observe(frames),
            action=self.action[frames],
            reward=self.reward[frames],
            next_obs=self._observe(frames + 1),
            terminated=self.terminated[frames],
            source=self.source[frames],
        )

    def _observe(self, frames: Int64) -> Observation:
        return Observation(
            image=None if self.image is None else self.image[frames],
            robot=None if self.robot is None else self.robot[frames],
            scene=None if self.scene is None else self.scene[frames],
        )
