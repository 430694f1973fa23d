"""Summaries: what counts where a run was evaluated more than once."""

from __future__ import annotations

from datetime import datetime

import pyarrow as pa
import pytest

from catalog.mixtures.mixture import freeze
from catalog.query import run_query
from catalog.summaries import (
    Comparison,
    collections_table,
    compare_runs,
    evaluated_table,
    mixtures_table,
    runs_table,
)
from cogdata.errors import CogError
from cogdata.intervals import wilson
from cogdata.storage.runs import EVALUATIONS, RunState, only_one, write_state
from cogdata.storage.store import Store
from tests.catalog.support import catalog_rows, write_run_of

ENV = "cog/PickTray-v0"


def evaluate(
    store: Store,
    run: str,
    update: int,
    results: dict[int, bool],
    env: str = ENV,
    day: int = 21,
    purpose: str = "evaluation",
) -> None:
    """Seed → success, at one update of a run."""
    rows = [
        {
            "run": run,
            "evaluation": f"{update}-{day}",
            "env": env,
            "update": update,
            "checkpoint_digest": "ab" * 32,
            "seed": seed,
            "success": success,
            "solved": success,
            "steps": 40,
            "total_reward": float(success),
            "stochastic": False,
            "created_at": datetime(2026, 11, day),
            "purpose": purpose,
        }
        for seed, success in results.items()
    ]
    name = f"{env[4:8].lower()}-{update}-{day}-{purpose}"
    store.write_table(
        f"runs/{run}/evaluations/{name}.parquet", pa.Table.from_pylist(rows, schema=EVALUATIONS)
    )


@pytest.fixture
def pair(tray: Store) -> Store:
    info = freeze(tray, "mix", "select episode_id from episodes").info
    for run in ("a", "b"):
        write_run_of(tray, run, info)
    return tray


def test_only_the_newest_checkpoint_of_each_run_is_compared(pair: Store) -> None:
    evaluate(pair, "a", 500, {1: True, 2: True, 3: True, 4: True})
    evaluate(pair, "a", 1000, {1: True, 2: False})  # 3 and 4 were evaluated on an older checkpoint only
    evaluate(pair, "b", 2000, {1: False, 2: False, 3: False, 4: False})
    assert compare_runs(pair, "a", "b") == [
        Comparison(ENV, 1000, 2000, episodes=2, a=1, b=0, only_a=1, only_b=0)
    ]


def test_each_environment_has_its_own_newest_checkpoint(pair: Store) -> None:
    other = "cog/DrawerOpen-v0"
    evaluate(pair, "a", 500, {1: True}, env=other)
    evaluate(pair, "a", 1000, {1: True})
    evaluate(pair, "b", 1000, {1: True})
    evaluate(pair, "b", 1000, {1: False}, env=other)
    assert [(one.env, one.episodes, one.only_a) for one in compare_runs(pair, "a", "b")] == [
        (other, 1, 1),
        (ENV, 1, 0),
    ]


def test_a_seed_evaluated_twice_counts_as_evaluated_last(pair: Store) -> None:
    evaluate(pair, "a", 1000, {1: False, 2: True}, day=21)
    evaluate(pair, "a", 1000, {1: True}, day=22)
    evaluate(pair, "b", 1000, {1: False, 2: True})
    assert compare_runs(pair, "a", "b") == [
        Comparison(ENV, 1000, 1000, episodes=2, a=2, b=1, only_a=1, only_b=0)
    ]


def test_no_seed_in_common_on_the_newest_checkpoints_is_said(pair: Store) -> None:
    evaluate(pair, "a", 500, {1: True})
    evaluate(pair, "a", 1000, {2: True})
    evaluate(pair, "b", 1000, {1: True})
    with pytest.raises(CogError, match="evaluated on no common environment and seed"):
        compare_runs(pair, "a", "b")


def test_mixtures_are_listed_with_what_is_in_them(tray: Store) -> None:
    """12 grasps and 9 placements of 4 actions; 3 of the placements end with two rewarded steps."""
    sql = (
        "select episode_id, 'prior' as source, 0.0 as reward from episodes where policy = 'weak_grasp' "
        "union all by name select episode_id, 'task' as source from episodes where policy = 'place'"
    )
    info = freeze(tray, "two", sql, weights={"prior": 0.25}).info
    assert mixtures_table(tray).to_pylist() == [
        {
            "mixture": "two@1",
            "shape": "episode",
            "episodes": "prior 12, task 9",
            "transitions": 84,
            "rewarded": 6,
            "shares": "prior 0.25, task 0.75",
            "digest": info.digest[:12],
            "created_at": info.created_at,
        }
    ]


def test_collections_are_listed_with_their_success(tray: Store) -> None:
    rows = collections_table(tray).to_pylist()
    shown = [(row["collection"], row["policy"], row["episodes"], row["steps"]) for row in rows]
    assert shown == [("grasps", "weak_grasp", 12, 48), ("placements", "place", 9, 36)]
    assert [row["success_rate"] for row in rows] == pytest.approx([1 / 3, 1 / 3])


def test_lists_of_nothing_keep_their_columns(store: Store) -> None:
    assert mixtures_table(store).num_rows == collections_table(store).num_rows == 0
    assert "digest" in mixtures_table(store).column_names
    with pytest.raises(CogError, match=r"^there is no store at .*/nowhere: "):
        mixtures_table(Store(f"{store.url}/nowhere"))


def test_a_row_in_several_files_is_one_and_its_newest(pair: Store) -> None:
    """Seeds 0-2 on day 21, seeds 1-3 on day 22: four episodes, 1 and 2 as found last; the files keep six."""
    evaluate(pair, "a", 1000, {0: True, 1: False, 2: False})
    evaluate(pair, "a", 1000, {1: True, 2: False, 3: False}, day=22)
    rows = run_query(pair, "select seed, success from evaluations order by seed").table.to_pylist()
    assert [tuple(row.values()) for row in rows] == [(0, True), (1, True), (2, False), (3, False)]
    assert len(catalog_rows(pair)["evaluations"]) == 6


def test_what_selected_a_checkpoint_is_told_apart_and_an_evaluation_of_the_same_seed_counts(
    pair: Store,
) -> None:
    """Seeds 7-9 selected the checkpoint; later the user evaluates 9 and 10: one of two succeeds."""
    evaluate(pair, "a", 1000, {7: True, 8: True, 9: True}, day=22, purpose="selection")
    evaluate(pair, "a", 1000, {9: True, 10: False}, day=21)
    rows = run_query(pair, "select seed, purpose from evaluations order by seed").table.to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        (7, "selection"), (8, "selection"), (9, "evaluation"), (10, "evaluation"),
    ]  # fmt: skip
    shown = [row for row in runs_table(pair).to_pylist() if row["run"] == "a"]
    assert [(row["update"], row["episodes"], row["success"]) for row in shown] == [(1000, 2, 0.5)]
    assert shown[0]["interval"] == [round(end, 3) for end in wilson(1, 2)]
    assert [(row["purpose"], row["episodes"]) for row in evaluated_table(pair, "a").to_pylist()] == [
        ("evaluation", 2), ("selection", 2),
    ]  # fmt: skip


def test_a_run_that_was_only_looked_at_while_training_has_no_success_rate(pair: Store) -> None:
    evaluate(pair, "a", 1000, {1_000_000: True}, purpose="selection")
    evaluate(pair, "b", 1000, {1_000_000: True}, purpose="selection")
    assert [(row["update"], row["success"]) for row in runs_table(pair).to_pylist()] == [(None, None)] * 2
    with pytest.raises(CogError, match="evaluated on no common environment and seed"):
        compare_runs(pair, "a", "b")


@pytest.mark.parametrize(
    ("first", "purpose"), [(0, "evaluation"), (1_000_000, "selection"), (1_000_001, "evaluation")]
)
def test_the_purpose_of_older_files_is_derived_from_their_seeds(
    pair: Store, first: int, purpose: str
) -> None:
    evaluate(pair, "a", 1000, {first + 1: True, first: False})
    (file,) = pair.list_files("runs/a/evaluations")
    path = f"runs/a/evaluations/{file}"
    pair.write_table(path, pair.read_table(path).drop_columns(["purpose"]))
    rows = run_query(pair, "select purpose from evaluations").table.to_pylist()
    assert [row["purpose"] for row in rows] == [purpose] * 2


def test_the_list_of_runs_says_what_is_true_of_a_killed_one(pair: Store) -> None:
    """Both files say "running"; only of b a process holds the lock."""
    for run in ("a", "b"):
        write_state(pair, run, RunState("running", 500, 12.5, "2026-11-21T08:30:00+00:00"))
    with only_one(pair, "b"):
        assert runs_table(pair)["status"].to_pylist() == ["interrupted", "running"]
