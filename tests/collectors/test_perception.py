"""Cameras of round numbers: 80×100 px, focal length 100 px, axis at pixel (50, 40), one metre up, looking down.

Half a turn about x makes the world's axes the camera's: x stays, y and z change sign. So the point (x, y, z)
has depth 1 - z and appears at u = 50 + 100 x / (1 - z), v = 40 - 100 y / (1 - z).
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from cogdata.errors import CogError
from collectors.calibration import (
    Calibration,
    Intrinsics,
    camera_from_points,
    load_calibration,
    pose_from_points,
)
from collectors.perception import (
    Checkerboard,
    find_blob,
    find_checkerboard,
    intrinsics_from_checkerboard,
    locate,
)

INSIDE = Intrinsics((80, 100), (100.0, 100.0), (50.0, 40.0))
DOWN = Calibration(INSIDE, (0.0, 0.0, 1.0), (math.pi, 0.0, 0.0), 0, 0.0, 0.0)

TABLE = [(0.1, 0.2, 0.0), (-0.3, 0.2, 0.0), (-0.3, -0.1, 0.0), (0.4, -0.3, 0.0)]
TABLE_PX = [(60, 20), (20, 20), (20, 50), (90, 70)]
RAISED = [(0.1, 0.1, 0.5), (-0.2, 0.0, 0.5), (0.1, -0.15, 0.5)]
RAISED_PX = [(70, 20), (10, 40), (70, 70)]
"""Half the depth: 100 / 0.5 = 200 px per metre."""

BOARD = Checkerboard(7, 6, 0.03)
SLANTED = Calibration(
    Intrinsics((480, 640), (600.0, 600.0), (320.0, 240.0)),
    (0.6, 0.9, 0.5),
    (0.0, -2.80992589, 1.40496295),  # x to the left, 53° down: (-1 0 0), (0 .6 -.8), (0 -.8 -.6)
    0,
    0.0,
    0.0,
)


def test_a_point_appears_where_the_round_numbers_say() -> None:
    assert DOWN.project(TABLE + RAISED) == pytest.approx(np.array(TABLE_PX + RAISED_PX))


def test_a_pixel_meets_each_plane_at_its_own_place() -> None:
    assert DOWN.on_plane((60, 20), 0.0) == pytest.approx(np.array([0.1, 0.2, 0.0]))
    assert DOWN.on_plane((60, 20), 0.5) == pytest.approx(np.array([0.05, 0.1, 0.5]))


def test_lens_distortion_is_undone() -> None:
    # k1 = 1: a direction r from the axis appears at r (1 + r²); 0.2 at 0.2 * 1.04 = 0.208, v = 40 - 20.8
    bent = Intrinsics((80, 100), (100.0, 100.0), (50.0, 40.0), (1.0, 0.0, 0.0, 0.0, 0.0))
    camera = Calibration(bent, DOWN.camera_m, DOWN.turn_rad, 0, 0.0, 0.0)
    assert camera.project([(0.0, 0.2, 0.0)]) == pytest.approx(np.array([[50.0, 19.2]]))
    assert camera.on_plane((50.0, 19.2), 0.0) == pytest.approx(np.array([0.0, 0.2, 0.0]), abs=1e-6)


@pytest.mark.parametrize(("points", "pixels"), [(TABLE, TABLE_PX), (TABLE + RAISED, TABLE_PX + RAISED_PX)])
def test_the_pose_of_a_known_camera_comes_back(
    points: list[tuple[float, float, float]], pixels: list[tuple[int, int]]
) -> None:
    found = pose_from_points(pixels, points, INSIDE)
    assert found.camera_m == pytest.approx((0.0, 0.0, 1.0), abs=1e-6)
    assert found.rotation == pytest.approx(np.diag([1.0, -1.0, -1.0]), abs=1e-6)
    assert (found.points, found.error_px) == (len(points), pytest.approx(0.0, abs=1e-6))


def test_the_whole_camera_comes_back_from_points_at_two_heights() -> None:
    found = camera_from_points(TABLE_PX + RAISED_PX, TABLE + RAISED, (80, 100))
    assert found.intrinsics.focal_px == pytest.approx((100.0, 100.0), abs=0.01)
    assert found.intrinsics.centre_px == pytest.approx((50.0, 40.0), abs=0.01)
    assert found.camera_m == pytest.approx((0.0, 0.0, 1.0), abs=1e-4)


def test_the_error_is_stated_in_pixels_and_on_the_table() -> None:
    # Every point is measured twice, a pixel to the left and a pixel to the right: the best pose is in between,
    # each measurement 1 px off, which is 0.01 m at depth 1.
    twice = np.array(TABLE_PX * 2) + np.array([(1.0, 0.0)] * 4 + [(-1.0, 0.0)] * 4)
    found = pose_from_points(twice, TABLE * 2, INSIDE)
    assert found.error_px == pytest.approx(1.0, abs=1e-3)
    assert found.error_m == pytest.approx(0.01, abs=1e-4)


def test_a_calibration_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "camera.json"
    found = camera_from_points(TABLE_PX + RAISED_PX, TABLE + RAISED, (80, 100))
    found.save(path)
    assert load_calibration(path) == found


@pytest.mark.parametrize(
    "change",
    [{"camera_m": [0, 0]}, {"turn_rad": ["a", 0, 0]}, {"camera_m": [0, 0, math.nan]}, {"intrinsics": {}}],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "camera.json"
    DOWN.save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CogError, match=r"^\S+ is not a calibration: write one with Calibration.save$"):
        load_calibration(path)
    with pytest.raises(CogError, match=r"^cannot read \S+: No such file or directory$"):
        load_calibration(tmp_path / "nowhere.json")


LINE = [(0.1 * i, 0.05 * i, 0.0) for i in range(-3, 4)]


@pytest.mark.parametrize(
    ("pixels", "points", "said"),
    [
        (TABLE_PX[:3], TABLE[:3], "^3 known points, at least 4 are needed$"),
        (DOWN.project(LINE), LINE, "^the 7 known points lie on one line: spread them over the table$"),
        (TABLE_PX[:3], TABLE, "^3 pixels for 4 known points: there must be one for each$"),
        ([*TABLE_PX[:3], (math.nan, 70)], TABLE, r"^row 3 of pixels is \(nan, 70\), must be finite numbers$"),
        (TABLE_PX, [*TABLE[:3], (0, math.inf, 0)], r"^row 3 of points is \(0, inf, 0\), must be finite"),
        ([(5, 5)] * 4, TABLE, "^the 4 pixels lie on one line: are pixels"),
        (TABLE_PX, 1e-6 * np.array(TABLE), "^no camera pose fits these 4 points: are pixels"),  # in km?
        ([*TABLE_PX[:3], (70, 90)], TABLE, r"^pixel 3 is \(70, 90\), outside the image of 80×100 px$"),
        (TABLE_PX[::-1], TABLE, r"^the best camera is \d+\.\d px off, worst at point \d: are pixels"),
        ([(1, 2, 3)] * 4, TABLE, r"^pixels have shape \(4, 3\), must be rows of 2 numbers$"),
        ([(1, 2), (3,)], TABLE, "^pixels must be rows of 2 numbers$"),
    ],
)
def test_points_that_cannot_calibrate_are_one_line(pixels: object, points: object, said: str) -> None:
    with pytest.raises(CogError, match=said):
        pose_from_points(pixels, points, INSIDE)  # type: ignore[arg-type]


def test_a_plane_does_not_give_the_focal_length() -> None:
    table = [*TABLE, (0.2, 0.1, 0.0), (0.0, 0.3, 0.0)]
    with pytest.raises(CogError, match="^the 6 known points lie in one plane, which leaves the focal length"):
        camera_from_points(DOWN.project(table), table, (80, 100))
    with pytest.raises(CogError, match="^no camera fits these 7 points: are pixels"):
        camera_from_points((TABLE_PX + RAISED_PX)[::-1], TABLE + RAISED, (80, 100))
    with pytest.raises(CogError, match="^the 7 pixels lie on one line: are pixels"):
        camera_from_points([(5, 5)] * 7, TABLE + RAISED, (80, 100))
    with pytest.raises(CogError, match="^5 known points, at least 6 are needed$"):
        camera_from_points(TABLE_PX + RAISED_PX[:1], TABLE + RAISED[:1], (80, 100))


def test_what_the_camera_cannot_see_is_one_line() -> None:
    with pytest.raises(CogError, match=r"^point 1 at \(0, 0, 2\) m is behind the camera"):
        DOWN.project([(0, 0, 0), (0, 0, 2)])
    with pytest.raises(
        CogError, match=r"^the ray through pixel \(60, 20\) does not meet the plane z = 2.0 m$"
    ):
        DOWN.on_plane((60, 20), 2.0)
    with pytest.raises(CogError, match="^the plane's height is nan"):
        DOWN.on_plane((60, 20), math.nan)


def _image(*patches: tuple[int, int, int, int], value: int = 100) -> NDArray[np.uint8]:
    """A grey image with brighter patches [top, bottom) × [left, right)."""
    image = np.full((80, 100, 3), value, np.uint8)
    for top, bottom, left, right in patches:
        image[top:bottom, left:right, 1] = 200
    return image


def test_a_patch_is_located_finer_than_a_pixel() -> None:
    # rows 18 … 21 and columns 58 … 63: centroid (60.5, 19.5), 24 px; the 2×2 patch is smaller and ignored
    image = _image((18, 22, 58, 64), (70, 72, 5, 7))
    blob = find_blob(image, _image())
    assert blob is not None
    assert (blob.centre_px, blob.area_px) == ((60.5, 19.5), 24)
    # at the table that is x = 0.105, y = (40 - 19.5) / 100 = 0.205
    assert locate(DOWN, image, _image(), 0.0) == pytest.approx(np.array([0.105, 0.205, 0.0]))


def test_noise_and_small_specks_are_no_thing() -> None:
    noisy = _image()
    noisy[::2] += 25
    assert find_blob(noisy, _image()) is None
    assert find_blob(_image((10, 11, 10, 13)), _image()) is None
    assert locate(DOWN, _image(), _image(), 0.0) is None


def test_images_of_other_sizes_are_one_line() -> None:
    small = np.zeros((48, 48, 3), np.uint8)
    with pytest.raises(CogError, match="^an image is 48×48 px, must be 80×100 px like the others"):
        locate(DOWN, small, small, 0.0)
    with pytest.raises(CogError, match="^an image is 80×100 px, must be 48×48 px"):
        find_blob(_image(), small)
    with pytest.raises(CogError, match=r"^an image is float64 \(80, 100\), must be uint8"):
        find_blob(np.zeros((80, 100)), _image())  # type: ignore[arg-type]


def _photo(centre_m: tuple[float, float, float], yaw: float, tilt: tuple[float, float]) -> NDArray[np.uint8]:
    """What the slanted camera sees of the board, made at four times the size."""
    texture = np.full((9 * 40, 10 * 40), 230, np.uint8)
    for row in range(7):
        for column in range(row % 2, 8, 2):
            texture[40 * (row + 1) : 40 * (row + 2), 40 * (column + 1) : 40 * (column + 2)] = 20
    edges = np.array([(0, 0), (400, 0), (400, 360), (0, 360)], float)
    columns, rows = ((edges / 40 - 2) * 0.03).T
    cos, sin = math.cos(yaw), math.sin(yaw)
    flat = np.stack([cos * columns + sin * rows, sin * columns - cos * rows, 0 * rows], axis=1)
    flat -= BOARD.points_m(yaw_rad=yaw).mean(axis=0)
    world = flat @ np.asarray(cv2.Rodrigues(np.array([*tilt, 0.0]))[0]).T + np.array(centre_m)
    to = 4 * (SLANTED.project(world) + 0.5) - 0.5
    warp = cv2.getPerspectiveTransform((edges - 0.5).astype(np.float32), to.astype(np.float32))
    large = cv2.warpPerspective(texture, warp, (2560, 1920), borderValue=140)
    gray = cv2.resize(large, (640, 480), interpolation=cv2.INTER_AREA)
    return np.repeat(np.asarray(gray, np.uint8)[:, :, None], 3, axis=2)


@pytest.mark.parametrize("yaw", [0.0, 1.0, math.pi, -1.2])
def test_a_board_is_found_the_right_way_up(yaw: float) -> None:
    first = np.array([0.6, 0.25, 0.0]) - BOARD.points_m(yaw_rad=yaw).mean(axis=0)
    found = find_checkerboard(_photo((0.6, 0.25, 0.0), yaw, (0.0, 0.0)), BOARD)
    corners = BOARD.points_m(first.tolist(), yaw)
    assert found == pytest.approx(SLANTED.project(corners), abs=0.3)
    pose = pose_from_points(found, corners, SLANTED.intrinsics)
    assert pose.camera_m == pytest.approx(SLANTED.camera_m, abs=0.005)
    assert pose.error_m < 0.0005


TILTS = [(0.2, 0.0), (-0.6, 0.1), (0.0, 0.5), (0.0, -0.5), (-0.4, 0.4), (-1.0, 0.0)]


def test_intrinsics_come_back_from_tilted_boards() -> None:
    images = [_photo((0.6, 0.4, 0.15), 0.3 * i, tilt) for i, tilt in enumerate(TILTS)]
    found = intrinsics_from_checkerboard(images, BOARD)
    assert found.size_px == (480, 640)
    assert found.focal_px == pytest.approx((600.0, 600.0), rel=0.02)
    assert found.centre_px == pytest.approx((320.0, 240.0), abs=8)


def test_boards_that_cannot_calibrate_are_one_line() -> None:
    flat = _photo((0.6, 0.25, 0.0), 0.0, (0.0, 0.0))
    with pytest.raises(CogError, match="^2 images of the checkerboard, at least 3 are needed$"):
        intrinsics_from_checkerboard([flat, flat], BOARD)
    with pytest.raises(CogError, match=r"^the board's tilts in the 3 images differ by 0° at most"):
        intrinsics_from_checkerboard([flat] * 3, BOARD)
    with pytest.raises(CogError, match="^an image is 240×320 px, must be 480×640 px"):
        intrinsics_from_checkerboard([flat, flat, flat[::2, ::2]], BOARD)
    with pytest.raises(CogError, match="^no checkerboard of 7×6 inner corners in an image of 480×640 px"):
        find_checkerboard(np.full_like(flat, 90), BOARD)
    with pytest.raises(CogError, match="^no checkerboard of 7×6 inner corners in an image of 12×12 px"):
        find_checkerboard(flat[:12, :12], BOARD)
    with pytest.raises(CogError, match=r"^an image is uint8 \(0, 640, 3\), must be"):
        find_checkerboard(flat[:0], BOARD)
    with pytest.raises(CogError, match="^a board of 6×6 inner corners of 0.03 m: needed are"):
        Checkerboard(6, 6, 0.03)
