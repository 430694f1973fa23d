"""What a collection is asked for: everything that decides the bytes of its episodes, and its name."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from cogdata.errors import CogError, unknown
from cogdata.rng import derive_seed
from collectors.drivers import WorldKind, check_name, is_driver, own_horizon, takes_image_size
from collectors.envs import ENVS
from collectors.localize import LOCALIZERS, SIMULATOR
from collectors.policies import POLICIES
from collectors.policies.actors import check_policy

_LONGEST_SLUG: Final = 48
"""Characters of a policy's name in that of its collections."""


@dataclass(frozen=True)
class CollectRequest:
    """Everything that decides the bytes of a collection's episodes.

    Attributes:
        policy: Key of ``POLICIES``, or ``module:function``.
        env: Key of ``ENVS``, ``module:Class``, or an id that Gymnasium knows.
        noise: Standard deviation of the action noise, in action units.
        root_seed: Root of every random stream.
        image_size: px, square; None: the environment takes none.
        horizon: Actions per episode.
        localize: Key of ``LOCALIZERS``: who says where movable things are.
        env_options: Keyword arguments of the environment, as canonical JSON; "": none.
        instruction: What each episode was asked to do; None: nothing is recorded.
        shared_scenes: Whether a collection in a custom environment sees the scenes of all others with its
            root seed, as those of version 0.1 do; `collectors.collect.plan` finds out.
    """

    policy: str
    env: str
    noise: float
    root_seed: int
    image_size: int | None
    horizon: int
    localize: str = SIMULATOR
    env_options: str = ""
    instruction: str | None = None
    shared_scenes: bool = False

    def __post_init__(self) -> None:
        """Refuse what could not be collected, naming the option that says so."""
        check_policy(self.policy)
        check_name(self.env)
        if self.localize not in LOCALIZERS:
            raise unknown("localizer", self.localize, LOCALIZERS)
        if self.localize != SIMULATOR and self.env not in ENVS:
            raise CogError(
                f"--localize {self.localize} is for the worlds of `cog list envs`: {self.env} says in "
                f"its own view() where things are"
            )
        if not 0 <= self.noise <= 2:
            raise CogError(f"--noise is {self.noise}, must be between 0 and 2")
        if self.image_size is not None and not 16 <= self.image_size <= 512:
            raise CogError(f"--image-size is {self.image_size}, must be between 16 and 512 px")
        if self.horizon < 1:
            raise CogError(f"--horizon is {self.horizon}, must be at least 1")
        if not 0 <= self.root_seed < 2**63:
            raise CogError(f"--seed is {self.root_seed}, must be from 0 to 2^63 - 1")
        if self.instruction is not None and not self.instruction.strip():
            raise CogError("--instruction is empty: say what the episodes are asked to do, or leave it out")

    @property
    def kind(self) -> WorldKind:
        """What its world is made from."""
        return WorldKind(self.env, self.image_size, self.horizon, self.env_options)

    def scene_seed(self, index: int) -> int:
        """Seed of the reset of episode ``index``.

        Collections of `cog/*` with one root seed see the same scenes, as those that were published do; in
        other environments each collection has scenes of its own.
        """
        own = () if self.shared_scenes or self.env in ENVS else (self.collection,)
        return derive_seed("scene", *own, self.root_seed, index)

    @property
    def collection(self) -> str:
        """Name of the collection: the policy and a hash of the whole request."""
        given = asdict(self)
        del given["shared_scenes"]  # a rule of the time at which a collection was begun, not of its name
        for name, before in (("localize", SIMULATOR), ("env_options", ""), ("instruction", None)):
            if given[name] == before:  # named as before there was a choice
                del given[name]
        text = json.dumps(given, sort_keys=True)
        slug = re.sub("[^a-z0-9_]", "_", self.policy.lower()).lstrip("_")[:_LONGEST_SLUG] or "policy"
        return f"{slug}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def request(
    policy: str,
    *,
    env: str | None = None,
    noise: float | None = None,
    root_seed: int = 0,
    image_size: int | None = None,
    horizon: int | None = None,
    localize: str = SIMULATOR,
    env_options: Mapping[str, Any] | None = None,
    instruction: str | None = None,
) -> CollectRequest:
    """Fill in what the policy documents: its environment, noise and horizon.

    Args:
        policy: Key of ``POLICIES``, or ``module:function``.
        env: Key of ``ENVS``, ``module:Class``, or an id of Gymnasium; None: the policy's own.
        noise: Standard deviation of the action noise; None: 0.2, where a script acts.
        root_seed: Root of every random stream.
        image_size: px, square; None: 48, where the environment takes it.
        horizon: Actions per episode; None: the policy's own, or a driver's if they are fewer.
        localize: Key of ``LOCALIZERS``.
        env_options: Keyword arguments of the environment.
        instruction: What each episode was asked to do.

    Raises:
        CogError: Unknown policy or environment, a number out of range, or what the environment cannot take.
    """
    check_policy(policy)
    if env is None and policy not in POLICIES:
        raise CogError(f"where does {policy} act? add --env")
    where = env or POLICIES[policy].default_env
    check_name(where)
    if env_options and where in ENVS:
        raise CogError(
            f"--env-option {next(iter(env_options))} is for environments of others, not for {where}"
        )
    takes_size = takes_image_size(where)
    if image_size is not None and not takes_size:
        raise CogError(f"{where} says itself how large its pictures are: leave --image-size out")
    return CollectRequest(
        policy,
        where,
        _noise(policy, where, noise),
        root_seed,
        (image_size or 48) if takes_size else None,
        _horizon(policy, where) if horizon is None else horizon,
        localize,
        json.dumps(dict(env_options), sort_keys=True, ensure_ascii=True) if env_options else "",
        instruction,
    )


def _noise(policy: str, env: str, noise: float | None) -> float:
    """Noise of a script; what acts otherwise makes its own."""
    scripted = policy in POLICIES and (env in ENVS or is_driver(env))
    if not scripted and noise:
        raise CogError(f"--noise is for scripted policies: {policy} in {env} makes its own, leave it out")
    return (0.2 if noise is None else float(noise)) if scripted else 0.0


def _horizon(policy: str, env: str) -> int:
    """Actions of an episode where none are asked for."""
    if policy not in POLICIES:
        return ENVS[env].horizon if env in ENVS else own_horizon(env)
    horizon = POLICIES[policy].horizon
    if env in ENVS:
        return horizon
    return min(horizon, own_horizon(env)) if is_driver(env) else own_horizon(env)
