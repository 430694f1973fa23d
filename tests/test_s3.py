"""A store on S3's API: the same content as a local one, and one line for whatever goes wrong."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from catalog.doctor import verify
from catalog.index.sync import scan
from catalog.mixtures.mixture import freeze
from catalog.query import run_query
from cogdata.storage.parts import list_parts
from cogdata.storage.store import Store, open_store
from collectors.collect import CollectRequest, plan, prepare, request
from collectors.engines import LocalEngine
from tests.deriving import Write
from tests.running import TINY, Run
from tests.s3 import S3Server
from tests.synthetic import write_episodes

EPISODES = 120


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    running = S3Server()
    yield running
    running.close()


@pytest.fixture(autouse=True)
def s3(server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Root of a store in a bucket of its own."""
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _forget()
    bucket = "b" + hashlib.sha256(str(tmp_path).encode()).hexdigest()[:16]
    server.allowed = None
    server.make_bucket(bucket)
    yield f"s3://{bucket}/store"
    _forget()


def _forget() -> None:
    """Let the next store read the environment again."""
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def _asked() -> CollectRequest:
    return request("random", image_size=16, horizon=2)


def _collect(store: Store, episodes: int = EPISODES, workers: int = 2) -> str:
    prepare(store, _asked(), "test")
    list(LocalEngine(workers)(store, _asked(), plan(store, _asked(), episodes).ranges))
    return digests(store)


def digests(store: Store) -> str:
    """One digest over all episodes."""
    table = run_query(store, "select episode_id || digest as d from episodes order by episode_id").table
    return hashlib.md5("\n".join(table["d"].to_pylist()).encode()).hexdigest()


def test_the_same_digests_as_in_a_folder_and_resuming_adds_only_the_rest(s3: str, tmp_path: Path) -> None:
    remote, local = open_store(s3), Store(str(tmp_path / "local"))
    _collect(remote, 30)
    assert plan(remote, _asked(), EPISODES).ranges == ((30, 100), (100, EPISODES))
    assert _collect(remote) == _collect(local)
    assert verify(remote, lambda done, total: None) == []
    assert plan(remote, _asked(), EPISODES).missing == 0


def test_each_file_is_one_put_and_the_commit_the_last(s3: str, server: S3Server) -> None:
    write_episodes(Store(s3), "c", 2)
    names = [path.rsplit("/", 1)[1] for path in server.puts]
    assert names == ["frames.tar", "steps.parquet", "episodes.parquet", "COMMIT.json"]


def test_a_commit_is_never_overwritten(s3: str) -> None:
    store, path = Store(s3), "collections/c/part-00000-00-01/COMMIT.json"
    write_episodes(store, "c", 2)
    first = store.read_text(path)
    assert not store.create_text(path, "another machine's")
    assert store.read_text(path) == first


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        (("403 Forbidden", "AccessDenied"), "AccessDenied it was"),
        (("503 Slow Down", "SlowDown"), "SlowDown it was"),
        pytest.param(
            ("500 Internal Server Error", "InternalError"), "InternalError it was", marks=pytest.mark.slow
        ),
    ],
)
def test_a_refused_write_is_one_line_and_no_part(
    s3: str, server: S3Server, run: Run, refusal: tuple[str, str], said: str
) -> None:
    server.allowed, server.refusal = 3, refusal  # the head, frames and steps of the part
    error = run(
        "collect", "--policy", "random", "--episodes", "3", *TINY, "--root", s3, "--workers", "1"
    ).error
    assert error.startswith(f"cannot write {s3}/collections/random-")
    assert error.endswith(f"/part-00000-00-02/episodes.parquet: {said}")
    server.allowed = None
    store = Store(s3)
    (collection,) = store.list_folders("collections")
    assert list_parts(store, collection) == []
    assert run_query(store, "select count(*) as n from episodes").table["n"].to_pylist() == [0]
    assert run("collect", "--policy", "random", "--episodes", "3", *TINY, "--root", s3).code == 0
    assert run("data", "verify", "--root", s3).out == "everything is whole\n"


def test_collect_freeze_train_judge_and_query(s3: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COG_ROOT", s3)
    assert run("collect", "--policy", "place", "--episodes", "8", *TINY).code == 0
    assert "all@1 frozen" in run("query", "select episode_id from episodes", "--as", "all").out
    assert "all@1 has this content" in run("query", "select episode_id from episodes", "--as", "all").out
    trained = run("train", "--mixture", "all", "--algo", "bc", "--obs", "state", "--updates", "3").out
    name = trained.split(":")[0]
    assert f"{name}: 5 updates" in run("train", "--resume", name, "--updates", "5").out
    assert "0/2" in run("eval", name, "--env", "cog/PickTray-v0", "--episodes", "2", "--workers", "1").out
    assert f"{name}" in run("runs", "ls").out
    sql = 'select (select count(*) from steps) as steps, seed, "update" from evaluations order by seed'
    rows = json.loads(run("query", sql, "--format", "json").out)
    assert rows == [
        {"steps": 32, "seed": 0, "update": 5},
        {"steps": 32, "seed": 1, "update": 5},
    ]  # 8 x (3 + 1)
    assert run("data", "verify").out == "everything is whole\n"


def test_two_machines_that_freeze_at_once_get_two_versions(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(s3)
    _collect(store, 6, workers=1)
    claimed: list[str] = []
    create = Store.create_text

    def first_the_other(self: Store, name: str, text: str) -> bool:
        if not claimed:  # between looking and writing, another machine takes the number
            create(self, name, "the other machine")
        claimed.append(name)
        return create(self, name, text)

    monkeypatch.setattr(Store, "create_text", first_the_other)
    report = freeze(store, "mix", "select episode_id from episodes")
    assert report.info.ref == "mix@2"
    assert claimed == ["mixtures/mix/v1/CLAIMED", "mixtures/mix/v2/CLAIMED"]
    assert store.read_text("mixtures/mix/v1/CLAIMED") == "the other machine"


def test_what_another_machine_writes_is_seen_at_once(s3: str) -> None:
    here = Store(s3)
    _forget()
    there = Store(s3)
    assert there._fs is not here._fs
    write_episodes(there, "a", 2)
    for collection, stop in (("a", 3), ("b", 1)):
        before = _looked_at(here)
        assert before == _looked_at(there)
        write_episodes(there, collection, stop)
        assert before != _looked_at(here) == _looked_at(there)


def _looked_at(store: Store) -> list[object]:
    """All that a command asks about collections a and b."""
    there = [store.exists(f"collections/{name}") for name in ("b", "a/part-00000-00-02")]
    names = store.list_folders("collections"), store.list_folders("collections/a")
    return [there, names, list_parts(store, "a"), scan(store)]


def test_a_wrong_bucket_no_credentials_and_nobody_there_are_one_line_each(
    s3: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in (
        ("data", "ls"),
        ("query", "select 1"),
        ("collect", "--policy", "random", "--episodes", "1"),
    ):
        assert run(*command, "--root", "s3://none-of-mine/x").error == (
            "cannot read s3://none-of-mine/x/: there is no such bucket: create it, or name another store with --root"
        )
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    _forget()
    assert "no credentials: set AWS_ACCESS_KEY_ID" in run("data", "ls", "--root", s3).error
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    _forget()
    began = time.monotonic()
    error = run("collect", "--policy", "random", "--episodes", "1", "--root", s3).error
    assert "Could not connect to the endpoint URL" in error
    assert time.monotonic() - began < 30


@pytest.mark.slow
def test_a_server_that_never_answers_is_given_up(s3: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        _forget()
        began = time.monotonic()
        assert "Read timeout on endpoint URL" in run("data", "ls", "--root", s3).error
        assert time.monotonic() - began < 120


_DRIVER = """
import sys
from cogdata.storage.store import Store
from collectors.collect import plan, prepare, request
from collectors.engines import LocalEngine
if __name__ == "__main__":
    store, asked = Store(sys.argv[1]), request("random", image_size=16, horizon=2)
    prepare(store, asked, "test")
    for event in LocalEngine(2)(store, asked, plan(store, asked, int(sys.argv[2])).ranges):
        print(event, flush=True)
"""


@pytest.mark.slow
def test_killed_in_the_middle_and_resumed_it_is_the_same_collection(s3: str, tmp_path: Path) -> None:
    driver = tmp_path / "driver.py"
    driver.write_text(_DRIVER)
    store = Store(s3)
    for delay in (0.0, 0.3, 0.6, 0.9, 1.2):
        process = subprocess.Popen(
            [sys.executable, str(driver), s3, "300"], stdout=subprocess.PIPE, start_new_session=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        threading.Event().wait(delay)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert _collect(store, 300) == _collect(Store(str(tmp_path / "local")), 300)
    assert verify(store, lambda done, total: None) == []


def test_a_layer_is_derived_read_and_verified(s3: str, run: Run, lab_layers: Write) -> None:
    store = Store(s3)
    _collect(store, 3)
    before = {path: store.read_bytes(f"collections/{path}") for path in store.list_below("collections")}
    command = ("derive", "seen", "--fn", "lab_layers:seen", "--root", s3)
    assert "2 of them derived now" in run(*command, "--where", "episode_index < 2").out
    assert "3 of 3 episodes, 1 of them derived now" in run(*command).out
    table = run_query(store, "select caption from episodes order by episode_id").table
    assert table["caption"].to_pylist() == ["episode 0", "episode 1", "episode 2"]
    counts = run_query(store, "select count(goal_m), count(jerk), count(*) from steps").table.to_pylist()
    assert list(counts[0].values()) == [9, 6, 9]
    assert {path: store.read_bytes(f"collections/{path}") for path in before} == before
    assert verify(store) == []
