"""What a query may be: one statement that reads. And what DuckDB says about a wrong one, in one line.

DuckDB's ``read_only`` stops neither ``COPY … TO`` nor temporary tables, and a CTE that hides an INSERT calls
itself a SELECT; so the nodes of the parsed statement are looked at, one by one. Files outside the store are
refused by DuckDB itself (``allowed_directories``, see :mod:`catalog.query`).
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import duckdb

from catalog.index.db import plain
from catalog.index.migrations import SCHEMA_SQL
from cogdata.errors import CogError, unknown

VIEWS: Final = (
    "collections", "parts", "episodes", "steps", "features", "layers", "mixtures", "mixture_episodes", "runs",
    "evaluations",
)  # fmt: skip
"""What users query."""

READING: Final = "SELECT, WITH, VALUES, FROM, DESCRIBE, SUMMARIZE, SHOW or EXPLAIN"

COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    view: tuple(re.findall(rf'COMMENT ON COLUMN {view}\."?(\w+)', SCHEMA_SQL)) for view in VIEWS
}
"""View → its columns, in the order of schema.sql."""

TABLE_FUNCTIONS: Final = frozenset(
    (
        "range", "generate_series", "unnest", "repeat", "repeat_row", "json_each", "json_tree", "glob",
        "read_parquet", "parquet_scan", "parquet_metadata", "parquet_schema", "parquet_file_metadata",
        "read_csv", "read_csv_auto", "sniff_csv", "read_json", "read_json_auto", "read_ndjson",
        "read_ndjson_auto", "read_json_objects", "read_ndjson_objects", "read_text", "read_blob",
        "duckdb_columns", "duckdb_tables", "duckdb_views", "duckdb_functions", "duckdb_types",
        "duckdb_keywords", "duckdb_settings", "pragma_table_info", "pragma_version",
    )
)  # fmt: skip
"""Functions after FROM that only read; others run SQL of their own or change the session."""

_HINTS: Final = {
    "COPY": "to keep a result choose --format csv, json or parquet",
    "EXPORT": "to keep a result choose --format csv, json or parquet",
    "CREATE": "name an intermediate result by WITH name AS (…)",
}
_STAR_KEYS: Final = {"class", "type", "query_location", "query_location_length"}
_ALL_COLUMNS: Final = frozenset({"STAR", "SHOW_REF", "PIVOT", "NATURAL"})
_TABLES: Final = frozenset({"BASE_TABLE", "SUBQUERY", "TABLE_FUNCTION"})
_PLAIN_NODES: Final = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_COMMENTS: Final = r"(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/)*"
_EXPLAIN: Final = re.compile(r"explain\s+(?:(analy[sz]e)\b\s*)?+(?=[a-z])", re.I | re.A)
_EXPLAINED: Final = frozenset({"SELECT", "WITH", "VALUES", "FROM", "DESCRIBE", "DESC", "SUMMARIZE", "SHOW"})
_FIRST_WORD: Final = re.compile(rf"{_COMMENTS}\(*\s*(\w+)", re.S)


@dataclass(frozen=True)
class Statement:
    """One statement that only reads.

    Attributes:
        sql: Its text, as it was checked: run this and nothing else.
        tables: Names after FROM and JOIN, lower case.
        describes: View that it describes and nothing else (``describe episodes``), or None.
        lists_tables: Whether it is ``show tables``.
        columns: Names of the columns that it may read, lower case; None: any.
    """

    sql: str
    tables: frozenset[str]
    describes: str | None
    lists_tables: bool
    columns: frozenset[str] | None = None

    def reads(self, column: str) -> bool:
        """Whether it may read a column of this name."""
        return self.columns is None or column in self.columns


def check(con: duckdb.DuckDBPyConnection, sql: str) -> Statement:
    """Accept one reading statement.

    Args:
        con: Any connection; it only parses.
        sql: What the user typed.

    Raises:
        CogError: It is empty, wrong, more than one statement, or does more than read.
    """
    try:
        statements = con.extract_statements(sql)
    except duckdb.Error as error:
        raise translate(error, sql) from None
    if not statements:
        raise CogError(
            'the query is empty: type SQL, for example "select env, count(*) from episodes group by 1"'
        )
    if len(statements) > 1:
        raise CogError(f"one statement at a time: {len(statements)} found, separated by ';'")
    kind, text = statements[0].type, statements[0].query
    prefix = ""
    if kind == duckdb.StatementType.EXPLAIN:
        prefix, text = _explained(con, text)
    elif kind == duckdb.StatementType.MULTI:
        raise CogError("PIVOT needs its values spelled out: pivot t on source in ('prior', 'task') …")
    elif kind != duckdb.StatementType.SELECT:
        verb = _verb(text)
        raise _refused(kind.name if verb == "WITH" else verb)
    tree = _parsed(con, text)
    nodes = list(_nodes(tree))
    for node in nodes:
        _check_node(node)
    names = frozenset(
        str(node["table_name"]).lower() for node in nodes if node.get("type") in ("BASE_TABLE", "SHOW_REF")
        and node.get("table_name")
    )  # fmt: skip
    shown = _shown(tree) if kind == duckdb.StatementType.SELECT else None
    described = shown if shown in VIEWS else None
    return Statement(prefix + text, names, described, shown == '"tables"', _columns(nodes))


def _columns(nodes: Sequence[Mapping[str, Any]]) -> frozenset[str] | None:
    """Names of columns in a statement; None where it may read columns that it does not name."""
    named: set[str] = set()
    rows: set[str] = set()  # names of tables: as a column such a name is the whole row
    for node in nodes:
        kinds = {node.get("type"), node.get("class"), node.get("ref_type")}
        if kinds & _ALL_COLUMNS:
            return None
        for key in ("column_names", "using_columns"):
            named |= {str(name).lower() for name in node.get(key, ())}
        if kinds & _TABLES:
            rows |= {str(node[key]).lower() for key in ("table_name", "alias") if node.get(key)}
    alone = {str(node["column_names"][0]).lower() for node in nodes if len(node.get("column_names", ())) == 1}
    return None if alone & rows else frozenset(named)


def _explained(con: duckdb.DuckDBPyConnection, text: str) -> tuple[str, str]:
    """Take an EXPLAIN apart: the prefix to run, in our words, and the statement that it explains.

    The statement has to stand right after the prefix: no comment and no list of options comes between,
    so what is checked is what DuckDB explains.
    """
    match = _EXPLAIN.match(text)
    if not match:
        raise CogError("EXPLAIN takes a statement right after it: explain [analyze] select …")
    body = text[match.end() :]
    try:
        statements = con.extract_statements(body)
    except duckdb.Error:
        raise _refused(_verb(body)) from None
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise _refused(_verb(body))
    body = statements[0].query
    if _verb(body) not in _EXPLAINED:
        raise _refused(_verb(body))
    return "EXPLAIN ANALYZE " if match[1] else "EXPLAIN ", body


def _verb(text: str) -> str:
    match = _FIRST_WORD.match(text)
    return match[1].upper() if match else "this statement"


def _refused(verb: str) -> CogError:
    hint = f"; {_HINTS[verb]}" if verb in _HINTS else ""
    return CogError(f"{verb} is refused: a query only reads, with {READING}{hint}")


def _parsed(con: duckdb.DuckDBPyConnection, text: str) -> dict[str, Any]:
    options = "skip_default := true, skip_null := true, skip_empty := true"
    rows = con.execute(f"SELECT json_serialize_sql($sql::VARCHAR, {options})", {"sql": text}).fetchall()
    tree: dict[str, Any] = json.loads(rows[0][0])
    if tree.get("error"):
        raise _refused(_verb(text))
    return tree


def _nodes(value: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401  (any JSON)
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _nodes(item)


def _check_node(node: dict[str, Any]) -> None:
    kind = str(node.get("type", ""))
    if kind.endswith("_NODE") and kind not in _PLAIN_NODES:
        raise _refused(kind.split("_")[0])
    path = [str(name).lower() for name in node.get("qualified_name", {}).get("path", ())]
    if kind == "BASE_TABLE" and len(path) > 1 and path[-1] == "steps" and path[0] != "temp":
        raise CogError(f"{'.'.join(path)} has no rows of its own: write steps, without a prefix")
    if kind == "TABLE_FUNCTION":
        name = str(node["function"]["function_name"]).lower()
        if name not in TABLE_FUNCTIONS:
            raise CogError(f"{name}() is refused after FROM: query one of {', '.join(VIEWS)}")


def _shown(tree: dict[str, Any]) -> str | None:
    """The table that the whole statement describes or shows, if it does nothing else."""
    source = tree["statements"][0]["node"].get("from_table", {})
    if source.get("type") != "SHOW_REF" or source.get("show_type") == "SUMMARY":
        return None
    if "table_name" in source:
        return str(source["table_name"]).lower()
    query = source.get("query", {})
    plain = {"type", "cte_map", "select_list", "from_table", "aggregate_handling"}
    stars = query.get("select_list", [])
    whole = set(query) <= plain and len(stars) == 1 and not set(stars[0]) - _STAR_KEYS
    table = query.get("from_table", {})
    if whole and stars[0].get("type") == "STAR" and table.get("type") == "BASE_TABLE":
        return str(table["table_name"]).lower()
    return None


# --- what DuckDB says, in one line -----------------------------------------------------------------------

_QUOTED: Final = r'"((?:[^"]|"")*)"'
_NEAR: Final = re.compile(rf"at or near {_QUOTED}")
_NO_TABLE: Final = re.compile(r"Table with name (.+?) does not exist")
_NO_COLUMN: Final = re.compile(rf"(?:Referenced column {_QUOTED}|have a column named {_QUOTED})")
_NO_FUNCTION: Final = re.compile(r"(?:Function|Macro) with name (\S+) does not exist")
_MAYBE: Final = re.compile(r'(?:Candidate bindings: :?|Did you mean )\s*(".*)', re.S)
_FORBIDDEN: Final = re.compile(rf"Cannot access (?:file|directory) {_QUOTED}")


def translate(error: duckdb.Error, sql: str) -> CogError:
    """Turn DuckDB's complaint about a query into one line: what, where, what to type instead.

    Args:
        error: What DuckDB raised.
        sql: The query.
    """
    message, _, marked = str(error).partition("\n\nLINE ")
    message = message.partition(": ")[2] or message
    if isinstance(error, duckdb.ParserException):
        return _syntax(message, marked, sql)
    if match := _FORBIDDEN.search(message):
        return _forbidden(match[1])
    if match := _NO_TABLE.search(message):
        name = match[1].strip('"')
        return _forbidden(name) if "/" in name else unknown("table", name, VIEWS)
    if match := _NO_COLUMN.search(message):
        name = match[1] or match[2]
        return CogError(f"unknown column {name!r}{_where(name, sql)}{_suggestions(message, name)}")
    if match := _NO_FUNCTION.search(message):
        return CogError(f"unknown function {match[1]!r}{_where(match[1], sql)}{_suggestions(message)}")
    return CogError(f"the query failed: {plain(error)}")


def _forbidden(path: str) -> CogError:
    return CogError(f"{path!r} is refused: SQL reads no files outside the store")


def _syntax(message: str, marked: str, sql: str) -> CogError:
    match = _NEAR.search(message)
    what = f"SQL syntax error near {match[1]!r}" if match else f"SQL syntax error, {message}"
    place = _caret(marked) or (_where(match[1], sql) if match else "")
    return CogError(f"{what}{place}: check the words just before it")


def _caret(marked: str) -> str:
    """Where the caret under DuckDB's excerpt points; unless the excerpt leaves out its beginning."""
    number, _, rest = marked.partition(": ")
    text, _, pointer = rest.partition("\n")
    if "^" not in pointer or text.startswith("..."):
        return ""
    column = pointer.index("^") - len(f"LINE {number}: ") + 1
    return f" at line {number}, column {column}"


def _where(word: str, sql: str) -> str:
    match = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", sql, re.I)
    if not match:
        return ""
    line = sql.count("\n", 0, match.start()) + 1
    return f" at line {line}, column {match.start() - sql.rfind(chr(10), 0, match.start())}"


def _suggestions(message: str, column: str = "") -> str:
    known = {name for view in COLUMNS.values() for name in view}
    names = difflib.get_close_matches(column, known, n=1) if column else []
    match = _MAYBE.search(message)
    if match and not names:
        names = [name.split(" or ")[0] for name in re.findall(_QUOTED, match[1])[:3]]
    return f": did you mean {' or '.join(repr(name) for name in names)}?" if names else ""
