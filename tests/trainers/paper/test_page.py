"""The page of results and its figures."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from tests.trainers.paper.reported import GRIPPER, TABLE, result_of
from trainers.paper.figures import METHOD_LABELS
from trainers.paper.page import NOTES, write_page
from trainers.paper.table1 import TASKS
from trainers.training.methods import METHODS


def test_a_page_with_everything_on_it(tmp_path: Path) -> None:
    source = tmp_path / "results"
    source.mkdir()
    (source / NOTES).write_text("## What was learned\n\nMuch.\n")
    tuned = result_of("bfn", 0, "11", change="online", online=60, envs=(TABLE,))
    found = [
        result_of("bfn", 0, "1101", curve=("0001", "1101")),
        result_of("bfn", 1, "1111", curve=("0011", "1111")),
        result_of("cog", 0, "0001"),
        result_of("bfn", 0, "1000", change="prior-10"),
        type(tuned)(**{**vars(tuned), "online": "0" * 30 + "1" * 30}),
    ]
    page = write_page(found, source, tmp_path / "docs" / "results.md")
    text = page.file.read_text()
    # .75 and 1.00: mean .875, deviation .1768; the paper has 1.00 (.00) in the gripper and .96 (.04) on the table
    assert "| object on the table | **.25**<br>.96 (.04) | **.88 (.18)** |" in text
    assert "| object on the table | COG (best of N) | 7/8 | .53 to .98 | 3, 4 | 2 : 0, p = 0.5 |" in text
    assert "| COG (best of N) | 4 | seed 0, place_in_tray: 1 3<br>seed 1, place_in_tray: 2 4 | 20 |" in text
    changed = (
        "| `prior-10`: a tenth of the prior | COG (best of N) | object on the table | .25 | .88 (.18) | 1 |"
    )
    assert f"{changed} 0 : 2, p = 0.5 |" in text
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


def test_an_experiment_says_what_it_was_trained_on(tmp_path: Path) -> None:
    here, there = (result_of("bfn", seed, "1101") for seed in range(2))
    run = replace(there.runs[0], device="cuda", accelerator="Some Card", mixture_digest="ab" * 32)
    page = write_page([here, replace(there, runs=(run,))], tmp_path, tmp_path / "results.md")
    text = page.file.read_text()
    assert "| 4/4, 3/4 | 1.0 | 1 × CPU | abc |" in text
    assert "| `place_in_tray@1` abababababab | 4/4, 3/4 | 1.0 | Some Card | abc |" in text


def test_an_experiment_says_how_much_each_stage_learned_from(tmp_path: Path) -> None:
    found = result_of("bc_init", 0, "1101")
    first, second = (replace(found.runs[0], transitions=size) for size in (20_000, 1_000))
    text = write_page(
        [replace(found, runs=(first, second))], tmp_path, tmp_path / "results.md"
    ).file.read_text()
    assert "| 1 × CPU | 20,000 + 1,000 | 1 |" in text


def test_every_method_has_a_label() -> None:
    assert METHODS.keys() == METHOD_LABELS.keys()


def test_the_conditions_of_this_file_are_the_trays() -> None:
    assert {TABLE, GRIPPER} == {condition.env for condition in TASKS["place_in_tray"].conditions}
