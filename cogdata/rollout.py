"""One episode from a world and whatever acts in it: the loop that collecting and evaluation share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from cogdata.answers import Answer, name_of, shown, stack_predicates
from cogdata.episode import Episode, EpisodeMeta
from cogdata.errors import CogError
from cogdata.features import EpisodeSpec, Feature, Per
from cogdata.layout1 import layout_of

Act = Callable[[dict[str, NDArray[Any]]], tuple[NDArray[Any], str]]
"""From the observation to an action and the name of its phase."""


class Env(Protocol):
    """What a Gymnasium environment must offer beside its API for its episodes to be stored.

    ``info["predicates"]`` of reset and step maps predicate names to booleans, or to None where one was not
    judged; an annotation that is declared is an entry of ``info``, of reset if it is per episode, of step if
    it is per transition. What is given is kept until the episode ends: it may not be written into again.
    """

    @property
    def episode_spec(self) -> EpisodeSpec:
        """Declaration of its episodes."""
        ...

    @property
    def task_predicate(self) -> str | None:
        """Predicate of its task; None: it states no success."""
        ...

    def reset(self, *, seed: int | None = None) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Start an episode that the seed alone decides."""
        ...

    def step(
        self, action: NDArray[Any]
    ) -> tuple[dict[str, NDArray[Any]], float | None, bool, bool, dict[str, Any]]:
        """Apply an action; the reward is None in a world that has none."""
        ...


INSTRUCTION: Final = Feature(
    "instruction", "string", per=Per.EPISODE, help="What the episode was asked to do, as text"
)


def with_instruction(spec: EpisodeSpec, env: str) -> EpisodeSpec:
    """Return a declaration whose episodes also say what they were asked to do.

    Args:
        spec: Declaration of the world.
        env: Its name.

    Raises:
        CogError: It has something of that name already.
    """
    if INSTRUCTION.name in spec:
        raise CogError(f"{env} declares an instruction of its own: leave --instruction out")
    return replace(spec, extras=(*spec.extras, INSTRUCTION))


class Instructed:
    """A world whose episodes have all the same instruction.

    Args:
        world: The world.
        text: The instruction.

    Raises:
        CogError: The world has instructions of its own.
    """

    def __init__(self, world: Env, text: str) -> None:
        self._world = world
        self._text = text
        self.episode_spec = with_instruction(world.episode_spec, name_of(world))
        self.task_predicate = world.task_predicate

    def reset(self, *, seed: int | None = None) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Start an episode; ``info`` has the instruction too."""
        obs, info = self._world.reset(seed=seed)
        return obs, {**info, INSTRUCTION.name: self._text}

    def step(
        self, action: NDArray[Any]
    ) -> tuple[dict[str, NDArray[Any]], float | None, bool, bool, dict[str, Any]]:
        """Apply an action."""
        return self._world.step(action)


def rollout(world: Env, act: Act, meta: EpisodeMeta) -> Episode:
    """Run one episode until the world says terminated or truncated.

    Args:
        world: Shows what it declares.
        act: Chooses the actions.
        meta: Of the episode; its seed resets the world.

    Returns:
        The checked episode.

    Raises:
        CogError: The world answers what an episode cannot hold (`cogdata.answers`).
    """
    spec = world.episode_spec
    obs, info = world.reset(seed=meta.seed)
    observations, infos = [obs], [info]
    judged = [_checked(Answer(meta.env, 0), spec, obs, info)]
    actions, rewards, ends, phases = [], [], [], []
    over = False
    while not over:
        action, phase = act(obs)
        obs, reward, terminated, truncated, info = world.step(action)
        answer = Answer(meta.env, len(observations))
        observations.append(obs)
        infos.append(info)
        judged.append(_checked(answer, spec, obs, info))
        if meta.task is not None and layout_of(spec) == 1:
            answer.rewarded(meta.task, judged[-1].get(meta.task))
        actions.append(action)
        rewards.append(reward)
        ends.append((answer.ending("terminated", terminated), answer.ending("truncated", truncated)))
        phases.append(phase)
        over = any(ends[-1])
    predicates, unjudged = stack_predicates(meta.env, judged)
    return Episode(
        meta=meta,
        spec=spec,
        observations={one.name: _stacked(one, observations) for one in spec.observations},
        action=np.stack(actions).astype(spec.action.numpy_dtype),
        reward=_rewards(meta.env, spec, rewards),
        terminated=np.array([end[0] for end in ends], bool),
        truncated=np.array([end[1] for end in ends], bool),
        predicates=predicates,
        phase=tuple(phases),
        unjudged=unjudged,
        extras={one.name: _annotation(meta.env, one, infos) for one in spec.extras},
    )


def _stacked(feature: Feature, rows: Sequence[Mapping[str, Any]]) -> NDArray[Any]:
    """The rows of an observation."""
    if feature.is_text:
        return np.array([row[feature.name] for row in rows], object)
    return np.stack([row[feature.name] for row in rows])


def _annotation(env: str, feature: Feature, infos: Sequence[Mapping[str, Any]]) -> NDArray[Any]:
    """The rows of an annotation: from the reset, after each step, or both.

    Raises:
        CogError: An answer lacks it.
    """
    rows = {Per.EPISODE: infos[:1], Per.TRANSITION: infos[1:], Per.OBSERVATION: infos}[feature.per]
    values = np.empty((len(rows), *feature.shape), feature.numpy_dtype)
    for number, info in enumerate(rows):
        step = number + (feature.per is Per.TRANSITION)
        if feature.name not in info:
            raise CogError(f"{env} declares {feature.name}, and info has none {Answer(env, step).when}")
        said = f"{env} gives info[{feature.name!r}] = {shown(info[feature.name])} {Answer(env, step).when}"
        if not _fits(feature, info[feature.name]):
            raise CogError(f"{said}, declared is {feature.describe()}")
        with np.errstate(over="ignore"):  # a number too large becomes infinite, and is refused below
            values[number] = info[feature.name]
        try:
            feature.check(values[number : number + 1], 1)
        except ValueError as error:
            raise CogError(f"{said}: {error}") from None
    return values


def _fits(feature: Feature, value: object) -> bool:
    """Whether a value can be a row of an annotation without a loss."""
    if feature.is_text:
        return value is None or isinstance(value, str)
    found = np.asarray(value)
    if found.shape != feature.shape or not np.can_cast(found.dtype, feature.numpy_dtype, "same_kind"):
        return False
    if found.dtype.kind in "iu" and feature.numpy_dtype.kind in "iu":
        return bool((found == found.astype(feature.numpy_dtype)).all())
    return True


def _rewards(env: str, spec: EpisodeSpec, rewards: Sequence[float | None]) -> NDArray[Any] | None:
    """The rewards of an episode; None: the world has none.

    Raises:
        CogError: It has some at some steps alone.
    """
    known = [reward for reward in rewards if reward is not None]
    if not known:
        return None
    if len(known) < len(rewards):
        step = rewards.index(None) + 1
        raise CogError(f"{env} gives no reward {Answer(env, step).when}, and one at another: give one always")
    return np.array(known, spec.reward)


def _checked(
    answer: Answer, spec: EpisodeSpec, obs: dict[str, NDArray[Any]], info: object
) -> dict[str, bool | None]:
    """Check an observation; return the predicates on it."""
    answer.check_stored(obs, [one.name for one in spec.observations])
    answer.check_finite(obs)
    return answer.predicates(info)
