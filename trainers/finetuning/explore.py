"""A round of a learner's own episodes, side by side, each a function of (seed, index) and the weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cogdata.answers import Answer, stack_predicates
from cogdata.episode import Episode, EpisodeMeta
from cogdata.errors import CogError
from cogdata.layout1 import layout_of
from cogdata.rng import derive_seed
from trainers.algorithm import Algorithm
from trainers.evaluation.acting import Actor
from trainers.evaluation.worlds import Moment, Worlds
from trainers.training.online import OnlineEnv

PHASE = "explore"
"""What a learner is doing, whatever it does."""


@dataclass
class _OpenEpisode:
    """An episode that has not ended.

    Attributes:
        meta: What it will be called.
        generator: Noise generator.
        moments: Observations so far.
        actions: Actions so far.
    """

    meta: EpisodeMeta
    generator: torch.Generator
    moments: list[Moment]
    actions: list[NDArray[Any]] = field(default_factory=list)


def explore(
    learner: Algorithm,
    worlds: Worlds,
    online_env: OnlineEnv,
    *,
    run: str,
    seed: int,
    span: tuple[int, int],
    stop_asked: Callable[[], bool],
) -> list[Episode] | None:
    """Let a learner act in one round of episodes.

    Args:
        learner: Who acts, on whichever device it is.
        worlds: At least as many as there are episodes.
        online_env: Where they act.
        run: Run id: name of the collection and of the policy.
        seed: Root seed.
        span: First index and one past the last, at most :data:`trainers.evaluation.worlds.WORLDS` episodes.
        stop_asked: Called before each step.

    Returns:
        The episodes; None if the end was asked for.

    Raises:
        CogError: An environment failed.
    """
    under_way = [_begin(learner, online_env, run, seed, index) for index in range(*span)]
    first = worlds.reset([episode.meta.seed for episode in under_way])
    for number, episode in enumerate(under_way):
        episode.moments.append(first[number])
    act = Actor(learner, exploring=True)
    while running := [n for n, episode in enumerate(under_way) if not episode.moments[-1].over]:
        if stop_asked():
            return None
        shown = [episode.moments[-1].obs for episode in under_way]
        noise = [episode.generator for episode in under_way]
        actions = act(shown, noise)
        for number, moment in worlds.step({number: actions[number] for number in running}).items():
            under_way[number].moments.append(moment)
            under_way[number].actions.append(actions[number])
    return [_episode(episode, online_env) for episode in under_way]


def _begin(learner: Algorithm, online_env: OnlineEnv, run: str, seed: int, index: int) -> _OpenEpisode:
    meta = EpisodeMeta(
        collection=run,
        index=index,
        env=online_env.env,
        policy=run,
        policy_params={"update": learner.updates_done},
        noise=0.0,
        seed=derive_seed("online", "scene", seed, index),
        task=online_env.task,
        goal=online_env.task,
    )
    noise = torch.Generator().manual_seed(derive_seed("online", "noise", seed, index))
    return _OpenEpisode(meta, noise, [])


def _episode(done: _OpenEpisode, online_env: OnlineEnv) -> Episode:
    moments, after, spec = done.moments, done.moments[1:], online_env.episode_spec
    names = [one.name for one in spec.observations]
    for step, moment in enumerate(moments):
        answer = Answer(online_env.env, step)
        answer.check_stored(moment.obs, names)
        if moment.reward is None:
            raise CogError(f"{online_env.env} gives no reward {answer.when}: nothing can be learned from it")
    predicates, unjudged = stack_predicates(online_env.env, [moment.predicates for moment in moments])
    if layout_of(spec) == 1:  # a scene of the built-in worlds has some of their predicates
        spec = replace(spec, predicates=tuple(predicates))
    return Episode(
        meta=done.meta,
        spec=spec,
        observations={name: np.stack([moment.obs[name] for moment in moments]) for name in names},
        action=np.stack(done.actions),
        reward=np.array([moment.reward for moment in after], spec.reward),
        terminated=np.array([moment.terminated for moment in after], bool),
        truncated=np.array([moment.truncated for moment in after], bool),
        predicates=predicates,
        phase=(PHASE,) * len(after),
        unjudged=unjudged,
    )
