from __future__ import annotations

import cv2
import numpy as np
import pytest

from cogdata.display.images import animated_webp, contact_sheet, enlarge, png
from cogdata.intervals import mcnemar


def _images(count: int, size: int = 4) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, size, size, 3), np.uint8) * 10


def test_a_sheet_shows_first_middle_and_last_image_of_each_episode() -> None:
    sheet = contact_sheet([_images(5), _images(9)], moments=3, factor=1)
    assert sheet.shape == (4 + 2 + 4, 3 * 4 + 2 * 2, 3)
    assert [int(sheet[0, x, 0]) for x in (0, 6, 12)] == [0, 20, 40]
    assert [int(sheet[6, x, 0]) for x in (0, 6, 12)] == [0, 40, 80]
    assert sheet[0, 4, 0] == sheet[4, 0, 0] == 255
    with pytest.raises(ValueError, match="found 0"):
        contact_sheet([], moments=3)


def test_png_is_rgb_and_lossless() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    back = cv2.imdecode(np.frombuffer(png(image), np.uint8), cv2.IMREAD_COLOR)
    assert back is not None
    np.testing.assert_array_equal(back[:, :, ::-1], image)


def test_the_animation_has_every_image_and_its_speed() -> None:
    data = animated_webp(enlarge(_images(6), 4), frames_per_s=20)
    done, animation = cv2.imdecodeanimation(np.frombuffer(data, np.uint8)[None])  # OpenCV 4 reads a row alone
    assert done
    assert len(animation.frames) == 6
    assert animation.frames[0].shape[:2] == (16, 16)
    assert set(np.array(animation.durations).tolist()) == {50}


def test_mcnemar_by_hand() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 0) == 2 / 32  # all five discordant pairs one way, two-sided
    assert mcnemar(3, 1) == pytest.approx(2 * (1 + 4) / 16)
    assert mcnemar(4, 4) == 1.0
