"""What the command line says: versions, lists in every format, mistakes with what to type instead."""

from __future__ import annotations

import json
from pathlib import Path

import filelock
import pytest

import cogdata
from bench.startup import COMMANDS
from tests.running import Run


def test_version(run: Run) -> None:
    assert run("--version").out == f"cogdata {cogdata.__version__}\n"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_commands_of_the_start_up_benchmark_succeed(run: Run, command: tuple[str, ...]) -> None:
    result = run(*command)
    assert (result.code, result.err) == (0, "")
    assert result.out


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("eval",), "Missing argument 'run': type `cog eval RUN --env ENV`, see `cog eval --help`"),
        (("eval", "x"), "Missing option '--env': type `cog eval RUN --env ENV`, see `cog eval --help`"),
        (("mix", "diff", "a"), "Missing argument 'b': type `cog mix diff A B`, see `cog mix diff --help`"),
        (
            ("collect", "--polcy", "x"),
            "No such option: --polcy (Possible options: --policy): see `cog collect",
        ),
    ],
)
def test_a_command_line_that_lacks_something_says_what_to_type(
    run: Run, command: tuple[str, ...], said: str
) -> None:
    assert run(*command).error.startswith(said)


@pytest.mark.parametrize(("group", "rows"), [("data", 2), ("mix", 1), ("runs", 1)])
def test_lists_come_in_every_format(run: Run, root: Path, group: str, rows: int) -> None:
    assert len(json.loads(run(group, "ls", "--format", "json").out)) == rows
    assert len(run(group, "ls", "--format", "csv").out.splitlines()) == rows + 1
    assert "unknown format 'jsn': did you mean 'json'?" in run(group, "ls", "--format", "jsn").error


@pytest.mark.parametrize(
    ("group", "said"),
    [("data", "the store is empty: "), ("mix", "no mixtures yet: "), ("runs", "no runs yet: ")],
)
def test_lists_of_nothing_say_so(run: Run, tmp_path: Path, group: str, said: str) -> None:
    table = run(group, "ls", "--root", str(tmp_path))
    assert (table.code, table.out) == (0, "")
    assert table.err.startswith(said)
    assert json.loads(run(group, "ls", "--format", "json", "--root", str(tmp_path)).out) == []
    assert "there is no store at" in run(group, "ls", "--root", str(tmp_path / "nowhere")).error


def test_settings_that_are_not_those_of_the_name_are_found(run: Run, root: Path) -> None:
    """The seed of the scenes is said nowhere in an episode, but it is part of what the name is a hash of."""
    (head,) = root.glob("collections/place-*/collection.json")
    assert run("data", "verify").out == "everything is whole\n"
    head.write_text(head.read_text().replace('"root_seed": 0', '"root_seed": 1'))
    said = run("data", "verify")
    assert said.error == "1 problem found"
    where = f"collections/{head.parent.name}/collection.json: says settings that are named place-"
    assert said.out.startswith(where)
    assert said.out.endswith(": remove it and run the same `cog collect` again\n")


def test_a_run_is_removed(run: Run, root: Path) -> None:
    (name,) = (path.name for path in (root / "runs").iterdir())
    assert run("runs", "rm", name).out == f"{name} removed\n"
    assert json.loads(run("runs", "ls", "--format", "json").out) == []
    assert run("mix", "rm", "all").out == "all@1 removed\n"
    assert f"unknown run '{name}'" in run("runs", "rm", name).error


def test_a_run_without_a_checkpoint_is_resumed_unless_it_is_being_trained(run: Run, root: Path) -> None:
    (folder,) = (root / "runs").iterdir()
    (folder / "checkpoints").rename(folder / "elsewhere")
    evaluate = ("eval", folder.name, "--env", "cog/PickTray-v0", "--episodes", "1")
    assert f"has no checkpoint yet: `cog train --resume {folder.name}`" in run(*evaluate).error
    with filelock.FileLock(folder / ".lock"):
        assert "is being trained and has no checkpoint yet: wait for its first one" in run(*evaluate).error


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--memory", "0"), "--memory '0' must be a size above 0, for example 500MB or 2GiB"),
        (("--memory", "much"), "--memory 'much' must be a size above 0"),
        (("--device", "foo"), "device 'foo' cannot be used: this machine has cpu"),
    ],
)
def test_what_cannot_be_trained_with_is_said_shortly(
    run: Run, root: Path, options: tuple[str, ...], said: str
) -> None:
    error = run("train", "--mixture", "all", *options).error
    assert error.startswith(said)
    assert len(error) < 110


def test_memory_that_is_not_there_is_said_before_it_is_taken(
    run: Run, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cogdata.streaming.footprint.free_memory", lambda: 1000)
    error = run("train", "--mixture", "all", "--obs", "state", "--algo", "bc", "--seed", "1").error
    assert "do not fit the 0.0 GB that are free: give --memory or a smaller batch" in error
