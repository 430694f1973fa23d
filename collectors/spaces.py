"""What a Gymnasium environment shows and takes, as a declaration of episodes.

A `Dict` becomes a feature per entry; nested dicts and tuples are flattened, their keys joined by ``_``. An
observation that is no `Dict` is called ``observation``. A key that is no name of a column becomes one, and is
kept as `Feature.source`: ``observation.images.front`` becomes ``images_front``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Text, Tuple
from numpy.typing import NDArray

from cogdata.answers import name_of, shown, undeclared
from cogdata.errors import CogError, unknown
from cogdata.features import DTYPES, FEATURE_NAME, RESERVED, EpisodeSpec, Feature, Per
from cogdata.storage.codecs import check_codec

GUIDE: Final = "see docs/real_robot.md"

OBSERVATION: Final = "observation"
"""Name of an observation that is no `Dict`."""

SUCCESS: Final = "success"
"""Predicate of an environment that names none, and tells it in ``info``."""

SUCCESS_KEYS: Final = (SUCCESS, "is_success")
"""Keys of ``info`` that say whether the task is done."""

_WIDER: Final = {"int8": "int32", "int16": "int32", "uint32": "int64"}
"""Types that no feature has → the next that holds each of their values."""


@dataclass(frozen=True)
class Leaf:
    """An entry of an observation.

    Attributes:
        name: Its feature.
        path: Keys that lead to it.
        space: Its space.
        source: Its name in the environment; "": the same.
    """

    name: str
    path: tuple[str | int, ...]
    space: Space[Any]
    source: str = ""

    def of(self, obs: Any) -> Any:  # noqa: ANN401 - whatever the environment shows
        """Return its value in an observation; None: there is none."""
        for key in self.path:
            try:
                obs = obs[key]
            except (KeyError, IndexError, TypeError):
                return None
        return obs


def attribute(env: object, name: str, default: Any = None) -> Any:  # noqa: ANN401
    """Return an attribute of an environment or, through its wrappers, of what they wrap."""
    found = getattr(env, name, None)
    if found is None and isinstance(env, gymnasium.Wrapper):
        with suppress(AttributeError):
            found = env.get_wrapper_attr(name)
    return default if found is None else found


def column_name(foreign: str) -> str:
    """Make the name of a column from a foreign one.

    Args:
        foreign: For example ``observation.images.front``.

    Raises:
        CogError: Nothing of it can be part of a name, or it is too long.
    """
    text = re.sub(r"[^a-z0-9]+", "_", re.sub(r"^observations?[./]", "", foreign).lower()).strip("_")
    if text[:1].isdigit():
        text = f"n{text}"
    if text in RESERVED:
        text = f"obs_{text}"
    if FEATURE_NAME.fullmatch(text) is None:
        raise CogError(f"{foreign!r} cannot be made the name of a column: use letters, at most 64")
    return text


def leaves(space: Space[Any]) -> tuple[Leaf, ...]:
    """Return the entries of an observation space, in its order.

    Raises:
        CogError: Two of them have the same name.
    """
    named: dict[str, Leaf] = {}
    for path, leaf in _walk(space, ()):
        foreign = ".".join(map(str, path)) or OBSERVATION
        if isinstance(path[0] if path else None, int):
            foreign = f"{OBSERVATION}_{foreign}"
        plain = FEATURE_NAME.fullmatch(foreign) is not None and foreign not in RESERVED
        name = foreign if plain else column_name(foreign)
        if name in named:
            other = named[name].source or name
            raise CogError(f"observations {other!r} and {foreign!r} are both called {name}: rename one")
        named[name] = Leaf(name, path, leaf, "" if plain else foreign)
    return tuple(named.values())


def _walk(space: Space[Any], path: tuple[str | int, ...]) -> list[tuple[tuple[str | int, ...], Space[Any]]]:
    if isinstance(space, Dict):
        inside: list[tuple[str | int, Space[Any]]] = list(space.spaces.items())
    elif isinstance(space, Tuple):
        inside = list(enumerate(space.spaces))
    else:
        return [(path, space)]
    return [found for key, one in inside for found in _walk(one, (*path, key))]


def observation_feature(leaf: Leaf, names: tuple[str, ...] = ()) -> Feature:
    """Declare an entry of an observation.

    Args:
        leaf: The entry.
        names: Of the entries of its last axis.

    Raises:
        CogError: The store has no place for its kind.
    """
    space, shape = leaf.space, leaf.space.shape or ()
    made = Feature(leaf.name, "string", source=leaf.source)
    if isinstance(space, Text):
        return made
    if isinstance(space, Box):
        made = replace(made, dtype=_dtype(leaf.name, space.dtype), shape=shape, names=names)
        if made.is_image and not made.size:
            raise CogError(f"observation {leaf.name} has shape {shape}, an image of no pixels: leave it out")
        return replace(made, codec="zst") if made.is_image else made
    if isinstance(space, MultiBinary):
        return replace(made, dtype="bool", shape=shape, names=names)
    if isinstance(space, Discrete | MultiDiscrete):
        low, high = _choices(space)
        return replace(made, dtype="int64", shape=shape, names=names, low=low, high=high)
    called = f"observation {leaf.name}" if leaf.path else "observation_space"
    raise CogError(
        f"{called} is a {type(space).__name__}, must be Box, Discrete, MultiDiscrete, MultiBinary or Text, "
        f"or a Dict or Tuple of such"
    )


def action_feature(space: Space[Any] | None, names: tuple[str, ...] = ()) -> Feature:
    """Declare the action.

    Args:
        space: Its space.
        names: Of its entries; of a Discrete action what its numbers mean.

    Raises:
        CogError: It is no action that can be stored.
    """
    made = Feature("action", "int64", per=Per.TRANSITION)
    if isinstance(space, Discrete):
        low, high = _choices(space)
        return replace(made, values=names, low=low, high=high)
    if isinstance(space, MultiDiscrete | MultiBinary) and len(space.shape) == 1:
        low, high = _choices(space)
        return replace(made, shape=space.shape, names=names, low=low, high=high)
    if isinstance(space, Box) and len(space.shape) <= 1 and space.dtype.kind == "f":
        return replace(
            made,
            dtype=_dtype("action", space.dtype),
            shape=space.shape,
            names=names,
            low=_bounds(space.low),
            high=_bounds(space.high),
        )
    raise CogError(
        f"it takes actions in {shown(space)}, must be a Box of floats with one axis, Discrete, MultiDiscrete "
        f"or MultiBinary: {GUIDE}"
    )


def spec_of_env(env: gymnasium.Env[Any, Any]) -> EpisodeSpec:
    """Declare the episodes of an environment.

    Its attribute ``episode_spec`` is believed. Else the declaration is made from its spaces and from the
    optional attributes ``predicates``, ``feature_names``, ``codecs``, ``scene_fields``, ``extras`` and
    ``rate_hz``. One without ``predicates`` is reset, and steps once, to see whether ``info`` says
    ``success`` or ``is_success``.

    Args:
        env: The environment.

    Raises:
        CogError: Something cannot be stored; the line names the environment.
    """
    if (own := attribute(env, "episode_spec")) is not None:
        if not isinstance(own, EpisodeSpec):
            raise CogError(f"{name_of(env)} has episode_spec {shown(own)}, must be an EpisodeSpec: {GUIDE}")
        return own
    try:
        named = _feature_names(env)
        codecs = _codecs(env)
        observations = tuple(
            replace(one, codec=codecs.pop(one.name, codecs.pop(one.source, one.codec)))
            for one in (_declared(env, leaf, named) for leaf in leaves(_space(env)))
        )
        for feature in observations:
            if feature.is_member:
                check_codec(feature)
        if codecs:
            raise unknown("feature in codecs", next(iter(codecs)), [one.name for one in observations])
        action = action_feature(attribute(env, "action_space"), named.pop("action", ()))
        if named:
            raise unknown("feature in feature_names", next(iter(named)), [one.name for one in observations])
        return EpisodeSpec(
            observations, action, predicates_of(env), _extras(env), reward="float64", rate_hz=_rate(env)
        )
    except CogError as error:
        raise CogError(f"{name_of(env)}: {error}") from None


def _space(env: object) -> Space[Any]:
    space = attribute(env, "observation_space")
    if not isinstance(space, Space):
        raise CogError(f"observation_space is {shown(space)}, must be a space of Gymnasium: {GUIDE}")
    return space


def _declared(env: object, leaf: Leaf, named: dict[str, tuple[str, ...]]) -> Feature:
    """Declare an entry; the scene is what a simulator alone knows."""
    names = named.pop(leaf.name, named.pop(leaf.source, ()))
    fields = attribute(env, "scene_fields")
    if leaf.name != "scene" or fields is None:
        return observation_feature(leaf, names)
    return replace(observation_feature(leaf, tuple(fields)), privileged=True)


def _feature_names(env: object) -> dict[str, tuple[str, ...]]:
    given = attribute(env, "feature_names", {})
    if not isinstance(given, Mapping) or not all(are_names(names) for names in given.values()):
        raise CogError(
            f"feature_names is {shown(given)}, must map features to names, {{'joints': ('base_rad', …)}}"
        )
    return {str(name): tuple(names) for name, names in given.items()}


def _codecs(env: object) -> dict[str, str]:
    given = attribute(env, "codecs", {})
    if not isinstance(given, Mapping):
        raise CogError(f"codecs is {shown(given)}, must map features to codecs, {{'front': 'mp4'}}")
    return {str(name): str(codec) for name, codec in given.items()}


def _extras(env: object) -> tuple[Feature, ...]:
    given = attribute(env, "extras", ())
    if not isinstance(given, tuple | list) or not all(isinstance(one, Feature) for one in given):
        raise CogError(f"extras is {shown(given)}, must be a tuple of cogdata.features.Feature: {GUIDE}")
    return tuple(given)


def _rate(env: object) -> float | None:
    rate = attribute(env, "rate_hz")
    if rate is None:
        return None
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < 1e9:
        raise CogError(f"rate_hz is {shown(rate)}, must be a number of steps per second above 0")
    return float(rate)


def matched(env: str, driver: object, spec: EpisodeSpec) -> dict[str, Leaf]:
    """Find where each declared feature lies in what an environment shows.

    Args:
        env: Its name.
        driver: The environment.
        spec: Its declaration.

    Raises:
        CogError: One is not shown, or shown otherwise; or the action is declared otherwise than its space.
    """
    there = leaves(_space(driver))
    found: dict[str, Leaf] = {}
    for feature in spec.observations:
        names = {feature.name, feature.source} - {""}
        leaf = next((one for one in there if {one.name, one.source} & names), None)
        if leaf is None:
            if feature.name == "scene" and not feature.size:  # layout 1, where nobody knows the scene
                continue
            raise CogError(f"{env} declares {feature.name}, which its observation_space lacks: {GUIDE}")
        made = observation_feature(leaf)
        if (made.dtype, made.shape) != (feature.dtype, feature.shape):
            raise CogError(
                f"{env} declares {feature.name} as {feature.describe()}, its observation_space says "
                f"{made.describe()}"
            )
        found[feature.name] = leaf
    if more := [one.source or one.name for one in there if one not in found.values()]:
        raise CogError(undeclared(env, more))
    made, action = action_feature(attribute(driver, "action_space")), spec.action
    if any(getattr(made, name) != getattr(action, name) for name in ("dtype", "shape", "low", "high")):
        raise CogError(
            f"{env} declares its action as {action.describe()}, its action_space says {made.describe()}"
        )
    return found


def predicates_of(env: gymnasium.Env[Any, Any]) -> tuple[str, ...]:
    """Return the predicates of an environment: its own, else ``success`` if it tells it, else none.

    Raises:
        CogError: Its own are no names.
    """
    own = attribute(env, "predicates")
    if own is not None:
        if not are_names(own):
            raise CogError(f"predicates is {shown(own)}, must be names, ('cup_on_shelf',), or ()")
        return tuple(own)
    _, info = env.reset(seed=0)
    if tells_success(info):
        return (SUCCESS,)
    *_, info = env.step(quiet_action(env.action_space))
    return (SUCCESS,) if tells_success(info) else ()


def tells_success(info: object) -> bool:
    """Whether ``info`` says if the task is done."""
    return isinstance(info, Mapping) and any(key in info for key in SUCCESS_KEYS)


def quiet_action(space: Space[Any]) -> Any:  # noqa: ANN401 - of the space
    """Return the action nearest to zero, as the environment takes it."""
    if isinstance(space, Box):
        return np.clip(np.zeros(space.shape, space.dtype), space.low, space.high)
    low = np.array(_choices(space)[0], np.int64).reshape(space.shape or ())
    return given_action(space, low)


def given_action(space: Space[Any], action: NDArray[Any]) -> Any:  # noqa: ANN401 - of the space
    """Return an action as an environment takes it: a copy in its type, and of a Discrete one an int."""
    if isinstance(space, Discrete):
        return int(action)
    return np.array(action, space.dtype)


def are_names(value: object) -> bool:
    """Whether it is a tuple or list of texts."""
    return isinstance(value, tuple | list) and all(isinstance(name, str) for name in value)


def _choices(space: Space[Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Smallest and largest number of each entry of a discrete space."""
    if isinstance(space, Discrete):
        return (float(space.start),), (float(space.start + space.n - 1),)
    if isinstance(space, MultiDiscrete):
        start = np.asarray(space.start).ravel()
        return tuple(map(float, start)), tuple(map(float, start + np.asarray(space.nvec).ravel() - 1))
    if isinstance(space, MultiBinary):
        size = int(np.prod(space.shape))
        return (0.0,) * size, (1.0,) * size
    raise CogError(f"{shown(space)} has no numbered choices")


def _bounds(values: NDArray[Any]) -> tuple[float, ...] | None:
    """Bounds of a Box; None if there are none."""
    flat = np.asarray(values).ravel()
    return None if np.isinf(flat).all() else tuple(map(float, flat))


def _dtype(name: str, dtype: Any) -> str:  # noqa: ANN401 - of NumPy
    text = _WIDER.get(str(dtype), str(dtype))
    if text not in DTYPES:
        raise CogError(f"{name} is {dtype}, must be one of {', '.join(DTYPES[:-1])}")
    return text
