"""Bringing the catalog up to date with the files of the store. Idempotent; cheap when nothing changed.

The listing of the store (path → fingerprint) is compared with the files that the catalog has read. What is
gone or changed takes its rows with it, what is new or changed is read. Nothing else decides what is indexed,
so it does not matter who wrote a file, when, or whether the writer lived to tell.
"""

from __future__ import annotations

import errno
import fnmatch
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from catalog.index.db import (
    LOCK_WAIT_S,
    CatalogBusyError,
    CatalogDamagedError,
    CatalogMissingError,
    catalog_path,
    connect,
    is_writable,
    open_catalog,
    plain,
    private_copy,
    require_store,
)
from catalog.index.loaders import LOADERS, Loader, NotNow, insert
from catalog.index.paths import plain_folder
from cogdata.errors import CogError
from cogdata.storage.layers.heads import HEAD, is_version
from cogdata.storage.parts import is_part_name
from cogdata.storage.store import Store, write_failed

PATTERNS: Final = {
    "collection": "collections/*/collection.json",
    "part": "collections/*/part-*/COMMIT.json",
    "layer": "layers/*/v*/layer.json",
    "layer commit": "layers/*/v*/*/part-*/commit-*.json",
    "mixture": "mixtures/*/v*/mixture.json",
    "run": "runs/*/run.json",
    "state": "runs/*/state.json",
    "evaluation": "runs/*/evaluations/*.parquet",
}
"""Kind of file → where it lies. A part without its COMMIT.json does not exist, nor one of another name than
:func:`cogdata.storage.parts.is_part_name` knows, nor anything of a run without its run.json, nor of a layer
without its layer.json."""

TABLES: Final = {
    "collection": ("collections", "features"),
    "part": ("parts", "episodes"),
    "layer": ("layers", "layer_features"),
    "layer commit": ("layer_commits", "layer_episodes"),
    "mixture": ("mixtures", "mixture_episodes"),
    "run": ("runs",),
    "state": ("run_states",),
    "evaluation": ("evaluations",),
}
"""Kind of file → the tables of schema ``base`` that hold its rows."""

_STAMPS: Final = ("ETag", "etag", "md5Hash", "LastModified", "mtime", "updated", "created")
"""Where file systems of fsspec say that a file was written again."""

_QUERY_WAIT_S: Final = 0.5
_Listing = dict[str, tuple[str, str]]  # path → (kind, fingerprint)
_Con = duckdb.DuckDBPyConnection


@dataclass(frozen=True)
class SyncReport:
    """What a sync did.

    Attributes:
        added: Kind of file → files read, because they are new or have changed.
        removed: Kind of file → files that have gone.
        problems: One line for each file that could not be read, also if an earlier sync found it.
    """

    added: Mapping[str, int]
    removed: Mapping[str, int]
    problems: tuple[str, ...]

    @property
    def changed(self) -> bool:
        """Whether the catalog was written."""
        return bool(self.added or self.removed)


def scan(store: Store) -> _Listing:
    """List the files that the catalog is made from.

    Args:
        store: Where to look.

    Returns:
        Path within the store → (kind, fingerprint); the fingerprint changes when the file is written again.
    """
    listing = _scan_local(Path(store.url)) if store.is_local else _scan_remote(store)
    return {path: entry for path, entry in listing.items() if _is_meant(path, entry[0], listing)}


def _is_meant(path: str, kind: str, listing: _Listing) -> bool:
    if kind == "part":
        return is_part_name(path.split("/", 3)[2])
    if kind in ("layer", "layer commit"):
        layer, version = path.split("/", 3)[1:3]
        return is_version(version) and f"layers/{layer}/{version}/{HEAD}" in listing
    if kind in ("state", "evaluation"):
        return f"runs/{path.split('/', 2)[1]}/run.json" in listing
    return True


def _scan_local(root: Path) -> _Listing:
    listing: _Listing = {}
    for kind, pattern in PATTERNS.items():
        *folders, leaf = pattern.split("/")
        found = [""]
        for folder in folders:
            found = [f"{base}{name}/" for base in found for name in _matches(root, base, folder)]
        for base in found:
            for name in _matches(root, base, leaf):
                try:
                    status = os.stat(f"{root}/{base}{name}")  # noqa: PTH116  (200,000 parts: Path is slow)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                listing[base + name] = (kind, f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}")
    return listing


def _matches(root: Path, base: str, pattern: str) -> list[str]:
    if "*" not in pattern:
        return [pattern]
    try:
        names = sorted(os.listdir(f"{root}/{base}"))  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [name for name in fnmatch.filter(names, pattern) if not name.startswith(".")]


def _scan_remote(store: Store) -> _Listing:
    fs, base = store.filesystem
    fs.invalidate_cache()
    kinds = {
        kind: re.compile(pattern.replace(".", r"\.").replace("*", "[^/]+"))
        for kind, pattern in PATTERNS.items()
    }
    listing: _Listing = {}
    prefix = f"{base}/"
    for name, info in sorted(fs.find(base, detail=True).items()):
        path = name.removeprefix(prefix)
        stamp = next((str(info[key]) for key in _STAMPS if info.get(key)), "")
        for kind, expression in kinds.items():
            if expression.fullmatch(path):
                listing[path] = (kind, f"{info.get('size')}-{stamp}")
    return listing


def sync(store: Store, *, timeout_s: float = LOCK_WAIT_S) -> SyncReport:
    """Bring the catalog up to date. Running it twice, or in several processes at once, does no harm.

    Args:
        store: Whose catalog.
        timeout_s: How long to wait while another process writes the catalog.

    Returns:
        What was done. Files that cannot be read are reported, not raised: the rest is indexed.

    Raises:
        CatalogBusyError: Another process kept writing; the files are in place and the next sync reads them.
        CogError: There is no store, or its catalog cannot be written.
    """
    require_store(store)
    listing = scan(store)
    try:
        with connect(store, timeout_s=timeout_s) as con:
            if read_listing(con) == listing:
                return SyncReport({}, {}, read_problems(con))
    except (CatalogMissingError, CatalogDamagedError):
        pass
    return _write(store, timeout_s)


def _write(store: Store, timeout_s: float) -> SyncReport:
    try:
        with connect(store, write=True, timeout_s=timeout_s) as con:
            return apply(con, store, scan(store))
    except duckdb.Error:  # damaged deeper than its head: it is only an index
        return rebuild(store, timeout_s=timeout_s)


def try_sync(store: Store, *, timeout_s: float = LOCK_WAIT_S) -> SyncReport | None:
    """Index what has just been written, if the catalog is free; if not, the next command does it.

    Args:
        store: Whose catalog.
        timeout_s: As :func:`sync`.

    Returns:
        What was done; None if another process kept the catalog.
    """
    try:
        return sync(store, timeout_s=timeout_s)
    except CatalogBusyError:
        return None


def require_current(store: Store) -> None:
    """Index every file that is there before something is made of them that is to last.

    A query may be answered from an older catalog while another process writes it, a mixture may not be frozen
    from one.

    Args:
        store: Whose catalog; one that cannot be written is indexed anew by each query.

    Raises:
        CatalogBusyError: Another process kept writing.
        CogError: There is no store, or its catalog cannot be written.
    """
    require_store(store)
    if is_writable(store):
        sync(store)


def rebuild(store: Store, *, timeout_s: float = LOCK_WAIT_S) -> SyncReport:
    """Make a new catalog from the files and put it in place of the old one in one step.

    Args:
        store: Whose catalog.
        timeout_s: As :func:`sync`.

    Raises:
        CatalogBusyError: Another process kept writing.
        CogError: The catalog cannot be written.
    """
    try:
        with connect(store, write=True, fresh=True, timeout_s=timeout_s) as con:
            return apply(con, store, scan(store))
    except duckdb.Error as error:
        path = catalog_path(store)
        if os.strerror(errno.ENOSPC) in str(error):
            raise write_failed(str(path), OSError(errno.ENOSPC, "")) from None
        raise CogError(f"cannot write {path}: {plain(error)}") from None


@contextmanager
def open_indexed(store: Store) -> Iterator[_Con]:
    """Open the catalog read-only, up to date with the files wherever that is possible.

    A store that cannot be written is indexed in a temporary copy. If another process is writing the catalog
    for longer than a moment, what it has indexed before is used.

    Args:
        store: Whose catalog.

    Yields:
        A connection, closed at the end of the block.
    """
    require_store(store)
    listing = scan(store)
    with ExitStack() as stack:
        con = _enter_if_current(stack, store, listing)
        if con is None and is_writable(store):
            try:
                _write(store, _QUERY_WAIT_S)
                con = stack.enter_context(connect(store))
            except CogError:  # busy, or the disk is full: an older catalog still answers
                con = _enter_if_there(stack, store)
        if con is None:
            con = stack.enter_context(_temporary(store, listing))
        yield con


def _enter_if_current(stack: ExitStack, store: Store, listing: _Listing) -> _Con | None:
    con = _enter_if_there(stack, store)
    if con is not None and read_listing(con) != listing:
        stack.pop_all().close()
        return None
    return con


def _enter_if_there(stack: ExitStack, store: Store) -> _Con | None:
    try:
        return stack.enter_context(connect(store))
    except (CatalogMissingError, CatalogDamagedError):
        return None


@contextmanager
def _temporary(store: Store, listing: _Listing) -> Iterator[_Con]:
    """Index the store in a file that is gone afterwards."""
    with plain_folder() as folder:
        copy = folder / "catalog.duckdb"
        with private_copy(catalog_path(store), copy) as con:
            apply(con, store, listing)
        with open_catalog(copy) as con:
            yield con


def read_listing(con: _Con) -> _Listing:
    """Return the files that a catalog has read, as :func:`scan` lists them.

    Args:
        con: Open catalog.
    """
    rows = con.execute("SELECT path, kind, fingerprint FROM base.files").fetchall()
    return {path: (kind, fingerprint) for path, kind, fingerprint in rows}


def read_problems(con: _Con) -> tuple[str, ...]:
    """Return why files could not be read into a catalog, a line each.

    Args:
        con: Open catalog.
    """
    sql = "SELECT problem FROM base.files WHERE problem IS NOT NULL ORDER BY path"
    return tuple(problem for (problem,) in con.execute(sql).fetchall())


def list_unread(store: Store) -> tuple[str, ...]:
    """Say of which files the catalog holds nothing because they could not be read; one line each."""
    with open_indexed(store) as con:
        return read_problems(con)


def apply(con: _Con, store: Store, listing: _Listing, loaders: Mapping[str, Loader] = LOADERS) -> SyncReport:
    """Make a writable catalog agree with a listing.

    Args:
        con: Connection to a private copy of the catalog.
        store: Where the files lie.
        listing: From :func:`scan`.
        loaders: Kind of file → its loader.
    """
    known = read_listing(con)
    gone = {path: kind for path, (kind, _) in known.items() if path not in listing}
    stale = {path: kind for path, (kind, print_) in known.items() if path in listing
             and listing[path] != (kind, print_)}  # fmt: skip
    new = {path: kind for path, (kind, _) in listing.items() if path not in known or path in stale}
    _delete(con, gone | stale)
    problems: dict[str, str] = {}
    for kind, load in loaders.items():
        paths = sorted(path for path, its_kind in new.items() if its_kind == kind)
        if paths:
            problems |= load(con, store, paths)
    _note_files(con, new, listing, problems)
    _shadow(con, {path.split("/")[1] for path in gone | new if PATTERNS["part"][:11] == path[:11]})
    return SyncReport(_count(new.values()), _count(gone.values()), read_problems(con))


def _count(kinds: Iterable[str]) -> dict[str, int]:
    listed = list(kinds)
    return {kind: listed.count(kind) for kind in PATTERNS if kind in listed}


def _delete(con: _Con, files: Mapping[str, str]) -> None:
    if not files:
        return
    con.register("gone", pa.table({"path": list(files)}, pa.schema([("path", pa.string())])))
    for kind in set(files.values()):
        for table in TABLES[kind]:
            con.execute(f"DELETE FROM base.{table} WHERE file IN (SELECT path FROM gone)")
    con.execute("DELETE FROM base.files WHERE path IN (SELECT path FROM gone)")
    con.unregister("gone")


def _note_files(con: _Con, new: Mapping[str, str], listing: _Listing, problems: Mapping[str, str]) -> None:
    if not new:
        return
    columns = {
        "path": list(new),
        "kind": list(new.values()),
        # of no file there is, so that it is looked at again
        "fingerprint": ["" if isinstance(problems.get(path), NotNow) else listing[path][1] for path in new],
        "problem": [problems.get(path) for path in new],
    }
    insert(con, "files", pa.table(columns, pa.schema([(name, pa.string()) for name in columns])))


def _shadow(con: _Con, collections: set[str]) -> None:
    """Where parts of a collection overlap, let only the first of them speak for an episode."""
    for name in sorted(collections):
        overlaps = con.execute(
            "SELECT 1 FROM base.parts a JOIN base.parts b ON a.part < b.part AND a.start < b.stop "
            "AND b.start < a.stop WHERE a.collection = $name AND b.collection = $name LIMIT 1",
            {"name": name},
        ).fetchall()
        marked = con.execute(
            "SELECT 1 FROM base.episodes WHERE collection = $name AND shadowed LIMIT 1", {"name": name}
        ).fetchall()
        if overlaps or marked:
            con.execute(
                "UPDATE base.episodes e SET shadowed = e.part <> f.part FROM (SELECT episode_id, "
                "min(part) AS part FROM base.episodes WHERE collection = $name GROUP BY episode_id) f "
                "WHERE e.episode_id = f.episode_id AND e.collection = $name",
                {"name": name},
            )
