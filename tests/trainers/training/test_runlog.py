from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from cogdata.errors import CogError
from cogdata.storage.store import Store
from tests.trainers.toy import ToyStream, make_manifest
from tests.trainers.training.test_train import make_request
from trainers.training.runlog import TRACKERS, RunLog, read_metrics
from trainers.training.train import train


class Tracker(types.ModuleType):
    """What both libraries look like to their users; remembers how it was called."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[tuple[Any, ...]] = []

    def init(self, **arguments: Any) -> Tracker:
        self.calls.append(("init", arguments))
        return self

    def log(self, metrics: dict[str, float], step: int) -> None:
        self.calls.append(("log", step, metrics))

    def finish(self) -> None:
        self.calls.append(("finish",))


@pytest.mark.parametrize(
    ("name", "identity"), [("wandb", {"id": "RUN", "name": "RUN"}), ("trackio", {"name": "RUN"})]
)
def test_a_tracker_gets_run_settings_and_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, identity: dict[str, str]
) -> None:
    tracker = Tracker(name)
    monkeypatch.setitem(sys.modules, name, tracker)
    store = Store(str(tmp_path))
    request = make_request("bc", trackers=(name,))
    info, _ = train(store, make_manifest(), request, open_stream=ToyStream)
    first, *logged, last = tracker.calls
    expected = dict.fromkeys(identity, info.run)
    assert first == ("init", {"project": "cogdata", "resume": "allow", "config": vars(info)} | expected)
    assert last == ("finish",)
    lines = read_metrics(store, info.run)
    assert [(kind, step) for kind, step, _ in logged] == [("log", line["update"]) for line in lines]
    assert [metrics | {"update": step} for _, step, metrics in logged] == lines


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_that_is_not_installed_is_said_before_anything_is_trained(name: str) -> None:
    said = f"--log {name} needs a library that is not installed: pip install {name}"
    with pytest.raises(CogError, match=said):
        make_request("bc", trackers=(name,))
    with pytest.raises(CogError, match="unknown tracker 'wandbb': did you mean 'wandb'"):
        make_request("bc", trackers=("wandbb",))


def test_a_process_that_only_counts_along_writes_nothing(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    log = RunLog(store, "run", writes=False)
    log.write(1, {"loss": 2.0})
    assert log.lines == [{"update": 1, "loss": 2.0}]
    log.close()
    assert list(tmp_path.iterdir()) == []
