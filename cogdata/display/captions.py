"""Captioned images of episodes: a sheet or an animation of one, a page of many.

The caption of observation t has t, a mark per predicate (filled: true), the reward of the action that led to
it, and the policy's phase at it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from cogdata.episode import Episode, UInt8
from cogdata.schema import PREDICATES

Colour = tuple[int, int, int]

_PAPER: Final = 246
_INK: Final[Colour] = (38, 38, 38)
_PALE: Final[Colour] = (150, 150, 150)
_GOOD: Final[Colour] = (27, 122, 52)
_BAD: Final[Colour] = (190, 40, 35)
_PALETTE: Final[tuple[Colour, ...]] = (
    (31, 145, 62), (33, 102, 200), (230, 120, 0), (140, 60, 165), (0, 145, 155), (205, 45, 45),
)  # fmt: skip
COLOURS: Final = {name: _PALETTE[number % len(_PALETTE)] for number, name in enumerate(PREDICATES)}
"""Predicate of a built-in world → RGB colour of its mark; others take theirs by their number."""

_FONT: Final = cv2.FONT_HERSHEY_SIMPLEX
_TEXT: Final = 0.4
_TITLE: Final = 0.48
_LINE_PX: Final = 16
_MARK_PX: Final = 9
_GAP_PX: Final = 6
_TILE_PX: Final = 132
"""Minimal width of a tile; narrower images are centred in it."""
_COLUMNS: Final = (8, 9, 10)
"""Numbers of images in a row of a sheet; the one with the fullest last row is chosen."""
_HELD: Final = 10
"""Number of times that an animation shows its last image."""


# --- drawing ---------------------------------------------------------------------------------------------


def _paper(height: int, width: int) -> UInt8:
    return np.full((height, width, 3), _PAPER, np.uint8)


def _width(text: str, size: float = _TEXT) -> int:
    return int(cv2.getTextSize(text, _FONT, size, 1)[0][0])


def _fit(text: str, width: int, size: float = _TEXT) -> str:
    """Shorten a text at its end until it fits into a width."""
    if _width(text, size) <= width:
        return text
    while text and _width(f"{text}..", size) > width:
        text = text[:-1]
    return f"{text}.."


def _write(page: UInt8, text: str, x: int, y: int, colour: Colour = _INK, size: float = _TEXT) -> None:
    """Draw a line of ASCII text with its top left corner at (x, y)."""
    height = int(cv2.getTextSize("H", _FONT, size, 1)[0][1])
    plain = text.encode("ascii", "replace").decode()
    cv2.putText(page, plain, (x, y + height + 2), _FONT, size, colour, 1, cv2.LINE_AA)


def _mark(page: UInt8, x: int, y: int, colour: Colour, *, filled: bool | None) -> None:
    corner, opposite = (x, y), (x + _MARK_PX - 1, y + _MARK_PX - 1)
    if filled is None:  # not judged
        cv2.line(page, (x, y + _MARK_PX // 2), (x + _MARK_PX - 1, y + _MARK_PX // 2), _PALE, 1)
    elif filled:
        cv2.rectangle(page, corner, opposite, colour, cv2.FILLED)
    else:
        cv2.rectangle(page, corner, opposite, tuple((255 + value) // 2 for value in colour), 1)


def _grid(tiles: Sequence[UInt8], columns: int) -> UInt8:
    """Arrange tiles of one size in rows."""
    height, width = tiles[0].shape[:2]
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    page = _paper(rows * (height + _GAP_PX + 2) + _GAP_PX, columns * (width + _GAP_PX) + _GAP_PX)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        y, x = _GAP_PX + row * (height + _GAP_PX + 2), _GAP_PX + column * (width + _GAP_PX)
        page[y : y + height, x : x + width] = tile
    return page


def _stack(pages: Sequence[UInt8]) -> UInt8:
    """Stack pages of different widths vertically."""
    width = max(page.shape[1] for page in pages)
    whole = _paper(sum(page.shape[0] for page in pages), width)
    y = 0
    for page in pages:
        whole[y : y + page.shape[0], : page.shape[1]] = page
        y += page.shape[0]
    return whole


def _centred(image: UInt8, width: int) -> UInt8:
    """Centre an image in a strip of at least its width."""
    page = _paper(image.shape[0], max(width, image.shape[1]))
    x = (page.shape[1] - image.shape[1]) // 2
    page[:, x : x + image.shape[1]] = image
    return page


# --- one episode -----------------------------------------------------------------------------------------


def _colour(episode: Episode, name: str) -> Colour:
    """Colour of a predicate's mark."""
    return COLOURS.get(name, _PALETTE[list(episode.predicates).index(name) % len(_PALETTE)])


def episode_sheet(episode: Episode, pictures: UInt8) -> UInt8:
    """Draw every image of an episode with its caption, under a title and a legend.

    Args:
        episode: Episode to draw.
        pictures: uint8 (N, H, W, 3), from `cogdata.display.cameras.pictures`.

    Returns:
        uint8 (height, width, 3), RGB.
    """
    counts = _COLUMNS if pictures.shape[2] <= 2 * _TILE_PX else (_COLUMNS[0] // 2,)
    columns = min(counts, key=lambda count: -len(pictures) % count)
    tiles = [_tile(episode, t, picture) for t, picture in enumerate(pictures)]
    images = _grid(tiles, columns)
    return _stack([_title(episode, images.shape[1]), images, _legend(episode, images.shape[1])])


def episode_animation(episode: Episode, pictures: UInt8) -> UInt8:
    """Draw the images of an episode's animation; the last one is repeated.

    Args:
        episode: Episode to draw.
        pictures: uint8 (N, H, W, 3), from `cogdata.display.cameras.pictures`.

    Returns:
        uint8 (N, height, width, 3), RGB.
    """
    title = _fit(episode.meta.episode_id, max(2 * _TILE_PX, pictures.shape[2]))
    images = [_animation_image(episode, t, picture, title) for t, picture in enumerate(pictures)]
    return np.stack([*images, *[images[-1]] * _HELD])


def _reward(episode: Episode, t: int) -> str:
    """Format the reward of the action that led to observation t; empty: reward 0."""
    reward = float(episode.reward[t - 1]) if t and episode.reward is not None else 0.0
    return f"{reward:+g}" if reward else ""


def _phase(episode: Episode, t: int) -> str:
    return episode.phase[t] if t < episode.steps else "end"


def _tile(episode: Episode, t: int, picture: UInt8) -> UInt8:
    image = _centred(picture, _TILE_PX)
    width = image.shape[1]
    caption = _paper(2 * _LINE_PX, width)
    _write(caption, f"{t}", 1, 1)
    _write(caption, _reward(episode, t), 30, 1, _GOOD)
    x = width - len(episode.predicates) * (_MARK_PX + 3)
    for number, name in enumerate(episode.predicates):
        _mark(caption, x + number * (_MARK_PX + 3), 3, _colour(episode, name), filled=episode.holds(name, t))
    new = t == 0 or t >= episode.steps or episode.phase[t] != episode.phase[t - 1]
    _write(caption, _fit(_phase(episode, t), width - 2), 1, _LINE_PX - 1, _INK if new else _PALE)
    return np.concatenate([image, caption])


def _animation_image(episode: Episode, t: int, picture: UInt8, title: str) -> UInt8:
    """Draw an image of the animation, with the name of every predicate beside its mark."""
    image = _centred(picture, 2 * _TILE_PX)
    width, names = image.shape[1], list(episode.predicates)
    caption = _paper((3 + -(-len(names) // 2)) * _LINE_PX + _GAP_PX, width)
    _write(caption, title, 4, 2)
    _write(caption, f"{t}/{episode.steps}", 4, 2 + _LINE_PX)
    _write(caption, f"reward {_reward(episode, t) or '0'}", width // 2, 2 + _LINE_PX,
           _GOOD if _reward(episode, t) else _PALE)  # fmt: skip
    _write(caption, _fit(_phase(episode, t), width - 8), 4, 2 + 2 * _LINE_PX)
    for number, name in enumerate(names):
        row, column = divmod(number, 2)
        x, y = 4 + column * width // 2, 4 + (3 + row) * _LINE_PX
        holds = episode.holds(name, t)
        _mark(caption, x, y, _colour(episode, name), filled=holds)
        _write(caption, name, x + _MARK_PX + 5, y - 2, _INK if holds else _PALE)
    return np.concatenate([image, caption])


def _verdict(success: bool | None) -> tuple[str, Colour]:
    if success is None:
        return "not judged", _PALE
    return ("success", _GOOD) if success else ("failure", _BAD)


def _title(episode: Episode, width: int) -> UInt8:
    meta = episode.meta
    page = _paper(2 * _LINE_PX + 8, width)
    verdict, colour = _verdict(episode.success)
    verdict = f"{meta.goal}: {verdict}" if meta.goal else "no goal is stated"
    _write(page, _fit(meta.episode_id, width - 2 * _GAP_PX, _TITLE), _GAP_PX, 4, _INK, _TITLE)
    _write(page, verdict, _GAP_PX, 5 + _LINE_PX, colour)
    said = f"{meta.policy} in {meta.env}, noise {meta.noise:g}, seed {meta.seed}"
    x = _GAP_PX + _width(verdict) + 14
    _write(page, _fit(said, width - x - _GAP_PX), x, 5 + _LINE_PX)
    return page


def _legend(episode: Episode, width: int) -> UInt8:
    """Draw the meaning of the marks, in as many lines as needed."""
    entries: list[tuple[str, str]] = [(name, name) for name in episode.predicates]
    entries += [
        ("", "filled: holds, a line: not judged" if episode.unjudged else "filled: holds"),
        ("", "+1 reward of the action that led here"),
    ]
    page = _paper(_LINE_PX * (1 + len(entries)), width)
    x, y = _GAP_PX, 0
    for mark, text in entries:
        needed = (_MARK_PX + 5 if mark else 0) + _width(text) + 16
        if x > _GAP_PX and x + needed > width:
            x, y = _GAP_PX, y + _LINE_PX
        if mark:
            _mark(page, x, y + 3, _colour(episode, mark), filled=True)
            _write(page, text, x + _MARK_PX + 5, y)
        else:
            _write(page, text, x, y, _GOOD if text.startswith("+") else _PALE)
        x += needed
    return page[: y + _LINE_PX + _GAP_PX]


# --- many episodes ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OverviewEntry:
    """An episode on a page of many.

    Attributes:
        episode_id: Id of the episode.
        policy: Policy that acted.
        success: Whether the policy's goal holds on the last observation; None: not judged.
        solved: Whether the world's task held; None: it was not judged.
        images: uint8 (3, H, W, 3): first, middle and last image.
    """

    episode_id: str
    policy: str
    success: bool | None
    solved: bool | None
    images: UInt8

    @classmethod
    def of(cls, episode: Episode, pictures: UInt8) -> OverviewEntry:
        """Build the entry of an episode from its first, middle and last image."""
        chosen = [0, (len(pictures) - 1) // 2, len(pictures) - 1]
        meta = episode.meta
        return cls(meta.episode_id, meta.policy, episode.success, episode.solved, pictures[chosen])


def overview(entries: Sequence[OverviewEntry], columns: int) -> UInt8:
    """Draw first, middle and last image of many episodes on one page; smaller ones stand on paper.

    Args:
        entries: Episodes, at least one.
        columns: Number of episodes in a row.

    Returns:
        uint8 (height, width, 3), RGB.
    """
    height, width = (max(entry.images.shape[axis] for entry in entries) for axis in (1, 2))
    return _grid([_entry(entry, height, width) for entry in entries], columns)


def _entry(entry: OverviewEntry, height: int, width_px: int) -> UInt8:
    images = np.full((3, height, width_px, 3), _PAPER, np.uint8)
    images[:, : entry.images.shape[1], : entry.images.shape[2]] = entry.images
    gap = _paper(images.shape[1], 2)
    row = np.concatenate([images[0], gap, images[1], gap, images[2]], axis=1)
    row = _centred(row, 2 * _TILE_PX)
    width = row.shape[1]
    caption = _paper(2 * _LINE_PX + 2, width)
    _write(caption, _fit(entry.episode_id, width - 2), 1, 1)
    verdict, colour = _verdict(entry.success)
    _mark(caption, 1, _LINE_PX + 2, colour, filled=entry.success)
    if entry.solved:
        verdict += ", solved"
    _write(caption, verdict, _MARK_PX + 6, _LINE_PX - 1, colour)
    x = _MARK_PX + 6 + _width(verdict) + 10
    _write(caption, _fit(entry.policy, width - x), x, _LINE_PX - 1)
    return np.concatenate([row, caption])
