"""Environments that others wrote, a real robot's driver among them, named as ``module:Class``.

Such a class is a `gymnasium.Env` made by ``Class(image_size=64)``, with these attributes beside Gymnasium's:

=================== ================================================================================
``action_space``    Box from -1 to 1, shape (8,): see `cogdata.schema`
``observation_space`` Dict of ``image``, uint8 (image_size, image_size, 3), and ``robot``, float32 (10,);
                    perhaps ``scene``, float32 (S,)
``scene_fields``    S names; only with a scene
``predicates``      Names, from `cogdata.schema.PREDICATES`, of what ``info["predicates"]`` of reset and
                    step maps to booleans, or to None where one was not judged
``task_predicate``  The one of them that the task is about: judged at every step, because it is the reward
reward of step      None, or 1 where the task's predicate holds and else 0: no other is stored
``info``            ``predicates``, and perhaps ``success``, that of the task; nothing else is stored
``horizon``         Actions of an episode, written in the class: of collected ones, if the policy's are not
                    fewer; ``--horizon`` overrides both
``view()``          What scripted policies see of the present moment, made by `view_of`; without it they
                    see the arm and the predicates, and no landmark
=================== ================================================================================

`Driven` makes it look like an environment of ours, checks what it shows, and says what it raises in one line;
`collectors.checks` asks for all of it once, when a command starts.
"""

from __future__ import annotations

import functools
import hashlib
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, Final

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict
from numpy.typing import NDArray

from cogdata.answers import OF_ERROR, Answer, Judged, shown, undeclared
from cogdata.errors import CogError, unknown
from cogdata.features import EpisodeSpec
from cogdata.layout1 import OBSERVATIONS, layout1_spec
from cogdata.schema import ACTION_DIM, PREDICATES, ROBOT_DIM
from cogdata.system.imports import import_from_here
from cogdata.system.interrupts import asked_to_end
from collectors.envs import ENVS, CogEnv, Observation, make
from collectors.policies.view import Point, SceneView
from collectors.robots.kinematics import matrix_from_quat
from collectors.robots.widowx import turned_from_down
from collectors.sim import engine

GUIDE: Final = "see docs/real_robot.md"

TEXT_WORDS: Final = frozenset(
    ("instruction", "instructions", "language", "prompt", "caption", "text", "utterance", "description")
)
"""A key of ``info`` with one of these words is data that a learner would need, and not a remark."""


def is_driver(env: str) -> bool:
    """Whether a name is of the form ``module:Class``."""
    module, colon, kind = env.partition(":")
    return bool(colon) and kind.isidentifier() and all(part.isidentifier() for part in module.split("."))


def check_name(env: str) -> None:
    """Refuse what is neither an environment of ours nor ``module:Class``.

    Raises:
        CogError: The name is neither.
    """
    if env not in ENVS and not is_driver(env):
        raise unknown("environment", env, [*ENVS, "module:Class of your own"])


def check_engine(env: str) -> None:
    """Refuse a world of ours where the engine of ours is not installed; others bring their own.

    Raises:
        CogError: PyBullet is not installed.
    """
    if not is_driver(env):
        engine()


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


class Driven(gymnasium.Env[Observation, NDArray[np.float32]]):
    """A driver as the rest knows environments: a scene, a success, an end, a view.

    What it shows is copied, so that a driver may write into the same arrays again and again.

    Args:
        name: ``module:Class``.
        driver: An object of that class.
        observations: Which of "image", "robot" and "scene" to show.
        horizon: Actions per episode; None: the driver's own.
    """

    def __init__(
        self,
        name: str,
        driver: Any,  # noqa: ANN401 - a class of others, whose attributes were checked
        *,
        observations: Sequence[str] = OBSERVATIONS,
        horizon: int | None = None,
    ) -> None:
        self.env_id = name
        self.driver = driver
        self.predicates: tuple[str, ...] = tuple(driver.predicates)
        self.task_predicate: str = driver.task_predicate
        self.scene_fields: tuple[str, ...] = tuple(getattr(driver, "scene_fields", ()))
        self.horizon: int = driver.horizon if horizon is None else horizon
        self._shown = tuple(part for part in OBSERVATIONS if part in observations)
        shown = dict(driver.observation_space.spaces)
        shown.setdefault("scene", Box(-np.inf, np.inf, (0,), np.float32))
        self.observation_space: Any = Dict({part: shown[part] for part in self._shown})
        self.action_space = driver.action_space
        self._time = 0
        self._robot = np.zeros(ROBOT_DIM, np.float32)
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
            CogError: The driver fails, or shows what it did not announce.
        """
        self._time = 0
        with self._asking(f"reset(seed={seed})"):
            obs, info = self.driver.reset(seed=seed, options=options)
        return self._see(obs, info)

    def step(self, action: NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Let the driver do an action (8,).

        Returns:
            Observation; reward, 1 if the task's predicate holds, else 0; terminated; truncated, at the
            horizon or when the driver says so; info with `predicates` and `success`.

        Raises:
            CogError: The driver fails, shows what it did not announce, or did not judge the task's predicate.
        """
        self._time += 1
        with self._asking(f"do step {self._time}"):
            obs, own, terminated, truncated, info = self.driver.step(np.array(action, np.float32))
        seen, judged = self._see(obs, info)
        answer = self._answer
        reward = self._reward(own, answer.rewarded(self.task_predicate, judged["success"]))
        over = answer.ending("terminated", terminated), answer.ending("truncated", truncated)
        return seen, reward, over[0], over[1] or self._time >= self.horizon, judged

    @property
    def episode_spec(self) -> EpisodeSpec:
        """Declaration of its episodes."""
        size: tuple[int, int] = self.driver.observation_space["image"].shape[:2]
        return layout1_spec(size, self.scene_fields, self.predicates)

    def view(self) -> SceneView:
        """What a scripted policy sees of the present moment.

        Raises:
            CogError: The driver fails, or gives something else.
        """
        if not callable(getattr(self.driver, "view", None)):
            return view_of(self._robot, {}, {name: held is True for name, held in self._judged.items()})
        with self._asking("view()"):
            view = self.driver.view()
        if not isinstance(view, SceneView):
            raise CogError(f"{self.env_id}.view() gives {type(view).__name__}, must be a SceneView: {GUIDE}")
        holds = {
            name: self._answer.truth(f"view().predicates[{name!r}]", value) is True
            for name, value in view.predicates.items()
        }
        return replace(view, predicates=holds)

    def let_go(self) -> None:
        """Close the driver.

        Raises:
            CogError: The driver fails to.
        """
        with self._asking("close()"):
            self.driver.close()

    def close(self) -> None:
        """Close the driver; one that fails to is a line on stderr, because what it did before is done."""
        try:
            self.let_go()
        except CogError as error:
            sys.stderr.write(f"warning: {error}\n")

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        """Make one line of whatever the driver raises, `SystemExit` too; but not of our own end."""
        try:
            yield
        except BaseException as error:
            if asked_to_end(error):
                raise
            raise CogError(f"{self.env_id} fails to {what}: {shown(error, OF_ERROR)}") from error

    def _reward(self, own: object, holds: bool) -> float:
        """The reward that is stored; a driver's own must be the same, or None."""
        if own is not None and (found := self._answer.number("a reward of", own)) != float(holds):
            task = self.task_predicate
            raise CogError(
                f"{self.env_id} gives a reward of {found:g} {self._answer.when}, where {task} is {holds} and "
                f"{holds:d} is stored: let step() give 1 where {task} holds, else 0, or None for no reward "
                f"of its own"
            )
        return float(holds)

    @property
    def _answer(self) -> Answer:
        return Answer(self.env_id, self._time)

    def _see(self, obs: dict[str, Any], info: dict[str, Any]) -> tuple[Observation, dict[str, Any]]:
        self._check(obs)
        self._answer.check_finite(obs)
        judged = self._check_info(info)
        seen = {"scene": np.zeros(0, np.float32)} | obs
        self._robot = np.array(obs["robot"])
        self._judged = {name: judged[name] for name in self.predicates}
        told = {"predicates": self._judged, "success": self._judged[self.task_predicate]}
        return {part: np.array(seen[part]) for part in self._shown}, told

    def _check(self, obs: object) -> None:
        """Hold what the driver shows against what it announced."""
        for part, space in self.driver.observation_space.spaces.items():
            value = obs.get(part) if isinstance(obs, dict) else None
            if not isinstance(value, np.ndarray) or value.shape != space.shape or value.dtype != space.dtype:
                found = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else shown(value)
                raise CogError(
                    f"{self.env_id} shows {part} as {found}, its observation_space says {space.dtype} "
                    f"{space.shape}"
                )
        if isinstance(obs, dict) and (
            more := sorted(map(str, obs.keys() - self.driver.observation_space.spaces.keys()))
        ):
            raise CogError(undeclared(self.env_id, more, f" {self._answer.when}"))

    def _check_info(self, info: object) -> dict[str, bool | None]:
        """Hold what the driver tells against what it announced; return the predicates."""
        judged, answer = self._answer.predicates(info), self._answer
        if not isinstance(info, dict) or judged.keys() != set(self.predicates):
            raise CogError(
                f"{self.env_id} gives info['predicates'] = {shown(judged)} {answer.when}, must judge "
                f"{', '.join(self.predicates)}, as its predicates say"
            )
        told = answer.truth("info['success']", info.get("success", judged[self.task_predicate]))
        if told is not judged[self.task_predicate]:
            raise CogError(
                f"{self.env_id} gives info['success'] = {told} {answer.when}, where {self.task_predicate} is "
                f"{judged[self.task_predicate]}: let both be the same, or leave 'success' out"
            )
        more = {str(name) for name in info.keys() - {"predicates", "success"}}
        if texts := sorted(name for name in more if TEXT_WORDS & set(name.lower().split("_"))):
            raise CogError(
                f"{self.env_id} gives info[{texts[0]!r}] {answer.when}, which the store has no place for "
                f"yet: leave it out of info"
            )
        self.unstored |= more
        return judged


def open_env(
    env: str, *, image_size: int, observations: tuple[str, ...] = OBSERVATIONS, horizon: int | None = None
) -> CogEnv | Driven:
    """Make an environment of ours or of others.

    Args:
        env: A key of `ENVS`, or ``module:Class``.
        image_size: Height and width of the observed picture in pixels.
        observations: Which of "image", "robot" and "scene" to observe.
        horizon: Actions per episode; None takes the environment's own.

    Raises:
        CogError: No such environment, or it cannot be made.
    """
    if not is_driver(env):
        return make(env, image_size=image_size, observations=observations, horizon=horizon)
    kind = _load(env)
    try:
        driver = kind(image_size=image_size)
    except BaseException as error:
        if asked_to_end(error):
            raise
        raise CogError(
            f"{env} cannot be made by Class(image_size={image_size}): {shown(error, OF_ERROR)}"
        ) from None
    try:
        _check_spaces(env, driver, image_size)
    except CogError:
        with suppress(Exception):
            driver.close()
        raise
    return Driven(env, driver, observations=observations, horizon=horizon)


def own_horizon(env: str) -> int:
    """Say how many actions an episode of a driver has, without making one.

    Args:
        env: ``module:Class``.

    Raises:
        CogError: No such class, or it does not say.
    """
    horizon = getattr(_load(env), "horizon", None)
    if not isinstance(horizon, int) or horizon < 1:
        raise CogError(f"{env} has horizon {horizon!r}, must be a whole number of at least 1 in the class")
    return horizon


def close_at_exit(world: Driven) -> Finalize:
    """Close a driver when this process ends, undisturbed by a parent that is in a hurry.

    Returns:
        Its ``cancel`` is for who closes the driver before.
    """

    def close() -> None:
        with suppress(ValueError):  # not the main thread, which alone gets signals
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        world.close()

    return Finalize(None, close, exitpriority=0)


@functools.cache
def fingerprint(env: str) -> Mapping[str, str]:
    """Say which driver this is: its module and the first digits of the sha256 of its source; {} for ours.

    It is read once per process, when the module is imported: what a process runs is not changed by an edit.
    """
    if not is_driver(env):
        return {}
    module = env.partition(":")[0]
    _load(env)
    source = getattr(sys.modules[module], "__file__", None)
    return {module: hashlib.sha256(Path(source).read_bytes()).hexdigest()[:12]} if source else {}


def _load(env: str) -> Callable[..., gymnasium.Env[Any, Any]]:
    """Find the class, first in the working folder."""
    module, _, name = env.partition(":")
    try:
        found = import_from_here(module)
    except CogError:
        raise
    except BaseException as error:
        if asked_to_end(error):
            raise
        raise CogError(
            f"cannot import {module} of --env {env}: {shown(error, OF_ERROR)}; the current directory is "
            f"{Path.cwd()}"
        ) from None
    kinds = {key for key, value in vars(found).items() if isinstance(value, type)}
    if not hasattr(found, name):
        raise unknown(f"class in {getattr(found, '__file__', module)}", name, kinds)
    kind = getattr(found, name)
    if not (isinstance(kind, type) and issubclass(kind, gymnasium.Env)):
        raise CogError(f"{env} is not a class derived from gymnasium.Env: {GUIDE}")
    return kind


def _check_spaces(env: str, driver: object, image_size: int) -> None:
    """Hold a driver against the table at the top of this file."""
    space = getattr(driver, "action_space", None)
    if not isinstance(space, Box) or space.shape != (ACTION_DIM,) or not _spans(space):
        raise CogError(f"{env} takes actions in {space}, must be Box(-1, 1, (8,), float32): {GUIDE}")
    space = getattr(driver, "observation_space", None)
    if not isinstance(space, Dict):
        raise CogError(f"{env} shows {space}, must be a Dict of image and robot: {GUIDE}")
    fields = getattr(driver, "scene_fields", ())
    if not _are_names(fields):
        raise CogError(f"{env} has scene_fields {fields!r}, must be names, ('object_x_m', …), or left out")
    needed: dict[str, tuple[tuple[int, ...], type]] = {
        "image": ((image_size, image_size, 3), np.uint8),
        "robot": ((ROBOT_DIM,), np.float32),
    }
    if "scene" in space.spaces or fields:
        needed["scene"] = ((len(fields),), np.float32)
    if more := sorted(space.spaces.keys() - {*needed, "scene"}):
        raise CogError(undeclared(env, more))
    for part, (shape, dtype) in needed.items():
        found = space.spaces.get(part)
        if not isinstance(found, Box) or found.shape != shape or found.dtype != np.dtype(dtype):
            hint = " (--image-size says how large)" if part == "image" else ""
            raise CogError(f"{env} shows {part} as {found}, must be {np.dtype(dtype)} {shape}{hint}: {GUIDE}")
    _check_names(env, driver)


def _are_names(value: object) -> bool:
    return isinstance(value, tuple | list) and all(isinstance(name, str) for name in value)


def _spans(space: Box) -> bool:
    return bool((space.low == -1).all() and (space.high == 1).all())


def _check_names(env: str, driver: object) -> None:
    predicates = getattr(driver, "predicates", None)
    if not (_are_names(predicates) and predicates) or set(predicates) - set(PREDICATES):
        raise CogError(f"{env} has predicates {predicates!r}, must be names among {', '.join(PREDICATES)}")
    task, horizon = getattr(driver, "task_predicate", None), own_horizon(env)
    if task not in predicates:
        raise CogError(f"{env} has task_predicate {task!r}, must be one of its predicates {predicates!r}")
    if (made := getattr(driver, "horizon", None)) != horizon:
        raise CogError(f"{env} has horizon {horizon}, and {made!r} once made: write the latter in the class")
