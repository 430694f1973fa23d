"""Episodes by name or by query, for commands that look at them one by one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa

from catalog.index.parquet import quoted
from catalog.index.sync import open_indexed
from catalog.query import open_query
from cogdata.errors import CogError
from cogdata.storage.store import Store

_STATEMENT: Final = re.compile(r"[\s(]*(select|with|from|values)\b", re.I)
"""How a query begins, as against a condition."""

_ID: Final = re.compile(r"([a-z0-9][a-z0-9_-]*)/(\d{1,7})")


def find_episodes(store: Store, asked: str, limit: int) -> tuple[list[dict[str, Any]], bool]:
    """Return the rows of ``episodes`` that are meant.

    Args:
        store: Which store.
        asked: An episode_id, whose index may be short (``place-01530311/42``), or a query that yields
            episode_id.
        limit: Most episodes to return, at least 1.

    Returns:
        The rows, in the order of the query, each episode once; and whether there are more.

    Raises:
        CogError: No such episode, or the query is wrong or yields none.
    """
    if limit < 1:
        raise CogError(f"--limit is {limit}, must be at least 1")
    match = _ID.fullmatch(asked.strip())
    if match:
        ids = [f"{match[1]}/{int(match[2]):07d}"]
    elif re.search(r"\s", asked.strip()):
        ids = _selected(store, asked, limit + 1)
    else:
        raise _unknown(store, asked)
    with open_indexed(store) as con:
        sql = "SELECT * FROM episodes WHERE episode_id IN (SELECT unnest($ids))"
        table = con.sql(sql, params={"ids": ids[:limit]}).to_arrow_table()
    found = {row["episode_id"]: row for row in table.to_pylist()}
    for name in ids[:limit]:
        if name not in found:
            raise _unknown(store, name)
    return [found[name] for name in ids[:limit]], len(ids) > limit


def choose_episodes(store: Store, where: str | None, columns: Sequence[str]) -> pa.Table:
    """Return columns of the episodes that are meant, sorted by name.

    Args:
        store: Which store.
        where: A condition on ``episodes``, or a query that yields episode_id; None: all.
        columns: Of ``episodes``.

    Raises:
        CogError: The SQL is wrong or yields none.
    """
    names = ", ".join(map(quoted, columns))
    if where is None:
        with open_indexed(store) as con:
            table = con.sql(f"SELECT {names} FROM episodes ORDER BY episode_id").to_arrow_table()
        if not len(table):
            raise CogError("the store has no episodes yet: run `cog collect` first")
        return table
    whole = _STATEMENT.match(where) is not None
    ids = _selected(store, where if whole else f"select episode_id from episodes where (\n{where}\n)")
    with open_indexed(store) as con:
        sql = f"SELECT {names} FROM episodes WHERE episode_id IN (SELECT unnest($ids)) ORDER BY episode_id"
        table = con.sql(sql, params={"ids": ids}).to_arrow_table()
    if len(table) != len(ids):
        known = set(table["episode_id"].to_pylist()) if "episode_id" in columns else set()
        raise _unknown(store, next(name for name in ids if name not in known))
    return table


def _selected(store: Store, sql: str, most: int | None = None) -> list[str]:
    """The first episodes that a query yields, each once; None: all."""
    ids: dict[str, None] = {}
    with open_query(store, sql) as reader:
        names = reader.schema.names
        if "episode_id" not in names:
            raise CogError(
                f"the query has no column episode_id, found {', '.join(names)}: "
                f"select episode_id from episodes where …"
            )
        place = names.index("episode_id")
        kind = reader.schema.field(place).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise CogError(f"column episode_id is {kind}, must be a text: take it from episodes or steps")
        for batch in reader:
            ids |= dict.fromkeys(batch.column(place).drop_null().to_pylist())
            if most is not None and len(ids) >= most:
                break
    if not ids:
        raise CogError("the query yields no episodes: loosen its condition")
    return list(ids)[:most]


def _unknown(store: Store, name: str) -> CogError:
    with open_indexed(store) as con:
        rows = con.execute("SELECT min(episode_id) FROM episodes").fetchall()
    example = rows[0][0]
    if example is None:
        return CogError(f"unknown episode {name!r}: the store has none yet, run `cog collect` first")
    return CogError(f"unknown episode {name!r}: type COLLECTION/INDEX, for example {example}, or a query")
