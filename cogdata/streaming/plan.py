"""Sampling order: the transitions of batch number p, as pure functions of (manifest, seed, p).

A *stratum* is a set of episodes that is sampled on its own: one per source where the mixture gives shares,
else one of everything. An *epoch* is one pass over a stratum; each epoch has a permutation of its own, and
their concatenation is the sampling order. A stratum that fits in memory is drawn from in this order, so each
epoch draws every transition once. A larger one is read through a *moving replay pool*: block b of the stream
holds ``capacity`` episodes from position ``b * refill`` of the order on. It serves as many batches as make an
epoch draw each transition about once::

    order    e7 e2 e9 e4 e0 e5 e1 e8 e3 e6 | e3 e9 …        (one permutation an epoch)
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
"""Blocks in which a moving pool is renewed: more of them mix better, fewer read larger pieces."""


def counts_per_batch(shares: Mapping[str, float], batch_size: int) -> dict[str, int]:
    """Split a batch among strata by largest remainder, the same split in every batch.

    Args:
        shares: Stratum → share of a batch; the shares sum to 1.
        batch_size: B.

    Returns:
        Stratum → transitions in a batch; they sum to B, each within one of share times B.

    Raises:
        CogError: A stratum would get no transition.
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
def _permutation(seed: int, purpose: str, stratum: str, epoch: int, size: int) -> Int64:
    return generator("order", seed, purpose, stratum, epoch).permutation(size)


def epoch_permutation(seed: int, purpose: str, stratum: str, size: int, start: int, stop: int) -> Int64:
    """Return positions [start, stop) of the concatenated permutations of range(size), one per epoch.

    Args:
        seed: Seed of the stream.
        purpose: Name of the order; orders of one stratum with different names differ.
        stratum: Name of the stratum.
        size: Length of an epoch.
        start: First position, from 0.
        stop: One past the last position.

    Returns:
        int64 (stop - start,).
    """
    pieces = []
    while start < stop:
        epoch, offset = divmod(start, size)
        piece = _permutation(seed, purpose, stratum, epoch, size)[offset : offset + stop - start]
        pieces.append(piece)
        start += len(piece)
    return np.concatenate(pieces) if pieces else np.empty(0, np.int64)


def weighted_draw(
    seed: int, stratum: str, position: int, count: int, cumulative: NDArray[np.float64]
) -> Int64:
    """Draw ``count`` indices in proportion to weights, one from each of ``count`` equal slices of the total.

    Args:
        seed: Seed of the stream.
        stratum: Name of the stratum.
        position: Batch number.
        count: Number of indices to draw.
        cumulative: Cumulative weights of the transitions, float64 (n,).

    Returns:
        int64 (count,), in random order.
    """
    rng = generator("weighted", seed, stratum, position)
    points = (np.arange(count) + rng.random(count)) / count * cumulative[-1]
    drawn = np.searchsorted(cumulative, points, side="right")
    return rng.permutation(np.minimum(drawn, len(cumulative) - 1))


def uniform_draw(seed: int, stratum: str, position: int, count: int, size: int) -> Int64:
    """Draw ``count`` of ``size`` indices with replacement.

    Args:
        seed: Seed of the stream.
        stratum: Name of the stratum.
        position: Batch number.
        count: Number of indices to draw.
        size: Number of indices to draw from.

    Returns:
        int64 (count,).
    """
    return generator("uniform", seed, stratum, position).integers(0, size, count)


@dataclass(frozen=True)
class Window:
    """Part of a stratum that is in memory at a time.

    Attributes:
        capacity: Number of episodes in memory.
        refill: Episodes replaced from block to block; 0: all episodes stay in memory.
    """

    capacity: int
    refill: int


@dataclass(frozen=True)
class Stratum:
    """A set of episodes that is sampled on its own.

    Attributes:
        name: Name of the source, or "" for all sources together.
        episodes: Indices into the manifest's episode table, int64 (E,).
        transitions: Number of transitions of each episode, int64 (E,).
        count: Number of its transitions in each batch.
    """

    name: str
    episodes: Int64
    transitions: Int64
    count: int

    @property
    def size(self) -> int:
        """Number of transitions."""
        return int(self.transitions.sum())


def windows(strata: Sequence[Stratum], capacities: Sequence[int]) -> tuple[list[Window], int]:
    """Choose how many episodes to replace per block, and how many batches a block serves.

    Args:
        strata: The strata of the mixture.
        capacities: Number of episodes of each stratum that may be in memory at a time, at least 2.

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
