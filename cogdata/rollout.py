"""One episode from a world and whatever acts in it: the loop that collecting and evaluation share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cogdata.answers import Answer, stack_predicates
from cogdata.episode import Episode, EpisodeMeta, Float32
from cogdata.streaming.transitions import OBSERVATIONS

Act = Callable[[dict[str, NDArray[Any]]], tuple[Float32, str]]
"""From the observation (image, robot, scene) to an action, float32 (8,), and the name of its phase."""


class Env(Protocol):
    """What a Gymnasium environment must offer beside its API for its episodes to be stored.

    ``info["predicates"]`` of reset and step maps predicate names to booleans, or to None where one was not
    judged; the task's predicate is judged at every step. What is given is kept until the episode ends: it may
    not be written into again.
    """

    scene_fields: tuple[str, ...]
    task_predicate: str

    def reset(self, *, seed: int | None = None) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Start an episode that the seed alone decides."""
        ...

    def step(self, action: Float32) -> tuple[dict[str, NDArray[Any]], float, bool, bool, dict[str, Any]]:
        """Apply an action."""
        ...


def rollout(world: Env, act: Act, meta: EpisodeMeta) -> Episode:
    """Run one episode until the world says terminated or truncated.

    Args:
        world: Shows image, robot and scene.
        act: Chooses the actions.
        meta: Of the episode; its seed resets the world.

    Returns:
        The checked episode.

    Raises:
        CogError: The world answers what an episode cannot hold (`cogdata.answers`).
    """
    obs, info = world.reset(seed=meta.seed)
    observations, judged = [obs], [_checked(Answer(meta.env, 0), obs, info)]
    actions, rewards, ends, phases = [], [], [], []
    over = False
    while not over:
        action, phase = act(obs)
        obs, reward, terminated, truncated, info = world.step(action)
        answer = Answer(meta.env, len(observations))
        observations.append(obs)
        judged.append(_checked(answer, obs, info))
        answer.rewarded(meta.task, judged[-1].get(meta.task))
        actions.append(action)
        rewards.append(reward)
        ends.append((answer.ending("terminated", terminated), answer.ending("truncated", truncated)))
        phases.append(phase)
        over = any(ends[-1])
    predicates, unjudged = stack_predicates(meta.env, judged)
    return Episode(
        meta=meta,
        **{name: np.stack([obs[name] for obs in observations]) for name in OBSERVATIONS},
        action=np.stack(actions).astype(np.float32),
        reward=np.array(rewards, np.float32),
        terminated=np.array([end[0] for end in ends], bool),
        truncated=np.array([end[1] for end in ends], bool),
        predicates=predicates,
        phase=tuple(phases),
        scene_fields=world.scene_fields,
        unjudged=unjudged,
    )


def _checked(answer: Answer, obs: dict[str, NDArray[Any]], info: object) -> dict[str, bool | None]:
    """Check an observation; return the predicates on it."""
    answer.check_stored(obs)
    answer.check_finite(obs)
    return answer.predicates(info)
