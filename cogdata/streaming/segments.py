"""The parts of a replay pool, one per stratum: which episodes are in its slots, and where."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cogdata.errors import CogError
from cogdata.streaming.plan import Int64, Stratum, Window, windows
from cogdata.streaming.pool import Pool
from cogdata.streaming.windows import Runs

_STAGED: Final = 1.125
"""Memory of a moving pool over its capacity: the next refill, an eighth, is read ahead."""


@dataclass
class Staged:
    """Episodes read ahead.

    Attributes:
        pool: Pool that they are read into; episode i begins at index i * stride.
        slots: Slot of the replay pool that each will replace, int64 (refill,).
        rows: Manifest row of each, int64 (refill,).
        reads: Reads in progress.
    """

    pool: Pool
    slots: Int64
    rows: Int64
    reads: list[Future[None]]


@dataclass
class Segment:
    """The part of the replay pool that belongs to one stratum.

    Attributes:
        stratum: The stratum.
        window: Number of its episodes in memory, and how many a block replaces.
        base: Index of its first observation.
        stride: Observations per slot of a moving window.
        held: Block whose episodes are in the slots; -1: none yet.
        rows: Manifest row in each slot, int64 (slots,).
        offsets: Index of the first observation of each slot, int64 (slots,).
        transitions: Index of each transition that can be drawn now, int64 (n,).
        runs: Runs that ``transitions`` are part of; None if batches look at nothing around a transition.
        cumulative: Cumulative weights of ``transitions``; None: all weights are equal.
        staged: Episodes being read for the next block.
    """

    stratum: Stratum
    window: Window
    base: int
    stride: int
    held: int = -1
    rows: Int64 = field(default_factory=lambda: np.empty(0, np.int64))
    offsets: Int64 = field(default_factory=lambda: np.empty(0, np.int64))
    transitions: Int64 = field(default_factory=lambda: np.empty(0, np.int64))
    runs: Runs | None = None
    cumulative: NDArray[np.float64] | None = None
    staged: Staged | None = None


def lay_out(strata: Sequence[Stratum], lengths: Int64, budget: int) -> tuple[list[Segment], int, int]:
    """Divide a pool among strata.

    Args:
        strata: The strata of the mixture.
        lengths: Number of observations of each episode of the manifest, int64 (E,).
        budget: Observations that there is memory for.

    Returns:
        A segment per stratum, the number of observations of the pool, and the batches per block (0 when
        nothing moves).

    Raises:
        CogError: There is no memory for two episodes of each stratum.
    """
    capacities = [len(s.episodes) for s in strata]
    if lengths.sum() > budget:
        capacities = _capacities(strata, lengths, budget)
    chosen, block = windows(strata, capacities)
    segments, base = [], 0
    for stratum, window in zip(strata, chosen, strict=True):
        stride = int(lengths[stratum.episodes].max())
        segments.append(Segment(stratum, window, base, stride))
        base += int(lengths[stratum.episodes].sum()) if not window.refill else window.capacity * stride
    return segments, base, block


def _capacities(strata: Sequence[Stratum], lengths: Int64, budget: int) -> list[int]:
    """Split a number of observations by shares of the batch; the others get what a stratum does not use."""
    need = {s.name: int(lengths[s.episodes].sum()) for s in strata}
    held: dict[str, int] = {}
    while True:
        rest = [s for s in strata if s.name not in held]
        left = budget - sum(need[name] for name in held)
        given = {s.name: left * s.count / sum(r.count for r in rest) for s in rest}
        fits = [name for name, count in given.items() if need[name] <= count]
        if not fits:
            break
        held |= {name: need[name] for name in fits}
    capacities = []
    for stratum in strata:
        stride = int(lengths[stratum.episodes].max())
        capacity = len(stratum.episodes)
        if stratum.name not in held:
            capacity = min(capacity, int(given[stratum.name] / (_STAGED * stride)))
        if capacity < min(2, len(stratum.episodes)):
            raise CogError(
                f"--memory is too small to hold two episodes of source {stratum.name or 'all'!r}: give more"
            )
        capacities.append(capacity)
    return capacities
