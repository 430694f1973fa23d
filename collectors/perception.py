"""Object positions from a calibrated monocular camera by background subtraction.

This is the paper's method (arXiv 2010.14500, appendix A.1). A calibration comes from known points
(`collectors.calibration`), or from images of a checkerboard: `intrinsics_from_checkerboard`, then
`pose_from_points` with `find_checkerboard` of an image in which the board is at a known position.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from cogdata.errors import CogError
from collectors.calibration import Calibration, Float, Intrinsics, intrinsics_of, solving

Image = NDArray[np.uint8]

THRESHOLD: Final = 25
"""Difference of a channel, of 255, above which a pixel has changed: above camera noise, below contrasts."""
MIN_AREA_PX: Final = 4
"""Least number of changed pixels of a patch; smaller ones are noise."""
BOARD_IMAGES: Final = 3
CORNER_REFINEMENT: Final = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, 50, 1e-3)
"""Stopping criterion of the corner refinement: 50 iterations, or a change below 0.001 px."""
LEAST_TILT_RAD: Final = math.radians(15)
"""Least difference of the boards' tilts; with less the focal length is not determined."""


@dataclass(frozen=True)
class Checkerboard:
    """A printed checkerboard.

    Attributes:
        columns: Number of inner corners in a row.
        rows: Number of inner corners in a column; one of the two is odd, so the orientation is unique.
        square_m: Edge length of a square.
    """

    columns: int
    rows: int
    square_m: float

    def __post_init__(self) -> None:
        """Raise on boards whose corners could be found in two orders."""
        if min(self.columns, self.rows) < 3 or (self.columns + self.rows) % 2 == 0 or not self.square_m > 0:
            raise CogError(
                f"a board of {self.columns}×{self.rows} inner corners of {self.square_m} m: needed are 3 or "
                f"more each way, one number odd and one even, and squares larger than 0"
            )

    def points_m(self, first_m: Sequence[float] = (0.0, 0.0, 0.0), yaw_rad: float = 0.0) -> Float:
        """Return the corner positions of a board that lies flat, face up.

        Args:
            first_m: Position of the first corner, beside the black corner square.
            yaw_rad: Direction of the first row, from the world's x; seen from above, further rows are to its
                right.

        Returns:
            Positions of the corners, row by row.  # (rows * columns, 3)
        """
        row, column = np.mgrid[0 : self.rows, 0 : self.columns].reshape(2, -1) * self.square_m
        cos, sin = math.cos(yaw_rad), math.sin(yaw_rad)
        flat = np.stack([cos * column + sin * row, sin * column - cos * row, np.zeros(row.shape)], axis=1)
        return flat + np.asarray(first_m, np.float64)


def find_checkerboard(image: Image, board: Checkerboard) -> Float:
    """Find a board's inner corners, row by row from the one beside the black corner square.

    Args:
        image: RGB image.  # (H, W, 3)
        board: Board to find.

    Returns:
        Pixels.  # (rows * columns, 2)

    Raises:
        CogError: The whole board is not visible.
    """
    gray = cv2.cvtColor(_checked_image(image), cv2.COLOR_RGB2GRAY)
    nothing = (
        f"no checkerboard of {board.columns}×{board.rows} inner corners in an image of {gray.shape[0]}×"
        f"{gray.shape[1]} px: show the whole board, flat and in focus, with a white margin"
    )
    with solving(nothing):
        found, corners = cv2.findChessboardCorners(gray, (board.columns, board.rows))
        if not found:
            raise CogError(nothing)
        corners = cv2.cornerSubPix(gray, corners, (5, 5), (-1, -1), CORNER_REFINEMENT)
    grid = np.asarray(corners, np.float64).reshape(board.rows, board.columns, 2)
    (ax, ay), (bx, by) = grid[0, -1] - grid[0, 0], grid[-1, 0] - grid[0, 0]
    if ax * by - ay * bx < 0:
        grid = grid[::-1]
    if _outer(gray, grid) > _outer(gray, grid[::-1, ::-1]):
        grid = grid[::-1, ::-1]
    return np.ascontiguousarray(grid.reshape(-1, 2))


def _outer(gray: NDArray[Any], grid: Float) -> int:
    """Return the brightness in the middle of the corner square beside the first corner."""
    u, v = grid[0, 0] - (grid[0, 1] - grid[0, 0]) / 2 - (grid[1, 0] - grid[0, 0]) / 2
    height, width = gray.shape
    return int(gray[min(max(round(v), 0), height - 1), min(max(round(u), 0), width - 1)])


def intrinsics_from_checkerboard(images: Sequence[Image], board: Checkerboard) -> Intrinsics:
    """Compute the intrinsics of a camera with square pixels from images of a board at different tilts.

    Args:
        images: RGB images of one size.  # (H, W, 3) each
        board: Board in the images.

    Raises:
        CogError: Fewer than three images, several sizes, no board in one, or too little tilt.
    """
    if len(images) < BOARD_IMAGES:
        raise CogError(f"{len(images)} images of the checkerboard, at least {BOARD_IMAGES} are needed")
    height, width = images[0].shape[:2]
    for image in images:
        _checked_image(image, (height, width))
    corners = [find_checkerboard(image, board).astype(np.float32) for image in images]
    flat = board.points_m().astype(np.float32)
    flags = cv2.CALIB_FIX_ASPECT_RATIO | cv2.CALIB_FIX_K3 | cv2.CALIB_ZERO_TANGENT_DIST
    with solving(f"no camera fits the corners of these {len(images)} images: are they of one camera?"):
        _, matrix, lens, turns, _ = cv2.calibrateCamera(
            [flat] * len(corners), corners, (width, height), np.eye(3), np.zeros(5), flags=flags
        )
    up = np.stack([np.asarray(cv2.Rodrigues(turn)[0])[:, 2] for turn in turns])
    tilt_rad = float(np.arccos(np.clip(up @ up.T, -1, 1)).max())
    if tilt_rad < LEAST_TILT_RAD:
        raise CogError(
            f"the board's tilts in the {len(images)} images differ by {math.degrees(tilt_rad):.0f}° "
            f"at most: hold it at tilts that differ by 30° or more"
        )
    return intrinsics_of((height, width), matrix, lens)


@dataclass(frozen=True)
class Blob:
    """A connected patch of changed pixels.

    Attributes:
        centre_px: Centroid (u, v), with subpixel precision.
        area_px: Number of its pixels.
    """

    centre_px: tuple[float, float]
    area_px: int


def find_blob(image: Image, background: Image, threshold: int = THRESHOLD) -> Blob | None:
    """Find the largest connected patch that differs from the background.

    Args:
        image: RGB image.  # (H, W, 3)
        background: Image of the same view without the object, with the arm in the same pose.  # (H, W, 3)
        threshold: Difference of a channel above which a pixel has changed.

    Returns:
        The patch, or None without a change.

    Raises:
        CogError: The images have different sizes.
    """
    height, width = _checked_image(background).shape[:2]
    changed = cv2.absdiff(_checked_image(image, (height, width)), background).max(axis=2) > threshold
    _, _, stats, centres = cv2.connectedComponentsWithStats(changed.astype(np.uint8))
    areas = stats[1:, cv2.CC_STAT_AREA]  # the first component is what has not changed
    if not len(areas) or areas.max() < MIN_AREA_PX:
        return None
    largest = 1 + int(np.argmax(areas))
    u, v = centres[largest].tolist()
    return Blob((u, v), int(areas.max()))


def locate(camera: Calibration, image: Image, background: Image, height_m: float) -> Float | None:
    """Locate an object in front of the camera.

    Args:
        camera: Calibration at the size of the images.
        image: Image with the object.  # (H, W, 3)
        background: Image without the object.  # (H, W, 3)
        height_m: z of the object's middle, whose projection is near the centroid of the silhouette.

    Returns:
        Position of its middle in m (3,), or None if no object is visible.

    Raises:
        CogError: An image has another size than the calibration, or the object is beyond the horizon.
    """
    _checked_image(image, camera.intrinsics.size_px)
    blob = find_blob(image, background)
    return None if blob is None else camera.on_plane(blob.centre_px, height_m)


def _checked_image(image: Image, size_px: tuple[int, int] | None = None) -> Image:
    if image.ndim != 3 or image.shape[2] != 3 or not image.size or image.dtype != np.uint8:
        raise CogError(f"an image is {image.dtype} {image.shape}, must be uint8 (height, width, 3), RGB")
    if size_px is not None and image.shape[:2] != tuple(size_px):
        found, needed = "×".join(map(str, image.shape[:2])), "×".join(map(str, size_px))
        raise CogError(f"an image is {found} px, must be {needed} px like the others of this camera")
    return image
