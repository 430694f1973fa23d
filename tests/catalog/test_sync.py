"""Sync: the catalog says what the files say, whatever happened to them."""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from catalog.index import db, loaders, migrations, sync
from catalog.mixtures.mixture import freeze
from catalog.query import run_query
from cogdata.errors import CogError, UnreachableError
from cogdata.storage import parts, runs
from cogdata.storage.store import Store
from tests.catalog.support import catalog_rows, collect_into, edit_json, write_evaluation, write_run_of


def episode_count(store: Store) -> int:
    return int(run_query(store, "select count(*) as n from episodes").table.column("n")[0].as_py())


def test_sync_reads_every_committed_part_once(tray: Store) -> None:
    report = sync.sync(tray)
    assert report.added == {"collection": 2, "part": 2}
    assert report.removed == {}
    assert report.problems == ()
    rows = run_query(
        tray, "select collection, count(*) n, sum(success::int) good, sum(steps) steps from episodes "
        "group by all order by all"
    ).table.to_pylist()  # fmt: skip
    assert rows == [
        {"collection": "grasps", "n": 12, "good": 4, "steps": 48},
        {"collection": "placements", "n": 9, "good": 3, "steps": 36},
    ]


def test_an_episode_row_is_the_row_of_its_part(tray: Store) -> None:
    part = parts.list_parts(tray, "grasps")[0]
    written = tray.read_table(f"collections/grasps/{part}/{parts.EPISODES}").to_pylist()
    indexed = run_query(
        tray, "from episodes where collection = 'grasps' order by episode_index"
    ).table.to_pylist()
    counted = {"observations": 5, "members": None, "extras": None}
    assert indexed == [row | counted for row in written]


def test_sync_again_changes_nothing_and_does_not_write(tray: Store) -> None:
    sync.sync(tray)
    before = db.catalog_path(tray).stat()
    report = sync.sync(tray)
    after = db.catalog_path(tray).stat()
    assert not report.changed
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_sync_without_changes_opens_no_part(tray: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    sync.sync(tray)

    def refuse(*_: object) -> None:
        raise AssertionError("a file was read")

    for name in ("read_bytes", "read_text", "read_table"):
        monkeypatch.setattr(Store, name, refuse)
    assert not sync.sync(tray).changed
    assert episode_count(tray) == 21


def test_a_part_without_its_commit_does_not_exist(tray: Store) -> None:
    collect_into(tray, "grasps", 12, 15)
    folder = Path(tray.url) / "collections" / "grasps" / "part-00000-12-14"
    commit = folder / parts.COMMIT
    text = commit.read_text()
    commit.unlink()
    assert episode_count(tray) == 21
    commit.write_text(text)
    assert episode_count(tray) == 24


def test_a_backup_beside_a_part_adds_no_rows(tray: Store) -> None:
    (part,) = parts.list_parts(tray, "grasps")
    folder = tray.path(f"collections/grasps/{part}")
    shutil.copytree(folder, f"{folder}.bak")
    assert parts.list_parts(tray, "grasps") == [part]
    counts = "select (select count(*) from episodes) as episodes, (select count(*) from steps) as steps"
    assert run_query(tray, counts).table.to_pylist() == [{"episodes": 21, "steps": 105}]  # 21 x (4 + 1)


def test_removed_files_take_their_rows_with_them(tray: Store) -> None:
    sync.sync(tray)
    shutil.rmtree(Path(tray.url) / "collections" / "placements")
    report = sync.sync(tray)
    assert report.removed == {"collection": 1, "part": 1}
    rows = catalog_rows(tray)
    assert {row[2] for row in rows["parts"]} == {"part-00000-00-11"}
    assert len(rows["episodes"]) == 12
    assert len(rows["collections"]) == 1


def test_a_part_that_was_written_again_is_read_again(tray: Store) -> None:
    sync.sync(tray)
    tray.remove("collections/placements/part-00000-00-08")
    collect_into(tray, "placements", 0, 9, policy="pick_place", env="cog/PlaceTray-v0")
    report = sync.sync(tray)
    assert report.added == {"collection": 1, "part": 1}
    found = run_query(tray, "select distinct policy from episodes where collection = 'placements'").table
    assert found.column("policy").to_pylist() == ["pick_place"]
    assert episode_count(tray) == 21


def test_overlapping_parts_show_each_episode_once(store: Store) -> None:
    collect_into(store, "grasps", 0, 4)
    collect_into(store, "grasps", 2, 6)  # episodes 2 and 3 a second time
    table = run_query(store, "select episode_id, part from episodes order by all").table
    assert table.column("episode_id").to_pylist() == [f"grasps/{i:07d}" for i in range(6)]
    assert table.column("part").to_pylist() == ["part-00000-00-03"] * 4 + ["part-00000-02-05"] * 2
    steps = run_query(store, "select episode_id, t from steps").table
    assert len(steps) == 6 * 5
    assert len({(row["episode_id"], row["t"]) for row in steps.to_pylist()}) == 30
    shutil.rmtree(Path(store.url) / "collections" / "grasps" / "part-00000-00-03")
    table = run_query(store, "select episode_id from episodes order by all").table
    assert table.column("episode_id").to_pylist() == [f"grasps/{i:07d}" for i in range(2, 6)]


def test_mixtures_runs_and_evaluations_are_rows(tray: Store) -> None:
    info = freeze(tray, "both", "select episode_id from episodes").info
    write_run_of(tray, "run-1", info)
    write_evaluation(tray, "run-1", "final", [True, False, True])
    row = run_query(tray, "select * from mixtures").table.to_pylist()[0]
    assert (row["mixture"], row["version"], row["digest"]) == ("both", 1, info.digest)
    assert (row["episodes"], row["transitions"], row["rewarded_before"]) == (21, 84, 14)
    assert json.loads(row["counts"])["data"]["episodes"] == 21
    traced = run_query(
        tray,
        "select c.command, avg(v.success::int) as rate, any_value(r.status) as status, "
        "count(distinct m.episode_id) as episodes "
        "from evaluations v join runs r using (run) "
        "join mixture_episodes m on m.mixture = r.mixture and m.version = r.mixture_version "
        "join episodes e using (episode_id) join collections c using (collection) group by 1 order by 1",
    ).table.to_pylist()
    assert [(row["command"], row["episodes"]) for row in traced] == [
        ("cog collect --name grasps", 12), ("cog collect --name placements", 9),
    ]  # fmt: skip
    assert traced[0]["rate"] == pytest.approx(2 / 3)
    assert traced[0]["status"] is None
    runs.write_state(tray, "run-1", runs.RunState("running", 500, 12.5, "2026-11-21T08:30:00+00:00"))
    runs.write_state(tray, "run-1", runs.RunState("finished", 1000, 25.0, "2026-11-21T09:30:00+00:00"))
    run = run_query(tray, "from runs").table.to_pylist()
    assert len(run) == 1
    assert (run[0]["status"], run[0]["updates_done"], run[0]["seconds"]) == ("finished", 1000, 25.0)
    assert run[0]["created_at"] == datetime(2026, 11, 21, 8, 0)  # 09:00+01:00, as UTC
    assert json.loads(run[0]["config"]) == {"gamma": 0.95}


def test_a_damaged_file_is_reported_and_the_rest_indexed(tray: Store) -> None:
    collect_into(tray, "grasps", 12, 15)
    broken = f"collections/placements/{parts.list_parts(tray, 'placements')[0]}/{parts.EPISODES}"
    tray.write_bytes(broken, b"not parquet")
    tray.write_text("runs/run-1/run.json", "{}")
    tray.write_text("mixtures/odd/v1/mixture.json", "[]")
    report = sync.sync(tray)
    assert len(report.problems) == 3
    assert report.problems[0].startswith(f"{tray.path(broken)} cannot be read (")
    assert report.problems[0].endswith("): run `cog data verify`")
    assert "mixtures/odd/v1/mixture.json cannot be read" in report.problems[1]
    assert "runs/run-1/run.json cannot be read" in report.problems[2]
    assert all("\n" not in line for line in report.problems)
    assert episode_count(tray) == 15
    again = sync.sync(tray)  # known to be damaged: not tried again, still said
    assert not again.changed
    assert again.problems == report.problems
    tray.remove("collections/placements/part-00000-00-08")
    collect_into(tray, "placements", 0, 9, policy="place", env="cog/PlaceTray-v0")
    assert len(sync.sync(tray).problems) == 2
    assert episode_count(tray) == 24


def break_footer(store: Store, path: str) -> None:
    """Leave the length and the magic number at the end, so that the reader goes on to the footer itself."""
    data = bytearray(store.read_bytes(path))
    data[-120:-8] = b"\xff" * 112
    store.write_bytes(path, bytes(data))


def put_folder(store: Store, path: str) -> None:
    store.remove(path)
    (Path(store.url) / path).mkdir(parents=True)


PART = "collections/placements/part-00000-00-08"
DAMAGES: dict[str, tuple[str, Callable[[Store, str], object], int]] = {
    # path, damage, episodes left
    "a footer": ("runs/run-1/evaluations/final.parquet", break_footer, 21),
    "columns of other types": (
        "runs/run-1/evaluations/final.parquet",
        lambda store, path: store.write_table(path, pa.table({"run": ["run-1"], "seed": ["many"]})),
        21,
    ),
    "a folder as an evaluation": ("runs/run-1/evaluations/final.parquet", put_folder, 21),
    "a folder as a run": ("runs/run-1/run.json", put_folder, 21),
    "a folder as a state": ("runs/run-1/state.json", put_folder, 21),
    "a folder as a mixture": ("mixtures/both/v1/mixture.json", put_folder, 21),
    "a folder as a head": ("collections/grasps/collection.json", put_folder, 21),
    "a folder as a commit": (f"{PART}/COMMIT.json", put_folder, 12),
    "a folder as episodes": (f"{PART}/episodes.parquet", put_folder, 12),
    "a footer of episodes": (f"{PART}/episodes.parquet", break_footer, 12),
    "no UTF-8 in a commit": (
        f"{PART}/COMMIT.json", lambda store, path: store.write_bytes(path, b'{"\xff": 1}'), 12,
    ),
    "no UTF-8 in a run": (
        "runs/run-1/run.json", lambda store, path: store.write_bytes(path, b'{"\xff": 1}'), 21,
    ),
    "a list as a commit": (f"{PART}/COMMIT.json", lambda store, path: store.write_text(path, "[1]"), 12),
    "a huge number in a commit": (
        f"{PART}/COMMIT.json", lambda store, path: edit_json(store, path, steps=2**70), 12,
    ),
    "a text for a number in a commit": (
        f"{PART}/COMMIT.json", lambda store, path: edit_json(store, path, steps="many"), 12,
    ),
    "a huge seed of a run": (
        "runs/run-1/run.json", lambda store, path: edit_json(store, path, seed=2**63), 21,
    ),
    "a larger one": ("runs/run-1/run.json", lambda store, path: edit_json(store, path, seed=2**64), 21),
    "a huge root seed": (
        "collections/grasps/collection.json",
        lambda store, path: edit_json(store, path, root_seed=2**63), 21,
    ),
    "counts that are a list": (
        "mixtures/both/v1/mixture.json", lambda store, path: edit_json(store, path, counts=[1]), 21,
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_one_damaged_file_is_a_problem_and_the_rest_is_indexed(tray: Store, damage: str) -> None:
    info = freeze(tray, "both", "select episode_id from episodes").info
    for run in ("run-1", "run-2"):
        write_run_of(tray, run, info)
        write_evaluation(tray, run, "final", [True, False])
        runs.write_state(tray, run, runs.RunState("finished", 9, 1.0, "2026-11-21T09:30:00+00:00"))
    path, spoil, left = DAMAGES[damage]
    spoil(tray, path)
    db.catalog_path(tray).unlink()  # episodes.parquet is not looked at again once it was read
    for report in (sync.sync(tray), sync.sync(tray), sync.rebuild(tray)):
        (line,) = report.problems
        assert line.startswith(tray.path(path))
        assert "\n" not in line
    assert episode_count(tray) == left
    counted = run_query(
        tray, "select (select count(*) from evaluations where run = 'run-2') as judged, "
        "(select status from runs where run = 'run-2') as status, "
        "(select count(*) from collections where collection = 'placements') as collections, "
        "(select count(*) from parts where collection = 'grasps') as parts"
    ).table.to_pylist()  # fmt: skip
    assert counted == [{"judged": 2, "status": "finished", "collections": 1, "parts": 1}]


def test_a_full_disk_is_no_fault_of_a_file(tray: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name in ("insert", "_load_all"):
        with monkeypatch.context() as patch:
            patch.setattr(loaders, name, full)
            with pytest.raises(CogError, match=r"^cannot write .*: the disk is full: "):
                sync.sync(tray)
    assert sync.sync(tray).problems == ()


def test_rebuild_equals_sync(tray: Store) -> None:
    sync.sync(tray)
    info = freeze(tray, "both", "select episode_id from episodes").info
    write_run_of(tray, "run-1", info)
    write_evaluation(tray, "run-1", "final", [True, False])
    collect_into(tray, "grasps", 12, 20)
    collect_into(tray, "grasps", 10, 15)
    shutil.rmtree(Path(tray.url) / "collections" / "grasps" / "part-00000-00-11")
    sync.sync(tray)
    grown = catalog_rows(tray)
    sync.rebuild(tray)
    assert catalog_rows(tray) == grown
    assert sum(len(rows) for rows in grown.values()) > 40


@pytest.mark.parametrize("damage", ["empty", "junk", "truncated"])
def test_a_damaged_catalog_is_made_anew(tray: Store, damage: str) -> None:
    sync.sync(tray)
    path = db.catalog_path(tray)
    whole = catalog_rows(tray)
    content = {"empty": b"", "junk": b"x" * 5000, "truncated": path.read_bytes()[:20_000]}[damage]
    path.write_bytes(content)
    wanted = r"catalog\.duckdb is damaged \(.*\): run `cog data rebuild`$"
    with pytest.raises(db.CatalogDamagedError, match=wanted), db.connect(tray):
        pass
    assert episode_count(tray) == 21
    assert catalog_rows(tray) == whole


def test_a_catalog_damaged_inside_is_made_anew_by_the_next_write(tray: Store) -> None:
    sync.sync(tray)
    path = db.catalog_path(tray)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    for position in range(12_288, len(data), 512):
        data[position : position + 64] = b"\xa5" * 64
    assert middle > 12_288
    path.write_bytes(bytes(data))
    collect_into(tray, "grasps", 12, 15)
    assert episode_count(tray) == 24


def test_an_older_layout_is_made_anew(tray: Store) -> None:
    sync.sync(tray)
    set_version(tray, migrations.CATALOG_VERSION - 1)
    with pytest.raises(db.CatalogMissingError), db.connect(tray):
        pass
    assert episode_count(tray) == 21
    with db.connect(tray) as con:
        assert migrations.version(con) == migrations.CATALOG_VERSION


def test_a_newer_layout_is_refused_until_rebuilt(tray: Store) -> None:
    sync.sync(tray)
    set_version(tray, 99)
    wanted = (
        r"written by a newer cogdata \(catalog version 99, this one knows \d+\): "
        r"install that version, or run `cog data rebuild`$"
    )
    with pytest.raises(CogError, match=wanted):
        episode_count(tray)
    sync.rebuild(tray)
    assert episode_count(tray) == 21


def set_version(store: Store, version: int) -> None:
    con = duckdb.connect(str(db.catalog_path(store)))
    con.execute("UPDATE base.meta SET catalog_version = ?", [version])
    con.close()


def test_a_writer_that_fails_leaves_the_catalog_as_it_was(tray: Store) -> None:
    sync.sync(tray)
    before = db.catalog_path(tray).read_bytes()
    with pytest.raises(RuntimeError, match="power cut"):
        lose_power(tray)
    assert db.catalog_path(tray).read_bytes() == before
    assert list(Path(tray.url).glob(".*.tmp*")) == []


def lose_power(store: Store) -> None:
    with db.connect(store, write=True) as con:
        con.execute("DELETE FROM base.episodes")
        raise RuntimeError("power cut")


def test_what_a_killed_writer_left_is_cleaned_up(tray: Store) -> None:
    sync.sync(tray)
    leftover = Path(tray.url) / ".catalog.duckdb.12345678.tmp"
    leftover.write_bytes(b"half")
    collect_into(tray, "grasps", 12, 13)
    sync.sync(tray)
    assert not leftover.exists()


def test_a_reader_keeps_the_catalog_that_it_opened(tray: Store) -> None:
    sync.sync(tray)
    with db.connect(tray) as reader:
        collect_into(tray, "grasps", 12, 15)
        sync.sync(tray)
        assert reader.execute("SELECT count(*) FROM episodes").fetchall() == [(21,)]
    assert episode_count(tray) == 24


def test_a_second_writer_waits_and_then_says_so(tray: Store) -> None:
    wanted = r"\.catalog\.lock is held by another process for more than 0\.05 s: try again in a moment$"
    with db.lock(tray, "catalog"):
        with pytest.raises(db.CatalogBusyError, match=wanted):
            sync.sync(tray, timeout_s=0.05)
        assert sync.try_sync(tray, timeout_s=0.05) is None
    assert sync.try_sync(tray) is not None


@pytest.mark.parametrize(
    "error", [PermissionError(errno.EACCES, "no"), UnreachableError("cannot read it: time-out")]
)
def test_what_could_not_be_read_for_a_moment_is_read_by_the_next_sync(
    tray: Store, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    sync.sync(tray)
    collect_into(tray, "grasps", 12, 15)
    real = parts.read_commit

    def refuse(store: Store, collection: str, part: str) -> parts.Commit:
        if part == "part-00000-12-14":
            raise error
        return real(store, collection, part)

    with monkeypatch.context() as patch:
        patch.setattr(parts, "read_commit", refuse)
        for _ in range(2):
            (line,) = sync.sync(tray).problems
            assert "cannot read" in line
            assert line.endswith("; the next command tries again")
        assert sync.list_unread(tray) == (line,)
        assert episode_count(tray) == 21
    assert episode_count(tray) == 24
    assert sync.list_unread(tray) == ()


def test_a_query_answers_from_what_is_indexed_while_another_process_indexes(
    tray: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "_QUERY_WAIT_S", 0.05)
    sync.sync(tray)
    collect_into(tray, "grasps", 12, 15)
    with db.lock(tray, "catalog"):
        assert episode_count(tray) == 21
    assert episode_count(tray) == 24


def test_a_store_that_cannot_be_written_is_indexed_in_passing(
    tray: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root every folder can be written, so the answer of the system is replaced."""
    monkeypatch.setattr(sync, "is_writable", lambda _: False)
    assert episode_count(tray) == 21
    assert not db.catalog_path(tray).exists()
    monkeypatch.undo()
    sync.sync(tray)
    before = db.catalog_path(tray).read_bytes()
    collect_into(tray, "grasps", 12, 15)
    monkeypatch.setattr(sync, "is_writable", lambda _: False)
    assert episode_count(tray) == 24
    assert db.catalog_path(tray).read_bytes() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_is_queried(tray: Store) -> None:
    Path(tray.url).chmod(0o555)
    try:
        assert episode_count(tray) == 21
    finally:
        Path(tray.url).chmod(0o755)


def test_a_remote_store_is_indexed_and_queried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    store = Store(f"memory://catalog-{uuid.uuid4().hex}")
    collect_into(store, "grasps", 0, 4)
    collect_into(store, "grasps", 2, 6)
    assert episode_count(store) == 6
    assert db.catalog_path(store).is_relative_to(tmp_path)
    rows = run_query(
        store, "select t, count(*) n, sum(robot[1]) r from steps group by t order by t limit 1"
    ).table
    assert rows.to_pylist() == [{"t": 0, "n": 6, "r": 15.0}]
    assert freeze(store, "all", "select episode_id from episodes").info.ref == "all@1"
    assert run_query(store, "select count(*) n from mixture_episodes").table.to_pylist() == [{"n": 6}]
    with pytest.raises(CogError, match="is refused: SQL reads no files outside the store"):
        run_query(store, "from read_text('/etc/hostname')")
    store.remove("collections/grasps")
    assert episode_count(store) == 0


def test_a_store_with_odd_characters_in_its_path(tmp_path: Path) -> None:
    root = tmp_path / "it's [odd] *store*"
    root.mkdir()
    store = Store(str(root))
    collect_into(store, "grasps", 0, 3)
    assert episode_count(store) == 3
    assert run_query(store, "select count(*) n from steps").table.to_pylist() == [{"n": 15}]


def test_a_changed_head_is_read_again(tray: Store) -> None:
    sync.sync(tray)
    edit_json(tray, "collections/grasps/collection.json", host="elsewhere")
    hosts = run_query(tray, "select host from collections order by collection").table
    assert hosts.column("host").to_pylist() == ["elsewhere", "test"]


def test_a_head_from_before_there_was_a_camera_says_simulator(tray: Store) -> None:
    path = "collections/grasps/collection.json"
    old = json.loads(tray.read_text(path))
    del old["localize"]
    tray.write_text(path, json.dumps(old))
    edit_json(tray, "collections/placements/collection.json", localize="camera")
    rows = run_query(tray, "select collection, localize from collections order by collection").table
    assert rows.column("localize").to_pylist() == ["simulator", "camera"]


def test_a_full_disk_is_said_and_the_older_catalog_still_answers(
    tray: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync.sync(tray)
    collect_into(tray, "grasps", 12, 15)

    def full(*_: object) -> None:
        raise duckdb.IOException("IO Error: Could not write all bytes to file: No space left on device")

    monkeypatch.setattr(sync, "apply", full)
    wanted = (
        r"^cannot write .*/catalog\.duckdb: the disk is full: free some space and run the same command again$"
    )
    with pytest.raises(CogError, match=wanted):
        sync.sync(tray)
    assert episode_count(tray) == 21
    assert list(Path(tray.url).glob(".*.tmp*")) == []
