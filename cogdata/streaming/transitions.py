"""A transition (s, a, r, s') and a batch of them, as numpy arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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

    A feature with a window, or the action, has K rows of each transition: (B, K, *shape).

    Attributes:
        obs: s.
        action: (B, *shape) of the declared type.
        reward: float32 (B,), relabelled by the mixture; of n-step returns their discounted sum.
        next_obs: s'; of n-step returns the observation that they end at. Features per transition are no part.
        terminated: bool (B,); s' is absorbing, as the environment reported (time limits are not). False where
            it is unknown.
        source: int16 (B,), index into the stream's ``sources``.
        valid: Feature of ``obs`` with a window, or "action" → bool (B, K); false where a row lies beyond what
            the mixture chose and the first or last one is repeated.
        next_valid: As ``valid``, of ``next_obs``.
        mask: Padded feature, or "action" → bool (B, D); false for the zeros that it is padded with.
        discount: float32 (B,), γ to the number of steps between s and s', 0 where s' is absorbing; None
            without a discount among the options.
        embodiment: int16 (B,), index into the stream's ``embodiments``, -1 where an episode has none; None if
            the mixture has none.
    """

    obs: Observation
    action: NDArray[Any]
    reward: Float32
    next_obs: Observation
    terminated: Bool
    source: NDArray[np.int16]
    valid: Mapping[str, Bool] = field(default_factory=dict)
    next_valid: Mapping[str, Bool] = field(default_factory=dict)
    mask: Mapping[str, Bool] = field(default_factory=dict)
    discount: Float32 | None = None
    embodiment: NDArray[np.int16] | None = None
