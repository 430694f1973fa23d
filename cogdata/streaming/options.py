"""Settings of a stream."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cogdata.errors import CogError, unknown
from cogdata.features import EpisodeSpec, Feature, Per


def default_memory() -> int:
    """Return half of the memory, in bytes, that this machine or the container around this process may use."""
    limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # no such file, or "max"
        limit = min(limit, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return limit // 2


@dataclass(frozen=True)
class StreamOptions:
    """Settings of a stream; all but ``threads`` change the batches.

    Attributes:
        batch_size: B.
        seed: Seed of the sampling order.
        columns: Names of the features to deliver; None: all observations of the mixture's declaration.
        memory_bytes: Memory of the replay pool; None: :func:`default_memory`.
        threads: Number of threads that read and decode.
        share: (r, n): deliver only rows r, r + n, r + 2n, … of each batch.
        windows: Feature or "action" → (first, last) step relative to the transition, both included:
            ``{"image": (-1, 0)}`` stacks two frames, ``{"action": (0, 7)}`` is a chunk of eight actions.
        n_step: Most steps of a return; beyond 1 it needs ``discount``.
        discount: Discount γ per step; None: batches have no ``discount``.
        success_ends: Whether a return ends with its first positive reward, as with a termination.
    """

    batch_size: int = 256
    seed: int = 0
    columns: tuple[str, ...] | None = None
    memory_bytes: int | None = None
    threads: int = 2
    share: tuple[int, int] = (0, 1)
    windows: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    n_step: int = 1
    discount: float | None = None
    success_ends: bool = False

    def __post_init__(self) -> None:
        """Raise on numbers that no stream can have."""
        if self.batch_size < 1:
            raise CogError(f"batch size is {self.batch_size}, must be at least 1")
        for name, (first, last) in self.windows.items():
            if first > last:
                raise CogError(f"the window of {name} is ({first}, {last}): give its first step first")
        if self.n_step < 1:
            raise CogError(f"n_step is {self.n_step}, must be at least 1")
        if self.discount is not None and not 0 <= self.discount <= 1:
            raise CogError(f"discount is {self.discount:g}, must be between 0 and 1")
        if self.n_step > 1 and self.discount is None:
            raise CogError(f"returns of {self.n_step} steps need a discount: give one, for example 0.99")

    @property
    def budget(self) -> int:
        """Memory of the replay pool, in bytes."""
        return default_memory() if self.memory_bytes is None else self.memory_bytes

    @property
    def looks_around(self) -> bool:
        """Whether batches hold anything beside a transition's own two observations and action."""
        return bool(self.windows) or self.discount is not None

    def features(self, spec: EpisodeSpec) -> tuple[Feature, ...]:
        """Return the features to deliver, in the order of the declaration.

        Args:
            spec: Declaration of the mixture's episodes.

        Raises:
            CogError: A column is not declared, or a window is of a feature that is not delivered.
        """
        chosen = spec.observations if self.columns is None else spec.taking(self.columns).features
        steps = [one.name for one in (*chosen, spec.action) if one.per is not Per.EPISODE]
        for name in self.windows:
            if any(one.name == name for one in chosen) and name not in steps:
                raise CogError(f"{name} has one value per episode: it has no window")
            if name not in steps:
                raise unknown("feature with a window", name, steps)
        return chosen
