"""Whether the catalog says what the files say, by another reader than the one that filled it.

DuckDB reads the Parquet files of parts into the catalog and into the answers of queries. PyArrow reads the
same files here, from their bytes, and every row of both is compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from catalog.index import parquet
from catalog.index.db import catalog_path, is_writable, open_catalog, private_copy
from catalog.index.loaders import OTHER_LOADERS
from catalog.index.paths import plain_folder
from catalog.index.sync import TABLES, apply, read_listing, scan, try_sync
from catalog.query import add_steps
from cogdata.errors import CogError
from cogdata.storage import parts
from cogdata.storage.store import Store

_PARTS_AT_ONCE: Final = 16
_Con = duckdb.DuckDBPyConnection


@dataclass(frozen=True)
class Problem:
    """Something that is not as it should be.

    Attributes:
        where: Path within the store.
        what: What is wrong with it, and what to do.
    """

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def verify_catalog(store: Store, said: set[str]) -> Iterator[Problem]:
    """Compare what the catalog and queries say with the files.

    Args:
        store: Which store.
        said: Files and folders that are known to be damaged; they are left out.
    """
    if is_writable(store):
        try_sync(store)
    listing = scan(store)
    path = catalog_path(store)
    with ExitStack() as stack:
        con = None
        try:
            con = stack.enter_context(open_catalog(path)) if path.exists() else None
            if con is not None:  # a collector may have gone on since: compare what both have read
                known = read_listing(con)
                listing = {name: print_ for name, print_ in listing.items() if known.get(name) == print_}
        except CogError as error:
            yield Problem(path.name, str(error))
        damaged = {_folder(where) for where in said}
        listing = {name: print_ for name, print_ in listing.items() if _folder(name) not in damaged}
        fresh = stack.enter_context(plain_folder()) / "fresh.duckdb"
        with private_copy(None, fresh) as copy:
            apply(copy, store, listing, OTHER_LOADERS)
            sql = "SELECT path, problem FROM base.files WHERE problem IS NOT NULL ORDER BY path"
            unread = copy.execute(sql).fetchall()
        for name, line in unread:
            if name not in said:
                yield Problem(name, line.removeprefix(f"{store.path(name)} "))
        if con is not None:
            yield from _differences(con, path, fresh)
            yield from _other_steps(
                con, store, [name for name, (kind, _) in listing.items() if kind == "part"]
            )


def _folder(path: str) -> str:
    """The part, mixture version or run that a file belongs to."""
    return "/".join(path.split("/")[:3])


def _differences(con: _Con, path: Path, fresh: Path) -> Iterator[Problem]:
    try:
        con.execute(f"ATTACH {parquet.text(str(fresh))} AS fresh (READ_ONLY)")
        for table in sorted({name for tables in TABLES.values() for name in tables}):
            mine = f"SELECT * FROM catalog.base.{table} WHERE file IN (SELECT path FROM fresh.base.files)"
            if count := _difference(con, mine, f"SELECT * FROM fresh.base.{table}"):
                yield Problem(
                    path.name, f"table {table} differs from the files in {count} rows: run `cog data rebuild`"
                )
    except duckdb.Error as error:
        yield Problem(path.name, f"is damaged ({str(error).splitlines()[0]}): run `cog data rebuild`")


def _difference(con: _Con, mine: str, theirs: str) -> int:
    """How many rows only one of two queries has."""
    sql = (
        f"SELECT (SELECT count(*) FROM ({mine} EXCEPT ALL {theirs})) + "
        f"(SELECT count(*) FROM ({theirs} EXCEPT ALL {mine}))"
    )
    return int(con.execute(sql).fetchall()[0][0])


def _other_steps(con: _Con, store: Store, commits: Sequence[str]) -> Iterator[Problem]:
    """Compare every column of ``steps`` with the files of the parts that have these commits."""
    for first in range(0, len(commits), _PARTS_AT_ONCE):
        chunk = commits[first : first + _PARTS_AT_ONCE]
        try:
            if not _differing_steps(con, store, chunk):
                continue
            counts = {commit: _differing_steps(con, store, [commit]) for commit in chunk}
        except (CogError, duckdb.Error, pa.ArrowException, OSError) as error:
            yield Problem(_folder(chunk[0]), " ".join(str(error).split()))
            continue
        for commit, count in counts.items():
            if count:
                what = f"`cog query` reads {count} rows of it otherwise than they are: update cogdata"
                yield Problem(f"{_folder(commit)}/{parts.STEPS}", what)


def _differing_steps(con: _Con, store: Store, commits: Sequence[str]) -> int:
    keys = [(collection, part) for _, collection, part, _ in (commit.split("/") for commit in commits)]
    files = [f"{_folder(commit)}/{parts.STEPS}" for commit in commits]
    columns = [column for column in add_steps(con, store, keys) if not column.clash]
    schema = pa.schema([(column.name, column.types[0]) for column in columns])
    con.register("read_steps", pa.concat_tables(parquet.read(store, file, schema) for file in files))
    names = ", ".join(parquet.quoted(column.name) for column in columns)
    theirs = (
        f"SELECT {names} FROM read_steps WHERE (episode_id, split_part({parquet.FILE}, '/', 3)) NOT IN "
        "(SELECT (episode_id, part) FROM catalog.base.episodes WHERE shadowed)"
    )
    try:
        return _difference(con, f"SELECT {names} FROM steps", theirs)
    finally:
        con.unregister("read_steps")
