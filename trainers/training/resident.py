"""A mixture's pool where the learner is: copied there once, images as uint8; batches are gathered there.

The same transitions as :class:`cogdata.streaming.stream.Stream` yields, in the same order: its plan is a pure
function of the position, only the gathering is done elsewhere. Nothing but indices is sent per batch,
and what windows, returns and embodiments add.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cogdata.features import Per
from cogdata.streaming.stream import Stream
from trainers.algorithm import TensorBatch, TensorObs
from trainers.training.batches import extras


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
        self._next_features = tuple(one.name for one in pool.features if one.per is not Per.TRANSITION)
        self._arrays = {name: torch.from_numpy(array).to(self._device) for name, array in pool.arrays.items()}

    def batches(self, start: int = 0) -> Iterator[TensorBatch]:
        """Yield batches from number ``start`` on, for ever."""
        while True:
            yield self.batch(start)
            start += 1

    def batch(self, position: int) -> TensorBatch:
        """Return batch number ``position``."""
        rows = self._stream.rows(position)
        now, after = self._sent(rows.now), self._sent(rows.after)
        arrays, around = self._arrays, {name: self._sent(at) for name, at in rows.around.items()}
        return TensorBatch(
            obs=self._observe(self._features, now, around),
            action=arrays["action"][around.get("action", now)],
            reward=arrays["reward"][now] if rows.reward is None else self._sent(rows.reward),
            next_obs=self._observe(
                self._next_features, after, {name: self._sent(at) for name, at in rows.around_after.items()}
            ),
            terminated=arrays["terminated"][now] if rows.terminated is None else self._sent(rows.terminated),
            source=arrays["source"][now],
            **extras(rows, self._device),
        )

    def _observe(self, names: Sequence[str], at: Tensor, around: Mapping[str, Tensor]) -> TensorObs:
        return TensorObs({name: self._arrays[name][around.get(name, at)] for name in names})

    def _sent(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)
