"""The replay pool: decoded episodes in memory as flat arrays, into which transitions are indices.

A transition is the index of its first observation, so no observation is held twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cogdata.features import Feature, Per
from cogdata.streaming.transitions import Batch, Observation
from cogdata.streaming.windows import BatchRows

_FIXED: Final = {"reward": np.dtype(np.float32), "terminated": np.dtype(bool), "source": np.dtype(np.int16)}
"""What every pool holds of a transition beside its action."""

EMBODIMENT: Final = "embodiment"
"""Mark of a row: index of the embodiment of its episode."""


def length_of(name: str) -> str:
    """Return the name of the mark that says how long a padded feature, or the action, is in its episode."""
    return f"length of {name}"


@dataclass
class Pool:
    """Replay pool of F observations; action, reward and terminated stand at the observation acted from.

    Attributes:
        features: Features of its observations, in the order of the declaration.
        arrays: Name → (F, *shape): each of ``features``, "action", "reward" float32, "terminated" bool and
            "source" int16. Texts are int32 indices. Marks of rows, such as :data:`EMBODIMENT`, are int16.
    """

    features: tuple[Feature, ...]
    arrays: dict[str, NDArray[Any]]

    @classmethod
    def empty(
        cls, count: int, features: Sequence[Feature], action: Feature, marks: Sequence[str] = ()
    ) -> Pool:
        """Allocate a pool of ``count`` observations.

        Args:
            count: F.
            features: Features of the observations.
            action: The action.
            marks: Names of the marks of each row.
        """
        arrays = {one.name: np.empty((count, *one.shape), _held_as(one)) for one in features}
        arrays["action"] = np.zeros((count, *action.shape), action.numpy_dtype)
        arrays |= {name: np.zeros(count, dtype) for name, dtype in _FIXED.items()}
        arrays |= {name: np.zeros(count, np.int16) for name in marks}
        return cls(tuple(features), arrays)

    @staticmethod
    def observation_bytes(features: Sequence[Feature], action: Feature, marks: Sequence[str] = ()) -> int:
        """Return the bytes of one observation with its action, reward, flags and marks."""
        fixed = sum(dtype.itemsize for dtype in _FIXED.values()) + 2 * len(marks)
        return sum(one.row_bytes for one in features) + action.row_bytes + fixed

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return an array of the pool, (F, *shape)."""
        return self.arrays[name]

    def copy_rows(self, target: int, other: Pool, start: int, count: int) -> None:
        """Copy ``count`` observations of another pool, from index ``start`` on, to index ``target``."""
        for name, values in self.arrays.items():
            values[target : target + count] = other.arrays[name][start : start + count]

    def without_features(self) -> Pool:
        """Return the small arrays alone, neither observations nor actions, as the same memory."""
        large = {"action", *(one.name for one in self.features)}
        return Pool((), {name: array for name, array in self.arrays.items() if name not in large})

    def gather(self, rows: BatchRows) -> Batch:
        """Return the batch of some of its rows."""
        arrays, now, after, around, around_after = (
            self.arrays, rows.now, rows.after, rows.around, rows.around_after,
        )  # fmt: skip
        obs = {one.name: arrays[one.name][around.get(one.name, now)] for one in self.features}
        next_obs = {
            one.name: arrays[one.name][around_after.get(one.name, after)]
            for one in self.features
            if one.per is not Per.TRANSITION
        }
        return Batch(
            obs=Observation(obs),
            action=arrays["action"][around.get("action", now)],
            reward=arrays["reward"][now] if rows.reward is None else rows.reward,
            next_obs=Observation(next_obs),
            terminated=arrays["terminated"][now] if rows.terminated is None else rows.terminated,
            source=arrays["source"][now],
            valid=rows.valid,
            next_valid=rows.next_valid,
            mask=rows.mask,
            discount=rows.discount,
            embodiment=rows.embodiment,
        )


def _held_as(feature: Feature) -> np.dtype[Any]:
    return np.dtype(np.int32) if feature.is_text else feature.numpy_dtype
