"""Results as files: what was written is read back, what is something else is refused in one line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cogdata.errors import CogError
from tests.trainers.paper.reported import TABLE, evaluated, result_of
from tests.trainers.paper.test_frozen import FILES
from trainers.paper.files import REPLACED, read_result, read_results, write_result
from trainers.paper.results import Evaluated, Result
from trainers.paper.stored import describe_machine, find_evaluated


def test_round_trip(tmp_path: Path) -> None:
    result = result_of("bfn", 2, "0110", curve=("01", "11"), change="online", online=3)
    path = write_result(tmp_path / "new", result)
    assert path.name == "place_in_tray-state-fast-bfn-online-s2.json"
    assert read_result(path) == result
    assert read_results(tmp_path / "new") == [result]
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # nothing half-written is left


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_keys_of_a_file_stay(path: Path, tmp_path: Path) -> None:
    """Written again, a published file has every key and value that it had; keys that are newer than it come beside."""
    again = json.loads(write_result(tmp_path, read_result(path)).read_text())
    assert again == merged(again, json.loads(path.read_text()))
    assert again.keys() == {
        "unit", "data", "runs", "judged", "curve", "machine", "code", "commands", "judging_seconds", "online"
    }  # fmt: skip
    assert again["unit"].keys() == {
        "task", "study", "obs", "preset", "method", "seed", "mixture", "envs", "settings", "variant", "derived", "online"
    }  # fmt: skip


def merged(values: Any, stronger: Any) -> Any:
    """Values with those of another document laid over them, key by key."""
    if isinstance(values, dict) and isinstance(stronger, dict):
        return {**values, **{key: merged(values.get(key), one) for key, one in stronger.items()}}
    if isinstance(values, list) and isinstance(stronger, list) and len(values) == len(stronger):
        return [merged(one, other) for one, other in zip(values, stronger, strict=True)]
    return stronger


def test_outcomes_are_counted() -> None:
    one = evaluated(TABLE, "0110")
    assert (one.episodes, one.successes, one.rate) == (4, 2, 0.5)
    with pytest.raises(ValueError, match="must be one 0 or 1 per episode"):
        evaluated(TABLE, "01x")
    with pytest.raises(ValueError, match="must be one 0 or 1 per episode"):
        Evaluated(TABLE, 1, "d", 0, "")


def test_the_evaluation_that_was_asked_for_is_found() -> None:
    there = [
        evaluated(TABLE, "01"),
        evaluated(TABLE, "011"),
        evaluated(TABLE, "111", first_seed=9),
        evaluated(TABLE, "1", 7),
    ]
    assert find_evaluated(there, TABLE, 100, 0, 3) == there[1]
    assert find_evaluated(there, TABLE, 100, 9, 3) == there[2]
    assert find_evaluated(there, TABLE, 8, 0, 1) is None


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"unit": {}}', "null"])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "odd.json"
    file.write_text(text)
    with pytest.raises(CogError, match=r"odd.json is no result of `cog reproduce`: restore it, or remove it"):
        read_results(tmp_path)


def test_a_result_with_a_field_too_many_is_refused(tmp_path: Path) -> None:
    path = write_result(tmp_path, result_of("bfn", 0, "1"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"verdict": "good"}))
    with pytest.raises(CogError, match="is no result"):
        read_result(path)


def test_what_a_new_result_does_not_hold_is_kept(tmp_path: Path) -> None:
    def kept() -> list[Result]:
        return [read_result(file) for file in sorted((tmp_path / REPLACED).glob("*.json"))]

    first = result_of("bfn", 0, "11")
    more = result_of("bfn", 0, "1101")
    for one in (first, first, more):  # the same again, and the same with more scenes
        write_result(tmp_path, one)
    assert kept() == []
    write_result(tmp_path, first)
    assert kept() == [more]
    other = replace(first, data=replace(first.data, digest="f" * 64))
    write_result(tmp_path, other)
    assert kept() in ([more, first], [first, more])
    again = replace(other, experiment=replace(other.experiment, settings=("bfn.updates=7",)))
    write_result(tmp_path, again)
    assert other in kept()
    assert read_results(tmp_path) == [again]


def test_no_results_and_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(CogError, match=r"holds no results: run `cog reproduce place_in_tray"):
        read_results(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(CogError, match="file"):
        write_result(tmp_path / "file" / "below", result_of("bfn", 0, "1"))


def test_the_machine_is_described_without_its_name() -> None:
    assert describe_machine().keys() == {"processor", "cores", "python", "torch"}
