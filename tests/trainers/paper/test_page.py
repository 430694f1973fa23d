"""The page of results and its figures; and that the page in docs/ says what the files in results/ say."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.paper.fresh import table
from tests.trainers.paper.reported import GRIPPER, TABLE, result_of
from trainers.paper.figures import LABELS
from trainers.paper.page import NOTES, render_page, write_page
from trainers.paper.results import read_results
from trainers.paper.table1 import TASKS, plan_finetuning, plan_units, plan_variations
from trainers.training.methods import METHODS

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "results" / "table1"
PAGE = ROOT / "docs" / "results.md"


def test_a_page_with_everything_on_it(tmp_path: Path) -> None:
    source = tmp_path / "results"
    source.mkdir()
    (source / NOTES).write_text("## What was learned\n\nMuch.\n")
    tuned = result_of("bfn", 0, "11", variant="online", online=60, envs=(TABLE,))
    found = [
        result_of("bfn", 0, "1101", curve=("0001", "1101")),
        result_of("bfn", 1, "1111", curve=("0011", "1111")),
        result_of("cog", 0, "0001"),
        result_of("bfn", 0, "1000", variant="prior-10"),
        type(tuned)(**{**vars(tuned), "online": "0" * 30 + "1" * 30}),
    ]
    page = write_page(found, source, tmp_path / "docs" / "results.md")
    text = page.file.read_text()
    # .75 and 1.00: mean .875, deviation .1768; the paper has 1.00 (.00) in the gripper and .96 (.04) on the table
    assert "| object on the table | **.25**<br>.96 (.04) | **.88 (.18)** |" in text
    assert "| object on the table | COG (best of N) | 7/8 | .53 to .98 | 3, 4 | 2 : 0, p = 0.5 |" in text
    assert "| COG (best of N) | 4 | seed 0, place_in_tray: 1 3<br>seed 1, place_in_tray: 2 4 | 20 |" in text
    varied = (
        "| `prior-10`: a tenth of the prior | COG (best of N) | object on the table | .25 | .88 (.18) | 1 |"
    )
    assert f"{varied} 0 : 2, p = 0.5 |" in text
    assert "| object on the table | COG (best of N) | 0 | 3/4 | 60 | 20/50 | 30/50 | 2/2 |" in text
    assert "Much." in text
    assert (
        "| place in tray, poses: object on the table | COG (best of N) | at least .97 | .875, 2 seeds | **missed** "
        "| COG (CQL) .250, missed |" in text
    )
    assert (
        "| place in tray, poses: object in gripper | COG (CQL) | at least .99 | 1.000, 1 seed | met so far "
        "| COG (best of N) 1.000 |" in text
    )
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    assert len(pictures) == 3
    assert all((page.file.parent / picture).stat().st_size > 2000 for picture in pictures)
    assert {file.suffix for file in page.figures} == {".png", ".svg"}
    links = re.findall(r"\]\(([^)]+\.json)\)", text)
    assert "../results/place_in_tray-state-fast-bfn-prior-10-s0.json" in links


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    found = [result_of("bfn", 0, "1101", curve=("0001", "1101"))]
    pages = [write_page(found, tmp_path, tmp_path / name / "results.md") for name in ("one", "two")]
    for one, two in zip(pages[0].figures, pages[1].figures, strict=True):
        assert one.read_bytes() == two.read_bytes()
    assert pages[0].file.read_text() == pages[1].file.read_text()


def test_a_unit_says_what_it_was_trained_on(tmp_path: Path) -> None:
    here, there = (result_of("bfn", seed, "1101") for seed in range(2))
    run = replace(there.runs[0], device="cuda", accelerator="Some Card", mixture_digest="ab" * 32)
    page = write_page([here, replace(there, runs=(run,))], tmp_path, tmp_path / "results.md")
    text = page.file.read_text()
    assert "| 4/4, 3/4 | 1.0 | 1 × CPU | abc |" in text
    assert "| `place_in_tray@1` abababababab | 4/4, 3/4 | 1.0 | Some Card | abc |" in text


def test_a_unit_says_how_much_each_stage_learned_from(tmp_path: Path) -> None:
    found = result_of("bc_init", 0, "1101")
    first, second = (replace(found.runs[0], transitions=size) for size in (20_000, 1_000))
    text = write_page(
        [replace(found, runs=(first, second))], tmp_path, tmp_path / "results.md"
    ).file.read_text()
    assert "| 1 × CPU | 20,000 + 1,000 | 1 |" in text


def test_every_method_has_a_label() -> None:
    assert METHODS.keys() == LABELS.keys()


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
@pytest.mark.parametrize("task", TASKS)
def test_every_cell_is_derived_again(task: str, obs: str) -> None:
    """Straight from the JSON, by counting characters: the tables' means and deviations."""
    rates: dict[tuple[str, str], list[float]] = {}
    for path in sorted(RESULTS.glob("*.json")):
        data = json.loads(path.read_text())
        unit = data["unit"]
        if (unit["task"], unit["obs"], unit["variant"]) == (task, obs, ""):
            for one in data["judged"]:
                assert len(one["outcomes"]) == 250, path
                assert one["first_seed"] == 0
                assert one["update"] == data["runs"][-1]["config"]["updates"], path
                rates.setdefault((one["env"], unit["method"]), []).append(one["outcomes"].count("1") / 250)
    title = {"state": "from poses", "image+robot": "from pixels"}[obs]
    begin = f"## {TASKS[task].title.capitalize()}, {title}"
    text = PAGE.read_text()
    if not rates:
        assert begin not in text
        return
    table = text[text.index(begin) :]
    header = next(line for line in table.splitlines() if line.startswith("| condition"))
    columns = [cell.strip() for cell in header.strip("|").split("|")][1:]
    for row in TASKS[task].rows:
        line = next(line for line in table.splitlines() if line.startswith(f"| {row.label} |"))
        cells = [cell.strip() for cell in line.strip("|").split("|")][1:]
        for label, cell in zip(columns, cells, strict=True):
            method = next(name for name, called in LABELS.items() if called == label)
            found = rates.get((row.env, method))
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


def test_every_file_is_of_a_unit_that_todays_command_plans() -> None:
    """So that what the page says of a method's settings is what `cog reproduce` does now."""
    for unit in (result.unit for result in read_results(RESULTS)):
        same: dict[str, Any] = {"obs": unit.obs, "preset": unit.preset, "seeds": [unit.seed]}
        if unit.online:
            planned = plan_finetuning(plan_units([unit.task], methods=[unit.method], **same), unit.online)
        elif unit.variant:
            planned = plan_variations([unit.task], [unit.variant], **same)
        else:
            planned = plan_units([unit.task], methods=[unit.method], **same)
        assert unit in planned, unit.name


def test_the_rows_on_fresh_scenes_are_those_of_their_file() -> None:
    """They are of the very checkpoints in the table, and the sums under them are theirs."""
    lines = json.loads((ROOT / "results" / "fresh_scenes.json").read_text())
    results = {result.unit.name: result for result in read_results(RESULTS)}
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


def test_the_conditions_of_this_file_are_the_trays() -> None:
    assert {TABLE, GRIPPER} == {row.env for row in TASKS["place_in_tray"].rows}
