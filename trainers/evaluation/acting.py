"""A learner acts in several worlds at once, each of them as if it were alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cogdata.errors import CogError
from trainers.algorithm import Algorithm, TensorObs
from trainers.evaluation.worlds import WORLDS, Obs
from trainers.spec import EMBODIMENT


class Actor:
    """A learner in several worlds, from their first observations on; they go in lock step.

    Args:
        learner: Who acts, on whichever device it is.
        exploring: To collect data, not to be evaluated.
        embodiment: Which of the robots that the learner tells apart the worlds have.

    Raises:
        CogError: The learner tells robots apart and this is none of them.
    """

    def __init__(self, learner: Algorithm, *, exploring: bool = False, embodiment: str | None = None) -> None:
        robots = learner.spec.obs.embodiments
        if robots and embodiment not in robots:
            raise CogError(
                f"the policy tells the robots {', '.join(robots)} apart, and the environment's is "
                f"{'not said' if embodiment is None else repr(embodiment)}: name it"
            )
        self._robot = robots.index(embodiment) if robots and embodiment is not None else None
        self._learner = learner
        self._exploring = exploring
        self._seen: dict[str, list[NDArray[Any]]] = {}
        self._planned: list[NDArray[Any]] = []

    def __call__(self, shown: Sequence[Obs], noise: Sequence[torch.Generator]) -> NDArray[Any]:
        """Choose actions: always as one batch of one shape, so that a row never depends on the others.

        A learner of stacked observations looks at the newest ones, the first repeated where there are too
        few. One of chunks does the first actions of a chunk before it looks again; noise is drawn then.

        Args:
            shown: Up to :data:`trainers.evaluation.worlds.WORLDS` observations.
            noise: A generator for each, of the noise of its episode.

        Returns:
            (16, *shape of the action), in the units and of the type of the data; row i is for observation i.
        """
        obs = self._look(shown)
        if not self._planned:
            actions = self._choose(obs, noise)
            chunked = self._learner.chunk > 1
            self._planned = list(actions.swapaxes(0, 1))[: self._learner.execute] if chunked else [actions]
        return self._planned.pop(0)

    def _look(self, shown: Sequence[Obs]) -> TensorObs:
        spec = self._learner.spec.obs
        device = next(self._learner.parameters()).device
        parts = {}
        for name in spec.names:
            rows = np.stack([obs[name] for obs in shown])
            batch = np.zeros((WORLDS, *rows.shape[1:]), rows.dtype)
            batch[: len(rows)] = rows
            seen = self._seen.get(name, [batch] * spec.stack)
            self._seen[name] = [*seen, batch][-spec.stack :]
            whole = batch if spec.stack == 1 else np.stack(self._seen[name], axis=1)
            parts[name] = torch.from_numpy(whole).to(device)
        if self._robot is not None:
            parts[EMBODIMENT] = torch.full((WORLDS,), self._robot, device=device)
        return TensorObs(parts)

    def _choose(self, obs: TensorObs, noise: Sequence[torch.Generator]) -> NDArray[Any]:
        learner = self._learner
        act, shape = (learner.act, learner.noise_shape)
        if self._exploring:
            act, shape = learner.explore, learner.explore_noise_shape
        drawn = torch.zeros((WORLDS, *shape))
        for number, generator in enumerate(noise):
            drawn[number] = torch.randn(shape, generator=generator)
        unit = act(obs, drawn.to(next(learner.parameters()).device)).cpu()
        if self._exploring and not learner.spec.action.discrete:
            unit = unit.clamp(-1, 1)
        robot = None if self._robot is None else torch.full((WORLDS,), self._robot)
        actions: NDArray[Any] = learner.spec.action.from_unit(unit, robot).numpy()
        return actions
