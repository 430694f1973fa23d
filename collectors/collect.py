"""Collecting: which episodes are missing, who makes them, how they are committed.

Episode i of a collection is a function of (root seed, i); a part is a fixed range of indices. Resuming is
therefore filling in what is missing, and running a command twice adds nothing.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from multiprocessing.util import Finalize
from typing import Any, Final

import pyarrow as pa

from cogdata.episode import Episode, EpisodeMeta
from cogdata.errors import CogError, unknown
from cogdata.rng import derive_seed, generator
from cogdata.rollout import rollout
from cogdata.storage.parts import (
    EPISODES,
    PART_SIZE,
    CollectionInfo,
    Commit,
    list_parts,
    part_folder,
    part_range,
    read_collection,
    read_commit,
    write_collection,
)
from cogdata.storage.store import Store
from collectors.drivers import (
    Driven,
    check_name,
    close_at_exit,
    is_driver,
    open_env,
    own_horizon,
)
from collectors.envs import CogEnv
from collectors.localize import LOCALIZERS, SIMULATOR, CameraView
from collectors.policies import POLICIES, SceneView, make_policy
from collectors.policies.required_landmarks import required_landmarks
from collectors.provenance import made_with

CLOSING_S: Final = 5.0
"""How long a world that has failed may take to close."""

MAX_EPISODES: Final = 10_000_000
"""Of one collection: the seven digits of an episode's index."""


@dataclass(frozen=True)
class CollectRequest:
    """Everything that decides the bytes of a collection's episodes.

    Attributes:
        policy: Key of ``POLICIES``.
        env: Key of ``ENVS``, or ``module:Class``.
        noise: Standard deviation of the action noise, in action units.
        root_seed: Root of every random stream.
        image_size: px, square.
        horizon: Actions per episode.
        localize: Key of ``LOCALIZERS``: who says where movable things are.
        shared_scenes: Whether a collection in a custom environment sees the scenes of all others with its
            root seed, as those of version 0.1 do; :func:`plan` finds out.
    """

    policy: str
    env: str
    noise: float
    root_seed: int
    image_size: int
    horizon: int
    localize: str = SIMULATOR
    shared_scenes: bool = False

    def __post_init__(self) -> None:
        """Refuse what could not be collected, naming the option that says so."""
        if self.policy not in POLICIES:
            raise unknown("policy", self.policy, POLICIES)
        check_name(self.env)
        if self.localize not in LOCALIZERS:
            raise unknown("localizer", self.localize, LOCALIZERS)
        if self.localize != SIMULATOR and is_driver(self.env):
            raise CogError(
                f"--localize {self.localize} is for the worlds of `cog list envs`: {self.env} says in "
                f"its own view() where things are"
            )
        if not 0 <= self.noise <= 2:
            raise CogError(f"--noise is {self.noise}, must be between 0 and 2")
        if not 16 <= self.image_size <= 512:
            raise CogError(f"--image-size is {self.image_size}, must be between 16 and 512 px")
        if self.horizon < 1:
            raise CogError(f"--horizon is {self.horizon}, must be at least 1")
        if not 0 <= self.root_seed < 2**63:
            raise CogError(f"--seed is {self.root_seed}, must be from 0 to 2^63 - 1")

    def scene_seed(self, index: int) -> int:
        """Seed of the reset of episode ``index``.

        Collections of `cog/*` with one root seed see the same scenes, as those that were published do; in
        other environments each collection has scenes of its own.
        """
        own = () if self.shared_scenes or not is_driver(self.env) else (self.collection,)
        return derive_seed("scene", *own, self.root_seed, index)

    @property
    def collection(self) -> str:
        """Name of the collection: the policy and a hash of the whole request."""
        given = asdict(self)
        del given["shared_scenes"]  # a rule of the time at which a collection was begun, not of its name
        if self.localize == SIMULATOR:  # named as before there was a choice
            del given["localize"]
        text = json.dumps(given, sort_keys=True)
        return f"{re.sub('[^a-z0-9_]', '_', self.policy)}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def request(
    policy: str,
    *,
    env: str | None = None,
    noise: float = 0.2,
    root_seed: int = 0,
    image_size: int = 48,
    horizon: int | None = None,
    localize: str = SIMULATOR,
) -> CollectRequest:
    """Fill in what the policy documents: its environment and horizon.

    Args:
        policy: Key of ``POLICIES``.
        env: Key of ``ENVS``, or ``module:Class``; None: the policy's own.
        noise: Standard deviation of the action noise.
        root_seed: Root of every random stream.
        image_size: px, square.
        horizon: Actions per episode; None: the policy's own, or a driver's if they are fewer.
        localize: Key of ``LOCALIZERS``.

    Raises:
        CogError: Unknown policy or environment, or a number out of range.
    """
    if policy not in POLICIES:
        raise unknown("policy", policy, POLICIES)
    spec = POLICIES[policy]
    where = env or spec.default_env
    if horizon is None:
        horizon = min(spec.horizon, own_horizon(where)) if is_driver(where) else spec.horizon
    return CollectRequest(policy, where, float(noise), root_seed, image_size, horizon, localize)


@dataclass(frozen=True)
class EpisodeDone:
    """What a worker says after each episode.

    Attributes:
        index: Episode index.
        steps: Actions.
        success: Whether the policy reached its goal; None: that was not judged.
        solved: Whether the world's task was rewarded; None: it states none.
        unstored: Keys of ``info`` that the store has no place for.
    """

    index: int
    steps: int
    success: bool | None
    solved: bool | None
    unstored: tuple[str, ...] = ()


def missing_ranges(have: set[int], episodes: int, start: int = 0) -> list[tuple[int, int]]:
    """Return the ranges [start, stop) of indices below ``episodes`` that are missing, cut at part borders.

    Args:
        have: Indices that are committed.
        episodes: How many are wanted in all.
        start: First index that is wanted.
    """
    ranges: list[tuple[int, int]] = []
    for index in range(start, episodes):
        if index in have:
            continue
        if ranges and ranges[-1][1] == index and index % PART_SIZE:
            ranges[-1] = (ranges[-1][0], index + 1)
        else:
            ranges.append((index, index + 1))
    return ranges


def committed(store: Store, collection: str) -> dict[str, Commit]:
    """Return the commits of a collection by part name."""
    return {part: read_commit(store, collection, part) for part in list_parts(store, collection)}


def committed_indices(parts: Iterable[str]) -> set[int]:
    """Return the episode indices that parts of these names hold."""
    return {index for part in parts for index in range(*part_range(part))}


_WORLDS: dict[tuple[str, int, int], tuple[CogEnv | Driven, Finalize | None]] = {}
"""One world per process and kind, kept between parts, and what closes it when the process ends."""


def _kind(asked: CollectRequest) -> tuple[str, int, int]:
    return asked.env, asked.image_size, asked.horizon


def world_of(asked: CollectRequest) -> CogEnv | Driven:
    """Return the world of a request, made once per process; a robot is let go of when the process ends.

    Raises:
        CogError: It cannot be made.
    """
    kind = _kind(asked)
    if kind not in _WORLDS:
        world = open_env(asked.env, image_size=asked.image_size, horizon=asked.horizon)
        _WORLDS[kind] = world, close_at_exit(world) if isinstance(world, Driven) else None
    return _WORLDS[kind][0]


def forget_world(asked: CollectRequest) -> None:
    """Close the world of a request after a failure; the next episode gets a new one.

    Raises:
        CogError: It does not close within :data:`CLOSING_S`; a second one beside it could harm a robot.
    """
    world, closing = _WORLDS.pop(_kind(asked), (None, None))
    if closing is not None:
        closing.cancel()
    if world is not None:
        closing_thread = threading.Thread(target=_close, args=(world,), daemon=True)
        closing_thread.start()
        closing_thread.join(CLOSING_S)
        if closing_thread.is_alive():
            raise CogError(f"{asked.env} does not close within {CLOSING_S:g} s after its failure")


def _close(world: CogEnv | Driven) -> None:
    with suppress(BaseException):  # it has failed already
        world.close()


def _viewer(
    asked: CollectRequest, world: CogEnv | Driven, seed: int
) -> Callable[[Mapping[str, Any]], SceneView]:
    """From an observation to what a script sees of that moment."""
    if asked.localize == SIMULATOR or isinstance(world, Driven):
        return lambda _obs: world.view()
    return CameraView(world, seed, required_landmarks(asked.policy))


def collect_episode(asked: CollectRequest, index: int) -> Episode:
    """Run episode ``index``; the same bytes in any process, after any history.

    Args:
        asked: The request.
        index: From 0.
    """
    world = world_of(asked)
    spec = POLICIES[asked.policy]
    rng = generator("policy", asked.root_seed, index)
    policy = make_policy(asked.policy, noise=asked.noise, rng=rng)
    meta = EpisodeMeta(
        collection=asked.collection,
        index=index,
        env=asked.env,
        policy=asked.policy,
        policy_params=policy.drawn,
        noise=asked.noise,
        seed=asked.scene_seed(index),
        task=world.task_predicate,
        goal=spec.goal(world.predicates),
    )
    see = _viewer(asked, world, meta.seed)
    return rollout(world, lambda obs: policy.act(see(obs)), meta)


def describe_collection(asked: CollectRequest, command: str) -> CollectionInfo:
    """Write down where a collection comes from.

    Args:
        asked: The request.
        command: What was typed.
    """
    versions, spec = made_with(asked.env, asked.localize), POLICIES[asked.policy]
    return CollectionInfo(
        name=asked.collection,
        command=command,
        policy=asked.policy,
        env=asked.env,
        noise=asked.noise,
        root_seed=asked.root_seed,
        image_size=asked.image_size,
        horizon=asked.horizon,
        success_range=spec.success_range if asked.env == spec.default_env else (0.0, 1.0),
        part_size=PART_SIZE,
        created_at=datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="seconds"),
        cogdata_version=versions.pop("cogdata"),
        code=versions.pop("code"),
        libraries=versions,
        host=platform.node(),
        localize=asked.localize,
    )


def prepare(store: Store, asked: CollectRequest, command: str) -> CollectionInfo:
    """Write the collection's head, or read the one that is there.

    Args:
        store: Where to.
        asked: The request.
        command: What was typed.
    """
    store.sweep(f"collections/{asked.collection}")
    if store.exists(f"collections/{asked.collection}/collection.json"):
        with suppress(CogError):  # damaged: written anew
            return read_collection(store, asked.collection)
    info = describe_collection(asked, command)
    write_collection(store, info)
    return info


@dataclass(frozen=True)
class Plan:
    """What a command will do, known before it does it.

    Attributes:
        asked: The request.
        episodes: Wanted in all.
        have: Episodes committed already.
        ranges: What is missing, a part each.
    """

    asked: CollectRequest
    episodes: int
    have: int
    ranges: tuple[tuple[int, int], ...]

    @property
    def missing(self) -> int:
        """Episodes to collect."""
        return sum(stop - start for start, stop in self.ranges)


def plan(store: Store, asked: CollectRequest, episodes: int) -> Plan:
    """Compare what is wanted with what is committed.

    Args:
        store: Where to look.
        asked: The request.
        episodes: Wanted in all.

    Raises:
        CogError: Fewer than one episode is wanted.
    """
    if episodes < 1:
        raise CogError(f"--episodes is {episodes}, must be at least 1")
    if episodes > MAX_EPISODES:
        raise CogError(f"--episodes is {episodes}, must be at most {MAX_EPISODES:,}")
    parts = list_parts(store, asked.collection)
    if parts and is_driver(asked.env):
        asked = replace(asked, shared_scenes=_shares_scenes(store, asked, parts[0]))
    have = committed_indices(parts)
    wanted = sum(1 for index in have if index < episodes)
    return Plan(asked, episodes, wanted, tuple(missing_ranges(have, episodes)))


def _shares_scenes(store: Store, asked: CollectRequest, part: str) -> bool:
    """Whether a collection was begun when all collections of one root seed saw the same scenes."""
    path = f"{part_folder(asked.collection, part)}/{EPISODES}"
    try:
        first = store.read_table(path).slice(0, 1).select(["seed", "episode_index"]).to_pylist()[0]
    except (pa.ArrowException, OSError, KeyError, IndexError):
        raise CogError(f"{store.path(path)} cannot be read: run `cog data verify`") from None
    return bool(first["seed"] == replace(asked, shared_scenes=True).scene_seed(first["episode_index"]))
