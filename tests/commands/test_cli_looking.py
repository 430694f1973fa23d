"""Looking at episodes: `cog show` and `cog data sheet`."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.running import Run

ONE = "select min(episode_id) as episode_id from episodes where policy = 'place'"
ALL = "select episode_id from episodes order by episode_id"


@pytest.fixture
def here(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory beside the store."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_show_draws_a_sheet_and_an_animation(run: Run, here: Path) -> None:
    """Frames of 16 px are repeated 9 times (144 px) on the sheet, 18 times (288 px) in the animation."""
    said = run("show", ONE)
    assert said.code == 0
    sheet, animation = (Path(line) for line in said.out.splitlines())
    assert sheet.name.startswith("place-")
    assert sheet.name.endswith("-0000000.png")
    picture = cv2.imread(str(sheet))
    assert picture is not None
    assert picture.shape[1] == 4 * (144 + 6) + 6  # 3 actions
    found, frames = cv2.imdecodeanimation(np.frombuffer(animation.read_bytes(), np.uint8)[None])
    assert found
    assert len(frames.frames) == 4  # WebP joins frames that are alike
    assert sum(frames.durations) == (4 + 10) * 100  # ms
    assert frames.frames[0].shape[1] == 288


def test_show_takes_a_name_a_file_and_a_scale(run: Run, here: Path) -> None:
    """Twice 16 px is narrower than a tile of 132 px."""
    name = run("query", ONE, "--format", "csv").out.splitlines()[1]
    said = run("show", name, "--out", "a/b.png", "--scale", "2")
    assert said.out == "a/b.png\n"
    picture = cv2.imread("a/b.png")
    assert picture is not None
    assert picture.shape[1] == 4 * (132 + 6) + 6
    assert run("show", name, "--out", "a/b.webp").out == "a/b.webp\n"
    assert sorted(path.name for path in (here / "a").iterdir()) == ["b.png", "b.webp"]


def test_show_draws_as_many_of_a_query_as_the_limit_says(run: Run, here: Path) -> None:
    said = run("show", ALL, "--limit", "2", "--out", "many")
    assert len(list((here / "many").iterdir())) == 4
    assert "drawn: the first 2; there are more episodes, see --limit" in said.err


def test_a_sheet_of_many(run: Run, here: Path) -> None:
    """12 grasps and 8 placements in 5 columns; three frames of 96 px each, 2 px apart."""
    said = run("data", "sheet", ALL, "--columns", "5")
    assert said.out == "sheet.png\n"
    picture = cv2.imread("sheet.png")
    assert picture is not None
    assert picture.shape[:2] == (4 * (96 + 34 + 8) + 6, 5 * (292 + 6) + 6)
    assert "there are more" in run("data", "sheet", ALL, "--limit", "3", "--out", "three.png").err


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("show", "nothing/1"), "unknown episode 'nothing/0000001'"),
        (("show", "select 1 as x"), "no column episode_id"),
        (("show", f"{ALL} limit 0"), "yields no episodes"),
        (("show", ALL, "--out", "one.png"), "is one file, the query yields 5 episodes"),
        (("show", ONE, "--out", "one.gif"), "must be a folder, or end with .png or .webp"),
        (("show", ONE, "--scale", "0"), "--scale is 0, must be from 1 to 16"),
        (("show", ONE, "--limit", "0"), "--limit is 0, must be at least 1"),
        (("show", ONE, "--out", "/proc/nothing"), "name another with --out"),
        (("data", "sheet", ALL, "--out", "page.jpg"), "must end with .png"),
        (("data", "sheet", ALL, "--columns", "0"), "--columns is 0"),
        (("data", "sheet", ALL, "--limit", "9999"), "--limit is 9999"),
        (("data", "sheet", ALL, "--out", "/proc/nothing/a.png"), "name another with --out"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(run: Run, here: Path, command: tuple[str, ...], said: str) -> None:
    assert said in run(*command).error
    assert not list(here.iterdir())
