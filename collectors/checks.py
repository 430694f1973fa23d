"""Whether an environment offers what is asked of it, and what it declares: found out once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cogdata.errors import CogError
from cogdata.features import EpisodeSpec
from cogdata.layout1 import layout_of
from collectors.drivers import GUIDE, Driven, WorldKind, check_engine, check_name
from collectors.envs import ENVS, CogEnv
from collectors.localize import SIMULATOR, check_visibility
from collectors.policies import POLICIES
from collectors.policies.actors import RANDOM, actor, check_policy, is_own, is_script
from collectors.policies.required_landmarks import required_landmarks, required_predicates


class Facts(NamedTuple):
    """What is known of an environment once it was made.

    Attributes:
        spec: Declaration of its episodes.
        task: Predicate of its task; None: it states no success.
        horizon: Actions of an episode.
    """

    spec: EpisodeSpec
    task: str | None
    horizon: int


_KNOWN: dict[WorldKind, Facts] = {}
"""The environments that this process has made."""


def check_env(
    env: str,
    *,
    image_size: int | None,
    policy: str | None = None,
    localize: str = SIMULATOR,
    options: str = "",
) -> tuple[str, ...]:
    """Make an environment, reset it once, close it, and say in one line what it lacks.

    Args:
        env: A key of `ENVS`, ``module:Class``, or an id that Gymnasium knows.
        image_size: Height and width of the observed picture in pixels; None: it takes none.
        policy: What is to act in it, a script or ``module:function``; None: a learner, who asks nothing of a
            world of ours.
        localize: Key of ``LOCALIZERS``: who tells the script where movable things are.
        options: Keyword arguments of the environment, as JSON.

    Returns:
        Keys of ``info`` that the store has no place for.

    Raises:
        CogError: It does not offer what `collectors.drivers` says, or not what the policy needs.
    """
    check_name(env)
    check_engine(env)
    if policy is None and env in ENVS:
        return ()
    own = policy is not None and is_own(policy)
    kind = WorldKind(env, image_size, options=options)
    world = kind.open(None if own else ("robot",))
    _KNOWN[kind] = _facts(world)
    try:
        script = policy is not None and is_script(policy, world.episode_spec)
        goal = None if policy is None else goal_of(policy, world)
        obs, _ = world.reset(seed=0)
        if policy is not None and script:
            _check_script(world, policy, goal)
        elif policy is not None and own:
            actor(policy, world.episode_spec.action, np.random.default_rng(0))(obs)
    except BaseException:  # Ctrl-C too: a robot is let go of
        world.close()
        raise
    world.let_go() if isinstance(world, Driven) else world.close()
    if policy is not None and localize != SIMULATOR:
        check_visibility(env, required_landmarks(policy))
    return tuple(sorted(world.unstored)) if isinstance(world, Driven) else ()


def goal_of(policy: str, world: CogEnv | Driven) -> str | None:
    """Return the predicate that a policy tries to reach: a script's own, else the world's task.

    Raises:
        CogError: The world has no goal of the script.
    """
    check_policy(policy)
    if policy not in POLICIES or (policy == RANDOM and layout_of(world.episode_spec) == 2):
        return world.task_predicate
    return POLICIES[policy].goal(world.predicates)


def facts_of(kind: WorldKind) -> Facts:
    """Return what is known of an environment; it is made for it if this process has not made it yet.

    Raises:
        CogError: It cannot be made.
    """
    plain = kind._replace(horizon=None)
    if plain not in _KNOWN:
        check_name(kind.env)
        check_engine(kind.env)
        world = plain.open(())
        world.close()
        _KNOWN[plain] = _facts(world)
    return _KNOWN[plain]


def declaration_of(kind: WorldKind) -> EpisodeSpec:
    """Return the declaration of an environment, see `facts_of`.

    Raises:
        CogError: It cannot be made.
    """
    return facts_of(kind).spec


def known_declaration(kind: WorldKind) -> EpisodeSpec | None:
    """Return the declaration of an environment; None: this process has not made it."""
    known = _KNOWN.get(kind._replace(horizon=None))
    return None if known is None else known.spec


def _facts(world: CogEnv | Driven) -> Facts:
    return Facts(world.episode_spec, world.task_predicate, world.horizon)


def _check_script(world: CogEnv | Driven, policy: str, goal: str | None) -> None:
    """Raise if the world lacks what the policy looks up."""
    view = world.view()
    for kind, needed, offered in (
        ("landmark", required_landmarks(policy), view.landmarks),
        ("predicate", required_predicates(policy) | ({goal} if goal else set()), view.predicates),
    ):
        if lacking := sorted(needed - offered.keys()):
            driven = isinstance(world, Driven)
            raise CogError(
                f"policy {policy} asks for {kind} {', '.join(lacking)}, {world.env_id}"
                f"{'.view()' if driven else ''} has {', '.join(sorted(offered)) or 'none'}: "
                f"{GUIDE if driven else f'use --env {POLICIES[policy].default_env}'}"
            )
