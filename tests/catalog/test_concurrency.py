"""Readers and writers in processes of their own: nobody waits for ever, nobody sees half of anything."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from catalog.index import sync
from catalog.query import run_query
from cogdata.storage import manifest
from cogdata.storage.store import Store
from tests.catalog.support import catalog_rows, collect_into

ROOT = Path(__file__).parents[2]

COMMIT_PARTS = """
import shutil, sys, time
from pathlib import Path
from catalog.index.sync import sync
from cogdata.storage.store import Store
staged, root = Path(sys.argv[1]), Path(sys.argv[2])
store = Store(str(root))
print("ready", flush=True)
while True:
    for part in sorted((staged / "collections/grasps").glob("part-*")):
        target = root / "collections/grasps" / part.name
        target.mkdir(parents=True, exist_ok=True)
        for name in ("frames.tar", "steps.parquet", "episodes.parquet", "COMMIT.json"):
            shutil.copy(part / name, target / name)
        sync(store, timeout_s=60)
        time.sleep(0.5)  # a collector would now make the next part
    for part in sorted((root / "collections/grasps").glob("part-*")):
        (part / "COMMIT.json").unlink()
        sync(store, timeout_s=60)
"""

FREEZE = """
import sys
from catalog.mixtures.mixture import freeze
from cogdata.storage.store import Store
store = Store(sys.argv[1])
sys.stdin.readline()
for count in sys.argv[2:]:
    sql = f"select episode_id from episodes order by 1 limit {count}"
    print(freeze(store, "mix", sql).info.ref, flush=True)
"""

SYNC = """
import sys
from catalog.index.sync import sync
from cogdata.storage.store import Store
sys.stdin.readline()
print(sync(Store(sys.argv[1]), timeout_s=60).problems)
"""


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate("\n", timeout=60)
    assert process.returncode == 0, err
    return out


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    """Eight parts of one episode each, ready to be copied."""
    root = tmp_path / "staged"
    root.mkdir()
    for index in range(8):
        collect_into(Store(str(root)), "grasps", index, index + 1)
    return root


def test_100_of_100_queries_are_answered_while_a_writer_commits(store: Store, staged: Path) -> None:
    writer = start(COMMIT_PARTS, str(staged), store.url)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    answered, counts = 0, set()
    try:
        for _ in range(100):
            rows = run_query(
                store, "select count(*) n, count(distinct episode_id) ids, sum(steps) s from episodes"
            ).table.to_pylist()  # fmt: skip
            assert rows[0]["n"] == rows[0]["ids"]
            assert (rows[0]["s"] or 0) == 4 * rows[0]["n"]
            counts.add(rows[0]["n"])
            answered += 1
        assert writer.poll() is None, "the writer stopped"
    finally:
        writer.kill()
        writer.communicate()
    assert answered == 100
    assert len(counts) > 2  # the store did change meanwhile


def test_a_writer_killed_at_any_moment_leaves_a_catalog_that_answers(store: Store, staged: Path) -> None:
    for delay in (0.0, 0.05, 0.1, 0.2, 0.3):
        writer = start(COMMIT_PARTS, str(staged), store.url)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        try:
            writer.wait(delay)
        except subprocess.TimeoutExpired:
            os.kill(writer.pid, signal.SIGKILL)
        writer.communicate()
        committed = len(list(Path(store.url).glob("collections/grasps/part-*/COMMIT.json")))
        table = run_query(store, "select count(*) as n from episodes").table
        assert table.to_pylist() == [{"n": committed}]
    grown = catalog_rows(store)
    sync.rebuild(store)
    assert catalog_rows(store) == grown


def test_freezing_at_the_same_time_gives_every_content_one_version(store: Store) -> None:
    collect_into(store, "grasps", 0, 6)
    processes = [start(FREEZE, store.url, *"1234"), start(FREEZE, store.url, *"4321")]
    first, second = (finish(process).split() for process in processes)
    assert first == second[::-1]  # the same content has the same version in both
    assert sorted(first) == [f"mix@{number}" for number in range(1, 5)]
    for ref in first:
        assert manifest.read_manifest(store, ref).info.ref == ref  # whole, with its digest
    assert run_query(store, "select count(*) as n from mixtures").table.to_pylist() == [{"n": 4}]


def test_many_syncs_at_once_index_once(store: Store, staged: Path) -> None:
    shutil.copytree(staged / "collections", Path(store.url) / "collections")
    processes = [start(SYNC, store.url) for _ in range(4)]
    assert [finish(process) for process in processes] == ["()\n"] * 4
    assert len(catalog_rows(store)["episodes"]) == 8
