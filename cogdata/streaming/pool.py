"""The replay pool: decoded episodes in memory as flat arrays, into which transitions are indices.

A transition is the index of its first observation, so no observation is held twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cogdata.features import Feature
from cogdata.streaming.plan import Int64
from cogdata.streaming.transitions import Batch, Observation

_FIXED: Final = {"reward": np.dtype(np.float32), "terminated": np.dtype(bool), "source": np.dtype(np.int16)}
"""What every pool holds of a transition beside its action."""


@dataclass
class Pool:
    """Replay pool of F observations; action, reward and terminated stand at the observation acted from.

    Attributes:
        features: Features of its observations, in the order of the declaration.
        arrays: Name → (F, *shape): each of ``features``, "action", "reward" float32, "terminated" bool and
            "source" int16. Texts are int32 indices.
    """

    features: tuple[Feature, ...]
    arrays: dict[str, NDArray[Any]]

    @classmethod
    def empty(cls, count: int, features: Sequence[Feature], action: Feature) -> Pool:
        """Allocate a pool of ``count`` observations.

        Args:
            count: F.
            features: Features of the observations.
            action: The action.
        """
        arrays = {one.name: np.empty((count, *one.shape), _held_as(one)) for one in features}
        arrays["action"] = np.zeros((count, *action.shape), action.numpy_dtype)
        arrays |= {name: np.zeros(count, dtype) for name, dtype in _FIXED.items()}
        return cls(tuple(features), arrays)

    @staticmethod
    def observation_bytes(features: Sequence[Feature], action: Feature) -> int:
        """Return the bytes of one observation with its action, reward and flags."""
        fixed = sum(dtype.itemsize for dtype in _FIXED.values())
        return sum(one.row_bytes for one in features) + action.row_bytes + fixed

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return an array of the pool, (F, *shape)."""
        return self.arrays[name]

    def copy_rows(self, target: int, other: Pool, start: int, count: int) -> None:
        """Copy ``count`` observations of another pool, from index ``start`` on, to index ``target``."""
        for name, values in self.arrays.items():
            values[target : target + count] = other.arrays[name][start : start + count]

    def gather(self, indices: Int64) -> Batch:
        """Return the batch of the transitions that begin at these indices."""
        return Batch(
            obs=self._observe(indices),
            action=self.arrays["action"][indices],
            reward=self.arrays["reward"][indices],
            next_obs=self._observe(indices + 1),
            terminated=self.arrays["terminated"][indices],
            source=self.arrays["source"][indices],
        )

    def _observe(self, indices: Int64) -> Observation:
        return Observation({one.name: self.arrays[one.name][indices] for one in self.features})


def _held_as(feature: Feature) -> np.dtype[Any]:
    return np.dtype(np.int32) if feature.is_text else feature.numpy_dtype
