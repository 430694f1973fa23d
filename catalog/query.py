"""Running a user's SQL over the catalog: read-only in earnest, without a view of anything but the store."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from catalog import views
from catalog.columns import Column, file_columns, joined
from catalog.guard import VIEWS, Statement, check, translate
from catalog.index import parquet
from catalog.index.db import FILE_NAME, catalog_path, damaged, plain
from catalog.index.sync import open_indexed, read_problems
from catalog.layers import layer_columns, with_layers
from cogdata.errors import CogError
from cogdata.storage import parts
from cogdata.storage.store import Store

_BATCH_ROWS: Final = 65_536
_DAMAGE: Final = (
    duckdb.InternalException,
    duckdb.FatalException,
    duckdb.SerializationException,
)


_ONCE: Final = (
    f" WHERE (s.episode_id, regexp_extract(s.{parquet.FILE}, '([^/]+)/{parts.STEPS}$', 1)) NOT IN "
    "(SELECT (episode_id, part) FROM catalog.base.episodes WHERE shadowed)"
)
"""Only where parts overlap: leaves out the rows that the first of them already has."""


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
        columns = _add_declared(con, store, statement)
        _lock_down(con, store)
        with translated(store, sql), _naming_clashes(columns, sql):
            yield con.sql(statement.sql), unread


def _add_declared(con: duckdb.DuckDBPyConnection, store: Store, statement: Statement) -> tuple[Column, ...]:
    """Give the views that a statement reads the columns that collections declare; return those columns."""
    columns = add_steps(con, store, reads=statement.reads) if "steps" in statement.tables else ()
    if "episodes" in statement.tables:
        columns += views.add_episodes(con, store, statement.reads)
    if "evaluations" in statement.tables:
        columns += views.add_evaluations(con)
    return columns


@contextmanager
def _naming_clashes(columns: Sequence[Column], sql: str) -> Iterator[None]:
    """Say of a query that reads a column of several types which collections have them."""
    try:
        yield
    except duckdb.Error as error:
        for column in columns:
            used = isinstance(error, duckdb.BinderException) and re.search(rf"\b{column.name}\b", sql, re.I)
            if column.clash and (used or column.clash in plain(error)):
                raise CogError(column.clash) from None
        raise


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
        if isinstance(error, _DAMAGE) or f"/{FILE_NAME}" in str(error):
            raise damaged(catalog_path(store), error) from None
        roots = parquet.allowed_folders(store) if store.is_local else [f"{store.url}/"]
        in_store = any(root in str(error) for root in roots)
        if (in_store and not isinstance(error, duckdb.PermissionException)) or "No files found" in str(error):
            said = parquet.as_stored(store, plain(error))
            raise CogError(f"a file of the store cannot be read ({said}): run `cog data verify`") from None
        raise translate(error, sql) from None


def add_steps(
    con: duckdb.DuckDBPyConnection,
    store: Store,
    only: Sequence[tuple[str, str]] | None = None,
    reads: Callable[[str], bool] | None = None,
) -> tuple[Column, ...]:
    """Let ``steps`` mean the rows of the committed parts' Parquet files, in this connection.

    Args:
        con: Open catalog.
        store: Where the files lie.
        only: (collection, part) of the parts to read; None: all that are indexed.
        reads: Whether the query that is to run may read a column of a layer; None: leave layers out.

    Returns:
        Its columns: those of the collections that are read, and of layers.

    Raises:
        CogError: A part's file is missing or damaged.
    """
    everything = only is None
    if only is None:
        only = con.execute("SELECT collection, part FROM base.parts ORDER BY ALL").fetchall()
    own = file_columns(con)
    columns = joined(own if everything else {name: own[name] for name, _ in only})
    doubled = con.execute("SELECT DISTINCT collection, part FROM base.episodes WHERE shadowed").fetchall()
    apart = [_steps_path(*key) for key in only if tuple(key) in set(doubled)]
    try:
        selects = [
            _select(columns, schema, parquet.scan(con, store, files, schema, apart), bool(doubled))
            for schema, files in _groups(own, only)
        ] or [f"SELECT {_expressions(columns, pa.schema([]))} WHERE false"]
        rows = " UNION ALL ".join(selects)
        if reads is not None and (derived := layer_columns(con, "steps", {one.name for one in columns})):
            rows = with_layers(con, store, f"({rows})", derived, reads)
            columns = (*columns, *derived)
        con.execute(f"CREATE OR REPLACE TEMP VIEW steps AS {rows}")
    except (duckdb.Error, OSError, pa.ArrowException) as error:
        said = parquet.as_stored(store, plain(error))
        raise CogError(f"the steps of a part cannot be read ({said}): run `cog data verify`") from None
    return columns


def _groups(
    own: Mapping[str, Sequence[Column]], keys: Sequence[tuple[str, str]]
) -> list[tuple[pa.Schema, list[str]]]:
    """Files of steps by their columns, which the declarations say: no file is opened to learn them."""
    groups: dict[tuple[str, ...], tuple[pa.Schema, list[str]]] = {}
    by_collection: dict[str, list[str]] = {}
    for collection, part in keys:
        by_collection.setdefault(collection, []).append(_steps_path(collection, part))
    for collection, files in by_collection.items():
        schema = pa.schema([(column.name, column.types[0]) for column in own[collection]])
        key = tuple(f"{field.name} {field.type}" for field in schema)
        groups.setdefault(key, (schema, []))[1].extend(files)
    return list(groups.values())


def _select(columns: Sequence[Column], own: pa.Schema, source: str, doubled: bool) -> str:
    return f"SELECT {_expressions(columns, own)} FROM {source} s{_ONCE if doubled else ''}"


def _expressions(columns: Sequence[Column], own: pa.Schema) -> str:
    return ", ".join(f"{_expression(column, own)} AS {parquet.quoted(column.name)}" for column in columns)


def _expression(column: Column, own: pa.Schema) -> str:
    """Return what a column of ``steps`` is in files with certain columns; reading one of a clash fails."""
    if column.clash:
        return f"error({parquet.text(column.clash)})::VARCHAR"
    if column.name not in own.names:
        return f"CAST(NULL AS {column.sql_type})"
    value = f"s.{parquet.quoted(column.name)}"
    if pa.types.is_list(column.types[0]) and not pa.types.is_list(own.field(column.name).type):
        value = f"CASE WHEN {value} IS NOT NULL THEN [{value}] END"
    return f"CAST({value} AS {column.sql_type})"


def _steps_path(collection: str, part: str) -> str:
    return f"{parts.part_folder(collection, part)}/{parts.STEPS}"


def _lock_down(con: duckdb.DuckDBPyConnection, store: Store) -> None:
    """Leave the connection nothing but this store, for good."""
    if store.is_local:
        folders = ", ".join(map(parquet.text, parquet.allowed_folders(store)))
        con.execute(f"SET allowed_directories = [{folders}]")
    con.execute("SET enable_external_access = false")
    con.execute("SET lock_configuration = true")


def _documentation(con: duckdb.DuckDBPyConnection, statement: Statement) -> pa.Table:
    """``describe VIEW`` and ``show tables``, with the comments of schema.sql and of declarations."""
    if statement.lists_tables:
        rows = dict(
            con.execute(
                "SELECT view_name, comment FROM duckdb_views() WHERE database_name = 'catalog' "
                "AND schema_name = 'main' AND NOT internal"
            ).fetchall()
        )
        return pa.table({"name": list(VIEWS), "comment": [rows[name] for name in VIEWS]})
    return views.describe(con, str(statement.describes))


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
