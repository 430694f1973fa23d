"""Queries: what is answered, what is refused, and in which words."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.index import sync
from catalog.output import FORMATS, write_result
from catalog.query import run_query
from cogdata.errors import CogError
from cogdata.storage.store import Store
from tests.catalog.support import collect_into

READS = "a query only reads, with SELECT, WITH, VALUES, FROM, DESCRIBE, SUMMARIZE, SHOW or EXPLAIN"
KEEP = "to keep a result choose --format csv, json or parquet"
NAME_IT = "name an intermediate result by WITH name AS (…)"
EXPLAINED = "EXPLAIN takes a statement right after it: explain [analyze] select …"
EMPTY = 'the query is empty: type SQL, for example "select env, count(*) from episodes group by 1"'
OUTSIDE = "is refused: SQL reads no files outside the store"
KNOWN = "known: collections, episodes, evaluations, features, layers, mixture_episodes, mixtures, parts, runs, steps"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store for tests that only read: 6 weak grasps and 3 placements."""
    store = Store(str(tmp_path_factory.mktemp("shop")))
    collect_into(store, "grasps", 0, 6)
    collect_into(store, "placements", 0, 3, policy="place", env="cog/PlaceTray-v0")
    sync.sync(store)
    return store


def complaint(store: Store, sql: str) -> str:
    with pytest.raises(CogError) as caught:
        run_query(store, sql)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("select count(*) as n from episodes", [{"n": 9}]),
        ("SELECT policy, count(*) n FROM episodes GROUP BY ALL ORDER BY n", [
            {"policy": "place", "n": 3}, {"policy": "weak_grasp", "n": 6}]),
        ("from collections select collection as c order by 1", [{"c": "grasps"}, {"c": "placements"}]),
        ("with a as (select 1 as x) select x + 1 as y from a", [{"y": 2}]),
        ("with recursive a as (select 1 i union all select i + 1 from a where i < 3) select max(i) m from a",
         [{"m": 3}]),
        ("values (1, 'a')", [{"col0": 1, "col1": "a"}]),
        ("(select 1 as a) union all (select 2) order by 1 desc", [{"a": 2}, {"a": 1}]),
        ("select sum(steps) as s from episodes;", [{"s": 36}]),
        ("/* why */ select 1 as a -- because", [{"a": 1}]),
        ("select count(*) n from steps", [{"n": 45}]),
        ("select count(*) n from Steps where action is null and reward is null", [{"n": 9}]),
        ("select distinct len(robot) r, len(action) a from steps where t = 0", [{"r": 10, "a": 8}]),
        ("with steps as (select 7 as t) from steps", [{"t": 7}]),
        ("select t from (select (select max(t) from steps) as t)", [{"t": 4}]),
        ("pivot episodes on policy in ('place', 'weak_grasp') using count(*) group by task",
         [{"task": "placed", "place": 3, "weak_grasp": 6}]),
        ("select 1 as a, 2 as a", [{"a": 1, "a_2": 2}]),
        ("select 12345678901234567890123::hugeint as h", [{"h": Decimal("12345678901234567890123")}]),
        ("select name from (show tables) where name = 'steps'", [{"name": "steps"}]),
        ("from range(2) t(i)", [{"i": 0}, {"i": 1}]),
        ("select policy_params->>'threshold_m' as m from episodes where episode_id = 'grasps/0000002'",
         [{"m": "0.042"}]),
    ],
)  # fmt: skip
def test_reading_statements_are_answered(shop: Store, sql: str, rows: list[dict[str, object]]) -> None:
    assert run_query(shop, sql).table.to_pylist() == rows


def test_describe_summarize_show_and_explain(shop: Store) -> None:
    described = run_query(shop, "describe episodes").table
    assert described.column_names == ["column_name", "column_type", "comment"]
    assert described.to_pylist()[0] == {
        "column_name": "episode_id",
        "column_type": "VARCHAR",
        "comment": "name in every table: <collection>/<index>",
    }
    shows = (
        "show episodes",
        "DESCRIBE episodes",
        "describe table episodes",
        "describe select * from episodes",
    )
    for sql in shows:
        assert run_query(shop, sql).table == described, sql
    partly = run_query(shop, "describe select episode_id, steps * 2 as twice from episodes").table
    assert partly.column("column_name").to_pylist() == ["episode_id", "twice"]
    summary = run_query(shop, "summarize select steps from episodes").table.to_pylist()
    assert (summary[0]["min"], summary[0]["max"], summary[0]["count"]) == ("4", "4", 9)
    scan = run_query(shop, "explain select * from base.parts").table["explain_value"][0].as_py()
    assert "SEQ SCAN" in scan.upper()
    plan = run_query(shop, "explain analyze select count(*) from steps").table["explain_value"][0].as_py()
    assert "steps.parquet" in plan or "READ_PARQUET" in plan.upper()


@pytest.mark.parametrize(
    ("sql", "line"),
    [
        ("drop table base.files", f"DROP is refused: {READS}"),
        ("delete from base.files", f"DELETE is refused: {READS}"),
        ("insert into base.files values ('a', 'b', 'c', null)", f"INSERT is refused: {READS}"),
        ("with a as (select 1) insert into base.files from a", f"INSERT is refused: {READS}"),
        ("update base.files set path = 'x'", f"UPDATE is refused: {READS}"),
        ("truncate base.files", f"TRUNCATE is refused: {READS}"),
        ("alter table base.files add column x int", f"ALTER is refused: {READS}"),
        ("comment on table base.files is 'x'", f"COMMENT is refused: {READS}"),
        ("create temp table x (i int)", f"CREATE is refused: {READS}; {NAME_IT}"),
        ("create or replace temp view v as select 1", f"CREATE is refused: {READS}; {NAME_IT}"),
        ("copy episodes to 'x.csv'", f"COPY is refused: {READS}; {KEEP}"),
        ("copy (select 1) to '/tmp/x.parquet'", f"COPY is refused: {READS}; {KEEP}"),
        ("export database 'x'", f"EXPORT is refused: {READS}; {KEEP}"),
        ("import database 'x'", f"IMPORT is refused: {READS}"),
        ("attach 'x.duckdb'", f"ATTACH is refused: {READS}"),
        ("detach catalog", f"DETACH is refused: {READS}"),
        ("use memory", f"USE is refused: {READS}"),
        ("set threads = 2", f"SET is refused: {READS}"),
        ("reset threads", f"RESET is refused: {READS}"),
        ("pragma database_list", f"PRAGMA is refused: {READS}"),
        ("call pragma_version()", f"CALL is refused: {READS}"),
        ("checkpoint", f"CHECKPOINT is refused: {READS}"),
        ("vacuum", f"VACUUM is refused: {READS}"),
        ("begin", f"BEGIN is refused: {READS}"),
        ("install httpfs", f"INSTALL is refused: {READS}"),
        ("load httpfs", f"LOAD is refused: {READS}"),
        ("prepare a as select 1", f"PREPARE is refused: {READS}"),
        ("with x as (insert into base.files values ('a','b','c',null) returning *) from x",
         f"INSERT is refused: {READS}"),
        ("with x as materialized (delete from base.files returning *) select 1",
         f"DELETE is refused: {READS}"),
        ("with x as (update base.files set path = '' returning *) from x", f"UPDATE is refused: {READS}"),
        ("with x as (copy (select 1) to 'x.csv') from x", f"COPY is refused: {READS}; {KEEP}"),
        ("select (with x as (delete from base.files returning path) select max(path) from x)",
         f"DELETE is refused: {READS}"),
        ("explain insert into base.files values ('a', 'b', 'c', null)", f"INSERT is refused: {READS}"),
        ("explain analyze copy (select 1) to 'x.csv'", f"COPY is refused: {READS}; {KEEP}"),
        ("explain analyze with x as (delete from base.files returning *) from x",
         f"DELETE is refused: {READS}"),
        ("explain (analyze) delete from base.files", EXPLAINED),
        ("explain (format json) select 1", EXPLAINED),
        ("explain (select 1)", EXPLAINED),
        ("explain analyze (select 1)", EXPLAINED),
        ("explain /* why */ select 1", EXPLAINED),
        ("explain -- why\n select 1", EXPLAINED),
        ("select 1; select 2", "one statement at a time: 2 found, separated by ';'"),
        ("", EMPTY),
        ("-- nothing", EMPTY),
        ("pivot episodes on policy using count(*)",
         "PIVOT needs its values spelled out: pivot t on source in ('prior', 'task') …"),
        ("from query('select 1')", "query() is refused after FROM: query one of collections, parts, "
         "episodes, steps, features, layers, mixtures, mixture_episodes, runs, evaluations"),
        ("from '/etc/passwd'", f"'/etc/passwd' {OUTSIDE}"),
        ("from '/etc/x.parquet'", f"'/etc/x.parquet' {OUTSIDE}"),
        ("from 'x.csv'", f"'x.csv' {OUTSIDE}"),
        ("from read_text('/etc/passwd')", f"'/etc/passwd' {OUTSIDE}"),
        ("from read_csv('/etc/passwd')", f"'/etc/passwd' {OUTSIDE}"),
        ("from read_parquet(['/etc/a.parquet'])", f"'/etc/a.parquet' {OUTSIDE}"),
        ("from glob('/etc/*')", f"'/etc/*' {OUTSIDE}"),
    ],
)  # fmt: skip
def test_everything_else_is_refused_in_one_line(shop: Store, sql: str, line: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path(shop.url).rglob("*") if path.is_file()}
    assert complaint(shop, sql) == line
    assert {path: path.stat().st_mtime_ns for path in Path(shop.url).rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "function",
    ["enable_logging()", "json_execute_serialized_sql('{}')", "query_table('episodes')", "read_duckdb('x')"],
)
def test_functions_that_do_more_than_read_are_refused(shop: Store, function: str) -> None:
    name = function.partition("(")[0]
    assert complaint(shop, f"from {function}").startswith(f"{name}() is refused after FROM: query one of ")


@pytest.mark.parametrize("name", ["main.steps", "catalog.main.steps", "base.steps", "catalog.base.Steps"])
def test_steps_has_no_prefix(shop: Store, name: str) -> None:
    line = f"{name.lower()} has no rows of its own: write steps, without a prefix"
    assert complaint(shop, f"select count(*) from {name}") == line
    assert complaint(shop, f"explain analyze select 1 where exists (from {name})") == line
    assert complaint(shop, f"summarize {name}") == line
    assert run_query(shop, "select count(*) n from main.episodes").table.to_pylist() == [{"n": 9}]


def test_a_way_out_of_the_store_is_refused(shop: Store) -> None:
    outside = f"{shop.url}/../secret.txt"
    Path(outside).resolve().write_text("secret")
    assert complaint(shop, f"from read_text('{outside}')").endswith(OUTSIDE)


HIDDEN = [
    "explain (analyze /* ) select 1 -- */) {copy}",
    "explain (analyze /* ) */) {copy}",
    "explain /* ( */ (analyze /* ) select 1 -- */) {copy}",
    "explain /* /* */ select 1 -- */ */ analyze {copy}",
    "explain analyze /* /* */ select 1 -- */ */ {copy}",
    "explain /* */ analyze {copy}",
    "explain -- analyze select 1\n analyze {copy}",
    "explain -- ) select 1\r(analyze) {copy}",
    'explain (analyze, "a)select 1--" 1) {copy}',
    "explain (analyze, format ')select 1--') {copy}",
    "explain (analyze, format $$)select 1--$$) {copy}",
    "explain (analyze, format $a$)select 1--$a$) {copy}",
    "explain (analyze, format e'\\')select 1--') {copy}",
    "explain analyze {copy}",
    "explain analyse {copy}",
    "explain\u00a0(analyze) {copy}",
    "explain analyze describe {copy}",
    "/* explain select 1 */ explain(analyze) {copy}",
    "explain analyze select 1; explain analyze {copy}",
    "explain analyze with x as ({copy}) from x",
    "explain analyze from ({copy})",
    "from (explain analyze {copy})",
    "describe {copy}",
    "describe ({copy})",
    "describe /* ) select 1 -- */ {copy}",
    "desc {copy}",
    "summarize {copy}",
    "summarize ({copy})",
    "summarize with x as ({copy}) from x",
    "show {copy}",
    "show ({copy})",
    "from (describe {copy})",
    "from (summarize {copy})",
]


@pytest.mark.parametrize("sql", HIDDEN)
def test_a_write_hides_nowhere(shop: Store, sql: str) -> None:
    target = Path(shop.url) / "mixtures" / "m" / "v1" / "stats.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("{}")
    complaint(shop, sql.format(copy=f"copy (select 1 as x) to '{target}' (format csv)"))
    assert target.read_text() == "{}"


@pytest.mark.parametrize(
    "sql",
    [
        "explain select ')' /* ( */ as a -- )",
        "/* why */ explain analyze select count(*) from episodes;",
        "explain analyze with a as (select 1 as x) from a",
        "explain values (1)",
        "EXPLAIN\n\tfrom episodes",
        "explain describe episodes",
    ],
)
def test_what_only_reads_is_explained(shop: Store, sql: str) -> None:
    assert run_query(shop, sql).table.column_names == ["explain_key", "explain_value"]


def test_the_stores_own_files_can_be_read(shop: Store) -> None:
    files = f"{shop.url}/collections/*/collection.json"
    rows = run_query(shop, f"select policy from read_json('{files}') order by 1").table
    assert rows.column("policy").to_pylist() == ["place", "weak_grasp"]


@pytest.mark.parametrize(
    ("sql", "line"),
    [
        ("selec 1", "SQL syntax error near 'selec' at line 1, column 1: check the words just before it"),
        ("select *\nfrm episodes\nwhere", "SQL syntax error near 'episodes' at line 2, column 5: check the "
         "words just before it"),
        ("select * from episodes where x = 'a", "SQL syntax error, unterminated string literal at line 1, "
         "column 34: check the words just before it"),
        ("select polcy from episodes", "unknown column 'polcy' at line 1, column 8: did you mean 'policy'?"),
        ("select 1,\n       e.sucess from episodes e",
         "unknown column 'sucess' at line 2, column 10: did you mean 'success'?"),
        ("from episods", f"unknown table 'episods': did you mean 'episodes'? {KNOWN}"),
        ("from xyzzy", f"unknown table 'xyzzy': {KNOWN}"),
        ("select coutn(*) from steps", "unknown function 'coutn' at line 1, column 8: did you mean 'count'?"),
        ("select 'x'::int", "the query failed: Could not convert string 'x' to INT32"),
    ],
)  # fmt: skip
def test_a_wrong_query_is_explained_in_one_line(shop: Store, sql: str, line: str) -> None:
    assert complaint(shop, sql) == line


def test_python_variables_are_no_tables(shop: Store) -> None:
    secret = pa.table({"a": [1]})
    assert len(secret) == 1
    assert complaint(shop, "from secret") == f"unknown table 'secret': {KNOWN}"


def test_limit_says_whether_there_was_more(shop: Store) -> None:
    for limit, more in ((0, True), (8, True), (9, False), (10, False)):
        result = run_query(shop, "select episode_id from episodes order by 1", limit=limit)
        assert (len(result.table), result.more) == (min(limit, 9), more)
    assert run_query(shop, "from range(100000000)", limit=2).table.num_rows == 2
    assert run_query(shop, "describe episodes", limit=3).more
    with pytest.raises(CogError, match=r"^limit is -1, must be 0 or more$"):
        run_query(shop, "from episodes", limit=-1)


def test_no_rows_keep_their_columns(shop: Store) -> None:
    for limit in (None, 5):
        table = run_query(shop, "select episode_id, t from steps where false", limit=limit).table
        assert table.column_names == ["episode_id", "t"]
        assert len(table) == 0


def test_steps_of_an_empty_store_is_an_empty_table(store: Store) -> None:
    assert run_query(store, "select count(*) n from steps").table.to_pylist() == [{"n": 0}]
    assert run_query(store, "from episodes").table.num_rows == 0


def test_steps_joins_collections_with_different_scenes(store: Store) -> None:
    collect_into(store, "trays", 0, 2)
    collect_into(store, "drawers", 0, 2, scene_fields=("drawer_m", "ball_x_m", "ball_y_m"))
    rows = run_query(store, "select len(scene) as n, count(*) as rows from steps group by 1 order by 1").table
    assert rows.to_pylist() == [{"n": 2, "rows": 10}, {"n": 3, "rows": 10}]


def test_parts_from_before_a_predicate_existed_have_nulls_for_it(store: Store) -> None:
    """3 episodes of 4 actions: 15 rows; one collection alone, then beside one that has the column."""
    collect_into(store, "old", 0, 3)
    for path in Path(store.url).glob("collections/old/*/steps.parquet"):
        pq.write_table(pq.read_table(path).drop_columns(["drawer_closed"]), path)
    sql = "select count(*) as rows, count(drawer_closed) as known, count(placed) as placed from steps"
    assert run_query(store, sql).table.to_pylist() == [{"rows": 15, "known": 0, "placed": 15}]
    collect_into(store, "new", 0, 1)
    assert run_query(store, sql).table.to_pylist() == [{"rows": 20, "known": 0, "placed": 20}]


def test_a_missing_steps_file_is_said_to_be_missing(tray: Store) -> None:
    sync.sync(tray)
    (Path(tray.url) / "collections" / "grasps" / "part-00000-00-11" / "steps.parquet").unlink()
    assert complaint(tray, "from steps").startswith("the steps of a part cannot be read (")
    assert run_query(tray, "select count(*) n from episodes").table.to_pylist() == [{"n": 21}]


# --- formats ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixed(shop: Store) -> pa.Table:
    return run_query(
        shop,
        "select 'a,\"b\"' as text, 1.5::decimal(4, 2) as price, 0.1::float as small, true as yes, "
        "null as none, [1, 2, 3, 4, 5, 6] as list, {'a': 1} as struct, 'nan'::double as nan, "
        "timestamp '2026-11-22 10:00:00' as at, interval 90 minute as span, 'ÿ' as letter",
    ).table


def written(table: pa.Table, format: str) -> str:
    out = io.BytesIO()
    write_result(table, format, out)
    assert not out.closed
    return out.getvalue().decode()


OBJECT = {
    "text": 'a,"b"', "price": 1.5, "small": 0.1, "yes": True, "none": None, "list": [1, 2, 3, 4, 5, 6],
    "struct": {"a": 1}, "nan": None, "at": "2026-11-22T10:00:00", "span": "0 months 0 days 5400 s",
    "letter": "ÿ",
}  # fmt: skip


def test_json_and_jsonl(mixed: pa.Table) -> None:
    assert json.loads(written(mixed, "json")) == [OBJECT]
    lines = written(pa.concat_tables([mixed, mixed]), "jsonl").splitlines()
    assert [json.loads(line) for line in lines] == [OBJECT, OBJECT]
    assert json.loads(written(mixed.slice(0, 0), "json")) == []


def test_csv(mixed: pa.Table) -> None:
    assert written(mixed, "csv") == (
        "text,price,small,yes,none,list,struct,nan,at,span,letter\n"
        '"a,""b""",1.5,0.1,true,,"[1, 2, 3, 4, 5, 6]","{""a"": 1}",,2026-11-22T10:00:00,'
        "0 months 0 days 5400 s,ÿ\n"
    )


def test_parquet_is_a_round_trip(shop: Store) -> None:
    table = run_query(shop, "from episodes").table
    out = io.BytesIO()
    write_result(table, "parquet", out)
    assert pq.read_table(pa.BufferReader(out.getvalue())) == table


def test_table_shortens_lists_and_nothing_else_off_a_terminal(mixed: pa.Table) -> None:
    header, _, row = written(mixed, "table").splitlines()
    assert header.split() == list(OBJECT)
    assert "[1, 2, 3, 4, … 6 in all]" in row
    wide = pa.table({f"column_{i}": [f"value_{i}"] for i in range(60)})
    assert "value_59" in written(wide, "table").splitlines()[2]


def test_rows_too_wide_for_a_terminal_are_shown_one_value_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    wide = pa.table({f"column_{i}": [i, 10 * i] for i in range(30)})
    lines = written(wide, "table").splitlines()
    assert len(lines) == 2 * 31
    assert lines[61].split() == ["column_29", "290"]


@pytest.mark.parametrize("format_name", FORMATS)
def test_every_format_writes_an_empty_result(format_name: str) -> None:
    out = io.BytesIO()
    write_result(pa.table({"a": pa.array([], pa.int64())}), format_name, out)
    assert (out.getvalue() == b"") == (format_name == "jsonl")


def test_an_unknown_format_is_named() -> None:
    wanted = r"^unknown format 'jsn': did you mean 'json'\? known: csv, json, jsonl, parquet, table$"
    with pytest.raises(CogError, match=wanted):
        write_result(pa.table({"a": [1]}), "jsn", io.BytesIO())


def test_parquet_is_not_written_to_a_terminal() -> None:
    class Terminal(io.BytesIO):
        def isatty(self) -> bool:
            return True

    with pytest.raises(CogError, match=r"^parquet is not for a terminal: redirect it into a file"):
        write_result(pa.table({"a": [1]}), "parquet", Terminal())


def test_what_parquet_cannot_hold_is_said(shop: Store) -> None:
    table = run_query(shop, "select interval 1 day as span").table
    with pytest.raises(CogError, match=r"^parquet cannot hold a column \(.*\): cast it in the query$"):
        write_result(table, "parquet", io.BytesIO())
