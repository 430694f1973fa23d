"""Ctrl-C as a user presses it: what is said, what is kept, and that nothing goes on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cogdata.storage.parts import Commit, list_parts, part_range
from cogdata.storage.store import Store
from collectors import engines
from collectors.collect import CollectRequest, plan, request
from collectors.collect_part import Event
from collectors.engines import LocalEngine, Range
from commands.shared import INTERRUPTED
from tests.running import STOPPING, TINY, Run, members, wait_for

REST = "; run the same command again to collect the rest"

_TALKATIVE = (
    "import cli; from commands.shared import Ticker; Ticker.__init__.__defaults__ = (0.0,); cli.main()"
)
"""The command line, with a line for every episode."""


class _LastMoment(LocalEngine):
    """Ctrl-C arrives when the last range has just been completed."""

    def __call__(self, store: Store, asked: CollectRequest, ranges: tuple[Range, ...]) -> Iterator[Event]:
        for event in super().__call__(store, asked, ranges):
            if isinstance(event, Commit):
                signal.raise_signal(signal.SIGINT)
            yield event


@pytest.mark.parametrize(
    "command",
    [
        ("collect", "--for", "place_in_tray", "--scale", "0.0001", *TINY),
        ("demo", "--prior", "1", "--task", "1", "--episodes", "1"),
    ],
    ids=["collect --for", "demo"],
)
def test_nothing_comes_after_a_collection_that_was_complete_when_the_end_was_asked_for(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setattr(engines, "LocalEngine", _LastMoment)
    said = run(*command, "--workers", "1", "--root", str(tmp_path / "store"))
    (collection,) = (path.name for path in (tmp_path / "store" / "collections").iterdir())
    assert said.code == INTERRUPTED
    assert collection.startswith("weak_grasp-")
    assert said.err.splitlines()[-1] == f"stopped: 1 of 1 episodes of {collection} are in the store"
    assert not (tmp_path / "store" / "mixtures").exists()


def _begin(root: Path, *options: str) -> subprocess.Popen[str]:
    """A command in a process group of its own, like one in a terminal."""
    command = ["collect", "--policy", "random", *options, "--root", str(root)]
    return subprocess.Popen(
        [sys.executable, "-c", _TALKATIVE, *command],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _read_until(process: subprocess.Popen[str], start: str) -> None:
    """Read what is said up to a line that begins so."""
    assert process.stderr is not None
    said = []
    for line in iter(process.stderr.readline, ""):
        said.append(line)
        if line.startswith(start):
            return
    raise AssertionError(f"no line {start!r} in {said}")


def _ctrl_c(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGINT)


@pytest.mark.skipif(sys.platform != "linux", reason="counts processes in /proc")
@pytest.mark.parametrize(
    "delay_s", [0.0, 0.4, *(pytest.param(0.1 * tenth, marks=pytest.mark.slow) for tenth in (1, 2, 7, 12))]
)
def test_while_workers_start_it_is_one_line_and_no_traceback(tmp_path: Path, delay_s: float) -> None:
    process = _begin(tmp_path, "--episodes", "1000", "--workers", "2", *TINY)
    wait_for(lambda: members(process.pid) >= 3)  # the command, a tracker of Python's, the server that forks
    time.sleep(delay_s)
    _ctrl_c(process)
    _, err = process.communicate(timeout=30)
    assert process.returncode == INTERRUPTED
    (said,) = (
        line for line in err.splitlines() if line and line != STOPPING and "/1000 episodes" not in line
    )
    assert re.fullmatch(rf"stopped: \d+ of 1000 episodes of random-\w+ are in the store{REST}", said)
    assert STOPPING in err
    wait_for(lambda: members(process.pid) == 0)


def test_the_first_commits_what_is_done_as_shorter_parts(tmp_path: Path) -> None:
    process = _begin(tmp_path, "--episodes", "200", "--workers", "2", "--image-size", "16", "--horizon", "40")
    _read_until(process, "1/200 episodes")
    _ctrl_c(process)
    _, err = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED
    store, asked = Store(str(tmp_path)), request("random", image_size=16, horizon=40)
    spans = [part_range(name) for name in list_parts(store, asked.collection)]
    assert {start for start, _ in spans} <= {0, 100}
    have = sum(stop - start for start, stop in spans)
    assert 1 <= have < 200
    assert err.splitlines()[-1] == (
        f"stopped: {have} of 200 episodes of {asked.collection} are in the store{REST}"
    )
    assert plan(store, asked, 200).missing == 200 - have


@pytest.mark.skipif(sys.platform != "linux", reason="counts processes in /proc")
def test_the_second_ends_it_at_once(tmp_path: Path) -> None:
    # an episode of 100,000 actions takes minutes
    process = _begin(
        tmp_path, "--episodes", "2", "--workers", "1", "--image-size", "16", "--horizon", "100000"
    )
    wait_for(lambda: members(process.pid) >= 4)  # now there is a worker too
    _ctrl_c(process)
    _read_until(process, STOPPING)
    _ctrl_c(process)
    _, err = process.communicate(timeout=30)
    assert process.returncode == INTERRUPTED
    name = request("random", image_size=16, horizon=100_000).collection
    assert err.splitlines() == [f"stopped: 0 of 2 episodes of {name} are in the store{REST}"]
    assert list_parts(Store(str(tmp_path)), name) == []
    wait_for(lambda: members(process.pid) == 0)
