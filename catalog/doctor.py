"""Whether the store is whole: every file, episode, mixture and run, and the catalog over them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pyarrow as pa

from catalog.agreement import Problem, verify_catalog
from catalog.declarations import wrong_columns, wrong_declaration
from catalog.index.db import require_store
from catalog.index.sync import open_indexed, scan
from catalog.layer_check import verify_layers, verify_uses
from cogdata.errors import CogError
from cogdata.features import EpisodeSpec
from cogdata.storage import collections, manifest, parts, runs, samples
from cogdata.storage.store import Store
from cogdata.storage.versions import NEWER, NewerError

Progress = Callable[[int, int], None]
_Episodes = dict[str, dict[str, str]]  # episode_id → where its bytes are → digest

_UNREADABLE: Final = (
    CogError, ValueError, TypeError, KeyError, OSError, pa.ArrowException, AttributeError, OverflowError,
    IndexError, RecursionError,
)  # fmt: skip
"""What a damaged file makes its reader raise."""


@dataclass(frozen=True)
class CollectionSummary:
    """What a collection holds.

    Attributes:
        collection: Name.
        policy: Policy that acted.
        env: Gymnasium id of the world.
        noise: Standard deviation of the action noise.
        root_seed: Root seed.
        image_size: px; None: the world says how large its cameras are.
        command: What was typed.
        created_at: UTC.
        parts: Committed parts.
        episodes: Episodes.
        steps: Actions.
        success_rate: Share of episodes that reach the policy's goal; None without episodes.
        solved_rate: Share of episodes in which the task was rewarded; None without episodes.
        bytes: Size of the committed files.
    """

    collection: str
    policy: str
    env: str
    noise: float
    root_seed: int
    image_size: int | None
    command: str
    created_at: datetime
    parts: int
    episodes: int
    steps: int
    success_rate: float | None
    solved_rate: float | None
    bytes: int


def describe_store(store: Store) -> list[CollectionSummary]:
    """Return what each collection holds, by name.

    Args:
        store: Which store.
    """
    sql = """
        SELECT c.collection, c.policy, c.env, c.noise, c.root_seed, c.image_size, c.command, c.created_at,
               coalesce(p.parts, 0), coalesce(e.episodes, 0), coalesce(e.steps, 0)::BIGINT, e.success_rate,
               e.solved_rate, coalesce(p.bytes, 0)::BIGINT
        FROM collections c
        LEFT JOIN (SELECT collection, count(*) AS parts, sum(bytes) AS bytes FROM parts GROUP BY 1) p
            USING (collection)
        LEFT JOIN (SELECT collection, count(*) AS episodes, sum(steps) AS steps,
                          avg(success::INT) AS success_rate, avg(solved::INT) AS solved_rate
                   FROM episodes GROUP BY 1) e USING (collection)
        ORDER BY c.collection"""
    with open_indexed(store) as con:
        return [CollectionSummary(*row) for row in con.execute(sql).fetchall()]


def verify(store: Store, on_progress: Progress | None = None) -> list[Problem]:
    """Check everything in the store against everything that is known about it.

    Every committed part: its files' sizes and sha256, its counts; every episode decodes and has its digest;
    parts do not overlap. Every layer has its bytes and digests. Every mixture has its digest. The episodes of
    both exist unchanged. Every run's mixture exists. The catalog says what the files say.

    Args:
        store: Which store.
        on_progress: Called with (parts checked, parts in all).

    Returns:
        What is wrong; empty: nothing.
    """
    require_store(store)
    problems: list[Problem] = []
    episodes: _Episodes = {}
    listing = scan(store)  # once: a mixture of parts that are committed meanwhile is not held against these
    found = [path.split("/")[1:3] for path, (kind, _) in listing.items() if kind == "part"]
    for number, (collection, part) in enumerate(found, 1):
        problems += _verify_part(store, collection, part, episodes)
        if on_progress:
            on_progress(number, len(found))
    collections = {collection for collection, _ in found}
    problems += [*_verify_collections(store, collections), *_verify_names(store)]
    overlaps = list(_verify_overlaps(store, collections))
    frozen = [path for path, (kind, _) in listing.items() if kind == "mixture"]
    newer = {problem.where.rpartition("/")[0] for problem in problems if NEWER in problem.what}
    others = [*_verify_mixtures(store, frozen, episodes, newer), *_verify_runs(store)]
    digests = {name: set(places.values()) for name, places in episodes.items()}
    others += verify_layers(store, digests, newer)
    damaged = {problem.where for problem in problems + others}
    return problems + overlaps + others + list(verify_catalog(store, damaged))


# --- parts -----------------------------------------------------------------------------------------------


def _verify_part(store: Store, collection: str, part: str, episodes: _Episodes) -> list[Problem]:
    folder = parts.part_folder(collection, part)
    try:
        commit = parts.read_commit(store, collection, part)
    except _UNREADABLE as error:
        return [Problem(f"{folder}/{parts.COMMIT}", _said(error))]
    problems = [
        problem
        for name, claim in commit.files.items()
        for problem in _verify_file(store, f"{folder}/{name}", claim)
    ]
    try:
        rows = store.read_table(f"{folder}/{parts.EPISODES}").to_pylist()
    except _UNREADABLE as error:
        return problems or [Problem(f"{folder}/{parts.EPISODES}", _said(error))]
    for row in rows:
        episodes.setdefault(row["episode_id"], {})[_location(row)] = row["digest"]
    if [row["episode_index"] for row in rows] != list(range(commit.start, commit.stop)):
        problems.append(
            Problem(folder, f"holds {len(rows)} episodes, not {commit.start} to {commit.stop - 1}")
        )
    if sum(row["steps"] for row in rows) != commit.steps:
        problems.append(Problem(folder, f"its episodes have not the {commit.steps} steps of {parts.COMMIT}"))
    if sum(map(_observations, rows)) != commit.frames:
        said = f"its episodes have not the {commit.frames} observations of {parts.COMMIT}"
        problems.append(Problem(folder, said))
    try:
        info = collections.read_collection(store, collection)
    except _UNREADABLE:  # said once for the collection
        return [*problems, *_verify_steps(store, folder, rows, None), *_verify_episodes(store, folder, rows)]
    problems += _verify_steps(store, folder, rows, info.spec)
    problems += _verify_settings(info, folder, rows)
    return problems + list(_verify_episodes(store, folder, rows, info))


def _observations(row: dict[str, Any]) -> int:
    """N; parts of layout 1 do not say it."""
    counted = row.get("observations")
    return int(row["steps"] + 1 if counted is None else counted)


def _verify_settings(
    info: collections.CollectionInfo, folder: str, rows: list[dict[str, Any]]
) -> Iterator[Problem]:
    """Episodes say themselves what they were collected with: hold the collection's head against them."""
    head = f"{folder.rpartition('/')[0]}/collection.json"
    claims = {"policy": info.policy, "env": info.env, "noise": info.noise, "image_height": info.image_size}
    for name, claimed in claims.items():
        found = {row[name] for row in rows} - {claimed, None}  # only episodes of layout 1 have image_height
        if found:
            yield Problem(
                head,
                f"says {name} {claimed}, the episodes of {folder.rpartition('/')[2]} {min(found)}: "
                f"remove it and run the same `cog collect` again",
            )
    longest = max((row["steps"] for row in rows), default=0)
    if info.horizon is not None and longest > info.horizon:
        yield Problem(
            head,
            f"says horizon {info.horizon}, an episode of {folder.rpartition('/')[2]} has {longest} steps: "
            f"remove it and run the same `cog collect` again",
        )


def _verify_file(store: Store, path: str, claim: dict[str, Any]) -> Iterator[Problem]:
    try:
        data = store.read_bytes(path)
    except _UNREADABLE as error:
        try:
            missing = not store.exists(path)
        except _UNREADABLE:
            missing = False
        said = "is missing: remove its folder and collect again"
        yield Problem(path, said if missing else f"cannot be read now: {_said(error)}")
        return
    if len(data) != claim["size"]:
        yield Problem(
            path, f"has {len(data)} bytes, must have {claim['size']}: remove its folder and collect again"
        )
    elif hashlib.sha256(data).hexdigest() != claim["sha256"]:
        yield Problem(path, "its sha256 is wrong: remove its folder and collect again")


def _verify_steps(
    store: Store, folder: str, rows: list[dict[str, Any]], declared: EpisodeSpec | None
) -> Iterator[Problem]:
    path = f"{folder}/{parts.STEPS}"
    try:
        table = store.read_table(path)
        counted = table.group_by("episode_id").aggregate([("t", "count")]).to_pylist()
    except _UNREADABLE as error:
        yield Problem(path, _said(error))
        return
    if {row["episode_id"]: row["t_count"] for row in counted} != {
        row["episode_id"]: _observations(row) for row in rows
    }:
        yield Problem(path, f"has other episodes or observations than {parts.EPISODES}")
    if declared is not None and (wrong := wrong_columns(table.schema, declared)):
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        yield Problem(path, f"{wrong[0]}{more}: restore collection.json, or collect the part again")


def _verify_episodes(
    store: Store, folder: str, rows: list[dict[str, Any]], info: collections.CollectionInfo | None = None
) -> Iterator[Problem]:
    """Read every episode: its digest and its declaration, the latter against ``info`` where that is known."""
    where = f"{folder}/{parts.FRAMES}"
    unreadable: dict[str, str] = {}
    otherwise: dict[str, str] = {}
    changed = []
    for row in rows:
        try:
            episode = samples.read_episode(store, row)
            if episode.digest() != row["digest"]:
                changed.append(row["episode_id"])
            elif info is not None and (said := wrong_declaration(episode, row, info.spec)):
                otherwise[row["episode_id"]] = said
        except _UNREADABLE as error:
            unreadable[row["episode_id"]] = _said(error)
    if unreadable:
        name, said = next(iter(unreadable.items()))
        yield Problem(where, f"{len(unreadable)} episodes cannot be read, for example {name}: {said}")
    if changed:
        yield Problem(where, f"{len(changed)} episodes have another content than their digest, "
                      f"for example {changed[0]}: remove the folder and collect again")  # fmt: skip
    if otherwise:
        name, said = next(iter(otherwise.items()))
        yield Problem(where, f"{len(otherwise)} episodes are not as the collection declares, for example "
                      f"{name} {said}: restore collection.json, or collect the part again")  # fmt: skip


def _verify_collections(store: Store, with_parts: set[str]) -> Iterator[Problem]:
    for name in sorted(with_parts | set(collections.list_collections(store))):
        try:
            collections.read_collection(store, name)
        except _UNREADABLE as error:
            missing = not store.exists(f"collections/{name}/collection.json")
            said = "is missing: run the same `cog collect` again" if missing else _said(error)
            yield Problem(f"collections/{name}/collection.json", said)


def _verify_names(store: Store) -> Iterator[Problem]:
    for collection in store.list_folders("collections"):
        for folder in store.list_folders_with(f"collections/{collection}", parts.COMMIT):
            if not parts.is_part_name(folder):
                what = (
                    "is not the name of a part, so nothing reads it: move it out of the store, or remove it"
                )
                yield Problem(f"collections/{collection}/{folder}", what)


def _verify_overlaps(store: Store, collections: set[str]) -> Iterator[Problem]:
    for name in sorted(collections):
        ranges = []
        for part in parts.list_parts(store, name):
            try:
                commit = parts.read_commit(store, name, part)
            except _UNREADABLE:
                continue  # said already
            ranges.append((commit.start, commit.stop, part))
        yield from _overlaps(name, sorted(ranges))


def _overlaps(name: str, ranges: list[tuple[int, int, str]]) -> Iterator[Problem]:
    """Ranges (start, stop, part), ascending."""
    first, covered, by = 0, 0, ""
    for start, stop, part in ranges:
        spare, whole = (part, by) if stop <= covered else (by, part)
        if start < covered and (stop <= covered or start == first):
            yield Problem(f"collections/{name}/{spare}", f"{whole} has all its episodes: remove this folder")
        elif start < covered:
            what = f"overlaps {by}: remove one of the two folders and collect its range again"
            yield Problem(f"collections/{name}/{part}", what)
        if stop > covered:
            first, covered, by = start, stop, part


# --- mixtures, runs, catalog -----------------------------------------------------------------------------


def _verify_mixtures(
    store: Store, paths: Sequence[str], episodes: _Episodes, newer: set[str]
) -> Iterator[Problem]:
    """Check frozen mixtures against the episodes, but for those in parts of a newer version."""
    for path in paths:
        _, name, version, _ = path.split("/")
        folder = path.removesuffix("/mixture.json")
        newest = f"v{manifest.list_versions(store, name)[-1]}"
        try:
            frozen = manifest.read_manifest(store, f"{name}@{version}")
        except _UNREADABLE as error:
            yield Problem(folder, _said(error))
            continue
        yield from (Problem(folder, said) for said in verify_uses(store, frozen))
        gone, other, moved = [], [], []
        for row in frozen.episodes.to_pylist():
            found = episodes.get(row["episode_id"])
            if row["shard"].rpartition("/")[0] in newer:
                continue
            if found is None:
                gone.append(row["episode_id"])
            elif row["digest"] not in found.values():
                other.append(row["episode_id"])
            elif found.get(_location(row)) != row["digest"]:
                moved.append(row["episode_id"])
        if gone:
            yield Problem(
                folder, f"{len(gone)} of its episodes are gone, for example {gone[0]}: collect them again"
            )
        if other:
            yield Problem(folder, f"{len(other)} of its episodes have changed, for example {other[0]}")
        if moved:
            again = f"run `cog mix refresh {name}`" if version == newest else "freeze its query again"
            yield Problem(
                folder, f"{len(moved)} of its episodes lie elsewhere now, for example {moved[0]}: {again}"
            )


def _location(row: dict[str, Any]) -> str:
    return str([row.get(name) for name in manifest.LOCATION])


def _verify_runs(store: Store) -> Iterator[Problem]:
    for run in runs.list_runs(store):
        where = f"runs/{run}/run.json"
        try:
            info = runs.read_run(store, run)
        except NewerError as error:
            yield Problem(where, str(error))
            continue
        except _UNREADABLE as error:
            yield Problem(where, f"cannot be read ({_said(error)})")
            continue
        if info.parent is not None and not store.exists(f"runs/{info.parent}/run.json"):
            yield Problem(where, f"the run that it starts from, {info.parent}, is gone")
        ref = f"{info.mixture}@{info.mixture_version}"
        try:
            digest = manifest.read_info(store, ref).digest
        except NewerError:
            continue  # said of the mixture
        except _UNREADABLE:
            yield Problem(where, f"its mixture {ref} is gone")
            continue
        if digest != info.mixture_digest:
            yield Problem(where, f"its mixture {ref} is not the one it was trained on: the digests differ")
    for run in runs.list_leftovers(store):
        yield Problem(f"runs/{run}", f"has no run.json, so it is no run: run `cog runs rm {run}`")


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
