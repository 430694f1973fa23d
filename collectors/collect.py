"""Collecting: which episodes are missing, who makes them, how they are committed.

Episode i of a collection is a function of (root seed, i); a part is a fixed range of indices. Resuming is
therefore filling in what is missing, and running a command twice adds nothing.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa

from cogdata.binding import differences
from cogdata.episode import Episode, EpisodeMeta
from cogdata.errors import CogError
from cogdata.features import EpisodeSpec
from cogdata.layout1 import layout_of
from cogdata.rng import generator
from cogdata.rollout import Act, Instructed, rollout, with_instruction
from cogdata.storage.collections import CollectionInfo, declared, read_collection, write_collection
from cogdata.storage.parts import (
    EPISODES,
    PART_SIZE,
    Commit,
    list_parts,
    part_folder,
    part_range,
    read_commit,
)
from cogdata.storage.store import Store
from collectors.checks import declaration_of, goal_of, known_declaration
from collectors.drivers import Driven, forget_env, is_driver, kept_env
from collectors.envs import ENVS, CogEnv
from collectors.localize import SIMULATOR, CameraView
from collectors.policies import POLICIES, SceneView, make_policy
from collectors.policies.actors import actor, is_script
from collectors.policies.required_landmarks import required_landmarks
from collectors.provenance import made_with
from collectors.request import CollectRequest, request

__all__ = [
    "MAX_EPISODES", "CollectRequest", "EpisodeDone", "Plan", "collect_episode", "committed",
    "committed_indices", "declared_by", "describe_collection", "forget_world", "missing_ranges", "plan",
    "prepare", "request", "world_of",
]  # fmt: skip

MAX_EPISODES: Final = 10_000_000
"""Of one collection: the seven digits of an episode's index."""


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


def world_of(asked: CollectRequest) -> CogEnv | Driven:
    """Return the world of a request, made once per process.

    Raises:
        CogError: It cannot be made.
    """
    return kept_env(asked.kind)


def forget_world(asked: CollectRequest) -> None:
    """Close the world of a request after a failure; the next episode gets a new one.

    Raises:
        CogError: It does not close in time.
    """
    forget_env(asked.kind)


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

    Raises:
        CogError: The world or the policy fails, or does what cannot be stored.
    """
    world, seed = world_of(asked), asked.scene_seed(index)
    rng = generator("policy", asked.root_seed, index)
    drawn: Mapping[str, float] = {}
    if is_script(asked.policy, world.episode_spec):
        script, see = make_policy(asked.policy, noise=asked.noise, rng=rng), _viewer(asked, world, seed)
        drawn = script.drawn

        act: Act = lambda obs: script.act(see(obs))  # noqa: E731
    else:
        act = actor(asked.policy, world.episode_spec.action, rng)
    meta = EpisodeMeta(
        collection=asked.collection,
        index=index,
        env=asked.env,
        policy=asked.policy,
        policy_params=drawn,
        noise=asked.noise,
        seed=seed,
        task=world.task_predicate,
        goal=goal_of(asked.policy, world),
    )
    return rollout(world if asked.instruction is None else Instructed(world, asked.instruction), act, meta)


def describe_collection(
    asked: CollectRequest, command: str, spec: EpisodeSpec | None = None
) -> CollectionInfo:
    """Write down where a collection comes from.

    Args:
        asked: The request.
        command: What was typed.
        spec: Declaration of its episodes; None: that of the built-in worlds.
    """
    versions = made_with(asked.env, asked.localize, asked.policy)
    script = POLICIES.get(asked.policy)
    own_env = script is not None and asked.env == script.default_env
    return CollectionInfo(
        name=asked.collection,
        command=command,
        policy=asked.policy,
        env=asked.env,
        noise=asked.noise,
        root_seed=asked.root_seed,
        image_size=asked.image_size,
        horizon=asked.horizon,
        success_range=script.success_range if script is not None and own_env else (0.0, 1.0),
        part_size=PART_SIZE,
        created_at=datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="seconds"),
        cogdata_version=versions.pop("cogdata"),
        code=versions.pop("code"),
        libraries=versions,
        host=platform.node(),
        localize=asked.localize,
        spec=spec,
        env_options=asked.env_options,
        instruction=asked.instruction,
    )


def declared_by(asked: CollectRequest) -> EpisodeSpec | None:
    """Return the declaration of a request's episodes; None: that of the built-in worlds.

    Raises:
        CogError: The world cannot be made, or declares an instruction of its own.
    """
    if asked.env in ENVS and asked.instruction is None:
        return None
    spec = declaration_of(asked.kind)
    if asked.instruction is not None:
        spec = with_instruction(spec, asked.env)
    return None if layout_of(spec) == 1 else spec


def prepare(store: Store, asked: CollectRequest, command: str) -> CollectionInfo:
    """Write the collection's head, or read the one that is there.

    Args:
        store: Where to.
        asked: The request.
        command: What was typed.

    Raises:
        CogError: The collection that is there was declared otherwise.
    """
    store.sweep(f"collections/{asked.collection}")
    there = None
    if store.exists(f"collections/{asked.collection}/collection.json"):
        with suppress(CogError):  # damaged: written anew
            there = read_collection(store, asked.collection)
    if there is not None and not _redeclared(store, there, asked):
        return there
    info = describe_collection(asked, command, declared_by(asked))
    write_collection(store, info)
    return info


def _redeclared(store: Store, there: CollectionInfo, asked: CollectRequest) -> bool:
    """Whether a collection without episodes is to be declared anew.

    A robot is not made for this alone: what is known of it is what the command has checked.

    Raises:
        CogError: It has episodes of another declaration.
    """
    if there.spec is None and asked.env in ENVS:
        return False
    now = known_declaration(asked.kind) if is_driver(asked.env) else declaration_of(asked.kind)
    if now is None:
        return False
    now = now if asked.instruction is None else with_instruction(now, asked.env)
    if there.spec is None and layout_of(now) == 1:
        return False
    if there.spec is not None and there.spec.identity() == now.identity():
        return False
    if not list_parts(store, there.name):
        return True
    before = declared(store, there.name) if there.spec is None else there.spec
    raise CogError(
        f"{asked.env} is declared otherwise than the episodes of {there.name}: "
        f"{'; '.join(differences(before, now))}; collect it under another --seed, or declare it as before"
    )


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
