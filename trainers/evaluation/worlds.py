"""Several environments in lock step, in this process or in others. No torch here: workers start quickly."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any, Final, Protocol, Self

import gymnasium
import numpy as np
from numpy.typing import NDArray

from cogdata.answers import Answer, Judged, name_of
from cogdata.errors import CogError
from cogdata.layout1 import layout_of
from cogdata.system.imports import guard_processes
from cogdata.system.interrupts import ctrl_c_held_back, ignore_ctrl_c

Obs = Mapping[str, NDArray[Any]]
Step = tuple[object, object, object]
"""Reward, terminated and truncated, as an environment answers."""

MakeEnv = Callable[[], gymnasium.Env[Any, Any]]

WORLDS: Final = 16
"""Most environments that a policy acts in together."""

_ENDED: Final = "a process with environments ended unexpectedly: was it killed, or is memory short?"


@dataclass(frozen=True)
class Moment:
    """What one environment shows after a reset or a step.

    Attributes:
        obs: Feature → array.
        reward: Of the step; 0 after a reset; None: the world has none.
        over: Whether the episode ended here.
        success: Whether the task's predicate holds now; None: not judged, or the world states no success.
        predicates: Name → whether it holds now; None: not judged.
        terminated: Whether the episode ended here because the world said so.
        truncated: Whether it ended here because of the clock; both may be.
    """

    obs: Obs
    reward: float | None
    over: bool
    success: bool | None
    predicates: Judged
    terminated: bool = False
    truncated: bool = False


class Group(Protocol):
    """Environments that are asked together and answer together."""

    def ask_reset(self, seeds: Sequence[int]) -> None:
        """Start episodes in the first ``len(seeds)`` environments."""

    def ask_step(self, actions: Mapping[int, NDArray[Any]]) -> None:
        """Step environments by index; the others wait."""

    def answer(self) -> dict[int, Moment]:
        """Return what was asked for, by index of the environment."""
        ...

    def close(self) -> None:
        """Close the environments."""


class LocalGroup:
    """Environments of this process."""

    def __init__(self, make_env: MakeEnv, count: int) -> None:
        self._envs: list[gymnasium.Env[Any, Any]] = []
        try:
            for _ in range(count):
                self._envs.append(make_env())
        except BaseException:
            self.close()
            raise
        self._moments: dict[int, Moment] = {}
        self._times = [0] * count
        self._rewards_success = _is_built_in(self._envs[0])

    def ask_reset(self, seeds: Sequence[int]) -> None:
        """Start episodes in the first ``len(seeds)`` environments."""
        self._moments = {}
        for index, seed in enumerate(seeds):
            obs, info = self._envs[index].reset(seed=seed)
            self._times[index] = 0
            self._moments[index] = _moment(self._answer(index), obs, info)

    def ask_step(self, actions: Mapping[int, NDArray[Any]]) -> None:
        """Step environments by index; the others wait."""
        self._moments = {}
        for index, action in actions.items():
            obs, reward, terminated, truncated, info = self._envs[index].step(action)
            self._times[index] += 1
            moment = _moment(self._answer(index), obs, info)
            step = reward, terminated, truncated
            self._moments[index] = _after(
                self._answer(index), moment, step, rewards_success=self._rewards_success
            )

    def _answer(self, index: int) -> Answer:
        return Answer(name_of(self._envs[index]), self._times[index])

    def answer(self) -> dict[int, Moment]:
        """Return what was asked for, by index of the environment."""
        return self._moments

    def close(self) -> None:
        """Close the environments."""
        for env in self._envs:
            env.close()


class RemoteGroup:
    """Environments of a spawned process."""

    def __init__(self, make_env: MakeEnv, count: int) -> None:
        guard_processes()
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, make_env, count), daemon=True)
        with ctrl_c_held_back():
            self._process.start()
        other.close()

    def ask_reset(self, seeds: Sequence[int]) -> None:
        """Start episodes in the first ``len(seeds)`` environments."""
        self._send("reset", list(seeds))

    def ask_step(self, actions: Mapping[int, NDArray[Any]]) -> None:
        """Step environments by index; the others wait."""
        self._send("step", dict(actions))

    def _send(self, kind: str, argument: object) -> None:
        try:
            self._pipe.send((kind, argument))
        except (BrokenPipeError, ConnectionResetError):
            raise CogError(_ENDED) from None

    def answer(self) -> dict[int, Moment]:
        """Return what was asked for, by index of the environment."""
        try:
            result = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            raise CogError(_ENDED) from None
        if isinstance(result, str):
            raise CogError(f"an environment failed: {result.strip().splitlines()[-1]}") from RuntimeError(
                result
            )
        moments: dict[int, Moment] = result
        return moments

    def close(self) -> None:
        """Close the environments."""
        self._pipe.close()
        self._process.join(timeout=5)
        if self._process.is_alive():
            self._process.terminate()


def _moment(answer: Answer, obs: Obs, info: Mapping[str, Any]) -> Moment:
    """Check what an environment shows; nothing has been done yet."""
    answer.check_finite(obs)
    success = answer.truth("info['success']", info.get("success"))
    return Moment(dict(obs), 0.0, over=False, success=success, predicates=answer.predicates(info))


def _is_built_in(env: object) -> bool:
    """Whether success is the reward, as in the built-in worlds; so is what declares nothing."""
    spec = getattr(env, "episode_spec", None)
    return spec is None or layout_of(spec) == 1


def _after(answer: Answer, moment: Moment, step: Step, *, rewards_success: bool) -> Moment:
    """Add what a step led to."""
    reward, terminated, truncated = step
    if rewards_success:
        answer.rewarded("info['success']", moment.success)
    number = None if reward is None and not rewards_success else answer.number("a reward of", reward)
    ends = answer.ending("terminated", terminated), answer.ending("truncated", truncated)
    return replace(moment, reward=number, over=any(ends), terminated=ends[0], truncated=ends[1])


def _serve(pipe: Connection, make_env: MakeEnv, count: int) -> None:
    """Answer requests until the pipe closes; an exception becomes its text."""
    ignore_ctrl_c()
    group: LocalGroup | None = None
    try:
        group = LocalGroup(make_env, count)
        while True:
            kind, argument = pipe.recv()
            (group.ask_reset if kind == "reset" else group.ask_step)(argument)
            pipe.send(group.answer())
    except (EOFError, BrokenPipeError):
        pass
    except BaseException:  # SystemExit of an environment too; Ctrl-C is ignored here
        pipe.send(traceback.format_exc())
    finally:
        if group is not None:
            group.close()


class Worlds:
    """``count`` environments, numbered through, spread over processes.

    Args:
        make_env: Makes one; picklable if ``workers`` is more than 1.
        count: How many.
        workers: Processes; 1: this one.
    """

    def __init__(self, make_env: MakeEnv, count: int, workers: int) -> None:
        if workers < 1 or count < 1:
            raise CogError(f"workers and environments must be at least 1, found {workers} and {count}")
        shares = [len(part) for part in np.array_split(np.arange(count), min(workers, count))]
        self._offsets = np.cumsum([0, *shares])
        self._groups: list[Group] = []
        try:
            for share in shares:
                kind = LocalGroup if len(shares) == 1 else RemoteGroup
                self._groups.append(kind(make_env, share))
        except BaseException:
            self.close()
            raise

    def reset(self, seeds: Sequence[int]) -> dict[int, Moment]:
        """Start episodes in the first ``len(seeds)`` environments."""
        asked = []
        for index, group in enumerate(self._groups):
            own = seeds[self._offsets[index] : self._offsets[index + 1]]
            if own:
                group.ask_reset(own)
                asked.append(index)
        return self._answers(asked)

    def step(self, actions: Mapping[int, NDArray[Any]]) -> dict[int, Moment]:
        """Step the numbered environments; the others wait."""
        asked = []
        for index, group in enumerate(self._groups):
            low, high = self._offsets[index], self._offsets[index + 1]
            own = {number - int(low): action for number, action in actions.items() if low <= number < high}
            if own:
                group.ask_step(own)
                asked.append(index)
        return self._answers(asked)

    def _answers(self, asked: Sequence[int]) -> dict[int, Moment]:
        return {
            number + int(self._offsets[index]): moment
            for index in asked
            for number, moment in self._groups[index].answer().items()
        }

    def close(self) -> None:
        """Close every environment."""
        for group in self._groups:
            group.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
