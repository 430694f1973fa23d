"""Running a user's SQL over the catalog: read-only in earnest, without a view of anything but the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

import duckdb
import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from catalog.guard import VIEWS, Statement, check, translate
from catalog.index.db import catalog_path, damaged, plain
from catalog.index.sync import open_indexed, read_problems
from cogdata.errors import CogError
from cogdata.schema import PREDICATES
from cogdata.storage import parts
from cogdata.storage.store import Store

_BATCH_ROWS: Final = 65_536
_DAMAGE: Final = (
    duckdb.InternalException,
    duckdb.FatalException,
    duckdb.SerializationException,
)

STEPS: Final = pa.schema(
    [
        ("episode_id", pa.string()),
        ("t", pa.int32()),
        ("robot", pa.list_(pa.float32())),
        ("scene", pa.list_(pa.float32())),
        ("action", pa.list_(pa.float32())),
        ("reward", pa.float32()),
        ("terminated", pa.bool_()),
        ("truncated", pa.bool_()),
        ("phase", pa.string()),
        *((name, pa.bool_()) for name in PREDICATES),
    ]
)
"""Columns of ``steps``; the lists of different collections may have different lengths."""


@dataclass(frozen=True)
class QueryResult:
    """Rows of a query.

    Attributes:
        table: The rows, at most ``limit`` of them; column names are unique.
        more: Whether there were more.
        unread: Why files of the store could not be read, which the rows say nothing of; a line each.
    """

    table: pa.Table
    more: bool
    unread: tuple[str, ...] = ()


def run_query(store: Store, sql: str, *, limit: int | None = None) -> QueryResult:
    """Run one reading statement over an up-to-date catalog.

    Args:
        store: Whose catalog.
        sql: SELECT, WITH, VALUES, FROM, DESCRIBE, SUMMARIZE, SHOW or EXPLAIN, in DuckDB's SQL.
        limit: Most rows to return; None: all.

    Raises:
        CogError: The SQL is wrong, does more than read, or reads outside the store; or the store is damaged.
    """
    if limit is not None and limit < 0:
        raise CogError(f"limit is {limit}, must be 0 or more")
    with _opened(store, sql) as (found, unread):
        result = _cut(found, limit) if isinstance(found, pa.Table) else _fetch(found, limit)
        return replace(result, unread=unread)


@contextmanager
def open_query(store: Store, sql: str) -> Iterator[pa.RecordBatchReader]:
    """Read the rows of a query in batches, without holding them all.

    Args:
        store: Whose catalog.
        sql: As for :func:`run_query`.

    Raises:
        CogError: As :func:`run_query`, also while the batches are read.
    """
    with _opened(store, sql) as (found, _):
        yield found.to_reader() if isinstance(found, pa.Table) else found.to_arrow_reader(_BATCH_ROWS)


@contextmanager
def _opened(store: Store, sql: str) -> Iterator[tuple[duckdb.DuckDBPyRelation | pa.Table, tuple[str, ...]]]:
    with open_indexed(store) as con:
        unread = read_problems(con)
        statement = check(con, sql)
        if statement.describes or statement.lists_tables:
            yield _documentation(con, statement), unread
            return
        if "steps" in statement.tables:
            add_steps(con, store)
        _lock_down(con, store)
        with translated(store, sql):
            yield con.sql(statement.sql), unread


@contextmanager
def translated(store: Store, sql: str) -> Iterator[None]:
    """Turn DuckDB's errors in a block into one line each.

    Args:
        store: Whose catalog the block queries.
        sql: The query.
    """
    try:
        yield
    except duckdb.Error as error:
        if isinstance(error, _DAMAGE) or str(catalog_path(store)) in str(error):
            raise damaged(catalog_path(store), error) from None
        in_store = f"{store.url}/" in str(error) and not isinstance(error, duckdb.PermissionException)
        if in_store or "No files found" in str(error):
            raise CogError(
                f"a file of the store cannot be read ({plain(error)}): run `cog data verify`"
            ) from None
        raise translate(error, sql) from None


def add_steps(
    con: duckdb.DuckDBPyConnection, store: Store, only: Sequence[tuple[str, str]] | None = None
) -> None:
    """Let ``steps`` mean the rows of the committed parts' Parquet files, in this connection.

    Args:
        con: Open catalog.
        store: Where the files lie.
        only: (collection, part) of the parts to read; None: all that are indexed.

    Raises:
        CogError: A part's file is missing or damaged.
    """
    if only is None:
        only = con.execute("SELECT collection, part FROM base.parts ORDER BY ALL").fetchall()
    if not only:
        return
    doubled = con.execute("SELECT DISTINCT collection, part FROM base.episodes WHERE shadowed").fetchall()
    # Only where parts overlap: leave out the rows that the first of them already has.
    once = (
        f"WHERE (s.episode_id, regexp_extract(s.filename, '([^/]+)/{parts.STEPS}$', 1)) NOT IN "
        "(SELECT (episode_id, part) FROM catalog.base.episodes WHERE shadowed)"
    )
    where = once if doubled else ""
    files = [_steps_path(*key) for key in only]
    apart = [_steps_path(*key) for key in only if tuple(key) in set(doubled)]
    columns = ", ".join(f"s.{name}" for name in STEPS.names)
    try:
        source = _local_steps(store, files) if store.is_local else _remote_steps(con, store, files, apart)
        # Parts that were collected before a predicate existed lack its column: base.steps has them all.
        whole = f"(SELECT *, '' AS filename FROM catalog.base.steps UNION ALL BY NAME SELECT * FROM {source})"
        con.execute(f"CREATE TEMP VIEW steps AS SELECT {columns} FROM {whole} s {where}")
    except (duckdb.Error, OSError, pa.ArrowException) as error:
        raise CogError(
            f"the steps of a part cannot be read ({plain(error)}): run `cog data verify`"
        ) from None


def _steps_path(collection: str, part: str) -> str:
    return f"{parts.part_folder(collection, part)}/{parts.STEPS}"


def _local_steps(store: Store, files: Sequence[str]) -> str:
    listed = ", ".join("'" + store.path(path).replace("'", "''") + "'" for path in files)
    return f"read_parquet([{listed}], union_by_name = true, filename = true)"


def _remote_steps(
    con: duckdb.DuckDBPyConnection, store: Store, files: Sequence[str], apart: Sequence[str]
) -> str:
    """SQL of a table over files that fsspec reads; only those ``apart`` say their file's name."""
    fs, base = fsspec.core.url_to_fs(store.url)
    tables = {"": [path for path in files if path not in apart]} | {path: [path] for path in apart}
    selects = []
    for number, (name, members) in enumerate(tables.items()):
        if members:
            paths = [f"{base.rstrip('/')}/{path}" for path in members]
            con.register(f"step_files_{number}", ds.dataset(paths, STEPS, filesystem=fs, format="parquet"))
            selects.append(f"SELECT *, '{name}' AS filename FROM step_files_{number}")
    return f"({' UNION ALL '.join(selects)})"


def _lock_down(con: duckdb.DuckDBPyConnection, store: Store) -> None:
    """Leave the connection nothing but this store, for good."""
    if store.is_local:
        con.execute(f"SET allowed_directories = ['{store.url.replace(chr(39), chr(39) * 2)}/']")
    con.execute("SET enable_external_access = false")
    con.execute("SET lock_configuration = true")


def _documentation(con: duckdb.DuckDBPyConnection, statement: Statement) -> pa.Table:
    """``describe VIEW`` and ``show tables``, with the comments of schema.sql."""
    if statement.lists_tables:
        rows = dict(
            con.execute(
                "SELECT view_name, comment FROM duckdb_views() WHERE database_name = 'catalog' "
                "AND schema_name = 'main' AND NOT internal"
            ).fetchall()
        )
        return pa.table({"name": list(VIEWS), "comment": [rows[name] for name in VIEWS]})
    return con.sql(
        "SELECT column_name, data_type AS column_type, comment FROM duckdb_columns() WHERE database_name = "
        "'catalog' AND schema_name = 'main' AND table_name = $name ORDER BY column_index",
        params={"name": statement.describes},
    ).to_arrow_table()


def _cut(table: pa.Table, limit: int | None) -> QueryResult:
    if limit is None or len(table) <= limit:
        return QueryResult(table, False)
    return QueryResult(table.slice(0, limit), True)


def _fetch(relation: duckdb.DuckDBPyRelation, limit: int | None) -> QueryResult:
    if limit is None:
        return QueryResult(_tidy(relation.to_arrow_table()), False)
    reader = relation.to_arrow_reader(min(limit + 1, _BATCH_ROWS))
    batches: list[pa.RecordBatch] = []
    rows = 0
    for batch in reader:
        batches.append(batch)
        rows += len(batch)
        if rows > limit:
            break
    result = _cut(pa.Table.from_batches(batches, reader.schema), limit)
    return QueryResult(_tidy(result.table), result.more)


def _tidy(table: pa.Table) -> pa.Table:
    """Unique column names, and sums of integers as integers (DuckDB's HUGEINT arrives as decimal)."""
    names: list[str] = []
    for name in table.column_names:
        unique, number = name, 2
        while unique in names:
            unique, number = f"{name}_{number}", number + 1
        names.append(unique)
    table = table.rename_columns(names)
    for position, field in enumerate(table.schema):
        if field.type == pa.decimal128(38, 0):
            try:
                integers = pc.cast(table.column(position), pa.int64())
            except pa.ArrowInvalid:  # beyond 64 bits: stays decimal
                continue
            table = table.set_column(position, field.name, integers)
    return table
