"""Names of environments of others, and what is known of one without making it."""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from cogdata.answers import OF_ERROR, shown
from cogdata.errors import CogError, unknown
from cogdata.system.imports import import_from_here
from cogdata.system.interrupts import asked_to_end
from collectors.envs import ENVS
from collectors.spaces import GUIDE


def is_driver(env: str) -> bool:
    """Whether a name is of the form ``module:Class``."""
    module, colon, kind = env.partition(":")
    return bool(colon) and kind.isidentifier() and all(part.isidentifier() for part in module.split("."))


def check_name(env: str) -> None:
    """Refuse what is neither an environment of ours, nor ``module:Class``, nor an id that Gymnasium knows.

    Raises:
        CogError: The name is neither.
    """
    if env not in ENVS and not is_driver(env) and registered(env) is None:
        raise unknown("environment", env, [*ENVS, "module:Class of your own", "an id of Gymnasium"])


def own_horizon(env: str) -> int:
    """Say how many actions an episode in an environment of others has, without making one.

    Args:
        env: ``module:Class``, or an id that Gymnasium knows.

    Raises:
        CogError: No such class, or it does not say.
    """
    if (known := registered(env)) is not None:
        if known.max_episode_steps is None:
            raise CogError(f"{env} has no max_episode_steps: say --horizon")
        return known.max_episode_steps
    horizon = getattr(load_class(env), "horizon", None)
    if isinstance(horizon, bool) or not isinstance(horizon, int) or horizon < 1:
        raise CogError(f"{env} has horizon {horizon!r}, must be a whole number of at least 1 in the class")
    return horizon


def takes_image_size(env: str) -> bool:
    """Whether --image-size says how large the pictures of an environment are.

    Args:
        env: A key of `ENVS`, ``module:Class``, or an id that Gymnasium knows.
    """
    if not is_driver(env):
        return env in ENVS
    try:
        taken = inspect.signature(load_class(env)).parameters.values()
    except (CogError, ValueError):  # said when it is made
        return True
    return any(one.name == "image_size" or one.kind is one.VAR_KEYWORD for one in taken)


@functools.cache
def fingerprint(env: str) -> Mapping[str, str]:
    """Say which environment this is: the module of a class and the first digits of the sha256 of its source.

    Of a Gymnasium id it is the package and its version; {} for ours.

    It is read once per process, when the module is imported: what a process runs is not changed by an edit.
    """
    if (known := registered(env)) is not None:
        return _package_of(known)
    if not is_driver(env):
        return {}
    module = env.partition(":")[0]
    load_class(env)
    source = getattr(sys.modules[module], "__file__", None)
    return {module: hashlib.sha256(Path(source).read_bytes()).hexdigest()[:12]} if source else {}


def _package_of(known: EnvSpec) -> Mapping[str, str]:
    """Package that a Gymnasium id comes from, and its version; Gymnasium itself is always told."""
    entry = known.entry_point
    package = (entry if isinstance(entry, str) else getattr(entry, "__module__", "")).partition(".")[0]
    package = package.partition(":")[0]
    with suppress(PackageNotFoundError, ValueError):
        return {} if package == "gymnasium" else {package: version(package)}
    return {}


def load_class(env: str) -> Callable[..., gymnasium.Env[Any, Any]]:
    """Find the class of an environment, first in the working folder.

    Args:
        env: ``module:Class``.

    Raises:
        CogError: There is none.
    """
    module, _, name = env.partition(":")
    found = _import(module, env)
    kinds = {key for key, value in vars(found).items() if isinstance(value, type)}
    if not hasattr(found, name):
        raise unknown(f"class in {getattr(found, '__file__', module)}", name, kinds)
    kind = getattr(found, name)
    if not (isinstance(kind, type) and issubclass(kind, gymnasium.Env)):
        raise CogError(f"{env} is not a class derived from gymnasium.Env: {GUIDE}")
    return kind


def _import(module: str, env: str) -> ModuleType:
    try:
        return import_from_here(module)
    except CogError:
        raise
    except BaseException as error:
        if asked_to_end(error):
            raise
        raise CogError(
            f"cannot import {module} of --env {env}: {shown(error, OF_ERROR)}; the current directory is "
            f"{Path.cwd()}"
        ) from None


def registered(env: str) -> EnvSpec | None:
    """Return what Gymnasium knows of an id of others; None: it is no such id.

    Args:
        env: An id; of ``module:Id-v0`` the module is imported first.
    """
    module, colon, name = env.rpartition(":")
    if env in ENVS or is_driver(env):
        return None
    if colon and all(part.isidentifier() for part in module.split(".")):
        _import(module, env)
    return gymnasium.registry.get(name)
