"""Online transitions in memory: episodes once, frames as bytes, batches as a function of (seed, update)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from cogdata.episode import Episode
from cogdata.rng import generator
from cogdata.streaming.options import StreamOptions
from cogdata.streaming.pool import Pool
from cogdata.streaming.transitions import Batch, Observation
from cogdata.streaming.windows import BatchRows, Runs, returns, with_windows
from trainers.algorithm import Spec


class Replay:
    """A pool that grows by episodes.

    Args:
        spec: What the learner looks at and does; nothing else is held.
        frames: Most observations there will be.
        source: Index that marks these transitions in a batch.
        options: Windows and returns of its batches; the other settings are no matter.
    """

    def __init__(self, spec: Spec, frames: int, source: int, options: StreamOptions) -> None:
        self._pool = Pool.empty(frames, spec.obs.features, spec.action.feature)
        self._pool["source"][:] = source
        self._options = options
        self._features = {one.name: one for one in (*spec.obs.features, spec.action.feature)}
        self._leaving = np.empty(frames, np.int64)
        self._begins = np.empty(frames, np.int64)
        self._ends = np.empty(frames, np.int64)
        self._frames = 0
        self.transitions = 0

    @staticmethod
    def needs_bytes(spec: Spec, frames: int) -> int:
        """Bytes of memory that so many observations take."""
        return frames * (Pool.observation_bytes(spec.obs.features, spec.action.feature) + 3 * 8)

    def add(self, episode: Episode) -> None:
        """Take an episode in.

        Args:
            episode: Of the features of ``spec``.
        """
        rows = slice(self._frames, self._frames + episode.steps + 1)
        leaving = slice(rows.start, rows.stop - 1)
        for feature in self._pool.features:
            self._pool[feature.name][rows] = episode.array(feature.name)
        self._pool["action"][leaving] = episode.action
        self._pool["reward"][leaving] = episode.reward
        self._pool["terminated"][leaving] = episode.terminated
        drawable = slice(self.transitions, self.transitions + episode.steps)
        self._leaving[drawable] = np.arange(leaving.start, leaving.stop)
        self._begins[drawable], self._ends[drawable] = leaving.start, leaving.stop
        self._frames = rows.stop
        self.transitions += episode.steps

    def batch(self, seed: int, update: int, count: int) -> Batch:
        """Draw transitions with replacement.

        Args:
            seed: Root seed.
            update: Number of the update that they are for.
            count: How many.
        """
        drawn = generator("replay", seed, update).integers(0, self.transitions, count)
        now, ends, options = self._leaving[drawn], self._ends[drawn], self._options
        runs, rows = Runs(self._begins[drawn], ends, ends), BatchRows.of(now)
        if options.discount is not None:
            rows = returns(now, runs, options, self._pool["reward"], self._pool["terminated"])
        if options.windows:
            rows = with_windows(rows, runs, options.windows, self._features)
        return self._pool.gather(rows)


def joined(first: Batch, second: Batch) -> Batch:
    """Return one batch of the transitions of two."""
    names = [one.name for one in fields(Batch)]
    return Batch(**{name: _joined(getattr(first, name), getattr(second, name)) for name in names})


def _joined(first: Any, second: Any) -> Any:  # noqa: ANN401
    """Rows of one, then of the other: of arrays, observations, or arrays by name."""
    if first is None or second is None:
        if first is not second:
            raise ValueError("one batch has what the other has not")
        return None
    if isinstance(first, Observation):
        return Observation(_joined(first.parts, second.parts))
    if isinstance(first, Mapping):
        if first.keys() != second.keys():
            raise ValueError(f"one batch has {', '.join(first)}, the other {', '.join(second)}")
        return {name: _joined(part, second[name]) for name, part in first.items()}
    return np.concatenate([first, second])
