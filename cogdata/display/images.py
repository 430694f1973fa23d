"""Encoding of images: contact sheets, PNG, animated WebP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np

from cogdata.episode import UInt8

_GAP_PX: Final = 2
_GAP_VALUE: Final = 255


def enlarge(images: UInt8, factor: int) -> UInt8:
    """Repeat every pixel ``factor`` times in both directions.

    Args:
        images: uint8 (..., H, W, 3).
        factor: Enlargement, at least 1.

    Returns:
        uint8 (..., H * factor, W * factor, 3).
    """
    return images.repeat(factor, axis=-3).repeat(factor, axis=-2)


def contact_sheet(episodes: Sequence[UInt8], moments: int, factor: int = 2) -> UInt8:
    """Arrange episodes in rows of ``moments`` images, evenly spaced from the first to the last.

    Args:
        episodes: uint8 (T+1, H, W, 3) each, all of one size.
        moments: Number of images per row, at least 2.
        factor: Enlargement.

    Returns:
        uint8 (height, width, 3), RGB, with white lines between the images.

    Raises:
        ValueError: No episodes.
    """
    if not episodes:
        raise ValueError("a contact sheet needs at least one episode, found 0")
    rows = []
    for images in episodes:
        chosen = images[np.linspace(0, len(images) - 1, moments).round().astype(int)]
        rows.append(_line_up(list(enlarge(chosen, factor)), axis=1))
    return _line_up(rows, axis=0)


def _line_up(images: list[UInt8], axis: int) -> UInt8:
    shape = list(images[0].shape)
    shape[axis] = _GAP_PX
    gap = np.full(shape, _GAP_VALUE, np.uint8)
    pieces = [piece for image in images for piece in (image, gap)][:-1]
    return np.concatenate(pieces, axis=axis)


def png(image: UInt8) -> bytes:
    """Encode RGB uint8 (H, W, 3) as PNG."""
    _, data = cv2.imencode(".png", np.ascontiguousarray(image[:, :, ::-1]))
    return data.tobytes()


def animated_webp(images: UInt8, frames_per_s: float = 10.0) -> bytes:
    """Encode RGB uint8 (T, H, W, 3) as an animated WebP that repeats without end.

    Args:
        images: Images of one size.
        frames_per_s: Number of images shown per second.
    """
    animation = cv2.Animation()
    animation.frames = [np.ascontiguousarray(image[:, :, ::-1]) for image in images]
    animation.durations = [round(1000 / frames_per_s)] * len(images)
    _, data = cv2.imencodeanimation(".webp", animation, [cv2.IMWRITE_WEBP_QUALITY, 90])
    return data.tobytes()
