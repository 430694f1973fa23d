"""Which transitions make batch number p: pure functions of (manifest, seed, p), the same on any machine.

A *stratum* is a set of episodes that is sampled on its own: one per source where the mixture gives shares,
else one of everything. A stratum that fits in memory is drawn from as an endless row of permutations, so each
pass draws every transition once. A larger one is read through a *moving pool*: its episodes form an endless
ring of permutations; block b of the stream holds the ``capacity`` episodes from ring position ``b * refill``
on and serves ``block_batches`` batches, chosen so that a pass still draws each transition about once::

    ring     e7 e2 e9 e4 e0 e5 e1 e8 e3 e6 | e3 e9 …        (one permutation a pass)
    block 0  [--------------]
    block 1        [--------------]                         refill = 2, capacity = 5
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cogdata.errors import CogError
from cogdata.rng import generator

Int64 = NDArray[np.int64]

_REFILLS_PER_POOL = 8
"""A moving pool is renewed in this many blocks: more mixes better, fewer reads in larger pieces."""


def counts_per_batch(shares: Mapping[str, float], batch_size: int) -> dict[str, int]:
    """Split a batch among strata by largest remainder, the same split in every batch.

    Args:
        shares: Stratum → share, summing to 1.
        batch_size: B.

    Returns:
        Stratum → transitions, summing to B; within one of share times B.

    Raises:
        CogError: A stratum would get none.
    """
    exact = {name: share * batch_size for name, share in shares.items()}
    counts = {name: int(np.floor(value + 1e-9)) for name, value in exact.items()}
    order = sorted(exact, key=lambda name: (counts[name] - exact[name], name))
    for name in order[: batch_size - sum(counts.values())]:
        counts[name] += 1
    for name, count in counts.items():
        if count == 0:
            raise CogError(
                f"source {name!r} has a share of {shares[name]:g}, less than one transition in a batch of "
                f"{batch_size}: use a larger batch or share"
            )
    return counts


@lru_cache(maxsize=16)
def _permutation(seed: int, purpose: str, stratum: str, cycle: int, size: int) -> Int64:
    return generator("order", seed, purpose, stratum, cycle).permutation(size)


def ring(seed: int, purpose: str, stratum: str, size: int, start: int, stop: int) -> Int64:
    """Return positions [start, stop) of an endless row of permutations of range(size).

    Args:
        seed: Of the stream.
        purpose: Names the row: two rows of one stratum differ.
        stratum: Name of the stratum.
        size: Length of a permutation.
        start: First position, from 0.
        stop: One past the last.

    Returns:
        int64 (stop - start,).
    """
    pieces = []
    while start < stop:
        cycle, offset = divmod(start, size)
        piece = _permutation(seed, purpose, stratum, cycle, size)[offset : offset + stop - start]
        pieces.append(piece)
        start += len(piece)
    return np.concatenate(pieces) if pieces else np.empty(0, np.int64)


def weighted_draw(
    seed: int, stratum: str, position: int, count: int, cumulative: NDArray[np.float64]
) -> Int64:
    """Draw ``count`` indices in proportion to weights, one from each of ``count`` equal slices of the total.

    Args:
        seed: Of the stream.
        stratum: Name of the stratum.
        position: Batch number.
        count: How many.
        cumulative: Cumulative weights of the transitions, float64 (n,).

    Returns:
        int64 (count,), in random order.
    """
    rng = generator("weighted", seed, stratum, position)
    points = (np.arange(count) + rng.random(count)) / count * cumulative[-1]
    drawn = np.searchsorted(cumulative, points, side="right")
    return rng.permutation(np.minimum(drawn, len(cumulative) - 1))


def uniform_draw(seed: int, stratum: str, position: int, count: int, size: int) -> Int64:
    """Draw ``count`` of ``size`` with replacement.

    Args:
        seed: Of the stream.
        stratum: Name of the stratum.
        position: Batch number.
        count: How many.
        size: Of how many.

    Returns:
        int64 (count,).
    """
    return generator("uniform", seed, stratum, position).integers(0, size, count)


@dataclass(frozen=True)
class Window:
    """How a stratum moves through memory.

    Attributes:
        capacity: Episodes held at a time.
        refill: Episodes replaced from block to block; 0: everything is held, nothing moves.
    """

    capacity: int
    refill: int


@dataclass(frozen=True)
class Stratum:
    """A set of episodes that is sampled on its own.

    Attributes:
        name: Of the source, or "" for everything.
        episodes: Indices into the manifest's episode table, int64 (E,).
        transitions: Transitions of each, int64 (E,).
        count: Transitions it gives to each batch.
    """

    name: str
    episodes: Int64
    transitions: Int64
    count: int

    @property
    def size(self) -> int:
        """Transitions in all."""
        return int(self.transitions.sum())


def windows(strata: Sequence[Stratum], capacities: Sequence[int]) -> tuple[list[Window], int]:
    """Choose how many episodes to replace per block, and how many batches a block serves.

    Args:
        strata: What is sampled.
        capacities: Episodes of each that may be in memory at a time, at least 2.

    Returns:
        A window per stratum, and batches per block (0 when nothing moves).
    """
    moving = [(s, c) for s, c in zip(strata, capacities, strict=True) if c < len(s.episodes)]
    if not moving:
        return [Window(len(s.episodes), 0) for s in strata], 0
    lengths = {s.name: s.size / len(s.episodes) for s, _ in moving}
    block = max(1, int(min(c / _REFILLS_PER_POOL * lengths[s.name] / s.count for s, c in moving)))
    chosen = []
    for stratum, capacity in zip(strata, capacities, strict=True):
        if capacity >= len(stratum.episodes):
            chosen.append(Window(len(stratum.episodes), 0))
        else:
            refill = round(block * stratum.count / lengths[stratum.name])
            chosen.append(Window(capacity, min(max(refill, 1), capacity)))
    return chosen, block
