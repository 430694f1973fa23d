"""Who acts in an episode: a script, random actions of any kind, or a function or class of the user.

A script sees a `SceneView` and does the eight actions of the built-in worlds; the other two take any
observation and any action that is declared.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cogdata.answers import OF_ERROR, shown
from cogdata.errors import CogError, unknown
from cogdata.features import EpisodeSpec, Feature
from cogdata.layout1 import ACTION, ROBOT
from cogdata.rollout import Act
from cogdata.system.imports import import_from_here
from cogdata.system.interrupts import asked_to_end
from collectors.policies import POLICIES

RANDOM: Final = "random"
OWN_PHASE: Final = "policy"
"""Name of the phase of every action of a policy of the user."""


def is_own(policy: str) -> bool:
    """Whether a name is of the form ``module:function``."""
    module, colon, name = policy.partition(":")
    return bool(colon) and name.isidentifier() and all(part.isidentifier() for part in module.split("."))


def check_policy(policy: str) -> None:
    """Refuse what is neither a policy of ours nor ``module:function``.

    Raises:
        CogError: The name is neither.
    """
    if policy not in POLICIES and not is_own(policy):
        raise unknown("policy", policy, [*POLICIES, "module:function of your own"])


def is_script(policy: str, spec: EpisodeSpec) -> bool:
    """Whether a policy is a script in a world: each of ours is, "random" in worlds of our arm alone.

    Raises:
        CogError: A script cannot act there.
    """
    action = spec.action
    ours = action.identity() == ACTION.identity()
    arm = ours and ROBOT.name in spec and spec[ROBOT.name].identity() == ROBOT.identity()
    if policy not in POLICIES or (policy == RANDOM and not arm):
        return False
    if not ours:
        raise CogError(
            f"policy {policy} is for the arm of the built-in worlds, whose state and action are not declared "
            f"here (it takes {action.describe()}): use --policy random, or module:function of yours"
        )
    return True


def actor(policy: str, action: Feature, rng: np.random.Generator) -> Act:
    """Return what acts in an episode, where it is no script.

    Args:
        policy: "random", or ``module:function``.
        action: What the world takes.
        rng: Generator of all random numbers.

    Raises:
        CogError: It cannot be imported or made.
    """
    if policy == RANDOM:
        return lambda _obs: (random_action(action, rng), RANDOM)
    return _own_actor(policy, action, rng)


def random_action(action: Feature, rng: np.random.Generator) -> NDArray[Any]:
    """Draw an action: uniform between its bounds, standard normal where it has none.

    An entry with one bound is that bound and an exponential step from it.

    Args:
        action: What the world takes.
        rng: Generator.
    """
    if action.low is None or action.high is None:
        low = np.full(action.size, -np.inf) if action.low is None else np.array(action.low)
        high = np.full(action.size, np.inf) if action.high is None else np.array(action.high)
    else:
        low, high = np.array(action.low), np.array(action.high)
    if action.is_discrete:
        drawn: NDArray[Any] = rng.integers(low.astype(np.int64), high.astype(np.int64), endpoint=True)
        return drawn.astype(action.numpy_dtype).reshape(action.shape)
    below, above = np.isfinite(low), np.isfinite(high)
    drawn, step = rng.standard_normal(action.size), rng.exponential(size=action.size)
    drawn = np.where(below & ~above, low + step, np.where(above & ~below, high - step, drawn))
    both = below & above
    if (high[both] / 2 - low[both] / 2 <= np.finfo(np.float64).max / 2).all():
        drawn[both] = rng.uniform(low[both], high[both])
    else:  # no number is as large as the distance between the bounds
        share = rng.random(both.sum())
        drawn[both] = low[both] * (1 - share) + high[both] * share
    return drawn.astype(action.numpy_dtype).reshape(action.shape)


def _own_actor(policy: str, action: Feature, rng: np.random.Generator) -> Act:
    """Call a policy of the user with each observation, which it cannot write into."""
    act = _made(policy, rng)

    def called(obs: Mapping[str, NDArray[Any]]) -> tuple[NDArray[Any], str]:
        given = {name: _readonly(value) for name, value in obs.items()}
        try:
            found = np.asarray(act(given))
        except BaseException as error:
            if asked_to_end(error):
                raise
            raise CogError(f"policy {policy} fails to act: {shown(error, OF_ERROR)}") from error
        if found.shape != action.shape or not np.can_cast(found.dtype, action.numpy_dtype, "same_kind"):
            raise CogError(
                f"policy {policy} gives {found.dtype} {found.shape}, the action is {action.describe()}"
            )
        return found.astype(action.numpy_dtype), OWN_PHASE

    return called


def _readonly(value: NDArray[Any]) -> NDArray[Any]:
    if not isinstance(value, np.ndarray):
        return value
    view = value.view()
    view.flags.writeable = False
    return view


def _made(policy: str, rng: np.random.Generator) -> Callable[[Mapping[str, NDArray[Any]]], Any]:
    """Make the policy of an episode: the function, or an object of the class, with its generator."""
    found = load_policy(policy)
    takes = _parameters(found)
    given = {"rng": rng} if "rng" in takes else {}
    if not isinstance(found, type):
        return functools.partial(found, **given)
    try:
        made = found(**given)
    except BaseException as error:
        if asked_to_end(error):
            raise
        raise CogError(f"policy {policy} cannot be made: {shown(error, OF_ERROR)}") from error
    act = getattr(made, "act", None) or made
    if not callable(act):
        raise CogError(f"policy {policy} has no act(obs) and cannot be called: give it one")
    return functools.partial(act, rng=rng) if "rng" in _parameters(act) else act


def load_policy(policy: str) -> Callable[..., Any]:
    """Find a policy of the user, first in the working folder.

    Args:
        policy: ``module:function`` or ``module:Class``.

    Raises:
        CogError: There is none.
    """
    module, _, name = policy.partition(":")
    try:
        inside = import_from_here(module)
    except CogError:
        raise
    except BaseException as error:
        if asked_to_end(error):
            raise
        raise CogError(f"cannot import {module} of --policy {policy}: {shown(error, OF_ERROR)}") from None
    found = getattr(inside, name, None)
    if not callable(found):
        here = [key for key, one in vars(inside).items() if getattr(one, "__module__", "") == module]
        raise unknown(f"function of {module}", name, here)
    return found  # type: ignore[no-any-return]


def _parameters(function: Callable[..., Any]) -> frozenset[str]:
    """Names of what can be given to a function or class."""
    try:
        return frozenset(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return frozenset()


@functools.cache
def policy_fingerprint(policy: str) -> Mapping[str, str]:
    """Return the module of a policy of the user and the first digits of the sha256 of its source; {}: ours.

    Args:
        policy: Key of ``POLICIES``, ``module:function``, or the run id of a learner.
    """
    if not is_own(policy):
        return {}
    load_policy(policy)
    module = policy.partition(":")[0]
    source = getattr(sys.modules[module], "__file__", None)
    return {module: hashlib.sha256(Path(source).read_bytes()).hexdigest()[:12]} if source else {}
