"""Environments that others wrote: a class named as ``module:Class``, or an id that Gymnasium knows.

Each is a `gymnasium.Env`. What it shows and takes is read from its spaces (`collectors.spaces`); these
attributes say more, and all of them but ``horizon`` may be left out:

=================== ================================================================================
``horizon``         Actions of an episode, written in the class: of collected ones, if the policy's are not
                    fewer; ``--horizon`` overrides both. A Gymnasium id has ``max_episode_steps``
``predicates``      Names of what ``info["predicates"]`` of reset and step maps to booleans, or to None where
                    one was not judged. Without it ``info["success"]`` or ``["is_success"]``, if there
                    is one when it is reset or has stepped once, is the predicate ``success``
``task_predicate``  The one of them that the task is about
``feature_names``   Feature → names of its entries: ``{"joints": ("base_rad", …), "action": (…)}``
``codecs``          Camera → codec of its images: ``{"front": "mp4"}``; else ``zst``, without loss
``scene_fields``    Names of the entries of ``scene``, which the simulator alone knows
``extras``          Annotations, `cogdata.features.Feature`: keys of ``info`` of the reset, if they are per
                    episode, or of each step
``rate_hz``         Steps per second
``episode_spec``    The whole declaration, in place of the six above
``view()``          What scripted policies see of the present moment, made by `view_of`
=================== ================================================================================

A class may take ``image_size``, which ``--image-size`` says, and what ``--env-option KEY=VALUE`` says. One
with the image (size, size, 3), ``robot``, perhaps ``scene``, the eight actions and the predicates of the
built-in worlds is stored as they are, and its reward is the predicate of its task (`cogdata.schema`).

`collectors.foreign.driven.Driven` stands before it; `collectors.checks` tries it once, when a command starts.
"""

from __future__ import annotations

import functools
import json
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.util import Finalize
from typing import Any, Final, NamedTuple

import gymnasium

from cogdata.answers import OF_ERROR, shown
from cogdata.errors import CogError
from cogdata.features import EpisodeSpec
from cogdata.layout1 import ACTION, OBSERVATIONS, ROBOT, layout1_spec
from cogdata.schema import PREDICATES
from cogdata.system.interrupts import asked_to_end
from collectors.envs import ENVS, CogEnv, make
from collectors.foreign.driven import Driven, view_of
from collectors.foreign.loading import (
    check_name,
    fingerprint,
    is_driver,
    load_class,
    own_horizon,
    takes_image_size,
)
from collectors.sim import engine
from collectors.spaces import GUIDE, attribute, spec_of_env

__all__ = [
    "GUIDE", "Driven", "check_engine", "check_name", "close_at_exit", "declaration", "fingerprint",
    "forget_env", "is_driver", "kept_env", "open_env", "own_horizon", "takes_image_size", "view_of",
]  # fmt: skip


CLOSING_S: Final = 5.0
"""How long a world that has failed may take to close."""


class WorldKind(NamedTuple):
    """What an environment is made from.

    Attributes:
        env: A key of `ENVS`, ``module:Class``, or an id that Gymnasium knows.
        image_size: px, square; None: it does not take one.
        horizon: Actions per episode; None: its own.
        options: Its keyword arguments, as JSON; "": none.
    """

    env: str
    image_size: int | None
    horizon: int | None = None
    options: str = ""

    def open(self, observations: Sequence[str] | None = None) -> CogEnv | Driven:
        """Make it.

        Args:
            observations: Features to observe; None: all.

        Raises:
            CogError: It cannot be made.
        """
        return open_env(
            self.env,
            image_size=self.image_size,
            observations=observations,
            horizon=self.horizon,
            options=json.loads(self.options or "{}"),
        )


def check_engine(env: str) -> None:
    """Refuse a world of ours where the engine of ours is not installed; others bring their own.

    Raises:
        CogError: PyBullet is not installed.
    """
    if env in ENVS:
        engine()


def declaration(driver: gymnasium.Env[Any, Any], image_size: int | None) -> EpisodeSpec:
    """Declare the episodes of an environment of others.

    One that shows ``image`` at the size that was asked for, the ten numbers of ``robot`` and perhaps
    ``scene``, and takes the eight actions of the built-in worlds, is declared as they are.

    Args:
        driver: The environment.
        image_size: Height and width that were asked for, px; None: nobody could ask.

    Raises:
        CogError: Something cannot be stored.
    """
    found = spec_of_env(driver)
    own = attribute(driver, "episode_spec") is not None
    if own or image_size is None or not _is_built_in(found, driver, image_size):
        return found
    fields = found["scene"].names if "scene" in found else ()
    built_in = layout1_spec((image_size, image_size), fields, found.predicates)
    others = [one for one in found.observations if one.name not in OBSERVATIONS]
    alike = not (others or found.extras or found.rate_hz) and found.predicates
    if alike and set(found.predicates) <= set(PREDICATES) and attribute(driver, "task_predicate"):
        return built_in
    known = [built_in[name] for name in OBSERVATIONS if name in found]
    return replace(found, observations=(*known, *others), action=ACTION)


def _is_built_in(found: EpisodeSpec, driver: object, image_size: int) -> bool:
    """Whether image, robot, scene and action mean what they mean in the built-in worlds."""
    if any(name not in found for name in ("image", "robot")) or any(
        attribute(driver, name) for name in ("feature_names", "codecs")
    ):
        return False
    image, robot, action = found["image"], found["robot"], found.action
    fields = attribute(driver, "scene_fields")
    if "scene" in found and (fields is None or found["scene"].dtype != "float32"):
        return False
    return (
        (image.dtype, image.shape) == ("uint8", (image_size, image_size, 3))
        and (robot.dtype, robot.shape) == (ROBOT.dtype, ROBOT.shape)
        and (action.dtype, action.shape) == (ACTION.dtype, ACTION.shape)
        and (action.low, action.high) == (ACTION.low, ACTION.high)
    )


def open_env(
    env: str,
    *,
    image_size: int | None,
    observations: Sequence[str] | None = None,
    horizon: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> CogEnv | Driven:
    """Make an environment of ours or of others.

    Args:
        env: A key of `ENVS`, ``module:Class``, or an id that Gymnasium knows.
        image_size: Height and width of the observed picture in pixels; of others only if they take it.
        observations: Features to observe; None: all.
        horizon: Actions per episode; None takes the environment's own.
        options: What `--env-option` says: keyword arguments of others.

    Raises:
        CogError: No such environment, or it cannot be made.
    """
    if env in ENVS:
        if options:
            raise CogError(f"--env-option {next(iter(options))} is for environments of others, not for {env}")
        shown_parts = OBSERVATIONS if observations is None else tuple(observations)
        return make(env, image_size=image_size or 48, observations=shown_parts, horizon=horizon)
    driver = _made(env, image_size, horizon, dict(options or {}))
    try:
        long = own_horizon(env) if horizon is None or is_driver(env) else horizon
        spec = _declared(env, driver, image_size if takes_image_size(env) else None)
        world = Driven(env, driver, spec, observations=observations, horizon=horizon or long)
        _check_names(env, driver, world)
    except BaseException:
        with suppress(Exception):
            driver.close()
        raise
    return world


def _made(
    env: str, image_size: int | None, horizon: int | None, options: dict[str, Any]
) -> gymnasium.Env[Any, Any]:
    """Make an environment of others."""
    make_it: Callable[..., gymnasium.Env[Any, Any]]
    if is_driver(env):
        make_it, called = load_class(env), "Class"
        if takes_image_size(env) and image_size is not None:
            options = {"image_size": image_size} | options
    else:
        check_name(env)
        make_it, called = functools.partial(gymnasium.make, env, disable_env_checker=True), "gymnasium.make"
        if horizon is not None:
            options = {"max_episode_steps": horizon} | options
    try:
        return make_it(**options)
    except BaseException as error:
        if asked_to_end(error):
            raise
        given = ", ".join(f"{name}={value!r}" for name, value in options.items())
        raise CogError(f"{env} cannot be made by {called}({given}): {shown(error, OF_ERROR)}") from None


def _declared(env: str, driver: gymnasium.Env[Any, Any], image_size: int | None) -> EpisodeSpec:
    """Declare an environment, whose reset or first step may fail."""
    try:
        return declaration(driver, image_size)
    except CogError as error:
        raise CogError(f"{env}: {str(error).removeprefix(f'{type(driver).__name__}: ')}") from None
    except BaseException as error:
        if asked_to_end(error):
            raise
        raise CogError(f"{env} fails to say what it shows: {shown(error, OF_ERROR)}") from None


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


_KEPT: dict[WorldKind, tuple[CogEnv | Driven, Finalize | None]] = {}
"""One world per process and kind, kept between parts, and what closes it when the process ends."""


def kept_env(kind: WorldKind) -> CogEnv | Driven:
    """Return an environment, made once per process; a robot is let go of when the process ends.

    Args:
        kind: Which one.

    Raises:
        CogError: It cannot be made.
    """
    if kind not in _KEPT:
        world = kind.open()
        _KEPT[kind] = world, close_at_exit(world) if isinstance(world, Driven) else None
    return _KEPT[kind][0]


def forget_env(kind: WorldKind) -> None:
    """Close an environment after a failure; the next episode gets a new one.

    Args:
        kind: Which one.

    Raises:
        CogError: It does not close within :data:`CLOSING_S`; a second one beside it could harm a robot.
    """
    world, closing = _KEPT.pop(kind, (None, None))
    if closing is not None:
        closing.cancel()
    if world is not None:
        closing_thread = threading.Thread(target=_close, args=(world,), daemon=True)
        closing_thread.start()
        closing_thread.join(CLOSING_S)
        if closing_thread.is_alive():
            raise CogError(f"{kind.env} does not close within {CLOSING_S:g} s after its failure")


def _close(world: CogEnv | Driven) -> None:
    with suppress(BaseException):  # it has failed already
        world.close()


def _check_names(env: str, driver: object, world: Driven) -> None:
    """Hold task, scene and horizon against what is there."""
    task, predicates = world.task_predicate, world.predicates
    if task is not None and task not in predicates:
        raise CogError(f"{env} has task_predicate {task!r}, must be one of its predicates {predicates!r}")
    if attribute(driver, "scene_fields") and not world.scene_fields:
        raise CogError(f"{env} has scene_fields, and shows no scene: leave them out")
    if is_driver(env) and (made := getattr(driver, "horizon", None)) != (said := own_horizon(env)):
        raise CogError(f"{env} has horizon {said}, and {made!r} once made: write the latter in the class")
