from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cogdata.errors import CogError
from cogdata.storage.runs import list_runs, read_state
from cogdata.storage.store import Store
from tests.trainers.toy import ToyStream, make_manifest
from tests.trainers.training.test_train import make_request
from trainers.algos.bfn import Bfn
from trainers.checkpoint import list_checkpoints
from trainers.training.divergence import DivergenceGuard, GuardState, parse_guard
from trainers.training.runlog import read_metrics
from trainers.training.train import Progress, train


def line(mean: float, largest: float) -> dict[str, float]:
    return {"q_mean": mean, "q_max": largest}


@pytest.mark.parametrize(
    ("mean", "largest", "fine"),
    [
        (1.19, 2.9, True),  # range [0, 1], margin .2: mean up to 1 + .2, largest up to 1 + 10 · .2
        (1.21, 2.9, False),
        (1.19, 3.1, False),
        (-1.9, 0.0, True),  # mean down to 0 - 10 · .2
        (-2.1, 0.0, False),
    ],
)
def test_the_margin_by_hand(mean: float, largest: float, fine: bool) -> None:
    said = GuardState(DivergenceGuard(margin=0.2), (0.0, 1.0)).look(7, line(mean, largest))
    assert said == (None if fine else f"range [0, 1] at update 7: mean {mean:.3g}, max {largest:.3g}")


def test_only_lines_in_a_row_count() -> None:
    watch = GuardState(DivergenceGuard(patience=2), (0.0, 1.0))
    for update, mean in ((1, 5.0), (2, 0.5), (3, 5.0)):
        watch.look(update, line(mean, mean))
        assert not watch.exhausted
    watch.look(4, line(5.0, 5.0))
    assert (watch.exhausted, watch.since, watch.lines) == (True, 3, 2)


def test_lines_of_an_earlier_session_count_too() -> None:
    """Lines 2 and 3 were out of range; the line of an evaluation between them says nothing about values."""
    past = [{"update": 1, "out_of_range": 0.0}, {"update": 2, "out_of_range": 1.0}, {"update": 2, "success": 0.5},
            {"update": 3, "out_of_range": 1.0}]  # fmt: skip
    watch = GuardState(DivergenceGuard(patience=3), (0.0, 1.0), past)
    assert (watch.lines, watch.since, watch.exhausted) == (2, 2, False)
    watch.look(4, line(5.0, 5.0))
    assert watch.exhausted


def test_what_learns_no_value_raises_no_alarm() -> None:
    watch = GuardState(DivergenceGuard(patience=1), None)
    assert watch.look(1, {"loss": 9.0}) is None
    assert not watch.exhausted


@pytest.mark.parametrize(
    ("text", "guard"),
    [
        ("off", DivergenceGuard(0)),
        ("5", DivergenceGuard(5)),
        ("5:0.5", DivergenceGuard(5, 0.5)),
        ("20:0.1", DivergenceGuard()),
    ],
)
def test_a_guard_is_read_as_it_is_written(text: str, guard: DivergenceGuard) -> None:
    assert parse_guard(text) == guard
    assert parse_guard(str(guard)) == guard


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("soon", "--guard 'soon' must be off, LINES or LINES:MARGIN, for example 20:0.1"),
        ("5:", "--guard '5:' must be off"),
        ("-1", "a guard after -1 lines"),
        ("3:0", "with margin 0: must be 0 or more lines and a margin above 0"),
    ],
)
def test_what_is_no_alarm_is_refused(text: str, said: str) -> None:
    with pytest.raises(CogError, match=said):
        parse_guard(text)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def too_high_from(update: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the values of every learner leave [0, 1] from an update on."""
    real = Bfn.update

    def shifted(self: Bfn, *args: Any) -> dict[str, Tensor]:
        metrics = real(self, *args)
        return metrics | ({"q_mean": torch.tensor(5.0)} if self.updates_done >= update else {})

    monkeypatch.setattr(Bfn, "update", shifted)


def test_values_out_of_range_for_long_stop_the_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line every 2 updates, bad from update 6 on: the third such line is that of update 10."""
    too_high_from(6, monkeypatch)
    request = make_request("bfn", "updates=20", guard=DivergenceGuard(patience=3))
    seen: list[Progress] = []
    said = (
        r"diverged: values are outside the possible range \[0, 1\] at update 10: mean 5, .*; they have been "
        "since update 6, for 3 lines of metrics; last good checkpoint: 4; try other settings with --set, or "
        "going on with --guard off"
    )
    with pytest.raises(CogError, match=said):
        train(store, make_manifest(), request, open_stream=ToyStream, on_progress=seen.append)
    (run,) = list_runs(store)
    state = read_state(store, run)
    assert state is not None
    assert (state.status, state.updates_done) == ("diverged", 8)
    assert list_checkpoints(store, run) == [2, 4, 6, 8]
    assert [line["out_of_range"] for line in read_metrics(store, run)] == [0, 0, 1, 1, 1]
    assert len([progress.warning for progress in seen if progress.warning]) == 1


def test_the_alarm_comes_at_the_same_update_after_an_interruption(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    too_high_from(6, monkeypatch)
    request = make_request("bfn", "updates=8", guard=DivergenceGuard(patience=3))
    train(store, make_manifest(), request, open_stream=ToyStream)
    longer = replace(request, config=replace(request.config, updates=20))
    with pytest.raises(CogError, match="at update 10: mean 5"):
        train(store, make_manifest(), longer, open_stream=ToyStream)


def test_without_an_alarm_a_run_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    too_high_from(2, monkeypatch)
    request = make_request("bfn", "updates=8", guard=DivergenceGuard(patience=0))
    _, state = train(store, make_manifest(), request, open_stream=ToyStream)
    assert (state.status, state.updates_done) == ("finished", 8)
