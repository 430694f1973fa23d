"""The published page and its result files, held against themselves: no budget or default of today is asked.

A file stays what the commit that it names made. Settings may change since without a training to do again.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from bench.paper.fresh import table
from trainers.paper.figures import METHOD_LABELS
from trainers.paper.files import read_results
from trainers.paper.page import NOTES, render_page
from trainers.paper.table1 import TASKS

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "results" / "table1"
PAGE = ROOT / "docs" / "results.md"
FILES = sorted(RESULTS.glob("*.json"))
SUCCESS = {"place_in_tray": "placed", "drawer": "grasped"}
"""Task → the predicate that is success."""


def test_the_page_in_docs_is_the_one_of_the_files() -> None:
    """Nothing on it was written by hand but the notes; `cog report` writes it again."""
    figures = sorted(os.path.relpath(path, PAGE.parent) for path in (PAGE.with_suffix("")).glob("*.png"))
    notes = RESULTS / NOTES
    again = render_page(
        read_results(RESULTS),
        figures=figures,
        link=os.path.relpath(RESULTS, PAGE.parent),
        notes=notes.read_text().strip() if notes.exists() else "",
    )
    pictures = re.compile(r"^!\[.*\n", re.M)  # their order is that of drawing, not of their names
    assert pictures.sub("", PAGE.read_text()) == pictures.sub("", again), "run `cog report`"


@pytest.mark.parametrize("obs", ["state", "image+robot"])
@pytest.mark.parametrize("task", ["place_in_tray", "drawer"])
def test_every_cell_is_derived_again(task: str, obs: str) -> None:
    """Straight from the JSON, by counting characters: the tables' means and deviations."""
    rates: dict[tuple[str, str], list[float]] = {}
    for path in sorted(RESULTS.glob("*.json")):
        data = json.loads(path.read_text())
        experiment = data["unit"]
        if (experiment["task"], experiment["obs"], experiment["variant"]) == (task, obs, ""):
            for one in data["judged"]:
                assert len(one["outcomes"]) == 250, path
                assert one["first_seed"] == 0
                assert one["update"] == data["runs"][-1]["config"]["updates"], path
                rates.setdefault((one["env"], experiment["method"]), []).append(
                    one["outcomes"].count("1") / 250
                )
    title = {"state": "from poses", "image+robot": "from pixels"}[obs]
    begin = f"## {TASKS[task].title.capitalize()}, {title}"
    text = PAGE.read_text()
    if not rates:
        assert begin not in text
        return
    table = text[text.index(begin) :]
    header = next(line for line in table.splitlines() if line.startswith("| condition"))
    columns = [cell.strip() for cell in header.strip("|").split("|")][1:]
    for condition in TASKS[task].conditions:
        line = next(line for line in table.splitlines() if line.startswith(f"| {condition.label} |"))
        cells = [cell.strip() for cell in line.strip("|").split("|")][1:]
        for label, cell in zip(columns, cells, strict=True):
            method = next(name for name, called in METHOD_LABELS.items() if called == label)
            found = rates.get((condition.env, method))
            if found is None:
                assert cell.startswith("–")
                continue
            mean = sum(found) / len(found)
            shown = re.match(r"\*\*(\d?\.\d\d)(?: \((\d?\.\d\d)\))?\*\*", cell)
            assert shown is not None, cell
            assert float(shown[1]) == pytest.approx(mean, abs=0.00501)
            if len(found) > 1:
                deviation = (sum((rate - mean) ** 2 for rate in found) / (len(found) - 1)) ** 0.5
                assert float(shown[2]) == pytest.approx(deviation, abs=0.00501)


def test_the_rows_on_fresh_scenes_are_those_of_their_file() -> None:
    """They are of the very checkpoints in the table, and the sums under them are theirs."""
    lines = json.loads((ROOT / "results" / "fresh_scenes.json").read_text())
    results = {result.experiment.name: result for result in read_results(RESULTS)}
    for line in lines:
        there = results[line["result"]].of(line["env"])
        assert there is not None, line["result"]
        assert (there.checkpoint_digest, there.successes) == (line["checkpoint_digest"], line["table"])
    notes = (RESULTS / NOTES).read_text()
    begin = notes.index("| condition | sees | learner |")
    shown = notes[begin : notes.index("\n\n", begin)].splitlines()[2:]
    assert sorted(shown) == sorted(table(lines))
    before, after = sum(line["table"] for line in lines), sum(line["outcomes"].count("1") for line in lines)
    scenes = sum(len(line["outcomes"]) for line in lines)
    assert f"{before:,} of {scenes:,} on the table's scenes and {after:,} of {scenes:,} on" in notes


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_agrees_with_itself(path: Path) -> None:
    data = json.loads(path.read_text())
    check_name(path, data)
    check_settings(data)
    check_data(data)
    check_outcomes(data)


def check_name(path: Path, data: dict[str, Any]) -> None:
    """The file's name is that of its experiment, which its runs and commands name too."""
    experiment = data["unit"]
    parts = [
        experiment["study"],
        experiment["obs"].replace("+", "_"),
        experiment["preset"],
        experiment["method"],
        experiment["variant"],
    ]
    assert path.stem == "-".join([*(part for part in parts if part), f"s{experiment['seed']}"])
    for run in data["runs"]:
        assert re.fullmatch(rf"{run['algo']}-.*-s{experiment['seed']}-[0-9a-f]{{8}}", run["run"])
    assert re.fullmatch(r"[0-9a-f]{12}\+?", data["code"])
    assert (
        f"--method {experiment['method']} --obs {experiment['obs']} --preset {experiment['preset']} "
        in data["commands"][0]
    )
    for pair in experiment["settings"]:
        assert f"--set {pair}" in data["commands"][0]


def check_settings(data: dict[str, Any]) -> None:
    """What the experiment sets, the last of a key, is in the configuration of its run, and was done."""
    offline = data["runs"][: -1 if data["unit"]["online"] else None]
    configs = {run["algo"]: run["config"] for run in offline}
    for name, text in dict(pair.split("=") for pair in data["unit"]["settings"]).items():
        algo, key = name.split(".")
        value = json.loads(text) if re.fullmatch(r"true|false|[\d.]+", text) else text
        assert configs[algo][key] == value
    for run in offline:
        assert run["updates"] == run["config"]["updates"]
    for run in data["runs"]:
        assert run["batch_size"] == run["config"]["batch_size"]


def check_data(data: dict[str, Any]) -> None:
    """Runs on the whole mixture have its digest and the sum of its transitions, those on a portion less."""
    whole = sum(data["data"]["transitions"].values())
    assert all(data["data"]["rewarded"][name] <= of for name, of in data["data"]["transitions"].items())
    for run in data["runs"]:
        same = run["mixture"] == data["data"]["mixture"]
        assert (run["mixture_digest"] == data["data"]["digest"]) == same
        assert run["transitions"] is None or (run["transitions"] == whole) == same
        assert run["transitions"] is None or run["transitions"] <= whole


def check_outcomes(data: dict[str, Any]) -> None:
    """Final outcomes are of the last checkpoint in every condition; a curve ends in the same weights."""
    experiment, last = data["unit"], data["runs"][-1]
    assert [one["env"] for one in data["judged"]] == experiment["envs"]
    for one in data["judged"]:
        assert (one["update"], one["first_seed"], len(one["outcomes"])) == (last["updates"], 0, 250)
        assert one["last"][SUCCESS[experiment["task"]]] == one["outcomes"].count("1")
        assert max(one["last"].values()) <= 250
    assert len(data["online"]) == experiment["online"]
    assert len({one["checkpoint_digest"] for one in data["judged"]}) == 1
    if not (curve := data["curve"]):
        return
    updates = [one["update"] for one in curve]
    assert updates == sorted(set(updates))
    assert {(one["env"], one["first_seed"]) for one in curve} <= {
        (env, 1_000_000) for env in experiment["envs"]
    }
    end = (curve[-1]["update"], curve[-1]["checkpoint_digest"])
    assert end == (last["updates"], data["judged"][0]["checkpoint_digest"])
