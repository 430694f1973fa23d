"""Captioned images: their sizes worked out, marks and images where they belong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cogdata.display.cameras import default_factor, pictures
from cogdata.display.captions import (
    COLOURS,
    OverviewEntry,
    episode_animation,
    episode_sheet,
    overview,
)
from cogdata.episode import Episode, UInt8
from cogdata.schema import PREDICATES
from tests.synthetic import make_episode

PAPER = 246


@pytest.fixture
def episode() -> Episode:
    """4 actions; number 3 is placed, and rewarded, at its end; grasped until then."""
    return make_episode("demo", 3, size=48)


def _sheet(episode: Episode, factor: int) -> UInt8:
    return episode_sheet(episode, pictures(episode, (), 0, factor))


def _entry(episode: Episode) -> OverviewEntry:
    return OverviewEntry.of(episode, pictures(episode, (), 0, 2))


def test_every_predicate_has_a_colour_of_its_own() -> None:
    assert len({COLOURS[name] for name in PREDICATES}) == len(PREDICATES)


@pytest.mark.parametrize(
    ("size", "wanted", "factor"), [(48, 144, 3), (64, 144, 2), (16, 144, 9), (512, 96, 1)]
)
def test_images_are_about_as_wide_as_wanted(size: int, wanted: int, factor: int) -> None:
    assert default_factor(size, wanted) == factor


def test_a_sheet_has_every_image_and_its_marks(episode: Episode) -> None:
    """5 images of 144 px in one row: title 40, images 6 + (144 + 32) + 8, legend 16 + 6.

    A tile's marks are 9 px squares, 12 px apart, that end with it: placed at x = 6 + 144 - 24, grasped at
    6 + 144 - 12, from y = 40 + 6 + 144 + 3.
    """
    sheet = _sheet(episode, 3)
    assert sheet.shape == (40 + 190 + 22, 5 * 150 + 6, 3)
    for t in range(5):
        left = 6 + t * 150
        image = sheet[46 : 46 + 144, left : left + 144]
        assert (image[::3, ::3] == episode.image[t]).all()
        placed, grasped = (tuple(sheet[46 + 144 + 3 + 4, left + 144 - x + 4]) for x in (24, 12))
        assert grasped == (COLOURS["grasped"] if t < 4 else (PAPER,) * 3)
        assert placed == (COLOURS["placed"] if t == 4 else (PAPER,) * 3)


def test_the_reward_stands_under_the_image_that_it_led_to(episode: Episode) -> None:
    """Of rewards 0, 0, 0, 1 the last is written under image 4, from x = 30 of its tile."""
    sheet = _sheet(episode, 3)
    written = [
        bool((sheet[190 : 190 + 16, 6 + t * 150 + 30 : 6 + t * 150 + 60] != PAPER).any()) for t in range(5)
    ]
    assert written == [False, False, False, False, True]


@pytest.mark.parametrize(("steps", "columns"), [(30, 8), (40, 9), (80, 9), (19, 10)])
def test_columns_leave_the_last_row_full(steps: int, columns: int) -> None:
    """31 images: 8 columns leave 1 place empty, 9 leave 5, 10 leave 9; and so on."""
    sheet = _sheet(make_episode("demo", 0, steps=steps), 1)
    assert sheet.shape[1] == columns * (132 + 6) + 6  # images of 4 px stand in tiles of 132


def test_an_animation_shows_every_image_and_holds_the_last(episode: Episode) -> None:
    """Frames of 288 px over 4 lines (name, time, phase, two marks) of 16 px and 6 px of gap."""
    images = episode_animation(episode, pictures(episode, (), 0, 6))
    assert images.shape == (5 + 10, 288 + 4 * 16 + 6, 288, 3)
    assert all((images[t, :288:6, ::6] == episode.image[t]).all() for t in range(5))
    assert (images[5:] == images[4]).all()


def test_a_page_of_many_shows_first_middle_and_last(episode: Episode) -> None:
    """3 episodes in 2 columns; an entry is 3 images of 96 px 2 px apart over 34 px of text."""
    failed = replace(episode, predicates={**episode.predicates, "placed": np.zeros(5, bool)})
    page = overview([_entry(one) for one in (episode, failed, episode)], 2)
    assert page.shape == (2 * (96 + 34 + 8) + 6, 2 * (292 + 6) + 6, 3)
    for number, t in enumerate((0, 2, 4)):
        x = 6 + number * 98
        assert (page[6 : 6 + 96 : 2, x : x + 96 : 2] == episode.image[t]).all()
    y = 6 + 96 + 16 + 2 + 4  # the middle of the marks: filled green, and the inside of an outline
    assert tuple(page[y, 6 + 1 + 4]) == (27, 122, 52)
    assert tuple(page[y, 6 + 298 + 1 + 4]) == (PAPER,) * 3


def test_what_was_not_judged_is_neither_filled_nor_an_outline(episode: Episode) -> None:
    """The mark is 9 px high: a pale line in the row of its middle, paper above and below."""
    last = np.arange(5) == 4
    unjudged = replace(episode, unjudged={"placed": last}, predicates={**episode.predicates, "placed": ~last})
    page = overview([_entry(unjudged)], 1)
    x, y = 6 + 1 + 4, 6 + 96 + 16 + 2 + 4
    assert tuple(page[y, x]) == (150, 150, 150)
    assert tuple(page[y - 4, x]) == tuple(page[y + 4, x]) == (PAPER,) * 3


def test_images_of_two_sizes_stand_on_one_page(episode: Episode) -> None:
    """The smaller ones stand in the corner of places as large as the largest."""
    small = make_episode("demo", 0, size=16)
    page = overview([_entry(episode), _entry(small)], 2)
    assert page.shape == (96 + 34 + 8 + 6, 2 * (292 + 6) + 6, 3)
    x = 6 + 298
    assert (page[6 : 6 + 32 : 2, x : x + 32 : 2] == small.image[0]).all()
    assert (page[6 + 32 : 6 + 96, x : x + 96] == PAPER).all()
