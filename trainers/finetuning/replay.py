"""Online transitions in memory: episodes once, frames as bytes, batches as a function of (seed, update)."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from cogdata.episode import Episode
from cogdata.features import Feature
from cogdata.layout1 import layout1_spec
from cogdata.rng import generator
from cogdata.streaming.pool import Pool
from cogdata.streaming.transitions import Batch, Observation
from trainers.algorithm import ObsSpec


def _declared(spec: ObsSpec) -> tuple[tuple[Feature, ...], Feature]:
    """Features of the observations that a learner looks at, and the action."""
    whole = layout1_spec(spec.image_size, spec.scene_fields, ())
    return whole.taking(spec.features).observations, whole.action


class Replay:
    """A pool that grows by episodes.

    Args:
        spec: What the learner looks at; nothing else is held.
        frames: Most observations there will be.
        source: Index that marks these transitions in a batch.
    """

    def __init__(self, spec: ObsSpec, frames: int, source: int) -> None:
        self._pool = Pool.empty(frames, *_declared(spec))
        self._pool["source"][:] = source
        self._leaving = np.empty(frames, np.int64)
        self._frames = 0
        self.transitions = 0

    @staticmethod
    def needs_bytes(spec: ObsSpec, frames: int) -> int:
        """Bytes of memory that so many observations take."""
        return frames * (Pool.observation_bytes(*_declared(spec)) + 8)

    def add(self, episode: Episode) -> None:
        """Take an episode in.

        Args:
            episode: Of the scene and image size of ``spec``.
        """
        rows = slice(self._frames, self._frames + episode.steps + 1)
        leaving = slice(rows.start, rows.stop - 1)
        for feature in self._pool.features:
            self._pool[feature.name][rows] = episode.array(feature.name)
        self._pool["action"][leaving] = episode.action
        self._pool["reward"][leaving] = episode.reward
        self._pool["terminated"][leaving] = episode.terminated
        numbers = np.arange(leaving.start, leaving.stop)
        self._leaving[self.transitions : self.transitions + episode.steps] = numbers
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
        return self._pool.gather(self._leaving[drawn])


def joined(first: Batch, second: Batch) -> Batch:
    """Return one batch of the transitions of two."""
    arrays = {
        field.name: np.concatenate([getattr(first, field.name), getattr(second, field.name)])
        for field in fields(Batch)
        if field.name not in ("obs", "next_obs")
    }
    return Batch(
        obs=_joined(first.obs, second.obs), next_obs=_joined(first.next_obs, second.next_obs), **arrays
    )


def _joined(first: Observation, second: Observation) -> Observation:
    return Observation({name: np.concatenate([part, second[name]]) for name, part in first.parts.items()})
