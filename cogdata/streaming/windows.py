"""Frame stacks, action chunks and n-step returns, as arithmetic on the rows of a pool.

A transition is drawn together with the *run* that it is part of: the longest row of consecutive transitions
of its episode that the mixture chose. Nothing outside the run is delivered. A window that reaches beyond it
repeats the first or last row, and ``valid`` is false there; a return ends with it::

    observations  o2  o3  o4  o5        a run of the transitions 2, 3, 4 of an episode
    actions       a2  a3  a4

    t = 3, image (-2, 0)     o2* o2  o3          * repeated, not valid
    t = 3, action (0, 3)     a3  a4  a4* a4*
    t = 3, n_step 3          r3 + γ r4, discount γ², next_obs o5
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from cogdata.episode import Bool, Float32
from cogdata.features import Feature, Per
from cogdata.streaming.options import StreamOptions
from cogdata.streaming.plan import Int64


@dataclass(frozen=True)
class Runs:
    """Limits of the runs that n transitions are part of, as t of an episode or as rows of a pool.

    Attributes:
        first: First observation and action, int64 (n,).
        stop: One past the last action, int64 (n,).
        last: Last observation; that of ``stop``, or the one before where it is unknown, int64 (n,).
    """

    first: Int64
    stop: Int64
    last: Int64

    def __getitem__(self, chosen: Int64 | Bool | slice) -> Runs:
        """Return those of some of the transitions."""
        return Runs(self.first[chosen], self.stop[chosen], self.last[chosen])

    def __add__(self, offset: int) -> Runs:
        """Return them moved by a number of rows."""
        return Runs(self.first + offset, self.stop + offset, self.last + offset)

    @classmethod
    def joined(cls, parts: list[Runs]) -> Runs:
        """Return those of several lists of transitions, one after another."""
        return cls(
            np.concatenate([part.first for part in parts]),
            np.concatenate([part.stop for part in parts]),
            np.concatenate([part.last for part in parts]),
        )

    @classmethod
    def of(cls, chosen: Int64, observations: int) -> Runs:
        """Find the runs of an episode.

        Args:
            chosen: t of each transition that the mixture chose, int64 (n,).
            observations: N, number of its observations.
        """
        ordered = np.unique(chosen)
        begins = np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 2) != 1)
        number = np.searchsorted(ordered[begins], chosen, side="right") - 1
        ends = np.append(begins[1:], len(ordered)) - 1
        stop = ordered[ends][number] + 1
        return cls(ordered[begins][number], stop, np.minimum(stop, observations - 1))


@dataclass(frozen=True)
class BatchRows:
    """Which rows of a pool make a batch, and what was computed for it.

    Attributes:
        now: Row of s and of the action, int64 (B,).
        after: Row of s', int64 (B,).
        around: Feature or "action" → rows of its window about ``now``, int64 (B, K).
        around_after: Feature → rows of its window about ``after``, int64 (B, K).
        valid: As ``around``: bool (B, K), false where a row is repeated.
        next_valid: As ``around_after``.
        reward: Returns, float32 (B,); None: the reward of ``now``.
        discount: float32 (B,), see `cogdata.streaming.transitions.Batch`.
        terminated: bool (B,); None: that of ``now``.
        mask: As of a batch.
        embodiment: As of a batch.
    """

    now: Int64
    after: Int64
    around: Mapping[str, Int64] = field(default_factory=dict)
    around_after: Mapping[str, Int64] = field(default_factory=dict)
    valid: Mapping[str, Bool] = field(default_factory=dict)
    next_valid: Mapping[str, Bool] = field(default_factory=dict)
    reward: Float32 | None = None
    discount: Float32 | None = None
    terminated: Bool | None = None
    mask: Mapping[str, Bool] = field(default_factory=dict)
    embodiment: NDArray[np.int16] | None = None

    @classmethod
    def of(cls, now: Int64) -> BatchRows:
        """Return the rows of plain transitions: an observation, an action, the next observation."""
        return cls(now, now + 1)


def rows_around(at: Int64, window: tuple[int, int], first: Int64, last: Int64) -> tuple[Int64, Bool]:
    """Return the rows of a window, and which of them are not repeated.

    Args:
        at: Row that the window is about, int64 (B,).
        window: First and last step relative to it.
        first: First row that may be shown, int64 (B,).
        last: Last row that may be shown, int64 (B,).

    Returns:
        int64 (B, K) and bool (B, K).
    """
    rows = at[:, None] + np.arange(window[0], window[1] + 1)
    held = rows.clip(first[:, None], last[:, None])
    return held, held == rows


def returns(now: Int64, runs: Runs, options: StreamOptions, reward: Float32, terminated: Bool) -> BatchRows:
    """Compute the n-step returns of transitions.

    Args:
        now: Rows of the transitions, int64 (B,).
        runs: Their runs.
        options: Give n and the discount.
        reward: Rewards of the pool, float32 (F,).
        terminated: Ends of the pool, bool (F,).
    """
    assert options.discount is not None
    ahead = np.arange(options.n_step)
    rows = now[:, None] + ahead
    known = rows < runs.last[:, None]  # its successor is in the run
    rows = np.minimum(rows, runs.last[:, None] - 1)
    ends = (terminated[rows] | (reward[rows] > 0) if options.success_ends else terminated[rows]) & known
    ended_before = np.cumsum(ends, axis=1) - ends > 0
    counted = known & ~ended_before
    steps = counted.sum(axis=1)
    discounted = np.where(counted, reward[rows] * options.discount**ahead, 0.0)
    over = (ends & counted).any(axis=1)
    left = np.where(over, 0.0, options.discount**steps)
    return BatchRows(
        now,
        now + steps,
        reward=discounted.sum(axis=1).astype(np.float32),
        discount=left.astype(np.float32),
        terminated=over,
    )


def with_windows(
    rows: BatchRows, runs: Runs, windows: Mapping[str, tuple[int, int]], features: Mapping[str, Feature]
) -> BatchRows:
    """Add the rows of windows to a batch's.

    Args:
        rows: Where its transitions begin and lead to.
        runs: Their runs.
        windows: Feature or "action" → first and last step.
        features: Features by name, the action among them.
    """
    around, around_after, valid, next_valid = {}, {}, {}, {}
    for name, window in windows.items():
        if features[name].per is Per.TRANSITION:
            around[name], valid[name] = rows_around(rows.now, window, runs.first, runs.stop - 1)
        else:
            around[name], valid[name] = rows_around(rows.now, window, runs.first, runs.last)
            around_after[name], next_valid[name] = rows_around(rows.after, window, runs.first, runs.last)
    return replace(rows, around=around, around_after=around_after, valid=valid, next_valid=next_valid)
