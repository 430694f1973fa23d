"""A chain whose two halves are moved through by opposite actions: no skill of one half helps in the other.

Places 0 … 6; in 0 … 2 an action with a[0] > 0 goes right, in 3 … 6 one with a[0] < 0. Arriving at 6 is the task.
The prior acts in 0 … 2 only, mostly to the left, without reward; the task data only in 3 … 6. They overlap in
one state, 3, where the prior arrives and the task data begin. Nobody ever went from 0 to 6.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from cogdata.rng import generator
from cogdata.streaming.stream import StreamOptions
from cogdata.streaming.transitions import Batch, Observation
from tests.trainers.toy import PLACES, ToyStream, make_spec, observe, seeded
from trainers.algorithm import Algorithm
from trainers.training.batches import tensor_batch, tensor_obs

MIDDLE = 3


def move(place: NDArray[np.int64], action: NDArray[np.float32]) -> NDArray[np.int64]:
    """Where actions lead."""
    step = np.where((action[:, 0] > 0) == (place < MIDDLE), 1, -1)
    return np.clip(place + step, 0, PLACES - 1)


def make_batch(data: str, count: int, seed: int, position: int) -> Batch:
    """Batch number ``position`` of the data: "both", "prior", "task", or "gap": both, but nobody arrives at 3."""
    rng = generator(seed, "chain", position)
    source = {"prior": np.zeros(count, np.int16), "task": np.ones(count, np.int16)}.get(
        data, (np.arange(count) % 2).astype(np.int16)
    )
    place = np.where(source == 0, rng.integers(0, MIDDLE, count), rng.integers(MIDDLE, PLACES, count))
    right = (source == 1) | (rng.random(count) < 0.4)
    if data == "gap":
        right &= place != MIDDLE - 1
    action = rng.normal(0, 0.1, (count, 8)).astype(np.float32)
    action[:, 0] += np.where(right == (place < MIDDLE), 0.7, -0.7)
    action = action.clip(-0.9, 0.9)
    after = move(place, action)
    reward = ((after == PLACES - 1) & (source == 1)).astype(np.float32)
    return Batch(observe(place), action, reward, observe(after), np.zeros(count, bool), source)


class ChainStream(ToyStream):
    """The stream protocol over :func:`make_batch` of both sources, for learners of the state."""

    def batch(self, position: int) -> Batch:
        whole = make_batch("both", self.options.batch_size, self.options.seed, position)
        return replace(whole, obs=_state(whole.obs), next_obs=_state(whole.next_obs))


def _state(obs: Observation) -> Observation:
    return Observation({name: obs[name] for name in ("robot", "scene")})


def open_stream(options: StreamOptions) -> ChainStream:
    return ChainStream(options)


def learn(learner: Algorithm, data: str, updates: int) -> dict[str, torch.Tensor]:
    """Update a learner of the state; returns the last metrics."""
    for update in range(updates):
        whole = make_batch(data, learner.config.batch_size, 0, update)
        batch = tensor_batch(whole, make_spec("state").obs.names, torch.device("cpu"))
        metrics = learner.update(batch, seeded(update))
    return metrics


def walk(learner: Algorithm) -> list[int]:
    """Where eight actions lead from place 0."""
    place, visited = np.zeros(1, np.int64), [0]
    noise = torch.zeros(1, *learner.noise_shape)
    for _ in range(8):
        obs = tensor_obs(observe(place), learner.spec.obs.names, torch.device("cpu"))
        place = move(place, learner.act(obs, noise).numpy())
        visited.append(int(place[0]))
    return visited
