"""Removing runs."""

from __future__ import annotations

from pathlib import Path

import filelock
import pytest

from catalog.doctor import verify
from catalog.mixtures.mixture import freeze
from catalog.query import run_query
from catalog.runs import remove_runs
from cogdata.errors import CogError
from cogdata.storage.runs import is_training, list_leftovers, list_runs, lock_file
from cogdata.storage.store import Store
from tests.catalog.support import write_evaluation, write_run_of


@pytest.fixture
def trained(tray: Store) -> Store:
    """Runs a, b and c on one mixture; b was evaluated on 3 episodes."""
    info = freeze(tray, "mix", "select episode_id from episodes").info
    for run in ("a", "b", "c"):
        write_run_of(tray, run, info)
    write_evaluation(tray, "b", "final", [True, False, True])
    return tray


def rows(store: Store, table: str) -> list[str]:
    names = run_query(store, f"select run from {table} order by run").table.column("run").to_pylist()
    return [str(name) for name in names]


def test_a_removed_run_is_gone_from_files_and_catalog(trained: Store) -> None:
    assert rows(trained, "runs") == ["a", "b", "c"]
    assert remove_runs(trained, ["a", "c"]) == [("a", 0), ("c", 0)]
    assert not (Path(trained.url) / "runs" / "a").exists()
    assert rows(trained, "runs") == ["b"]


def test_an_evaluated_run_goes_only_when_it_is_said_twice(trained: Store) -> None:
    with pytest.raises(
        CogError, match=r"^run 'b' has 3 evaluated episodes, which would go with it: say --force$"
    ):
        remove_runs(trained, ["a", "b"])
    assert list_runs(trained) == ["a", "b", "c"]  # all or none
    assert rows(trained, "evaluations") == ["b"] * 3
    assert remove_runs(trained, ["a", "b", "a"], force=True) == [("a", 0), ("b", 3)]
    assert rows(trained, "runs") == ["c"]
    assert rows(trained, "evaluations") == []


def test_a_run_that_is_being_trained_stays(trained: Store) -> None:
    assert not is_training(trained, "a")
    with filelock.FileLock(trained.path(lock_file("a"))):
        assert is_training(trained, "a")
        with pytest.raises(
            CogError, match=r"^run 'a' is being trained by another process: wait for it, or stop it$"
        ):
            remove_runs(trained, ["a"], force=True)
    assert not is_training(trained, "a")
    assert remove_runs(trained, ["a"]) == [("a", 0)]


def test_nobody_begins_to_train_what_is_being_removed(
    trained: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    real = Store.remove

    def watched(self: Store, name: str) -> None:
        seen.append(is_training(self, "a") and is_training(self, "c"))
        real(self, name)

    monkeypatch.setattr(Store, "remove", watched)
    remove_runs(trained, ["a", "c"])
    assert seen[0]
    assert list_runs(trained) == ["b"]


@pytest.mark.parametrize("name", ["d", "..", "a/../b", ""])
def test_an_unknown_run_is_named(trained: Store, name: str) -> None:
    with pytest.raises(CogError, match=r"^unknown run '.*': .*known: a, b, c$"):
        remove_runs(trained, ["a", name], force=True)
    assert list_runs(trained) == ["a", "b", "c"]


def test_a_removal_that_was_cut_off_is_finished_by_the_next(
    trained: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Store.remove

    def cut_off(self: Store, name: str) -> None:
        if name == "runs/b":
            raise KeyboardInterrupt
        real(self, name)

    assert rows(trained, "evaluations") == ["b"] * 3
    with monkeypatch.context() as patch:
        patch.setattr(Store, "remove", cut_off)
        with pytest.raises(KeyboardInterrupt):
            remove_runs(trained, ["b"], force=True)
    assert list_leftovers(trained) == ["b"]
    assert rows(trained, "evaluations") == []
    assert rows(trained, "runs") == ["a", "c"]
    assert remove_runs(trained, ["b"]) == [("b", 3)]  # it was said once that the evaluated ones may go
    assert list_leftovers(trained) == []


def test_a_run_that_is_about_to_begin_or_never_began_is_no_leftover(trained: Store) -> None:
    (Path(trained.url) / "runs" / "new").mkdir()
    Path(trained.path(lock_file("new"))).touch()
    assert list_leftovers(trained) == []
    trained.write_text("runs/new/metrics.jsonl", "")
    assert list_leftovers(trained) == ["new"]
    with filelock.FileLock(trained.path(lock_file("new"))):
        assert list_leftovers(trained) == []


def test_a_damaged_run_can_be_removed(trained: Store) -> None:
    trained.write_text("runs/a/run.json", "{")
    (Path(trained.url) / "runs" / "b" / "evaluations" / "final.parquet").write_bytes(b"junk")
    assert remove_runs(trained, ["a", "b"], force=True) == [("a", 0), ("b", 1)]


@pytest.fixture
def family(tray: Store) -> Store:
    """Run a, b that started from a, and c that started from b."""
    info = freeze(tray, "mix", "select episode_id from episodes").info
    write_run_of(tray, "a", info)
    for run, parent in (("b", "a"), ("c", "b")):
        write_run_of(tray, run, info, parent=parent, parent_update=1000, parent_digest="ab" * 32,
                     method="bc_init", stage="cql", online={"env": "cog/PickTray-v0"})  # fmt: skip
    return tray


def test_sql_walks_from_a_run_to_those_it_descends_from(family: Store) -> None:
    sql = """
        with recursive chain as (
            select run, parent, 0 as generation from runs where run = 'c'
            union all
            select r.run, r.parent, generation + 1 from chain join runs r on r.run = chain.parent
        )
        select run, parent, generation from chain order by generation
    """
    walked = [("c", "b", 0), ("b", "a", 1), ("a", None, 2)]
    assert [tuple(row.values()) for row in run_query(family, sql).table.to_pylist()] == walked
    told = "select parent_update, method, stage, online ->> 'env' as env from runs order by run"
    said = [tuple(row.values()) for row in run_query(family, told).table.to_pylist()]
    assert said == [(None,) * 4, *[(1000, "bc_init", "cql", "cog/PickTray-v0")] * 2]


def test_a_run_that_others_started_from_stays(family: Store) -> None:
    said = r"^run 'c' started from 'b': remove both, or say --force$"
    with pytest.raises(CogError, match=said):
        remove_runs(family, ["a", "b"])
    assert list_runs(family) == ["a", "b", "c"]
    remove_runs(family, ["b"], force=True)
    assert [str(problem) for problem in verify(family)] == [
        "runs/c/run.json: the run that it starts from, b, is gone"
    ]
    assert remove_runs(family, ["a", "c"]) == [("a", 0), ("c", 0)]
