"""The layout of the catalog file: making a new one, and judging the one that is there.

The catalog is an index: there is nothing in it that the files do not say. So there is no step-by-step
migration; a catalog of another layout is made anew from the files.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Final

import duckdb

import cogdata
from catalog.index.features import layout1_rows

CATALOG_VERSION: Final = 13
"""Layout of ``schema.sql``; raised with every change there."""

SCHEMA_SQL: Final = files("catalog.index").joinpath("schema.sql").read_text(encoding="utf-8")


def create(con: duckdb.DuckDBPyConnection) -> None:
    """Create the tables and views of an empty catalog.

    Args:
        con: Connection whose current database is the empty catalog.
    """
    con.execute("BEGIN")
    con.execute(SCHEMA_SQL)
    con.execute("INSERT INTO base.meta VALUES (?, ?)", [CATALOG_VERSION, cogdata.__version__])
    con.register("layout1_rows", layout1_rows())
    con.execute("INSERT INTO base.layout1 BY NAME SELECT * FROM layout1_rows")
    con.unregister("layout1_rows")
    con.execute("COMMIT")


def version(con: duckdb.DuckDBPyConnection) -> int:
    """Return the layout that a catalog has.

    Args:
        con: Connection whose current database is the catalog.

    Returns:
        Its version; 0 if it is a database of something else, or unfinished.
    """
    try:
        rows = con.execute("SELECT catalog_version FROM base.meta").fetchall()
    except duckdb.CatalogException:
        return 0
    return int(rows[0][0]) if len(rows) == 1 else 0
