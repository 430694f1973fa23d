"""The catalog's layout: every column documented, in agreement with cogdata's tables and with the docs."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from catalog.columns import STEPS
from catalog.guard import COLUMNS, VIEWS
from catalog.index import migrations
from catalog.query import run_query
from cogdata.errors import CogError
from cogdata.storage import collections, parts, runs
from cogdata.storage.store import Store

DOCS = Path(__file__).parents[2] / "docs" / "catalog.md"

SCHEMA_DIGESTS = {
    1: "398a63416c44f7d8",
    2: "ff17ee060ad32fb3",
    3: "4b881762e54dd35f",
    4: "0da674045a629500",
    5: "089bf6bd5ba18a73",
    6: "82712d01813e2232",
    7: "7c5e00dcafc5c8e3",
    8: "829d816106cf85d8",
    9: "e09039afd22d351a",
    10: "f6e79fb7c18add38",
    11: "6b598b908dfe0d9f",
    12: "5e2a3a0462a97d43",
    13: "6b3d59ca713fa9bb",
}
"""Layout → sha256 of schema.sql without comments and spaces."""


@pytest.fixture(scope="module")
def empty() -> Iterator[duckdb.DuckDBPyConnection]:
    con = duckdb.connect(":memory:")
    con.execute("ATTACH ':memory:' AS catalog")
    con.execute("USE catalog")
    migrations.create(con)
    yield con
    con.close()


def columns_of(con: duckdb.DuckDBPyConnection, table: str) -> list[str]:
    return [row[0] for row in con.execute(f"DESCRIBE {table}").fetchall()]


@pytest.mark.parametrize("view", VIEWS)
def test_every_column_of_every_view_has_a_one_line_comment(
    empty: duckdb.DuckDBPyConnection, view: str
) -> None:
    rows = empty.execute(
        "SELECT column_name, comment FROM duckdb_columns() WHERE database_name = 'catalog' "
        "AND schema_name = 'main' AND table_name = ? ORDER BY column_index",
        [view],
    ).fetchall()
    assert [name for name, _ in rows] == columns_of(empty, view) == list(COLUMNS[view])
    for name, comment in rows:
        assert comment, f"{view}.{name} has no comment"
        assert "\n" not in comment
        assert len(comment) <= 90


def test_the_docs_show_every_view_as_describe_does(tray: Store) -> None:
    text = DOCS.read_text(encoding="utf-8")
    for view in VIEWS:
        section = text.split(f"### `{view}`\n", 1)[1].split("\n### ", 1)[0]
        documented = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+) \|$", section, re.M)
        described = run_query(tray, f"describe {view}").table.to_pylist()
        assert documented == [tuple(row.values()) for row in described]


def test_the_tables_hold_every_column_of_cogdata(empty: duckdb.DuckDBPyConnection) -> None:
    def names(kind: type) -> set[str]:
        return {field.name for field in dataclasses.fields(kind)}

    assert set(columns_of(empty, "episodes")) == set(parts.PART_EPISODES_2.names)
    assert columns_of(empty, "steps") == STEPS.names
    assert columns_of(empty, "evaluations") == [*runs.EVALUATIONS.names, "predicates"]
    assert set(columns_of(empty, "runs")) == names(runs.RunInfo) | names(runs.RunState)
    renamed = {"name": "collection", "success_range": "success_low"}
    held = {renamed.get(name, name) for name in names(collections.CollectionInfo)} - {
        "schema_version",
        "spec",
    }
    assert set(columns_of(empty, "collections")) == held | {"success_high"}


def test_steps_has_the_columns_of_a_committed_part(tray: Store) -> None:
    path = f"collections/grasps/{parts.list_parts(tray, 'grasps')[0]}/{parts.STEPS}"
    assert tray.read_table(path).column_names == STEPS.names


def test_a_changed_layout_needs_a_new_version() -> None:
    lines = [line.split("--")[0] for line in migrations.SCHEMA_SQL.splitlines()]
    bare = "".join("".join(lines).split())
    digest = hashlib.sha256(bare.encode()).hexdigest()[:16]
    assert SCHEMA_DIGESTS[migrations.CATALOG_VERSION] == digest, (
        "schema.sql has changed: raise CATALOG_VERSION in catalog/index/migrations.py and add its digest here"
    )


def test_show_tables_lists_the_views_with_their_meaning(tray: Store) -> None:
    rows = run_query(tray, "show tables").table.to_pylist()
    assert [row["name"] for row in rows] == list(VIEWS)
    assert rows[2]["comment"] == "one row per committed episode"


def test_a_query_on_a_folder_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(CogError, match=r"^there is no store at .*/nowhere: run `cog collect` first, or name "
                                       r"another with --root$"):  # fmt: skip
        run_query(Store(str(tmp_path / "nowhere")), "from episodes")
