"""One run, one question, one answer: every command counts the same evaluated episodes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import pyarrow.parquet as pq
import pytest

import collectors.drivers
from cogdata.intervals import wilson
from cogdata.storage.store import open_store
from tests.running import Run
from trainers.paper.stored import read_scenes

PICK = "cog/PickTray-v0"
TRAIN = ("train", "--mixture", "all", "--algo", "bc", "--obs", "state", "--updates", "4", "--seed", "8",
         "--threads", "1", "--set", "widths=16", "--set", "batch_size=4")  # fmt: skip


class Lucky(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment whose episodes are one step, and succeed where the seed is a multiple of 3."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        assert seed is not None
        self.won = seed % 3 == 0
        obs, info = super().reset(seed=seed, options=options)
        return obs, self._judged(info)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        obs, reward, terminated, _, info = super().step(action)
        return obs, reward, terminated, True, self._judged(info)

    def _judged(self, info: Mapping[str, Any]) -> dict[str, Any]:
        return {**info, "success": self.won}


@pytest.fixture
def lucky(monkeypatch: pytest.MonkeyPatch) -> None:
    real = collectors.drivers.open_env

    def opened(*args: Any, **options: Any) -> Any:
        env = real(*args, **options)
        return env if options.get("observations") == ("robot",) else Lucky(env)

    monkeypatch.setattr(collectors.drivers, "open_env", opened)


def counted(root: Path, name: str, update: int) -> tuple[int, int]:
    """Successes and episodes of seeds below a million in the Parquet files, each seed once."""
    found: dict[int, bool] = {}
    for path in (root / "runs" / name / "evaluations").glob("*.parquet"):
        for row in pq.read_table(path).to_pylist():
            if row["seed"] < 1_000_000 and row["update"] == update:
                found[row["seed"]] = row["success"]
    return sum(found.values()), len(found)


def line_of(won: int, of: int) -> str:
    low, high = wilson(won, of)
    return f"{won}/{of} = {won / of:.3f} [{low:.3f}, {high:.3f}]"


def success_of(run: Run, name: str) -> Mapping[str, Any]:
    rows = json.loads(run("runs", "ls", "--format", "json").out)
    (row,) = [row for row in rows if row["run"] == name]
    assert isinstance(row, dict)
    return row


@pytest.mark.usefixtures("lucky")
def test_all_commands_give_one_answer(run: Run, root: Path) -> None:
    """Of seeds 0-8 the three 0, 3, 6 succeed; of 1,000,000-1,000,003, which selected a checkpoint, 1,000,002.

    Selection mixed in it would be 4 of 13, with seeds 0-3 counted twice 6 of 17.
    """
    assert run(*TRAIN, "--eval-env", PICK, "--eval-every", "4", "--eval-episodes", "4").code == 0
    name = next(path.name for path in (root / "runs").iterdir() if "-s8-" in path.name)
    evaluate = ("eval", name, "--env", PICK, "--workers", "1", "--seeds")
    assert line_of(2, 4) in run(*evaluate, "0:4").out
    said = run(*evaluate, "0:9").out
    assert counted(root, name, 4) == (3, 9)
    assert said == f"{name} @ 4 · {PICK}: {line_of(3, 9)}\n"
    sql = f"select avg(success::int) as rate, count(*) as n from evaluations where run = '{name}' and purpose = "
    (row,) = json.loads(run("query", f"{sql} 'evaluation'", "--format", "json").out)
    assert row == {"rate": 3 / 9, "n": 9}
    (row,) = json.loads(run("query", f"{sql} 'selection'", "--format", "json").out)
    assert row == {"rate": 1 / 4, "n": 4}
    shown = success_of(run, name)
    assert (shown["env"], shown["update"], shown["episodes"], shown["success"]) == (PICK, 4, 9, 0.333)
    assert shown["interval"] == [round(end, 3) for end in wilson(3, 9)]
    table = run("runs", "show", name).out
    assert [line.split()[-5:] for line in table.splitlines() if "evaluation" in line] == [
        ["9", "3", "0.333", "[0.121,", "0.646]"]
    ]
    assert run("runs", "compare", name, name).out.startswith(
        f"{PICK}, 4 against 4 updates: {line_of(3, 9)} against {line_of(3, 9)} on the same seeds"
    )
    reported = read_scenes(open_store(str(root)), name, PICK, 4)
    assert reported is not None
    assert (reported.successes, reported.episodes, reported.outcomes) == (3, 9, "100100100")


@pytest.mark.usefixtures("lucky")
def test_seeds_that_were_evaluated_before_are_added_and_it_is_said(run: Run, root: Path) -> None:
    """Seeds 0-3: 0 and 3; seeds 4-8: 6. An older checkpoint is a row of its own and not the run's rate."""
    assert run(*TRAIN, "--eval-env", PICK, "--eval-every", "2", "--eval-episodes", "3").code == 0
    name = next(path.name for path in (root / "runs").iterdir() if "-s8-" in path.name)
    evaluate = ("eval", name, "--env", PICK, "--workers", "1", "--seeds")
    run(*evaluate, "0:4")
    assert run(*evaluate, "4:9").out.splitlines() == [
        f"{name} @ 4 · {PICK}: {line_of(1, 5)}",
        f"{name} @ 4 · {PICK}, all evaluated seeds: {line_of(3, 9)}",
    ]
    said = run(*evaluate, "0:2", "--update", "best").out
    assert said == f"{name} @ 2 · {PICK}: {line_of(1, 2)}\n"
    shown = success_of(run, name)
    assert (shown["update"], shown["episodes"], shown["success"]) == (4, 9, 0.333)


@pytest.mark.usefixtures("lucky")
def test_evaluating_the_seeds_that_selected_a_checkpoint_counts_as_asked(run: Run, root: Path) -> None:
    """1,000,002 and 1,000,005 succeed. Both files stay, and selection is not done again."""
    evaluated = ("--eval-env", PICK, "--eval-every", "4", "--eval-episodes", "6")
    assert run(*TRAIN, *evaluated).code == 0
    name = next(path.name for path in (root / "runs").iterdir() if "-s8-" in path.name)
    assert success_of(run, name)["episodes"] is None
    said = run("eval", name, "--env", PICK, "--workers", "1", "--seeds", "1000000:1000006").out
    assert said == f"{name} @ 4 · {PICK}: {line_of(2, 6)}\n"
    assert success_of(run, name)["episodes"] == 6
    assert len(list((root / "runs" / name / "evaluations").iterdir())) == 2
    assert "evaluated at" not in run(*TRAIN, *evaluated).err
