"""What an episode shows, as RGB images: its cameras side by side, or a chart of its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from cogdata.display.images import enlarge
from cogdata.episode import Episode, UInt8
from cogdata.errors import CogError
from cogdata.features import Feature
from cogdata.storage.samples import decoded

_PAPER: Final = 246
_GAP_PX: Final = 2
_LINES: Final = ((33, 102, 200), (230, 120, 0), (31, 145, 62), (140, 60, 165), (0, 145, 155), (205, 45, 45))
_CURSOR: Final = (120, 120, 120)


def shown_features(episode: Episode, names: Sequence[str] = ()) -> tuple[Feature, ...]:
    """Return the features to draw.

    Args:
        episode: Episode to draw.
        names: Features that were asked for; none: every camera, or without one every vector.

    Raises:
        CogError: One of them is unknown, or a text.
    """
    if names:
        chosen = tuple(episode.spec[name] for name in names)
        for feature in chosen:
            if feature.is_text or feature.per != "observation":
                raise CogError(f"feature {feature.name} is no observation of numbers, so it cannot be drawn")
        return chosen
    images = tuple(one for one in episode.spec.observations if one.is_image)
    return images or tuple(one for one in episode.spec.observations if one.is_vector and one.size)


def pictures(episode: Episode, names: Sequence[str], wanted_px: int, factor: int | None) -> UInt8:
    """Draw every observation of an episode.

    Args:
        episode: Episode to draw.
        names: Features, see :func:`shown_features`.
        wanted_px: Width of a camera's image, about: small ones are enlarged, large ones made smaller.
        factor: Enlargement of the images instead; None: by ``wanted_px``.

    Returns:
        uint8 (N, height, width, 3), RGB: cameras side by side, then one chart of all vectors.

    Raises:
        CogError: A feature is unknown, or the bytes of one are damaged.
    """
    chosen = shown_features(episode, names)
    strips = [
        _sized(as_rgb(feature, decoded(episode, feature.name)), wanted_px, factor)
        for feature in chosen
        if feature.is_image
    ]
    if vectors := [feature for feature in chosen if not feature.is_image]:
        strips.append(_charts(episode, vectors, wanted_px))
    if not strips:
        raise CogError(
            f"episode {episode.meta.episode_id} has no observation that can be drawn: leave it out, its "
            f"steps are in `cog query`"
        )
    return _side_by_side(strips)


def as_rgb(feature: Feature, values: NDArray[Any]) -> UInt8:
    """Turn the images of a camera into RGB.

    Args:
        feature: Declaration of the camera.
        values: (N, H, W) or (N, H, W, C), uint8 or uint16.

    Returns:
        uint8 (N, H, W, 3). One channel is grey; of four the first three are shown, else the first.
        16 bits are scaled by the feature's upper bound, or by the largest value of the episode.
    """
    images = values if values.ndim == 4 else values[..., np.newaxis]
    images = images[..., :3] if images.shape[-1] in (3, 4) else images[..., :1].repeat(3, axis=-1)
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images)
    top = max(feature.high) if feature.high else float(images.max(initial=1))
    scaled: UInt8 = np.clip(images * (255.0 / max(top, 1.0)), 0, 255).astype(np.uint8)
    return scaled


def default_factor(size_px: int, wanted_px: int) -> int:
    """Return the integer enlargement, at least 1, that brings an image closest to a width.

    Args:
        size_px: Width of the image.
        wanted_px: Width to come close to.
    """
    return max(1, round(wanted_px / size_px))


def _sized(images: UInt8, wanted_px: int, factor: int | None) -> UInt8:
    """Enlarge by a whole factor, or make images that are much too wide smaller by averaging."""
    height, width = images.shape[1:3]
    if factor is not None or width <= 1.5 * wanted_px:
        return enlarge(images, factor or default_factor(width, wanted_px))
    size = (wanted_px, max(1, round(height * wanted_px / width)))
    return np.stack([cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images])


def _charts(episode: Episode, features: Sequence[Feature], wanted_px: int) -> UInt8:
    """Draw all entries of vectors as lines over t, each in its own range, with a cursor at every t."""
    height, rows = max(16, wanted_px * 3 // 4), episode.length
    chart = np.full((height, wanted_px, 3), _PAPER, np.uint8)
    x = np.linspace(2, wanted_px - 3, rows)
    values = [decoded(episode, one.name).reshape(rows, -1).astype(np.float64) for one in features]
    for number, line in enumerate(np.concatenate(values, axis=1).T):
        low, high = float(line.min()), float(line.max())
        y = height - 3 - (line - low) / ((high - low) or 1.0) * (height - 6)
        points = np.stack([x, y], axis=1).round().astype(np.int32)
        cv2.polylines(chart, [points], False, _LINES[number % len(_LINES)], 1, cv2.LINE_AA)
    drawn = chart[np.newaxis].repeat(rows, axis=0)
    for t in range(rows):
        drawn[t, :, round(x[t])] = _CURSOR
    return drawn


def _side_by_side(strips: Sequence[UInt8]) -> UInt8:
    """Put images beside each other, with a gap, on paper as high as the highest."""
    height, rows = max(strip.shape[1] for strip in strips), len(strips[0])
    width = sum(strip.shape[2] for strip in strips) + _GAP_PX * (len(strips) - 1)
    page = np.full((rows, height, width, 3), _PAPER, np.uint8)
    x = 0
    for strip in strips:
        page[:, : strip.shape[1], x : x + strip.shape[2]] = strip
        x += strip.shape[2] + _GAP_PX
    return page
