"""Episodes by name or by query, for commands that look at them one by one."""

from __future__ import annotations

import re
from typing import Any, Final

import pyarrow as pa

from catalog.query import run_query
from catalog.sync import open_indexed
from cogdata.errors import CogError
from cogdata.store import Store

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
        ids = _selected(store, asked)
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


def _selected(store: Store, sql: str) -> list[str]:
    """The episodes that a query yields, each once."""
    table = run_query(store, sql).table
    if "episode_id" not in table.column_names:
        raise CogError(
            f"the query has no column episode_id, found {', '.join(table.column_names)}: "
            f"select episode_id from episodes where …"
        )
    column = table.column("episode_id")
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise CogError(f"column episode_id is {column.type}, must be a text: take it from episodes or steps")
    ids = [name for name in dict.fromkeys(column.to_pylist()) if name is not None]
    if not ids:
        raise CogError("the query yields no episodes: loosen its condition")
    return ids


def _unknown(store: Store, name: str) -> CogError:
    with open_indexed(store) as con:
        rows = con.execute("SELECT min(episode_id) FROM episodes").fetchall()
    example = rows[0][0]
    if example is None:
        return CogError(f"unknown episode {name!r}: the store has none yet, run `cog collect` first")
    return CogError(f"unknown episode {name!r}: type COLLECTION/INDEX, for example {example}, or a query")
