"""A column that a file lacks is null, one that this version does not know is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from catalog import columns
from catalog.doctor import verify
from catalog.index import migrations
from catalog.index.sync import rebuild
from catalog.mixtures.mixture import freeze
from catalog.query import run_query
from cogdata.errors import CogError
from cogdata.storage import manifest, parts, runs
from cogdata.storage.columns import conform
from cogdata.storage.parts import PartWriter
from cogdata.storage.store import Store
from tests.catalog.support import collect_into, write_evaluation, write_run_of

GRIPPER = pa.field("gripper", pa.string())
TABLES = ("episodes", "steps", "mixture_episodes", "evaluations")


def test_a_whole_number_beyond_floats_becomes_the_nearest_one() -> None:
    table = pa.table({"action": pa.array([2**53 + 1, -7]), "t_ns": pa.array([[2**60 + 1]] * 2)})
    schema = pa.schema([("action", pa.list_(pa.float64())), ("t_ns", pa.list_(pa.float64()))])
    made = conform(table, schema)
    assert made.column("action").to_pylist() == [[float(2**53)], [-7.0]]
    assert made.column("t_ns").to_pylist() == [[float(2**60)]] * 2
    with pytest.raises(pa.ArrowInvalid):
        conform(table, pa.schema([("action", pa.int32()), ("t_ns", pa.list_(pa.int64()))]))


@pytest.fixture(params=["local", "remote"])
def old(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tray: Store
) -> Store:
    """A store of this version's files, with a mixture and an evaluation."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store = tray
    if request.param == "remote":
        store = Store(f"memory://columns/{tmp_path.name}")
        for path in sorted(Path(tray.url).rglob("*")):
            if path.is_file():
                store.write_bytes(str(path.relative_to(tray.url)), path.read_bytes())
    info = freeze(store, "mix", "select episode_id from episodes").info
    write_run_of(store, "run-1", info)
    write_evaluation(store, "run-1", "final", [True, False])
    return store


def add_column(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a new version does: a column ``gripper`` of four tables, and a new layout."""
    monkeypatch.setattr(parts, "PART_EPISODES", parts.PART_EPISODES.append(GRIPPER))
    monkeypatch.setattr(manifest, "EPISODES", manifest.EPISODES.append(GRIPPER))
    monkeypatch.setattr(runs, "EVALUATIONS", runs.EVALUATIONS.append(GRIPPER))
    monkeypatch.setattr(columns, "STEPS", columns.STEPS.append(GRIPPER))
    sql = migrations.SCHEMA_SQL
    for table in TABLES:
        head = f"CREATE TABLE base.{table} ("
        assert sql.count(head) == 1
        sql = sql.replace(head, f"{head}gripper VARCHAR,")
    monkeypatch.setattr(migrations, "SCHEMA_SQL", sql)
    monkeypatch.setattr(migrations, "CATALOG_VERSION", migrations.CATALOG_VERSION + 1)


def rows_of(store: Store, table: str) -> list[dict[str, Any]]:
    return run_query(store, f"from {table} order by all").table.to_pylist()  # type: ignore[no-any-return]


def test_a_new_column_is_null_for_old_files(old: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {table: rows_of(old, table) for table in TABLES}
    assert {table: len(rows) for table, rows in before.items()} == {
        "episodes": 21, "steps": 105, "mixture_episodes": 21, "evaluations": 2,
    }  # fmt: skip
    add_column(monkeypatch)
    for table in TABLES:
        found = rows_of(old, table)
        assert {row.pop("gripper") for row in found} == {None}
        assert sorted(found, key=repr) == sorted(before[table], key=repr)
    assert manifest.read_manifest(old, "mix").episodes["gripper"].to_pylist() == [None] * 21
    assert not freeze(old, "mix", "select episode_id from episodes").created
    assert verify(old) == []


def write_new(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Add two episodes of a version that knows one column more."""
    row = PartWriter._row
    schema = parts.PART_EPISODES
    with monkeypatch.context() as patch:
        patch.setattr(PartWriter, "_row", lambda *args: row(*args) | {"gripper": "soft"})
        if "gripper" not in schema.names:
            patch.setattr(parts, "PART_EPISODES", schema.append(GRIPPER))
        collect_into(store, "grasps", 12, 14)


def test_old_and_new_files_are_read_together(old: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    add_column(monkeypatch)
    write_new(old, monkeypatch)
    sql = "select gripper, count(*) as n from episodes group by all order by all"
    assert run_query(old, sql).table.to_pylist() == [
        {"gripper": "soft", "n": 2},
        {"gripper": None, "n": 21},
    ]
    assert verify(old) == []


def test_a_column_of_a_newer_version_is_left_out(old: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = run_query(old, "from episodes").table.column_names
    write_new(old, monkeypatch)
    assert run_query(old, "from episodes").table.column_names == columns
    assert len(rows_of(old, "episodes")) == 23
    assert verify(old) == []


@pytest.mark.parametrize("column", ["filename", "file", "shadowed"])
def test_an_unknown_column_of_a_name_that_is_used_here_does_no_harm(tray: Store, column: str) -> None:
    before = rows_of(tray, "episodes")
    path = "collections/grasps/part-00000-00-11/episodes.parquet"
    table = tray.read_table(path)
    tray.write_table(path, table.append_column(column, pa.array(["x"] * len(table))))
    rebuild(tray)
    assert rows_of(tray, "episodes") == before


def test_a_table_of_something_else_is_a_problem_and_the_rest_is_there(tray: Store) -> None:
    tray.write_table("collections/grasps/part-00000-00-11/episodes.parquet", pa.table({"x": [1]}))
    report = rebuild(tray)
    assert len(rows_of(tray, "episodes")) == 9
    assert len(report.problems) == 1
    assert report.problems[0].endswith("a row has no episode_id): run `cog data verify`")


@pytest.mark.parametrize("column", ["shard", "digest", "steps"])
def test_a_mixture_without_a_column_that_every_version_wrote_is_damaged(tray: Store, column: str) -> None:
    freeze(tray, "mix", "select episode_id from episodes")
    path = "mixtures/mix/v1/episodes.parquet"
    tray.write_table(path, tray.read_table(path).drop_columns([column]))
    with pytest.raises(CogError, match="is damaged: restore it, or remove mixtures/mix/v1"):
        manifest.read_manifest(tray, "mix")
