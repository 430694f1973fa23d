"""Parquet files of the store for DuckDB: a path is data, never a pattern, and its folders are no columns.

Every reader here gives the columns of a schema: one that a file lacks is null, one that the schema lacks is
left out. So files of any version of cogdata are read alike.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from catalog.index.paths import is_plain, plain_name
from cogdata.errors import CogError
from cogdata.storage.columns import conform
from cogdata.storage.store import Store

FILE: Final = "_cog_file"
"""Column that says which file of the store a row is from; no feature has a name like that."""

_OPTIONS: Final = "hive_partitioning = false, union_by_name = true"
_Con = duckdb.DuckDBPyConnection


def scan(
    con: _Con, store: Store, files: Sequence[str], schema: pa.Schema, named: Collection[str] = ()
) -> str:
    """Return SQL of a table over files: the columns of the schema, and :data:`FILE`.

    Args:
        con: Connection that runs the SQL.
        store: Where the files lie.
        files: Their paths within the store; at least one.
        schema: Columns.
        named: In a remote store: files whose rows say their path; :data:`FILE` of all others is "".

    Raises:
        CogError: DuckDB cannot be told the path of a file.
    """
    source = _local(store, files) if store.is_local else _remote(con, store, files, schema, named)
    nothing = _register(con, schema.empty_table())
    whole = f"SELECT *, '' AS {FILE} FROM {nothing} UNION ALL BY NAME SELECT * FROM {source}"
    return f"(SELECT {', '.join(map(quoted, schema.names))}, {FILE} FROM ({whole}))"


def read(store: Store, path: str, schema: pa.Schema) -> pa.Table:
    """Read one file without DuckDB: the columns of a schema, and :data:`FILE`."""
    rows = conform(store.read_table(path), schema)
    return rows.append_column(FILE, pa.array([path] * len(rows), pa.string()))


def read_call(store: Store, path: str) -> str:
    """Return the SQL that reads a file of a local store by its absolute path, to be kept in a mixture.

    Args:
        store: A local store.
        path: Within the store.

    Raises:
        CogError: No SQL names a path with these characters.
    """
    whole = store.path(path)
    if "\\" in whole and not is_plain(whole.replace("\\", "")):
        raise CogError(
            f"no SQL names {whole}, which has a backslash and one of *?[] in its path: rename the folder"
        )
    return f"read_parquet({text(_escaped(whole))}, hive_partitioning = false)"


def allowed_folders(store: Store) -> list[str]:
    """Return how SQL may begin the path of a file of a local store."""
    return sorted({f"{name}/" for name in (store.url, _escaped(store.url), plain_name(store.url))})


def as_stored(store: Store, said: str) -> str:
    """Name the store in what DuckDB says of it as the user does."""
    return said.replace(f"{plain_name(store.url)}/", f"{store.url}/") if store.is_local else said


def text(value: str) -> str:
    """Return a text as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"


def quoted(name: str) -> str:
    """Return a name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _escaped(path: str) -> str:
    """A pattern that matches this path and no other."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in path)


def _local(store: Store, files: Sequence[str]) -> str:
    root = plain_name(store.url)
    if bad := next((path for path in files if "\\" in path), None):
        raise CogError(f"{store.path(bad)} has a backslash in its name: rename the folder")
    listed = ", ".join(text(f"{root}/{_escaped(path)}") for path in files)
    here = f"substr({FILE}, {len(root) + 2}) AS {FILE}"
    return f"(SELECT * REPLACE ({here}) FROM read_parquet([{listed}], {_OPTIONS}, filename = {text(FILE)}))"


def _remote(con: _Con, store: Store, files: Sequence[str], schema: pa.Schema, named: Collection[str]) -> str:
    fs, base = store.filesystem
    tables = {"": [path for path in files if path not in named]} | {path: [path] for path in named}
    selects = []
    for name, members in tables.items():
        if members:
            dataset = ds.dataset(
                [f"{base}/{path}" for path in members], schema, filesystem=fs, format="parquet"
            )
            selects.append(f"SELECT *, {text(name)} AS {FILE} FROM {_register(con, dataset)}")
    return f"({' UNION ALL '.join(selects)})"


def _register(con: _Con, rows: pa.Table | ds.Dataset) -> str:
    name = f"cog_{uuid.uuid4().hex[:12]}"
    con.register(name, rows)
    return name
