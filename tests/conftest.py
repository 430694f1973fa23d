"""The command line as a fixture, and a store that it filled."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import cli
from tests.deriving import LAYERS, Write, forget
from tests.prepared import prepared
from tests.running import TINY, Run, Said


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*args: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["cog", *args])
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capsys.readouterr()
        return Said(int(left.value.code or 0), out, err)

    return call


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Take back the threads that training in this process gave torch: two workers have two cores."""
    yield
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two collections, a mixture, and a cloned policy; not to be changed."""
    return prepared(tmp_path_factory, "filled", _fill)


def _fill(root: Path) -> None:
    commands = [
        ("collect", "--policy", "weak_grasp", "--episodes", "12", *TINY),
        ("collect", "--policy", "place", "--episodes", "8", *TINY),
        ("query", "select episode_id from episodes", "--as", "all"),
        ("train", "--mixture", "all", "--algo", "bc", "--obs", "state", "--updates", "3"),
    ]
    with pytest.MonkeyPatch.context() as patch:
        for command in commands:
            patch.setattr(sys, "argv", ["cog", *command, "--root", str(root)])
            with pytest.raises(SystemExit) as left:
                cli.main()
            assert not left.value.code, command


@pytest.fixture
def root(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to do harm to, and the store that every command means."""
    copy = tmp_path / "store"
    shutil.copytree(filled, copy)
    monkeypatch.setenv("COG_ROOT", str(copy))
    return copy


@pytest.fixture
def lab_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """A working folder with a module of functions that derive features; and what writes it anew."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")

    def write(text: str) -> None:
        (folder / "lab_layers.py").write_text(text)
        forget()

    write(LAYERS)
    yield write
    forget()
