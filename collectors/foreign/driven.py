"""Environments of others, as the rest of the package knows environments.

`Driven` stands before a `gymnasium.Env`: it flattens what is shown into the declared features, checks it, and
says what it raises in one line.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, MultiBinary, Space, Text
from numpy.typing import NDArray

from cogdata.answers import OF_ERROR, Answer, Judged, shown, undeclared
from cogdata.errors import CogError
from cogdata.features import EpisodeSpec, Feature
from cogdata.layout1 import ROBOT, layout_of
from cogdata.system.interrupts import asked_to_end
from collectors.envs import Observation
from collectors.policies.view import Point, SceneView
from collectors.robots.kinematics import matrix_from_quat
from collectors.robots.widowx import turned_from_down
from collectors.spaces import GUIDE, SUCCESS, SUCCESS_KEYS, Leaf, attribute, given_action, matched

TEXT_WORDS: Final = frozenset(
    ("instruction", "instructions", "language", "prompt", "caption", "text", "utterance", "description")
)
"""A key of ``info`` with one of these words is data that a learner would need, and not a remark."""


def view_of(robot: NDArray[np.float32], landmarks: Mapping[str, Point], predicates: Judged) -> SceneView:
    """Put together what a scripted policy sees.

    Args:
        robot: State, as `cogdata.schema` says.  # (10,)
        landmarks: Where things are, such as "object" and "tray".  # (3,) each
        predicates: What holds now; None, not judged, is to a script as what does not hold.
    """
    x, y, z, w = (float(value) for value in robot[3:7])
    return SceneView(
        ee_m=robot[:3].astype(np.float64),
        turned_rad=np.array(turned_from_down(matrix_from_quat((x, y, z, w)))),
        gripper_open=bool(robot[9] > 0.5),
        landmarks={name: np.array(at_m, np.float64) for name, at_m in landmarks.items()},
        predicates=predicates,  # type: ignore[arg-type]
    )


class Driven(gymnasium.Env[Observation, Any]):
    """An environment of others as the rest knows environments: features, a success, an end, a view.

    What it shows is copied, so that it may write into the same arrays again and again.

    Args:
        name: ``module:Class``, or a Gymnasium id.
        driver: The environment.
        spec: Declaration of its episodes.
        observations: Features to show; None: all.
        horizon: Actions per episode.

    Raises:
        CogError: The declaration is not of what the environment shows and takes.
    """

    def __init__(
        self,
        name: str,
        driver: gymnasium.Env[Any, Any],
        spec: EpisodeSpec,
        *,
        observations: Sequence[str] | None = None,
        horizon: int,
    ) -> None:
        self.env_id = name
        self.driver = driver
        self.episode_spec = spec
        """Declaration of its episodes."""
        self.horizon = horizon
        self.predicates = spec.predicates
        self.task_predicate = _task(driver, spec)
        self.scene_fields: tuple[str, ...] = spec["scene"].names if "scene" in spec else ()
        self.action_space = attribute(driver, "action_space")
        self._leaves = matched(name, driver, spec)
        self._told = attribute(driver, "predicates") is not None
        shown_too = {"scene": Box(-np.inf, np.inf, (0,), np.float32)} if layout_of(spec) == 1 else {}
        spaces: dict[str, Space[Any]] = shown_too | {
            one.name: self._leaves[one.name].space for one in spec.observations if one.name in self._leaves
        }
        self._shown = tuple(
            one.name
            for one in spec.observations
            if one.name in spaces and (observations is None or one.name in observations)
        )
        self.observation_space: Any = Dict({part: spaces[part] for part in self._shown})
        self._time = 0
        self._robot: NDArray[np.float32] | None = None
        self._judged: dict[str, bool | None] = {}
        self.unstored: set[str] = set()
        """Keys of ``info`` that were there so far and that the store has no place for."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode.

        Returns:
            The first observation, and info as of `step`.

        Raises:
            CogError: The environment fails, or shows what it did not declare.
        """
        self._time = 0
        with self._asking(f"reset(seed={seed})"):
            obs, info = self.driver.reset(seed=seed, options=options)
        return self._see(obs, info)

    def step(self, action: NDArray[Any]) -> tuple[Observation, Any, bool, bool, dict[str, Any]]:
        """Let the environment do an action.

        Returns:
            Observation; the environment's own reward, or 1 and 0 by the task's predicate where it has none,
            None without either; terminated; truncated, at the horizon or when the environment says so; info
            with `predicates`, `success` and the declared annotations.

        Raises:
            CogError: The action is beyond its bounds, the environment fails or shows what it did not declare,
                or the task's predicate was not judged where it is the reward.
        """
        self._time += 1
        given = self._checked_action(action)
        with self._asking(f"do step {self._time}"):
            obs, own, terminated, truncated, info = self.driver.step(given)
        seen, told = self._see(obs, info)
        answer = self._answer
        reward = self._reward(own, told["success"])
        over = answer.ending("terminated", terminated), answer.ending("truncated", truncated)
        return seen, reward, over[0], over[1] or self._time >= self.horizon, told

    def view(self) -> SceneView:
        """What a scripted policy sees of the present moment.

        Raises:
            CogError: There is none, the environment fails, or gives something else.
        """
        if not callable(own := attribute(self.driver, "view")):
            if self._robot is None:
                raise CogError(
                    f"{self.env_id} has no view() for scripted policies: use --policy random, or "
                    f"module:function of yours"
                )
            return view_of(self._robot, {}, {name: held is True for name, held in self._judged.items()})
        with self._asking("view()"):
            view = own()
        if not isinstance(view, SceneView):
            raise CogError(f"{self.env_id}.view() gives {type(view).__name__}, must be a SceneView: {GUIDE}")
        holds = {
            name: self._answer.truth(f"view().predicates[{name!r}]", value) is True
            for name, value in view.predicates.items()
        }
        return replace(view, predicates=holds)

    def let_go(self) -> None:
        """Close the environment.

        Raises:
            CogError: It fails to.
        """
        with self._asking("close()"):
            self.driver.close()

    def close(self) -> None:
        """Close the environment; one that fails to is a line on stderr: what it did before is done."""
        try:
            self.let_go()
        except CogError as error:
            sys.stderr.write(f"warning: {error}\n")

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        """Make one line of whatever is raised, `SystemExit` too; but not of our own end."""
        try:
            yield
        except BaseException as error:
            if asked_to_end(error):
                raise
            raise CogError(f"{self.env_id} fails to {what}: {shown(error, OF_ERROR)}") from error

    @property
    def _answer(self) -> Answer:
        return Answer(self.env_id, self._time)

    # --- actions and rewards -----------------------------------------------------------------------------

    def _checked_action(self, action: NDArray[Any]) -> Any:  # noqa: ANN401 - of the action space
        feature = self.episode_spec.action
        values = np.asarray(action)
        try:
            feature.check(values.astype(feature.numpy_dtype)[None], 1)
        except (TypeError, ValueError) as error:
            raise CogError(f"an action of {self.env_id} at step {self._time}: {error}") from None
        return given_action(self.action_space, values)

    def _reward(self, own: object, holds: bool | None) -> float | None:
        """The reward that is stored; in the layout of the built-in worlds it is the task's predicate."""
        answer = self._answer
        if layout_of(self.episode_spec) == 2 and (own is not None or self.task_predicate is None):
            return None if own is None else answer.number("a reward of", own)
        task = str(self.task_predicate)
        stored = float(answer.rewarded(task, holds))
        if own is not None and (found := answer.number("a reward of", own)) != stored:
            raise CogError(
                f"{self.env_id} gives a reward of {found:g} {answer.when}, where {task} is {holds} and "
                f"{stored:.0f} is stored: let step() give 1 where {task} holds, else 0, or None for no "
                f"reward of its own; or declare rate_hz, so that its own is stored"
            )
        return stored

    # --- observations and info ---------------------------------------------------------------------------

    def _see(self, obs: object, info: object) -> tuple[Observation, dict[str, Any]]:
        seen: dict[str, Any] = {"scene": np.zeros(0, np.float32)}
        for name, leaf in self._leaves.items():
            seen[name] = self._value(leaf, self.episode_spec[name], leaf.of(obs))
        if more := sorted(_undeclared(obs, attribute(self.driver, "observation_space"))):
            raise CogError(undeclared(self.env_id, more, f" {self._answer.when}"))
        self._answer.check_finite(seen)
        judged, info = self._judge(info), info if isinstance(info, Mapping) else {}
        if (robot := seen.get("robot")) is not None and robot.shape == ROBOT.shape:
            self._robot = robot
        self._judged = {name: judged[name] for name in self.predicates}
        success = None if self.task_predicate is None else judged[self.task_predicate]
        extras = [one.name for one in self.episode_spec.extras if one.name in info]
        told = {"predicates": self._judged, "success": success} | {name: info[name] for name in extras}
        return {part: seen[part] for part in self._shown}, told

    def _value(self, leaf: Leaf, feature: Feature, value: object) -> Any:  # noqa: ANN401 - of the feature
        """Hold an entry against its space; return a copy in the type of its feature."""
        space = leaf.space
        if isinstance(space, Text):
            if isinstance(value, str):
                return value
        elif isinstance(space, Box):
            if isinstance(value, np.ndarray | np.generic) and (value.shape, value.dtype) == (
                space.shape,
                space.dtype,
            ):
                return np.array(value, feature.numpy_dtype)
        elif (number := _whole(value)) is not None and number.shape == space.shape:
            low, high = (0, 1) if isinstance(space, MultiBinary) else (feature.low, feature.high)
            if low is None or high is None or ((number >= low) & (number <= high)).all():
                return number.astype(feature.numpy_dtype)
        found = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else shown(value)
        said = f"{space.dtype} {space.shape}" if isinstance(space, Box) else shown(space)
        raise CogError(
            f"{self.env_id} shows {leaf.source or leaf.name} as {found} {self._answer.when}, its "
            f"observation_space says {said}"
        )

    def _judge(self, info: object) -> dict[str, bool | None]:
        """Hold what is told against what was declared; return the predicates."""
        answer = self._answer
        if not self._told:
            told = info if isinstance(info, Mapping) else {}
            key = next((key for key in SUCCESS_KEYS if key in told), SUCCESS)
            judged = {name: answer.truth(f"info[{key!r}]", told.get(key)) for name in self.predicates}
            self._remark(told, {*SUCCESS_KEYS} if judged else set())
            return judged
        judged = answer.predicates(info if self.predicates else {"predicates": {}})
        if judged.keys() != set(self.predicates):
            raise CogError(
                f"{self.env_id} gives info['predicates'] = {shown(judged)} {answer.when}, must judge "
                f"{', '.join(self.predicates)}, as its predicates say"
            )
        told = info if isinstance(info, Mapping) else {}
        if self.task_predicate is not None:
            self._agree(told, judged[self.task_predicate])
        self._remark(told, {"predicates", SUCCESS} if self.task_predicate else {"predicates"})
        return judged

    def _agree(self, info: Mapping[str, Any], held: bool | None) -> None:
        answer = self._answer
        if (told := answer.truth("info['success']", info.get(SUCCESS, held))) is not held:
            raise CogError(
                f"{self.env_id} gives info['success'] = {told} {answer.when}, where {self.task_predicate} is "
                f"{held}: let both be the same, or leave 'success' out"
            )

    def _remark(self, info: Mapping[str, Any], known: set[str]) -> None:
        """Remember what is told and not stored; refuse it if it is data that a learner would need."""
        declared = {one.name for one in self.episode_spec.extras}
        more = {str(name) for name in info.keys() - known - declared}
        if texts := sorted(name for name in more if TEXT_WORDS & set(name.lower().split("_"))):
            raise CogError(
                f"{self.env_id} gives info[{texts[0]!r}] {self._answer.when}, which it does not declare: add "
                f"Feature({texts[0]!r}, 'string', per=Per.EPISODE) to extras, or leave it out of info: "
                f"{GUIDE}"
            )
        self.unstored |= more


def _task(driver: object, spec: EpisodeSpec) -> str | None:
    """The predicate of the task; None: none is stated."""
    own = attribute(driver, "task_predicate")
    return own if own is not None or spec.predicates != (SUCCESS,) else SUCCESS


def _whole(value: object) -> NDArray[Any] | None:
    """A whole number, a truth value, or an array of such; None: something else."""
    if isinstance(value, bool | int | np.ndarray | np.generic):
        found = np.asarray(value)
        return found if found.dtype.kind in "iub" else None
    return None


def _undeclared(obs: object, space: Space[Any], path: str = "") -> set[str]:
    """Keys of an observation that its space lacks."""
    if not isinstance(space, Dict) or not isinstance(obs, Mapping):
        return set()
    found = {f"{path}{key}" for key in obs.keys() - space.spaces.keys()}
    for key, inside in space.spaces.items():
        found |= _undeclared(obs.get(key), inside, f"{path}{key}.")
    return found
