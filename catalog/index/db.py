"""The catalog file: where it lies, how it is opened, and how one writer and many readers share it.

DuckDB lets nobody open a file that somebody has open for writing. So nobody ever has: a writer works on a
private copy of the catalog and puts it in place in one step (:func:`connect`, ``write=True``); a reader keeps
the file that it opened, however long its query takes. Neither waits for the other, and a writer that dies
leaves the catalog as it was. Writers take turns through a lock file.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import duckdb
from filelock import FileLock, Timeout

from catalog.index import migrations
from catalog.index.paths import is_plain, plain_file, plain_folder
from cogdata.errors import CogError
from cogdata.storage.store import Store, write_failed

FILE_NAME: Final = "catalog.duckdb"
LOCK_WAIT_S: Final = 10.0
"""How long a writer waits for its turn, and a reader for a foreign program that has the file open."""

_FIRST_PAUSE_S: Final = 0.005
_LAST_PAUSE_S: Final = 0.2


class CatalogBusyError(CogError):
    """Somebody else has the catalog; nothing is damaged and the files are in place."""


class CatalogDamagedError(CogError):
    """The catalog file cannot be read; the store's own files are not concerned."""


class CatalogMissingError(CogError):
    """There is no catalog yet, or it has an older layout."""


def plain(error: Exception) -> str:
    """Return what DuckDB says without the excerpt of the SQL and the name of its error, in one line."""
    message = str(error).partition("\n\nLINE ")[0]
    return " ".join((message.partition(" Error: ")[2] or message).split())


def damaged(path: Path, error: duckdb.Error) -> CatalogDamagedError:
    """Turn DuckDB's word on an unreadable catalog into the line a user can act on."""
    return CatalogDamagedError(f"{path} is damaged ({str(error).splitlines()[0]}): run `cog data rebuild`")


def state_folder(store: Store) -> Path:
    """Return the local folder of the catalog and the lock files.

    Args:
        store: A local folder holds them itself; a remote store has them in the user's cache.
    """
    if store.is_local:
        return Path(store.url)
    cache = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(cache) / "cogdata" / hashlib.sha256(store.url.encode()).hexdigest()[:16]


def catalog_path(store: Store) -> Path:
    """Return the path of the store's catalog, whether or not it exists."""
    return state_folder(store) / FILE_NAME


def is_writable(store: Store) -> bool:
    """Whether a catalog can be written beside the store's files."""
    folder = state_folder(store)
    if not store.is_local:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            return False
    return os.access(folder, os.W_OK | os.X_OK)


def require_store(store: Store) -> None:
    """Refuse a local store whose folder is not there.

    Raises:
        CogError: There is no such folder.
    """
    if store.is_local and not Path(store.url).is_dir():
        raise CogError(
            f"there is no store at {store.url}: run `cog collect` first, or name another with --root"
        )


@contextmanager
def lock(store: Store, name: str, timeout_s: float = LOCK_WAIT_S) -> Iterator[None]:
    """Hold one of the store's lock files; the system lets go of it should this process die.

    Args:
        store: Whose.
        name: What is locked ("catalog", "mixtures").
        timeout_s: How long to wait for it.

    Raises:
        CatalogBusyError: Somebody else held it all the time.
        CogError: The folder cannot be written.
    """
    path = state_folder(store) / f".{name}.lock"
    held = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held.acquire(timeout=timeout_s, poll_interval=0.01)
    except Timeout:
        raise CatalogBusyError(
            f"{path} is held by another process for more than {timeout_s:g} s: try again in a moment"
        ) from None
    except OSError as error:
        raise write_failed(str(path), error) from None
    try:
        yield
    finally:
        held.release()


@contextmanager
def connect(
    store: Store, *, write: bool = False, fresh: bool = False, timeout_s: float = LOCK_WAIT_S
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the store's catalog; its tables and views need no prefix.

    Args:
        store: Whose catalog.
        write: False: as it is now, read-only. True: a private copy (or a new, empty catalog where there is
            none that can be used), which takes the catalog's place when the block ends without an error.
        fresh: Writing: start from an empty catalog, whatever is there.
        timeout_s: How long to wait for another writer, or for a foreign program that has the file open.

    Yields:
        A connection, closed at the end of the block.

    Raises:
        CatalogMissingError: Reading: there is none, or one of an older layout.
        CatalogDamagedError: Reading: it is not a catalog.
        CatalogBusyError: The wait was in vain.
        CogError: It was written by a newer cogdata, or cannot be written.
    """
    require_store(store)
    path = catalog_path(store)
    if not write:
        with open_catalog(path, timeout_s=timeout_s) as con:
            yield con
        return
    with lock(store, "catalog", timeout_s):
        for leftover in path.parent.glob(f".{FILE_NAME}.*.tmp*"):
            leftover.unlink(missing_ok=True)
        copy = path.with_name(f".{FILE_NAME}.{uuid.uuid4().hex[:8]}.tmp")
        with private_copy(None if fresh else path, copy, timeout_s=timeout_s) as con:
            yield con
        try:
            path.with_name(f"{FILE_NAME}.wal").unlink(missing_ok=True)
            copy.replace(path)
        except OSError as error:
            raise write_failed(str(path), error) from None


@contextmanager
def private_copy(
    path: Path | None, copy: Path, *, timeout_s: float = LOCK_WAIT_S
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a copy of a catalog for writing, or a new catalog if there is none that can be used.

    Args:
        path: The catalog, which is only read; None: start from an empty one.
        copy: Where the copy goes; removed if the block ends with an error.
        timeout_s: As :func:`connect`.

    Yields:
        A connection to the copy.

    Raises:
        CogError: The catalog was written by a newer cogdata, or the copy cannot be written.
    """
    try:
        with _working(copy) as work:
            usable = path is not None and _copied(path, work, timeout_s)
            con = _attach(work, read_only=False)
            try:
                if not usable:
                    migrations.create(con)
                yield con
                con.execute("USE memory")
                con.execute("DETACH catalog")
            finally:
                con.close()
    except OSError as error:
        _discard(copy)
        raise write_failed(str(copy), error) from None
    except BaseException:
        _discard(copy)
        raise


@contextmanager
def _working(copy: Path) -> Iterator[Path]:
    """Say which file DuckDB writes: the copy itself, or one with a plain path that becomes the copy."""
    if is_plain(copy.parent.resolve()):
        yield copy
        return
    with plain_folder() as folder:
        work = folder / copy.name
        yield work
        shutil.copyfile(work, copy)


def _copied(path: Path, copy: Path, timeout_s: float) -> bool:
    """Copy a catalog if there is one that can be used; it stays open meanwhile, so that nobody changes it."""
    try:
        with open_catalog(path, timeout_s=timeout_s):
            shutil.copyfile(path, copy)
    except (CatalogMissingError, CatalogDamagedError):
        return False
    return True


def _discard(copy: Path) -> None:
    for path in (copy, copy.with_name(f"{copy.name}.wal")):
        path.unlink(missing_ok=True)


@contextmanager
def open_catalog(path: Path, *, timeout_s: float = LOCK_WAIT_S) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a catalog file read-only.

    Args:
        path: The file.
        timeout_s: How long to wait for a foreign program that has it open for writing.

    Yields:
        A connection, closed at the end of the block.

    Raises:
        CatalogMissingError: There is none, or one of an older layout.
        CatalogDamagedError: It is not a catalog.
        CatalogBusyError: A foreign program kept it open for writing.
        CogError: It was written by a newer cogdata.
    """
    if not path.exists():
        raise CatalogMissingError(f"there is no catalog at {path}: run `cog data rebuild`")
    with plain_file(path) as file:
        con = _attach_patiently(path, file, timeout_s)
        try:
            try:
                found = migrations.version(con)
            except duckdb.Error as error:
                raise damaged(path, error) from None
            _check_version(path, found)
            yield con
        finally:
            con.close()


def _check_version(path: Path, found: int) -> None:
    if found > migrations.CATALOG_VERSION:
        raise CogError(
            f"{path} was written by a newer cogdata (catalog version {found}, this one knows "
            f"{migrations.CATALOG_VERSION}): install that version, or run `cog data rebuild`"
        )
    if found < migrations.CATALOG_VERSION:
        raise CatalogMissingError(f"{path} has an older layout (version {found}): run `cog data rebuild`")


def _attach(path: Path, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    con = duckdb.connect(
        ":memory:",
        config={
            "python_enable_replacements": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )
    try:
        quoted = str(path).replace("'", "''")
        con.execute("SET TimeZone = 'UTC'")
        con.execute(f"ATTACH '{quoted}' AS catalog{' (READ_ONLY)' if read_only else ''}")
        con.execute("USE catalog")
    except BaseException:
        con.close()
        raise
    return con


def _attach_patiently(path: Path, file: Path, timeout_s: float) -> duckdb.DuckDBPyConnection:
    """Attach read-only; wait, with growing pauses, while a foreign program has the file open for writing.

    Args:
        path: The catalog.
        file: What DuckDB opens: the same file, by a path that it takes.
        timeout_s: How long to wait.
    """
    deadline = time.monotonic() + timeout_s
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            return _attach(file, read_only=True)
        except duckdb.Error as error:
            if "set lock on file" not in str(error):
                raise damaged(path, error) from None
            if time.monotonic() >= deadline:
                raise CatalogBusyError(
                    f"{path} is open for writing in another program: close it there and run this again"
                ) from None
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LAST_PAUSE_S)
