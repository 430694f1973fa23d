"""A mixture's pool where the learner is: copied there once, images as uint8; batches are gathered there.

The same transitions as :class:`cogdata.streaming.stream.Stream` yields, in the same order: its plan is a pure
function of the position, only the gathering is done elsewhere. Nothing but B indices is sent per batch.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from cogdata.streaming.stream import Stream
from trainers.algorithm import TensorBatch, TensorObs


class ResidentStream:
    """Batches of a stream whose pool lives on a torch device.

    Args:
        stream: Planned batches; its mixture must fit into its budget, and its pool is taken from it.
        device: Where the pool goes. On the CPU nothing is copied.

    Raises:
        CogError: The pool would have to move through the mixture.
    """

    def __init__(self, stream: Stream, device: str) -> None:
        self._stream = stream
        self._device = torch.device(device)
        pool = stream.take_pool()
        self._features = tuple(one.name for one in pool.features)
        self._arrays = {name: torch.from_numpy(array).to(self._device) for name, array in pool.arrays.items()}

    def batches(self, start: int = 0) -> Iterator[TensorBatch]:
        """Yield batches from number ``start`` on, for ever."""
        while True:
            yield self.batch(start)
            start += 1

    def batch(self, position: int) -> TensorBatch:
        """Return batch number ``position``."""
        indices = torch.from_numpy(np.ascontiguousarray(self._stream.indices(position))).to(self._device)
        return TensorBatch(
            obs=self._observe(indices),
            action=self._arrays["action"][indices],
            reward=self._arrays["reward"][indices],
            next_obs=self._observe(indices + 1),
            terminated=self._arrays["terminated"][indices],
            source=self._arrays["source"][indices],
        )

    def _observe(self, indices: Tensor) -> TensorObs:
        return TensorObs({name: self._arrays[name][indices] for name in self._features})
