from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cogdata.errors import CogError
from cogdata.storage.runs import FIRST_SELECTION_SEED, SELECTION, Best, read_best
from cogdata.storage.store import Store
from tests.trainers.toy import TOY_SPEC, ToyEnv, ToyStream, make_manifest
from tests.trainers.training.test_train import make_request, weights_of
from trainers.checkpoint import list_checkpoints
from trainers.evaluation.during_training import EvalSchedule, evaluate_checkpoint, parse_update
from trainers.evaluation.evaluate import EvalEnv, Evaluation, evaluate, open_policy
from trainers.training.runlog import read_metrics
from trainers.training.train import Progress, train

TOY = EvalEnv("toy/Chain-v0", ToyEnv, TOY_SPEC)
SCHEDULE = EvalSchedule(TOY, 2, (FIRST_SELECTION_SEED, FIRST_SELECTION_SEED + 1))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


@pytest.mark.parametrize(("kind", "threads"), [("state", 2), ("image", 1)])
def test_evaluating_changes_no_bit_of_what_is_learned(tmp_path: Path, kind: str, threads: int) -> None:
    quiet, evaluated = Store(str(tmp_path / "quiet")), Store(str(tmp_path / "evaluated"))
    request = make_request("bfn", obs=kind, threads=threads)
    info, _ = train(quiet, make_manifest(), request, open_stream=ToyStream)
    train(evaluated, make_manifest(), request, open_stream=ToyStream, schedule=SCHEDULE)
    assert weights_of(quiet, info.run, 6) == weights_of(evaluated, info.run, 6)
    assert torch.get_num_threads() == threads
    torch.set_num_threads(1)


def test_rows_are_those_of_an_evaluation_afterwards(store: Store) -> None:
    seen: list[Progress] = []
    info, _ = train(
        store, make_manifest(), make_request(checkpoint_every=100), open_stream=ToyStream, schedule=SCHEDULE,
        on_progress=seen.append,
    )  # fmt: skip
    assert list_checkpoints(store, info.run) == [2, 4, 6]
    files = store.list_files(f"runs/{info.run}/evaluations")
    assert len(files) == 3
    for update in (2, 4, 6):
        again = evaluate(open_policy(store, info.run, update), TOY, SCHEDULE.seeds, purpose=SELECTION)
        kept = store.read_table(f"runs/{info.run}/evaluations/{again.name}.parquet")
        drop = ["created_at"]
        assert kept.drop_columns(drop).equals(again.rows.drop_columns(drop))
    found = [progress.evaluated for progress in seen if progress.evaluated]
    assert [best.update for best in found] == [2, 4, 6]
    logged = [line for line in read_metrics(store, info.run) if "success" in line]
    assert logged == [{"update": best.update, "success": best.rate} for best in found]


def successes(monkeypatch: pytest.MonkeyPatch, counts: dict[int, int]) -> None:
    """Let evaluations find so many successes, by update."""

    def counted(policy: Any, *args: Any, **named: Any) -> Evaluation:
        found = evaluate(policy, *args, **named)
        wins = [row < counts[policy.update] for row in range(found.rows.num_rows)]
        column = found.rows.schema.get_field_index("success")
        return replace(found, rows=found.rows.set_column(column, found.rows.schema.field(column), [wins]))

    monkeypatch.setattr("trainers.evaluation.during_training.evaluate", counted)


def test_the_best_is_remembered_and_never_dropped(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """1, 2, 2, 0 of 2 succeed at updates 2, 4, 6, 8: update 4 is the earliest of the best."""
    successes(monkeypatch, {2: 1, 4: 2, 6: 2, 8: 0})
    request = make_request("bfn", "updates=8")
    info, _ = train(store, make_manifest(), request, open_stream=ToyStream, schedule=SCHEDULE)
    best = read_best(store, info.run)
    assert best == Best(4, "toy/Chain-v0", SCHEDULE.seeds, 2)
    assert best.rate == 1
    assert list_checkpoints(store, info.run) == [2, 4, 6, 8]
    assert list_checkpoints(store, info.run, full=True) == [4, 6, 8]
    assert parse_update(store, info.run, "best") == 4
    longer = replace(request, config=replace(request.config, updates=12))
    train(store, make_manifest(), longer, open_stream=ToyStream)
    assert list_checkpoints(store, info.run, full=True) == [4, 10, 12]


def test_another_world_starts_a_new_comparison(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    successes(monkeypatch, {2: 2, 4: 2, 6: 1, 8: 1})
    request = make_request("bfn", "updates=6")
    info, _ = train(store, make_manifest(), request, open_stream=ToyStream, schedule=SCHEDULE)
    assert parse_update(store, info.run, "best") == 2
    longer = replace(request, config=replace(request.config, updates=8))
    elsewhere = replace(SCHEDULE, world=EvalEnv("toy/Other-v0", ToyEnv, TOY_SPEC))
    train(store, make_manifest(), longer, open_stream=ToyStream, schedule=elsewhere)
    assert read_best(store, info.run) == Best(6, "toy/Other-v0", SCHEDULE.seeds, 1)


def test_an_evaluation_that_was_missed_is_made_up_for(store: Store) -> None:
    """Asked for only afterwards, the newest checkpoint is evaluated, and once is enough."""
    request = make_request("bfn")
    info, _ = train(store, make_manifest(), request, open_stream=ToyStream)
    assert read_best(store, info.run) is None
    for _ in range(2):
        _, state = train(store, make_manifest(), request, open_stream=ToyStream, schedule=SCHEDULE)
        assert (state.status, state.updates_done) == ("finished", 6)
        assert len(store.list_files(f"runs/{info.run}/evaluations")) == 1
    assert parse_update(store, info.run, "best") == 6
    assert len([line for line in read_metrics(store, info.run) if "success" in line]) == 1


def test_a_signal_cuts_an_evaluation_short_and_keeps_nothing_of_it(store: Store) -> None:
    """20 episodes are two rounds; the signal comes in the first, at update 2."""
    rounds: list[int] = []

    class Interrupting(ToyEnv):
        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            if not rounds:
                signal.raise_signal(signal.SIGINT)
            rounds.append(1)
            return super().reset(seed=seed, options=options)

    schedule = EvalSchedule(EvalEnv("toy", Interrupting, TOY_SPEC), 2, tuple(range(20)))
    info, state = train(store, make_manifest(), make_request(), open_stream=ToyStream, schedule=schedule)
    assert (state.status, state.updates_done) == ("stopped", 2)
    assert store.list_files(f"runs/{info.run}/evaluations") == []
    assert len(rounds) == 16
    _, state = train(store, make_manifest(), make_request(), open_stream=ToyStream, schedule=schedule)
    assert state.status == "finished"
    assert len(store.list_files(f"runs/{info.run}/evaluations")) == 3


def test_an_evaluation_that_ends_with_the_signal_is_kept(store: Store) -> None:
    info, _ = train(store, make_manifest(), make_request(), open_stream=ToyStream)
    found = evaluate_checkpoint(store, open_policy(store, info.run, 4), SCHEDULE, lambda: True)
    assert found is not None
    assert len(store.list_files(f"runs/{info.run}/evaluations")) == 1


def test_what_a_kill_took_of_an_evaluation_is_made_up_for(store: Store) -> None:
    """The rows of update 6 are written, its line of metrics and best.json are not."""
    info, _ = train(store, make_manifest(), make_request(), open_stream=ToyStream, schedule=SCHEDULE)
    path, best = f"runs/{info.run}/metrics.jsonl", read_best(store, info.run)
    lines = store.read_text(path)
    assert lines.splitlines()[-1].startswith('{"update": 6, "success": ')
    store.write_text(path, "".join(lines.splitlines(keepends=True)[:-1]))
    Path(store.path(f"runs/{info.run}/best.json")).unlink()
    train(store, make_manifest(), make_request(), open_stream=ToyStream, schedule=SCHEDULE)
    assert store.read_text(path) == lines
    made_up = read_best(store, info.run)
    assert made_up is not None
    assert best is not None
    assert (made_up.update, made_up.seeds, made_up.env) == (6, best.seeds, best.env)


def test_which_checkpoint_is_meant(store: Store) -> None:
    info, _ = train(store, make_manifest(), make_request(), open_stream=ToyStream)
    assert parse_update(store, info.run, None) is None
    assert parse_update(store, info.run, "4") == 4
    with pytest.raises(CogError, match="unknown run 'nobody'"):
        parse_update(store, "nobody", "best")
    with pytest.raises(CogError, match="--update 'last' must be a number of updates, or best"):
        parse_update(store, info.run, "last")
    with pytest.raises(
        CogError,
        match="has no best checkpoint: it was not evaluated during training, see `cog train --eval-env`",
    ):
        parse_update(store, info.run, "best")
    store.write_text(f"runs/{info.run}/best.json", "{}")
    with pytest.raises(CogError, match="best.json is damaged: restore or remove it"):
        parse_update(store, info.run, "best")


@pytest.mark.parametrize(("every", "seeds"), [(0, (1,)), (1, ())])
def test_an_evaluation_of_nothing_is_refused(every: int, seeds: tuple[int, ...]) -> None:
    with pytest.raises(CogError, match="must be at least 1 each"):
        EvalSchedule(TOY, every, seeds)
