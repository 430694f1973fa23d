"""Whether an environment offers what is asked of it: found out once, when a command starts."""

from __future__ import annotations

from cogdata.errors import CogError
from collectors.drivers import GUIDE, Driven, check_engine, check_name, is_driver, open_env
from collectors.envs import CogEnv
from collectors.localize import SIMULATOR, check_visibility
from collectors.policies import POLICIES
from collectors.policies.required_landmarks import required_landmarks, required_predicates


def check_env(
    env: str, *, image_size: int, policy: str | None = None, localize: str = SIMULATOR
) -> tuple[str, ...]:
    """Make an environment, reset it once, close it, and say in one line what it lacks.

    Args:
        env: A key of `ENVS`, or ``module:Class``.
        image_size: Height and width of the observed picture in pixels.
        policy: The script that is to act in it; None: a learner, who asks nothing of a world of ours.
        localize: Key of ``LOCALIZERS``: who tells the script where movable things are.

    Returns:
        Keys of ``info`` that the store has no place for.

    Raises:
        CogError: It does not offer what the table in `collectors.drivers` says, or not what the script needs.
    """
    check_name(env)
    check_engine(env)
    if policy is None and not is_driver(env):
        return ()
    world = open_env(env, image_size=image_size, observations=("robot",))
    try:
        goal = None if policy is None else POLICIES[policy].goal(world.predicates)
        world.reset(seed=0)
        if policy is not None and goal is not None:
            _check_script(world, policy, goal)
    except BaseException:  # Ctrl-C too: a robot is let go of
        world.close()
        raise
    world.let_go() if isinstance(world, Driven) else world.close()
    if policy is not None and localize != SIMULATOR:
        check_visibility(env, required_landmarks(policy))
    return tuple(sorted(world.unstored)) if isinstance(world, Driven) else ()


def _check_script(world: CogEnv | Driven, policy: str, goal: str) -> None:
    """Raise if the world lacks what the policy looks up."""
    view = world.view()
    for kind, needed, offered in (
        ("landmark", required_landmarks(policy), view.landmarks),
        ("predicate", required_predicates(policy) | {goal}, view.predicates),
    ):
        if lacking := sorted(needed - offered.keys()):
            driven = isinstance(world, Driven)
            raise CogError(
                f"policy {policy} asks for {kind} {', '.join(lacking)}, {world.env_id}"
                f"{'.view()' if driven else ''} has {', '.join(sorted(offered)) or 'none'}: "
                f"{GUIDE if driven else f'use --env {POLICIES[policy].default_env}'}"
            )
