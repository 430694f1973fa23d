"""Columns that ``episodes`` and ``evaluations`` have beyond those of every store: what collections declare.

A feature per episode is a column of ``episodes``, a predicate one of ``evaluations``. A name that the view
itself uses stays what it is; the declared value is then in ``episodes.extras`` or ``evaluations.predicates``.
Layers add columns to ``episodes`` and ``steps``, see :mod:`catalog.layers`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import duckdb
import pyarrow as pa

from catalog.columns import Column, arrow_type, step_columns, union
from catalog.guard import COLUMNS
from catalog.index import parquet
from catalog.layers import layer_columns, with_layers
from cogdata.features import Feature, Per
from cogdata.storage.store import Store

_LAST: Final = "on the last observation; null: not in scene, or not judged"
_Con = duckdb.DuckDBPyConnection


def add_episodes(
    con: _Con, store: Store | None = None, reads: Callable[[str], bool] = lambda name: True
) -> tuple[Column, ...]:
    """Give ``episodes`` a column for each feature per episode, in this connection.

    Args:
        con: Open catalog.
        store: Where the files of layers lie; None: only say which columns there are.
        reads: Whether the query that is to run may read a column.

    Returns:
        The columns that it has beyond those of every store.

    Raises:
        CogError: A file of a layer is missing or damaged.
    """
    declared = _per_episode(con)
    columns = tuple(
        union("episodes", name, {one: _column(feature) for one, feature in features.items()})
        for name, features in declared.items()
    )
    derived = layer_columns(con, "episodes", {*COLUMNS["episodes"], *declared})
    if store is not None:
        source = "catalog.main.episodes"
        if derived:
            source = f"({with_layers(con, store, source, derived, reads)})"
        values = [_value(column, declared[column.name]) for column in columns]
        _extend(con, "episodes", columns, values, source)
    return (*derived, *columns)


def add_evaluations(con: _Con) -> tuple[Column, ...]:
    """Give ``evaluations`` a column for each predicate that a collection or an evaluation names.

    Args:
        con: Open catalog.

    Returns:
        The columns that it has beyond those of every store.
    """
    names = con.execute(
        "SELECT feature FROM (SELECT feature FROM base.features WHERE role = 'predicate' UNION "
        "SELECT unnest(map_keys(predicates)) FROM base.evaluations) ORDER BY feature"
    ).fetchall()
    new = [name for (name,) in names if name.lower() not in COLUMNS["evaluations"]]
    columns = tuple(Column(name, (pa.bool_(),), _LAST) for name in new)
    values = [f"predicates[{parquet.text(name)}]" for name in new]
    _extend(con, "evaluations", columns, values, "catalog.main.evaluations")
    return columns


def describe(con: _Con, view: str) -> pa.Table:
    """Return the columns of a view: name, type and what it is.

    Args:
        con: Open catalog.
        view: One of :data:`catalog.guard.VIEWS`.
    """
    rows = con.execute(
        "SELECT column_name, data_type, comment FROM duckdb_columns() WHERE database_name = 'catalog' "
        "AND schema_name = 'main' AND table_name = $name ORDER BY column_index",
        {"name": view},
    ).fetchall()
    if view == "steps":
        rows = []
    more = {"steps": all_step_columns, "episodes": add_episodes, "evaluations": add_evaluations}
    if view in more:
        rows += [(column.name, column.sql_type, column.help) for column in more[view](con)]
    names = ("column_name", "column_type", "comment")
    return pa.table({name: [row[place] for row in rows] for place, name in enumerate(names)})


def all_step_columns(con: _Con) -> tuple[Column, ...]:
    """Return the columns of ``steps``: those of the collections, and of the layers.

    Args:
        con: Open catalog.
    """
    columns = step_columns(con)
    return (*columns, *layer_columns(con, "steps", {column.name for column in columns}))


def _per_episode(con: _Con) -> dict[str, dict[str, Feature]]:
    """Name → collection → its feature."""
    found: dict[str, dict[str, Feature]] = {}
    sql = (
        "SELECT collection, feature, dtype, shape, names, help FROM base.features "
        "WHERE per = 'episode' AND codec = '' ORDER BY collection, position"
    )
    for collection, name, dtype, shape, names, text in con.execute(sql).fetchall():
        if name not in COLUMNS["episodes"]:
            feature = Feature(name, dtype, tuple(shape), Per.EPISODE, tuple(names), help=text)
            found.setdefault(name, {})[collection] = feature
    return found


def _column(feature: Feature) -> Column:
    return Column(feature.name, (arrow_type(feature),), feature.help or feature.describe())


def _value(column: Column, features: dict[str, Feature]) -> str:
    """What a column is in terms of the view: read from the JSON, more than one dimension flattened."""
    if column.clash:
        return f"error({parquet.text(column.clash)})::VARCHAR"
    path = parquet.text(f'$."{column.name}"')
    if column.types[0] == pa.string():
        return f"json_extract_string(extras, {path})"
    deep: dict[int, list[str]] = {}
    for collection, feature in features.items():
        deep.setdefault(max(len(feature.shape), 1), []).append(collection)
    base = column.sql_type.removesuffix("[]")
    cases = ""
    for rank, collections in deep.items():
        nested = "[]" * (rank if column.sql_type.endswith("[]") else 0)
        value = f"json_extract(extras, {path})::{base}{nested}"
        for _ in range(rank - 1):
            value = f"flatten({value})"
        cases += f" WHEN collection IN ({', '.join(map(parquet.text, collections))}) THEN {value}"
    return f"CASE{cases} END"


def _extend(con: _Con, view: str, columns: Sequence[Column], values: Sequence[str], source: str) -> None:
    """Let a view mean the rows of a source, with columns that are expressions of its own."""
    if columns or source != f"catalog.main.{view}":
        pairs = zip(columns, values, strict=True)
        added = "".join(f", {value} AS {parquet.quoted(column.name)}" for column, value in pairs)
        con.execute(f"CREATE OR REPLACE TEMP VIEW {view} AS SELECT *{added} FROM {source}")
