"""Columns that ``episodes`` and ``evaluations`` have beyond those of every store: what collections declare.

A feature per episode is a column of ``episodes``, a predicate one of ``evaluations``. A name that the view
itself uses stays what it is; the declared value is then in ``episodes.extras`` or ``evaluations.predicates``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import duckdb
import pyarrow as pa

from catalog.columns import Column, arrow_type, step_columns, union
from catalog.guard import COLUMNS
from catalog.index import parquet
from cogdata.features import Feature, Per

_LAST: Final = "on the last observation; null: not in scene, or not judged"
_Con = duckdb.DuckDBPyConnection


def add_episodes(con: _Con) -> tuple[Column, ...]:
    """Give ``episodes`` a column for each feature per episode, in this connection.

    Args:
        con: Open catalog.

    Returns:
        The columns that it has beyond those of every store.
    """
    declared = _per_episode(con)
    columns = tuple(
        union("episodes", name, {one: _column(feature) for one, feature in features.items()})
        for name, features in declared.items()
    )
    values = [_value(column, declared[column.name]) for column in columns]
    _extend(con, "episodes", columns, values)
    return columns


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
    _extend(con, "evaluations", columns, [f"predicates[{parquet.text(name)}]" for name in new])
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
    more = {"steps": step_columns, "episodes": add_episodes, "evaluations": add_evaluations}
    if view in more:
        rows += [(column.name, column.sql_type, column.help) for column in more[view](con)]
    names = ("column_name", "column_type", "comment")
    return pa.table({name: [row[place] for row in rows] for place, name in enumerate(names)})


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


def _extend(con: _Con, view: str, columns: Sequence[Column], values: Sequence[str]) -> None:
    if columns:
        pairs = zip(columns, values, strict=True)
        added = ", ".join(f"{value} AS {parquet.quoted(column.name)}" for column, value in pairs)
        con.execute(f"CREATE OR REPLACE TEMP VIEW {view} AS SELECT *, {added} FROM catalog.main.{view}")
