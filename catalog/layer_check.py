"""Whether layers are whole: every byte, every digest, and the episodes that their values belong to."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

import pyarrow as pa

from catalog.agreement import Problem
from catalog.layers import check_free
from cogdata.errors import CogError
from cogdata.storage.layers.commits import LayerCommit, list_commits, read_commit, read_rows
from cogdata.storage.layers.heads import HEAD, LayerInfo, is_version, parse_head
from cogdata.storage.layers.reading import LayerReader
from cogdata.storage.manifest import Manifest
from cogdata.storage.store import Store

_UNREADABLE: Final = (
    CogError, ValueError, TypeError, KeyError, OSError, pa.ArrowException, AttributeError, IndexError,
)  # fmt: skip
"""What a damaged file makes its reader raise."""

_AGAIN: Final = "remove the commit that names it, and run the same `cog derive` again"


def verify_layers(
    store: Store, episodes: Mapping[str, Collection[str]], newer: Collection[str]
) -> Iterator[Problem]:
    """Check every version of every layer.

    Args:
        store: Which store.
        episodes: Name of each episode of the store → its digests.
        newer: Folders of parts that a newer version wrote, of whose episodes nothing is known.
    """
    unknown = {folder.split("/")[1] for folder in newer if folder.startswith("collections/")}
    for name in store.list_folders("layers"):
        for folder in filter(is_version, store.list_folders(f"layers/{name}")):
            path = f"layers/{name}/{folder}/{HEAD}"
            if not store.exists(path):
                yield Problem(
                    path, "is missing, so nothing reads the folder: restore it, or remove the folder"
                )
                continue
            try:
                info = parse_head(store, path)
            except _UNREADABLE as error:
                yield Problem(path, _said(error))
                continue
            yield from _verify_layer(store, info, episodes, unknown)


def _verify_layer(
    store: Store, info: LayerInfo, episodes: Mapping[str, Collection[str]], unknown: Collection[str]
) -> Iterator[Problem]:
    held: list[tuple[str, str]] = []
    for path in list_commits(store, info):
        try:
            commit = read_commit(store, path)
        except _UNREADABLE as error:
            yield Problem(path, _said(error))
            continue
        problems = list(_verify_files(store, commit))
        problems = problems or list(_verify_rows(store, info, commit, held))
        yield from problems
    yield from _verify_episodes(info, held, episodes, unknown)
    try:
        check_free(store, info.name, info.features)
    except CogError as error:
        yield Problem(f"{info.folder}/{HEAD}", f"{_said(error).partition(':')[0]}: SQL leaves this one out")


def _verify_files(store: Store, commit: LayerCommit) -> Iterator[Problem]:
    for name, claim in commit.files.items():
        path = f"{commit.folder}/{name}"
        try:
            data = store.read_bytes(path)
        except _UNREADABLE as error:
            missing = not store.exists(path)
            yield Problem(path, f"is missing: {_AGAIN}" if missing else f"cannot be read now: {_said(error)}")
            continue
        if len(data) != claim["size"]:
            yield Problem(path, f"has {len(data)} bytes, must have {claim['size']}: {_AGAIN}")
        elif hashlib.sha256(data).hexdigest() != claim["sha256"]:
            yield Problem(path, f"its sha256 is wrong: {_AGAIN}")


def _verify_rows(
    store: Store, info: LayerInfo, commit: LayerCommit, held: list[tuple[str, str]]
) -> Iterator[Problem]:
    """Check the digest of every episode's values; add the episodes to those that are held."""
    changed: list[str] = []
    counts = [0, 0]
    try:
        for row, digest in read_rows(store, info, commit):
            held.append((row.episode_id, row.episode_digest))
            counts = [counts[0] + 1, counts[1] + row.observations]
            if row.digest(info.features) != digest:
                changed.append(row.episode_id)
    except _UNREADABLE as error:
        yield Problem(commit.path, f"its files cannot be read ({_said(error)}): {_AGAIN}")
        return
    if changed:
        what = (
            f"{len(changed)} episodes have other values than their digest, for example {changed[0]}: {_AGAIN}"
        )
        yield Problem(commit.path, what)
    if counts != [commit.episodes, commit.rows]:
        said = f"says {commit.episodes} episodes of {commit.rows} observations, its files have {counts[0]} "
        yield Problem(commit.path, f"{said}of {counts[1]}: {_AGAIN}")


def _verify_episodes(
    info: LayerInfo,
    held: Sequence[tuple[str, str]],
    episodes: Mapping[str, Collection[str]],
    unknown: Collection[str],
) -> Iterator[Problem]:
    """Hold a layer against the episodes: those of which it has values, and of each only once."""
    if twice := sorted(_seen_before(held)):
        what = f"{len(twice)} episodes are in two of its commits, for example {twice[0][0]}"
        yield Problem(info.folder, f"{what}: remove one of the two")
    names = {name for name, digest in held if digest in episodes.get(name, ())}
    known = [(name, digest) for name, digest in held if name.partition("/")[0] not in unknown]
    gone = sorted({name for name, _ in known if name not in episodes})
    other = sorted({name for name, _ in known if name in episodes and name not in names})
    if gone:
        what = f"{len(gone)} of its episodes are gone, for example {gone[0]}: collect them again"
        yield Problem(info.folder, what)
    if other:
        again = "run the same `cog derive` again"
        yield Problem(
            info.folder, f"{len(other)} of its episodes have changed, for example {other[0]}: {again}"
        )


def verify_uses(store: Store, frozen: Manifest) -> Iterator[str]:
    """Say of which layers the values are no longer those that a mixture was frozen with.

    Args:
        store: Which store.
        frozen: The mixture.
    """
    columns = (frozen.episodes[name].to_pylist() for name in ("episode_id", "digest"))
    keys = list(zip(*columns, strict=True))
    for name, use in sorted(frozen.info.layers.items()):
        try:
            LayerReader(store, name, use, keys, whole=True)
        except _UNREADABLE as error:
            yield _said(error)


def _seen_before(held: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    seen: set[tuple[str, str]] = set()
    twice: set[tuple[str, str]] = set()
    for key in held:
        (twice if key in seen else seen).add(key)
    return twice


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
