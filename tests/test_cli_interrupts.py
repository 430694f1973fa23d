"""Ctrl-C as a user presses it: what is said, what is kept, and that nothing goes on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import cli
from cogdata.parts import Commit
from cogdata.store import Store
from collectors.collect import CollectRequest, EpisodeDone
from collectors.engines import LocalEngine, Range
from tests.running import TINY, Run


class _LastMoment(LocalEngine):
    """Ctrl-C arrives when the last range has just been completed."""

    def __call__(
        self, store: Store, asked: CollectRequest, ranges: tuple[Range, ...]
    ) -> Iterator[EpisodeDone | Commit]:
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
    monkeypatch.setattr(cli, "_local_engine", _LastMoment)
    said = run(*command, "--workers", "1", "--root", str(tmp_path / "store"))
    (collection,) = (path.name for path in (tmp_path / "store" / "collections").iterdir())
    assert said.code == cli.INTERRUPTED
    assert collection.startswith("weak_grasp-")
    assert said.err.splitlines()[-1] == f"stopped: 1 of 1 episodes of {collection} are in the store"
    assert not (tmp_path / "store" / "mixtures").exists()
