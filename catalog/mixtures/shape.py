"""The two shapes that a query may be frozen from, and every check of its rows: one line says what is wrong.

* episode shape, a row per episode: ``episode_id`` [, ``source, reward, weight, t_start, t_end``];
* step shape, a row per transition that takes part: ``episode_id, t`` [, ``reward, source, weight``].

Without ``source`` all rows belong to the source ``data``. A null ``reward`` means: as collected.
"""

from __future__ import annotations

from typing import Any, Final

import duckdb
import pyarrow as pa

from catalog.index.db import plain
from cogdata.errors import CogError, unknown

DEFAULT_SOURCE: Final = "data"

SHAPES: Final = {
    "episode": ("episode_id", "source", "reward", "weight", "t_start", "t_end"),
    "step": ("episode_id", "t", "reward", "source", "weight"),
}
_SHAPE_TEXT: Final = {
    "episode": "episode_id [, source, reward, weight, t_start, t_end]",
    "step": "episode_id, t [, reward, source, weight]",
}
_SQL_TYPES: Final = {
    "episode_id": "VARCHAR", "source": "VARCHAR", "reward": "FLOAT", "weight": "DOUBLE", "t": "INTEGER",
    "t_start": "INTEGER", "t_end": "INTEGER",
}  # fmt: skip
_Con = duckdb.DuckDBPyConnection


def choose(con: _Con, table: pa.Table, *, allow_overlap: bool) -> str:
    """Check the rows of a query and put them, in all columns of the shape, into the table ``chosen``.

    Args:
        con: Open catalog.
        table: Result of the query.
        allow_overlap: Whether an episode may belong to two sources (episode shape only).

    Returns:
        "episode" or "step".

    Raises:
        CogError: The columns or rows cannot be frozen.
    """
    table = table.rename_columns([column.lower() for column in table.column_names])
    shape = _check_columns(table)
    _fill(con, table, shape)
    _check_rows(con, shape)
    _check_sources(con, shape, allow_overlap=allow_overlap)
    _check_numbers(con, shape)
    if shape == "step":
        _check_times(con)
    else:
        _check_ranges(con)
    return shape


def _check_columns(table: pa.Table) -> str:
    found = table.column_names
    if "episode_id" not in found:
        raise CogError(
            f"a mixture needs a column episode_id, found {', '.join(found)}: "
            f"select {_SHAPE_TEXT['episode']}, or {_SHAPE_TEXT['step']}"
        )
    shape = "step" if "t" in found else "episode"
    for name in found:
        if name not in SHAPES[shape]:
            hint = str(unknown("column", name, SHAPES[shape])).partition("known:")[0]
            raise CogError(f"{hint}the {shape} shape is {_SHAPE_TEXT[shape]}")
        _check_type(name, table.schema.field(name).type)
    if len(table) == 0:
        raise CogError("the query returns no rows: nothing to freeze; without --as it shows what it finds")
    return shape


def _check_type(name: str, found: pa.DataType) -> None:
    kinds = pa.types
    numeric = kinds.is_integer(found) or kinds.is_floating(found) or kinds.is_decimal(found)
    fits = {
        "VARCHAR": kinds.is_string(found) or kinds.is_large_string(found) or kinds.is_dictionary(found),
        "INTEGER": kinds.is_integer(found),
        "FLOAT": numeric or kinds.is_boolean(found),
        "DOUBLE": numeric,
    }[_SQL_TYPES[name]]
    if not fits and not kinds.is_null(found):
        raise CogError(f"column {name} is {found}, must be {_SQL_TYPES[name].lower()}: cast it in the query")


def _fill(con: _Con, table: pa.Table, shape: str) -> None:
    """Make ``chosen``: typed, with every column of the shape."""
    con.register("given", table)
    columns = []
    for name in SHAPES[shape]:
        value = f'"{name}"' if name in table.column_names else "NULL"
        if name == "source" and name not in table.column_names:
            value = f"'{DEFAULT_SOURCE}'"
        columns.append(f"CAST({value} AS {_SQL_TYPES[name]}) AS {name}")
    try:
        con.execute(f"CREATE TEMP TABLE chosen AS SELECT {', '.join(columns)} FROM given")
    except duckdb.Error as error:
        raise CogError(f"a value does not fit its column: {plain(error)}") from None
    con.unregister("given")


def _first(con: _Con, sql: str) -> tuple[Any, ...] | None:
    """The first row, and how many more there are in its column ``n``; None if there is none."""
    rows: list[tuple[Any, ...]] = con.execute(f"SELECT *, count(*) OVER () FROM ({sql}) LIMIT 1").fetchall()
    return rows[0] if rows else None


def _more(count: int) -> str:
    return f" (and {count - 1} more)" if count > 1 else ""


def _check_rows(con: _Con, shape: str) -> None:
    for name in ("episode_id", "source", *(("t",) if shape == "step" else ())):
        if row := _first(con, f"SELECT 1 FROM chosen WHERE {name} IS NULL"):
            raise CogError(f"column {name} is null in {row[1]} rows: every row needs one")
    sql = "SELECT DISTINCT episode_id FROM chosen ANTI JOIN episodes USING (episode_id) ORDER BY ALL"
    if row := _first(con, sql):
        raise CogError(f"unknown episode {row[0]!r}{_more(row[1])}: take episode_id from episodes or steps")
    key = "episode_id, source" if shape == "episode" else "episode_id, t"
    sql = f"SELECT {key}, count(*) AS times FROM chosen GROUP BY ALL HAVING times > 1 ORDER BY ALL"
    if row := _first(con, sql):
        where = f"in source {row[1]!r}" if shape == "episode" else f"at t = {row[1]}"
        raise CogError(f"episode {row[0]!r} occurs {row[2]} times {where}{_more(row[3])}: select it once")


def _check_sources(con: _Con, shape: str, *, allow_overlap: bool) -> None:
    sql = (
        "SELECT episode_id, min(source) AS a, max(source) AS b FROM chosen GROUP BY 1 HAVING a <> b "
        "ORDER BY ALL"
    )
    row = _first(con, sql)
    if row is None or (allow_overlap and shape == "episode"):
        return
    said = f"episode {row[0]!r} is in two sources, {row[1]!r} and {row[2]!r}{_more(row[3])}"
    if shape == "step":
        raise CogError(f"{said}: in the step shape an episode has one source")
    raise CogError(f"{said}: exclude it from one of them, or say --allow-overlap")


def _check_numbers(con: _Con, shape: str) -> None:
    for name, bad, rule in (
        ("reward", "isnan(reward) OR isinf(reward)", "finite, or null for as collected"),
        ("weight", "NOT weight > 0 OR isnan(weight) OR isinf(weight)", "greater than 0, or null for 1"),
    ):
        if row := _first(con, f"SELECT episode_id, {name} FROM chosen WHERE {bad} ORDER BY ALL"):
            raise CogError(f"{name} of episode {row[0]!r} is {row[1]}{_more(row[2])}: must be {rule}")
    sql = "SELECT episode_id FROM chosen GROUP BY 1 HAVING count(DISTINCT coalesce(weight, 1)) > 1 ORDER BY 1"
    if shape == "step" and (row := _first(con, sql)):
        raise CogError(
            f"weight differs within episode {row[0]!r}{_more(row[1])}: it is one number per episode"
        )


def _check_times(con: _Con) -> None:
    sql = (
        "SELECT episode_id, t, steps FROM chosen JOIN episodes USING (episode_id) "
        "WHERE t < 0 OR t >= steps ORDER BY ALL"
    )
    if row := _first(con, sql):
        last = "the last observation, no action follows it" if row[1] == row[2] else "outside the episode"
        hint = "add WHERE action IS NOT NULL" if row[1] == row[2] else f"t must be 0 to {row[2] - 1}"
        raise CogError(f"t = {row[1]} of episode {row[0]!r} is {last}{_more(row[3])}: {hint}")


def _check_ranges(con: _Con) -> None:
    sql = (
        "SELECT episode_id, coalesce(t_start, 0) AS a, coalesce(t_end, steps) AS b, steps FROM chosen "
        "JOIN episodes USING (episode_id) WHERE a < 0 OR b > steps OR a >= b ORDER BY ALL"
    )
    if row := _first(con, sql):
        raise CogError(
            f"range t_start = {row[1]}, t_end = {row[2]} of episode {row[0]!r}{_more(row[4])}: "
            f"must be 0 <= t_start < t_end <= {row[3]}"
        )
