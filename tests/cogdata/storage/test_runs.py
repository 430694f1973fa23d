"""A run's files: a round trip, and one line for whatever is damaged."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from pathlib import Path

import filelock
import pytest

from cogdata.errors import CogError
from cogdata.storage.runs import (
    EVALUATION,
    EVALUATIONS,
    FIRST_SELECTION_SEED,
    SELECTION,
    Best,
    RunInfo,
    RunState,
    ancestry,
    is_training,
    lock_file,
    only_one,
    read_best,
    read_run,
    read_state,
    status_now,
    write_best,
    write_run,
    write_state,
)
from cogdata.storage.store import Store

INFO = RunInfo(
    run="run-1",
    mixture="mix",
    mixture_version=1,
    mixture_digest="ab" * 32,
    algo="bfn",
    preset="fast",
    obs="state",
    seed=3,
    updates=10,
    batch_size=4,
    config={"gamma": 0.95},
    device="cpu",
    threads=1,
    memory_bytes=1000,
    created_at="2026-11-20T10:00:00+00:00",
    cogdata_version="0.1.0",
)
STATE = RunState("running", 5, 1.5, "2026-11-20T10:01:00+00:00")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path))
    write_run(store, INFO)
    return store


def test_run_and_state_are_a_round_trip(store: Store) -> None:
    assert read_run(store, "run-1") == INFO
    assert read_state(store, "run-1") is None
    write_state(store, "run-1", STATE)
    assert read_state(store, "run-1") == STATE


def test_a_run_written_before_there_were_parents_is_read(store: Store) -> None:
    data = json.loads(store.read_text("runs/run-1/run.json"))
    newer = {"parent", "parent_update", "parent_digest", "method", "stage", "online"}
    older = {name: value for name, value in data.items() if name not in newer}
    assert len(data) - len(older) == 6
    store.write_text("runs/run-1/run.json", json.dumps(older))
    assert read_run(store, "run-1") == INFO


def test_the_ancestry_of_a_run_ends_where_a_parent_is_gone(store: Store) -> None:
    for run, parent in (("run-2", "run-1"), ("run-3", "run-2"), ("orphan", "gone")):
        write_run(store, replace(INFO, run=run, parent=parent, parent_update=10, parent_digest="cd" * 32))
    assert [info.run for info in ancestry(store, "run-3")] == ["run-3", "run-2", "run-1"]
    assert [info.run for info in ancestry(store, "orphan")] == ["orphan"]
    with pytest.raises(CogError, match="unknown run 'gone'"):
        ancestry(store, "gone")


@pytest.mark.parametrize("damage", [b"{", b"", b"\xff", b"[]", b"{}", b"null", b"7"])
def test_damage_is_said_in_one_line(store: Store, damage: bytes) -> None:
    for name, read in (("run.json", read_run), ("state.json", read_state)):
        store.write_bytes(f"runs/run-1/{name}", damage)
        with pytest.raises(CogError) as caught:
            read(store, "run-1")
        assert str(caught.value).startswith(f"{store.path(f'runs/run-1/{name}')} is damaged: restore ")
        assert "\n" not in str(caught.value)


def test_a_file_of_a_newer_version_is_said_to_be_one_and_an_unknown_key_is_left_out(store: Store) -> None:
    write_state(store, "run-1", STATE)
    write_best(store, "run-1", Best(2, "cog/PickTray-v0", (1, 2), 1))
    readers = {"run.json": read_run, "state.json": read_state, "best.json": read_best}
    for name, read in readers.items():
        path = f"runs/run-1/{name}"
        before = read(store, "run-1")
        store.write_text(path, json.dumps(json.loads(store.read_text(path)) | {"x": 1}))
        assert read(store, "run-1") == before
        store.write_text(path, json.dumps(json.loads(store.read_text(path)) | {"schema_version": 3}))
        said = (
            f"{store.path(path)} was written by a newer cogdata (schema 3, this one reads 2): upgrade cogdata"
        )
        with pytest.raises(CogError, match=f"^{re.escape(said)}$"):
            read(store, "run-1")


def test_the_keys_of_a_runs_files_are_those_of_version_0_1() -> None:
    """Words change in help and labels; keys that files, SQL and identities have do not."""
    assert {
        "run", "mixture", "mixture_version", "mixture_digest", "algo", "preset", "obs", "seed", "updates",
        "batch_size", "config", "device", "threads", "memory_bytes", "created_at", "cogdata_version", "parent",
        "parent_update", "parent_digest", "method", "stage", "online", "accelerator",
    } <= {field.name for field in fields(RunInfo)}  # fmt: skip
    assert {"status", "updates_done", "seconds", "updated_at"} <= {field.name for field in fields(RunState)}
    assert {"update", "env", "seeds", "successes"} <= {field.name for field in fields(Best)}
    assert EVALUATIONS.names[:19] == [
        "run", "evaluation", "env", "update", "checkpoint_digest", "seed", "success", "solved",
        "first_reward_t", "steps", "total_reward", "stochastic", "created_at", "grasped", "placed",
        "drawer_open", "drawer_closed", "top_drawer_closed", "blocker_moved",
    ]  # fmt: skip
    assert (EVALUATION, SELECTION, FIRST_SELECTION_SEED) == ("evaluation", "selection", 1_000_000)


def test_a_run_that_nobody_trains_any_more_is_interrupted(store: Store) -> None:
    with only_one(store, "run-1"):
        assert status_now(store, "run-1", "running") == "running"
        assert status_now(store, "run-1", "finished") == "finished"
    assert status_now(store, "run-1", "running") == "interrupted"
    assert status_now(store, "run-2", "running") == "interrupted"  # copied without its lock
    for status in ("stopped", "failed", "diverged", None):
        assert status_now(store, "run-1", status) == status


def test_of_a_remote_run_and_of_somebody_elses_lock_only_what_is_written_is_known(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert status_now(Store("memory://runs"), "run-1", "running") == "running"
    Path(store.path(lock_file("run-1"))).touch()
    refused = PermissionError(13, "Permission denied")
    monkeypatch.setattr(filelock.FileLock, "acquire", lambda *_, **__: (_ for _ in ()).throw(refused))
    assert status_now(store, "run-1", "running") == "running"
    assert not is_training(store, "run-1")
