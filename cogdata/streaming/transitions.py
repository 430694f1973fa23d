"""A transition (s, a, r, s') and a batch of them, as numpy arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cogdata.episode import Bool, Float32


@dataclass(frozen=True)
class Observation:
    """B observations.

    Attributes:
        parts: Feature → (B, *shape), in the order of the declaration; only what was asked for. A text is the
            int32 index of its value in the stream's ``texts``.
    """

    parts: Mapping[str, NDArray[Any]]

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return a feature, (B, *shape)."""
        return self.parts[name]

    def get(self, name: str) -> NDArray[Any] | None:
        """Return a feature, (B, *shape); None if it was not asked for."""
        return self.parts.get(name)


@dataclass(frozen=True)
class Batch:
    """B transitions.

    Attributes:
        obs: s.
        action: (B, *shape) of the declared type.
        reward: float32 (B,), relabelled by the mixture.
        next_obs: s'.
        terminated: bool (B,); s' is absorbing, as the environment reported (time limits are not).
        source: int16 (B,), index into the stream's ``sources``.
    """

    obs: Observation
    action: NDArray[Any]
    reward: Float32
    next_obs: Observation
    terminated: Bool
    source: NDArray[np.int16]
