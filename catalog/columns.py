"""Columns of ``steps``: those that every step has, and the union of what the collections declare.

Each collection says which columns its files have. One name may have several types: numbers widen to the
smallest type that holds them all. Types that have none in common make a column that cannot be read, and says
so; all others can.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import duckdb
import pyarrow as pa

from catalog.index.migrations import SCHEMA_SQL
from cogdata.features import Feature, Per
from cogdata.schema import PREDICATES

_FLOATS: Final = pa.list_(pa.float32())

STEPS: Final = pa.schema(
    [
        ("episode_id", pa.string()),
        ("t", pa.int32()),
        ("robot", _FLOATS),
        ("scene", _FLOATS),
        ("action", _FLOATS),
        ("reward", pa.float32()),
        ("terminated", pa.bool_()),
        ("truncated", pa.bool_()),
        ("phase", pa.string()),
        *((name, pa.bool_()) for name in PREDICATES),
    ]
)
"""Columns of layout 1; the lists of different collections may have different lengths."""

HEAD: Final = ("episode_id", "t")
TAIL: Final = ("action", "reward", "terminated", "truncated", "phase")
"""Columns of every step, before and behind the features; predicates come last."""

_SCALARS: Final = {
    "uint8": pa.uint8(), "uint16": pa.uint16(), "int32": pa.int32(), "int64": pa.int64(),
    "float16": pa.float32(), "float32": pa.float32(), "float64": pa.float64(),
    "bool": pa.bool_(), "string": pa.string(),
}  # fmt: skip
"""Type of a feature → type of its column; DuckDB reads float16 as FLOAT."""

_SQL: Final = {
    pa.uint8(): "UTINYINT", pa.uint16(): "USMALLINT", pa.int32(): "INTEGER", pa.int64(): "BIGINT",
    pa.float32(): "FLOAT", pa.float64(): "DOUBLE", pa.bool_(): "BOOLEAN", pa.string(): "VARCHAR",
}  # fmt: skip
_INTEGERS: Final = (pa.uint8(), pa.uint16(), pa.int32(), pa.int64())
_SHOWN: Final = 3

_HELP: Final = {
    name: text.replace("''", "'")
    for name, text in re.findall(r"COMMENT ON COLUMN steps\.(\w+) IS '((?:[^']|'')*)';", SCHEMA_SQL)
}
_JUDGED: Final = "on this observation; null: not in scene, or not judged"
_Con = duckdb.DuckDBPyConnection


@dataclass(frozen=True)
class Column:
    """A column of a view.

    Attributes:
        name: Its name.
        types: Its type; several where they have none in common, and then it cannot be read.
        help: What it is.
        clash: Why it cannot be read, or "".
    """

    name: str
    types: tuple[pa.DataType, ...]
    help: str
    clash: str = ""

    @property
    def sql_type(self) -> str:
        """Its type, in DuckDB's words."""
        return " or ".join(map(sql_type, self.types))


def step_columns(con: _Con) -> tuple[Column, ...]:
    """Return the columns of ``steps``; without any collection those of layout 1.

    Args:
        con: Open catalog.
    """
    return joined(file_columns(con))


def joined(declared: Mapping[str, Sequence[Column]]) -> tuple[Column, ...]:
    """Return the union of what collections declare.

    Args:
        declared: Collection → its columns, as :func:`file_columns` gives them.
    """
    found: dict[str, dict[str, Column]] = {}
    for name, columns in declared.items():
        for column in columns:
            found.setdefault(column.name, {})[name] = column
    if not found:
        return _layout1()
    return tuple(union("steps", name, found[name]) for name in _order(declared.values()) if name in found)


def _order(declared: Iterable[Sequence[Column]]) -> list[str]:
    """Core columns, features and predicates, each in the order in which they are declared first."""
    features: dict[str, None] = {}
    predicates: dict[str, None] = {}
    for columns in declared:
        names = [column.name for column in columns]
        last = names.index(TAIL[-1])
        features |= dict.fromkeys(name for name in names[:last] if name not in (*HEAD, *TAIL))
        predicates |= dict.fromkeys(names[last + 1 :])
    return [*HEAD, *features, *TAIL, *(name for name in predicates if name not in features)]


def file_columns(con: _Con) -> dict[str, tuple[Column, ...]]:
    """Return the columns of each collection's files of steps: layout 1 first, then by name.

    A collection of layout 2 whose declaration cannot be read has only those that every step has.

    Args:
        con: Open catalog.
    """
    declared: dict[str, list[tuple[str, Feature]]] = {}
    sql = (
        "SELECT collection, role, feature, dtype, shape, per, names, low, high, help FROM base.features "
        "WHERE codec = '' AND per <> 'episode' ORDER BY collection, position"
    )
    for collection, role, name, dtype, shape, per, names, low, high, text in con.execute(sql).fetchall():
        feature = Feature(
            name, dtype, tuple(shape), Per(per), tuple(names), low and tuple(low), high and tuple(high),
            help=text,
        )  # fmt: skip
        declared.setdefault(collection, []).append((role, feature))
    others = con.execute(
        "SELECT collection, bool_or(observations IS NOT NULL) FROM (SELECT collection, NULL AS observations "
        "FROM base.collections UNION ALL SELECT collection, observations FROM base.episodes) "
        "WHERE collection NOT IN (SELECT collection FROM base.features) GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    found = {name: _undeclared() if is_layout2 else _layout1() for name, is_layout2 in others}
    return found | {name: _declared(roles) for name, roles in declared.items()}


def _layout1() -> tuple[Column, ...]:
    return tuple(Column(one.name, (one.type,), _HELP.get(one.name, "")) for one in STEPS)


def _undeclared() -> tuple[Column, ...]:
    return tuple(one for one in _layout1() if one.name in (*HEAD, *TAIL) and one.name != "action")


def _declared(roles: Sequence[tuple[str, Feature]]) -> tuple[Column, ...]:
    """Columns in the order of a file: observations and extras, what is done, predicates."""
    core = {column.name: column for column in _layout1() if column.name in (*HEAD, *TAIL)}
    features, predicates = [], []
    for role, feature in roles:
        column = Column(feature.name, (arrow_type(feature),), feature.help or feature.describe())
        if role == "action":
            core["action"] = column
        elif role == "reward":
            core["reward"] = Column("reward", column.types, core["reward"].help)
        elif role == "predicate":
            text = _HELP.get(feature.name, _JUDGED) if feature.name in PREDICATES else _JUDGED
            predicates.append(Column(feature.name, column.types, text))
        else:
            features.append(column)
    return (*(core[name] for name in HEAD), *features, *(core[name] for name in TAIL), *predicates)


# --- types -----------------------------------------------------------------------------------------------


def arrow_type(feature: Feature) -> pa.DataType:
    """Return the type of a feature's column; more than one dimension is flattened to a list."""
    return pa.list_(_SCALARS[feature.dtype]) if feature.shape else _SCALARS[feature.dtype]


def sql_type(kind: pa.DataType) -> str:
    """Return a column's type in DuckDB's words."""
    return f"{_SQL[kind.value_type]}[]" if pa.types.is_list(kind) else _SQL[kind]


def union(view: str, name: str, columns: dict[str, Column]) -> Column:
    """Join the columns of one name.

    Args:
        view: What they are columns of.
        name: Their name.
        columns: Collection → its column.
    """
    by_type: dict[pa.DataType, list[str]] = {}
    for collection, column in columns.items():
        for kind in column.types:
            by_type.setdefault(kind, []).append(collection)
    helps = list(dict.fromkeys(column.help for column in columns.values()))
    text = " | ".join(helps[:_SHOWN]) + (" | …" if len(helps) > _SHOWN else "")
    if (kind := widened(list(by_type))) is not None:
        return Column(name, (kind,), text)
    said = " and ".join(f"{sql_type(kind)} in {_listed(names)}" for kind, names in by_type.items())
    clash = f"column {name} of {view} is {said}, which no type holds both of: leave it out"
    return Column(name, tuple(by_type), text, f"{clash}, as in select * exclude ({name}) from {view}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (" …" if len(names) > _SHOWN else "")


def widened(kinds: Sequence[pa.DataType]) -> pa.DataType | None:
    """Return the smallest type that holds all of these, or None.

    Beside lists of numbers a number is a list of one: a Discrete action shares its column with those of arms.
    """
    if len(set(kinds)) == 1:
        return kinds[0]
    numbers = (*_INTEGERS, pa.float32(), pa.float64())
    if any(pa.types.is_list(kind) for kind in kinds):
        if not all(pa.types.is_list(kind) or kind in numbers for kind in kinds):
            return None
        inner = widened([kind.value_type if pa.types.is_list(kind) else kind for kind in kinds])
        return None if inner is None else pa.list_(inner)
    if all(kind in _INTEGERS for kind in kinds):
        return max(kinds, key=_INTEGERS.index)
    return pa.float64() if all(kind in numbers for kind in kinds) else None
