"""Freezing a query into a mixture version, and what else is done with mixtures: list, diff, refresh, remove.

What the query must return: :mod:`catalog.mixtures.shape`. What is written: :mod:`cogdata.storage.manifest`.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import duckdb
import pyarrow as pa

import cogdata
from catalog.index.db import lock, require_store
from catalog.index.sync import open_indexed, require_current, try_sync
from catalog.mixtures.contents import collect_contents
from catalog.mixtures.declared import compare_features, shared_features
from catalog.mixtures.derived import layers_of
from catalog.mixtures.shape import choose
from catalog.query import run_query, translated
from cogdata.errors import CogError, unknown
from cogdata.layout1 import layout_of
from cogdata.schema import NAME_PATTERN, SCHEMA_VERSION
from cogdata.storage import manifest, runs
from cogdata.storage.columns import conform
from cogdata.storage.manifest import Manifest, MixtureInfo
from cogdata.storage.selection import Selection, Shared
from cogdata.storage.store import Store

_ROUNDING: Final = 1e-9
_SHOWN_RUNS: Final = 3
_Con = duckdb.DuckDBPyConnection


@dataclass(frozen=True)
class FreezeReport:
    """What freezing came to.

    Attributes:
        info: Head of the version that holds this content.
        created: Whether it is new; False: the same content was frozen before.
        moved: Episodes of an older version that were collected again elsewhere and are found there now.
    """

    info: MixtureInfo
    created: bool
    moved: int = 0


@dataclass(frozen=True)
class MixtureDiff:
    """How two mixture versions differ; an entry names (source, episode_id).

    Attributes:
        a: Head of the first.
        b: Head of the second.
        only_a: Episodes of the first alone.
        only_b: Episodes of the second alone.
        changed: Episodes of both whose rewards, weight, range or content differ.
        features: How the features that they deliver differ, a line each.
    """

    a: MixtureInfo
    b: MixtureInfo
    only_a: tuple[tuple[str, str], ...]
    only_b: tuple[tuple[str, str], ...]
    changed: tuple[tuple[str, str], ...]
    features: tuple[str, ...]


def check_name(name: str) -> None:
    """Refuse what cannot be a mixture's name.

    Raises:
        CogError: It says what a name looks like.
    """
    if not NAME_PATTERN.fullmatch(name):
        raise CogError(f"mixture name {name!r} must match {NAME_PATTERN.pattern}, for example place_in_tray")


def freeze(
    store: Store,
    name: str,
    sql: str,
    *,
    weights: Mapping[str, float] | None = None,
    allow_overlap: bool = False,
    selection: Selection | None = None,
) -> FreezeReport:
    """Freeze the result of a query as a mixture version.

    Args:
        store: Where the episodes are, and the mixture goes.
        name: Mixture name.
        sql: Query of one of the two shapes.
        weights: Source → its exact share of every batch. Sources without one share what is left in proportion
            to their transitions. None or empty: uniform over transitions.
        allow_overlap: Whether an episode may belong to two sources (episode shape only).
        selection: Which features batches deliver, and how; None: all that the episodes share.

    Returns:
        The version; the same content always gives the same one.

    Raises:
        CogError: The name, the SQL, its columns or rows, or the weights are wrong; one line says which.
    """
    check_name(name)
    sql, chosen = sql.strip().rstrip(";").rstrip(), selection or Selection()
    require_current(store)
    table = run_query(store, sql).table
    with open_indexed(store) as con, translated(store, sql):
        shape = choose(con, table, allow_overlap=allow_overlap)
        derived = layers_of(con, store, chosen)
        derived.check(con)
        shared = shared_features(con, store, chosen, derived.features)
        held = collect_contents(con, store, shape, shared.spec, chosen, derived.reads)
        used = derived.used(con, held.episodes)
    shares = resolve_weights(weights or {}, {name: count.transitions for name, count in held.counts.items()})
    info = MixtureInfo(
        name=name,
        version=0,  # decided when it is written
        digest=manifest.mixture_digest(held.episodes, held.rewards, shares, chosen, used),
        sql=sql,
        shape=shape,
        weights=shares,
        counts=held.counts,
        **_as_stored(shared, chosen, held.reward_range),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        cogdata_version=cogdata.__version__,
        asked_weights=dict(weights or {}),
        unfollowed=held.unfollowed,
        layers=used,
    )
    return _keep(store, Manifest(info, held.episodes, held.rewards, held.stats))


def _as_stored(shared: Shared, selection: Selection, reward_range: tuple[float, float]) -> dict[str, Any]:
    """What a head says of features: of a default mixture of the built-in worlds what version 1 said."""
    spec = shared.spec
    if layout_of(spec) == 1 and selection.is_default and not shared.left_out:
        return {"image_size": spec["image"].shape[:2], "scene_fields": spec["scene"].names}
    return {
        "image_size": None,
        "scene_fields": (),
        "schema_version": SCHEMA_VERSION,
        "declared": spec,
        "selection": selection,
        "left_out": dict(shared.left_out),
        "reward_range": reward_range,
    }


def resolve_weights(weights: Mapping[str, float], transitions: Mapping[str, int]) -> dict[str, float]:
    """Give every source its share of a batch.

    Args:
        weights: Source → share, for some of the sources; empty: no shares at all.
        transitions: Source → its transitions, for all of them.

    Returns:
        Source → share, summing to 1; empty if ``weights`` is.

    Raises:
        CogError: An unknown source, a share outside (0, 1], or shares that do not add up.
    """
    if not weights:
        return {}
    for source, share in weights.items():
        if source not in transitions:
            raise unknown("source", source, transitions)
        if not 0 < share <= 1:
            raise CogError(f"weight {source}={share:g} must be a share of a batch, more than 0 and at most 1")
    total = math.fsum(weights.values())
    rest = {source: count for source, count in transitions.items() if source not in weights}
    if total > 1 + _ROUNDING:
        raise CogError(f"weights sum to {total:g}, must be at most 1: they are shares of a batch")
    if not rest and total < 1 - _ROUNDING:
        raise CogError(f"weights sum to {total:g} and name every source: they must sum to 1")
    if rest and total > 1 - _ROUNDING:
        raise CogError(f"weights sum to 1 and leave nothing for source {min(rest)!r}: lower one of them")
    each = (1 - total) / max(sum(rest.values()), 1)
    return {name: weights.get(name, each * count) for name, count in sorted(transitions.items())}


def _keep(store: Store, frozen: Manifest) -> FreezeReport:
    """Write a manifest as the next version, unless one of the versions has the same content."""
    name = frozen.info.name
    with lock(store, "mixtures"):
        there = _same_content(store, frozen)
        if there is not None:
            report = FreezeReport(there, created=False, moved=_relocate(store, there, frozen))
        else:
            info = replace(frozen.info, version=_take_version(store, name))
            manifest.write_manifest(store, replace(frozen, info=info))
            report = FreezeReport(info, created=True)
    if report.created:  # where episodes lie is not in the catalog
        try_sync(store)
    return report


def _same_content(store: Store, frozen: Manifest) -> MixtureInfo | None:
    name = frozen.info.name
    for version in reversed(manifest.list_versions(store, name)):
        with suppress(CogError):  # a damaged version is passed over: `cog data verify` names it
            there = manifest.read_info(store, f"{name}@{version}")
            if there.digest == frozen.info.digest:
                return there
    return None


def _relocate(store: Store, there: MixtureInfo, frozen: Manifest) -> int:
    """Let a version of the same content find its episodes where they are now; returns how many have moved."""
    path = f"{manifest.mixture_folder(there.name, there.version)}/episodes.parquet"
    now = _places(frozen.episodes)
    try:
        before = _places(conform(store.read_table(path), manifest.EPISODES))
    except (CogError, KeyError, OSError, pa.ArrowException):
        before = set()  # damaged: the content is that of the digest, so this repairs it
    if moved := len(now - before):
        store.write_table(path, frozen.episodes)
    return moved


def _places(episodes: pa.Table) -> set[str]:
    """Where episodes lie."""
    return {str(row) for row in episodes.select(["source", "episode_id", *manifest.LOCATION]).to_pylist()}


def _take_version(store: Store, name: str) -> int:
    """Take the next version number; a remote store, where other machines freeze too, is asked for it."""
    version = _next_version(store, name)
    if not store.is_local:  # there the lock file has kept all others out
        while not store.create_text(f"{manifest.mixture_folder(name, version)}/CLAIMED", platform.node()):
            version += 1
    return version


def _next_version(store: Store, name: str) -> int:
    """One more than any version there ever was: a removed one leaves its folder behind."""
    folders = store.list_folders(f"mixtures/{name}")
    return (
        max((int(entry[1:]) for entry in folders if entry[:1] == "v" and entry[1:].isdecimal()), default=0)
        + 1
    )


# --- what else is done with mixtures ----------------------------------------------------------------------


def list_mixtures(store: Store) -> list[MixtureInfo]:
    """Return the heads of all mixture versions, by name and version.

    A damaged one is left out; `cog data verify` names it.

    Args:
        store: Where to look.

    Raises:
        CogError: There is no store.
    """
    require_store(store)
    infos = []
    for name in store.list_folders("mixtures"):
        for version in manifest.list_versions(store, name):
            with suppress(CogError):
                infos.append(manifest.read_info(store, f"{name}@{version}"))
    return infos


def diff(store: Store, ref_a: str, ref_b: str) -> MixtureDiff:
    """Compare two mixture versions by content.

    Args:
        store: Where they are.
        ref_a: ``name`` or ``name@version``.
        ref_b: The other one.

    Raises:
        CogError: One of them does not exist, or was changed after freezing.
    """
    first, second = (manifest.read_manifest(store, ref) for ref in (ref_a, ref_b))
    a, b = _contents(first), _contents(second)
    return MixtureDiff(
        a=first.info,
        b=second.info,
        only_a=tuple(sorted(a.keys() - b.keys())),
        only_b=tuple(sorted(b.keys() - a.keys())),
        changed=tuple(sorted(key for key in a.keys() & b.keys() if a[key] != b[key])),
        features=compare_features(first.info, second.info),
    )


def _contents(frozen: Manifest) -> dict[tuple[str, str], tuple[object, ...]]:
    """(source, episode_id) → everything that learning sees of it beside the episode's own arrays."""
    rows = frozen.rewards.to_pylist() if frozen.rewards is not None else []
    steps = {row["episode_id"]: (row["t"], row["reward"]) for row in rows}
    return {
        (row["source"], row["episode_id"]): (
            row["digest"],
            row["reward"],
            row["weight"],
            row["t_start"],
            row["t_end"],
            steps.get(row["episode_id"]),
        )
        for row in frozen.episodes.to_pylist()
    }


def refresh(store: Store, name: str) -> FreezeReport:
    """Run the SQL of a mixture's newest version again, with the shares asked for, and freeze the result.

    Args:
        store: Where it is.
        name: Mixture name.

    Raises:
        CogError: No such mixture, a version was named, or its SQL no longer works.
    """
    bare, version = manifest.parse_ref(name)
    if version is not None:
        raise CogError(f"refresh makes a new version of {bare!r}: name it without @{version}")
    newest = manifest.read_manifest(store, bare)
    ids = newest.episodes.column("episode_id")
    overlaps = len(ids.unique()) < len(ids)
    info = newest.info
    return freeze(
        store, bare, info.sql, weights=info.shares, allow_overlap=overlaps, selection=info.selection
    )


def remove(store: Store, ref: str, *, force: bool = False) -> list[str]:
    """Remove a mixture version, or with a bare name all its versions.

    Args:
        store: Where it is.
        ref: ``name@version`` or ``name``.
        force: Remove it even if runs were trained on it.

    Returns:
        What was removed, as ``name@version``.

    Raises:
        CogError: No such mixture, or runs refer to it.
    """
    name, version = manifest.parse_ref(ref)
    there = manifest.list_versions(store, name)
    if not there or version not in (None, *there):
        manifest.read_info(store, ref)  # says what there is
    chosen = there if version is None else [version]
    users = [] if force else [run for run in runs.list_runs(store) if _uses(store, run, name, chosen)]
    if users:
        more = f" and {len(users) - _SHOWN_RUNS} more" if len(users) > _SHOWN_RUNS else ""
        raise CogError(
            f"mixture {ref!r} is used by {'runs' if len(users) > 1 else 'run'} "
            f"{', '.join(users[:_SHOWN_RUNS])}{more}: `cog runs rm` first, or say --force"
        )
    with lock(store, "mixtures"):
        for number in chosen:
            folder = manifest.mixture_folder(name, number)
            store.remove(f"{folder}/mixture.json")  # first: without it the version does not exist
            for file in store.list_files(folder):
                store.remove(f"{folder}/{file}")
            store.write_text(f"{folder}/REMOVED", "this version number is not used again\n")
        if not manifest.list_versions(store, name):
            store.remove(f"mixtures/{name}")
    try_sync(store)
    return [f"{name}@{number}" for number in chosen]


def _uses(store: Store, run: str, name: str, versions: list[int]) -> bool:
    with suppress(CogError):  # damaged, which `cog data verify` says
        info = runs.read_run(store, run)
        return info.mixture == name and info.mixture_version in versions
    return False
