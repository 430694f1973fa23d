"""A learner acts in several worlds at once, each of them as if it were alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trainers.algorithm import Algorithm, TensorObs
from trainers.evaluation.worlds import WORLDS, Obs


def choose(
    learner: Algorithm, shown: Sequence[Obs], noise: Sequence[torch.Generator], *, exploring: bool = False
) -> NDArray[Any]:
    """Choose actions: always as one batch of one shape, so that a row never depends on the others.

    Args:
        learner: Who acts, on whichever device it is.
        shown: Up to :data:`trainers.evaluation.worlds.WORLDS` observations.
        noise: A generator for each, of the noise of its episode.
        exploring: To collect data, not to be evaluated.

    Returns:
        (16, *shape of the action), in the units and of the type of the data; row i is for observation i.
    """
    device = next(learner.parameters()).device
    parts: dict[str, torch.Tensor] = {}
    for part in learner.spec.obs.names:
        rows = np.stack([obs[part] for obs in shown])
        batch = np.zeros((WORLDS, *rows.shape[1:]), rows.dtype)
        batch[: len(rows)] = rows
        parts[part] = torch.from_numpy(batch).to(device)
    act, shape = (learner.act, learner.noise_shape)
    if exploring:
        act, shape = learner.explore, learner.explore_noise_shape
    drawn = torch.zeros((WORLDS, *shape))
    for number, generator in enumerate(noise):
        drawn[number] = torch.randn(shape, generator=generator)
    unit = act(TensorObs(parts), drawn.to(device)).cpu()
    if exploring and not learner.spec.action.discrete:
        unit = unit.clamp(-1, 1)
    actions: NDArray[Any] = learner.spec.action.from_unit(unit).numpy()
    return actions
