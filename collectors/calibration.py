"""A calibrated camera: projection of points to pixels, and of pixels to a plane.

Pixel coordinates (u, v) are those of pixel centres: (0, 0) is the middle of the first pixel. The world is in
m; the camera looks along its own z, with x to the right and y down in the image.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from cogdata.errors import CogError

Float = NDArray[np.float64]
Three = tuple[float, float, float]

POSE_POINTS: Final = 4
CAMERA_POINTS: Final = 6
"""Least number of known points for a camera's pose, and for pose and intrinsics."""
FLAT: Final = 0.01
"""Ratio to the largest extent of points below which they count as flat in a direction."""
MAX_ERROR: Final = 0.03
"""Largest reprojection error, as a fraction of the image's longer side; larger ones are mistakes."""
ORDER: Final = "are pixels (u, v) and points in one order, and all measured in one world?"


@dataclass(frozen=True)
class Intrinsics:
    """Intrinsics of a camera, which map directions to pixels.

    Attributes:
        size_px: Height and width of its images.
        focal_px: Focal length along u and v.
        centre_px: Intersection of optical axis and image, (u, v).
        distortion: Distortion coefficients of the lens, OpenCV's k1, k2, p1, p2, k3.
    """

    size_px: tuple[int, int]
    focal_px: tuple[float, float]
    centre_px: tuple[float, float]
    distortion: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0, 0.0)

    @property
    def matrix(self) -> Float:
        """Camera matrix.  # (3, 3)."""
        (fu, fv), (cu, cv) = self.focal_px, self.centre_px
        return np.array([[fu, 0.0, cu], [0.0, fv, cv], [0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class Calibration:
    """Intrinsics and pose of a camera.

    Attributes:
        intrinsics: Intrinsics of the camera.
        camera_m: Position of the camera in the world.
        turn_rad: Rotation from the world's axes to the camera's, axis times angle.
        points: Number of known points that it was computed from.
        error_px: Root mean square reprojection error of those points.
        error_m: Root mean square error in the world, with pixels projected to the heights of the points.
    """

    intrinsics: Intrinsics
    camera_m: Three
    turn_rad: Three
    points: int
    error_px: float
    error_m: float

    @property
    def rotation(self) -> Float:
        """Rotation matrix from the world's axes to the camera's.  # (3, 3)."""
        return np.asarray(cv2.Rodrigues(np.array(self.turn_rad))[0], np.float64)

    def project(self, points_m: ArrayLike) -> Float:
        """Project points of the world to pixels.

        Args:
            points_m: Points in m.  # (N, 3)

        Returns:
            Pixels, possibly outside the image.  # (N, 2)

        Raises:
            CogError: A point is behind the camera or not a number.
        """
        points = numbers("points", points_m, 3)
        depth = ((points - np.array(self.camera_m)) @ self.rotation.T)[:, 2]
        if (depth <= 0).any():
            at = int(np.argmax(depth <= 0))
            raise CogError(f"point {at} at {_text(points[at])} m is behind the camera: is the order x, y, z?")
        return _project(points, self.turn_rad, self.camera_m, self.intrinsics)

    def on_plane(self, pixel: Sequence[float] | Float, height_m: float) -> Float:
        """Intersect a pixel's ray with a horizontal plane.

        Args:
            pixel: (u, v).
            height_m: z of the plane.

        Returns:
            The position in m.  # (3,)

        Raises:
            CogError: The ray does not meet the plane in front of the camera, or a number is not finite.
        """
        at = numbers("pixels", np.asarray(pixel)[None], 2)
        if not math.isfinite(height_m):
            raise CogError(f"the plane's height is {height_m}, must be a number of metres")
        inside = self.intrinsics
        flat = cv2.undistortPoints(at[:, None], inside.matrix, np.array(inside.distortion)).reshape(2)
        way = self.rotation.T @ np.array([*flat, 1.0])
        down = height_m - self.camera_m[2]
        if way[2] * down <= 0:
            raise CogError(f"the ray through pixel {_text(at[0])} does not meet the plane z = {height_m} m")
        place: Float = np.array(self.camera_m) + way * (down / way[2])
        return place

    def save(self, path: Path) -> None:
        """Write the calibration as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")


def load_calibration(path: Path) -> Calibration:
    """Read a calibration that `Calibration.save` wrote.

    Raises:
        CogError: No such file, or not a calibration.
    """
    try:
        data = json.loads(path.read_text())
        inside = Intrinsics(
            *(tuple(data["intrinsics"][name]) for name in ("size_px", "focal_px", "centre_px", "distortion"))
        )
        place, turn = tuple(data["camera_m"]), tuple(data["turn_rad"])
        found = Calibration(inside, place, turn, data["points"], data["error_px"], data["error_m"])
        whole = np.array([*inside.size_px, *inside.focal_px, *inside.centre_px, *place, *turn], np.float64)
        whole_lens = np.array(inside.distortion, np.float64)
    except OSError as error:
        raise CogError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise CogError(f"{path} is not a calibration: write one with Calibration.save") from None
    if whole.shape != (12,) or whole_lens.shape != (5,) or not np.isfinite([*whole, *whole_lens]).all():
        raise CogError(f"{path} is not a calibration: write one with Calibration.save")
    return found


def pose_from_points(pixels: ArrayLike, points_m: ArrayLike, intrinsics: Intrinsics) -> Calibration:
    """Compute the pose of a camera with known intrinsics from known points, which may lie in one plane.

    Args:
        pixels: Pixels of the points.  # (N, 2)
        points_m: Positions of the points.  # (N, 3)
        intrinsics: Intrinsics of the camera.

    Raises:
        CogError: Fewer than four points, points on one line, or points and pixels that do not fit together.
    """
    seen, points = _pairs(pixels, points_m, intrinsics.size_px, POSE_POINTS)
    matrix, lens = intrinsics.matrix, np.array(intrinsics.distortion)
    nothing = f"no camera pose fits these {len(points)} points: {ORDER}"
    with solving(nothing):
        found, turn, shift = cv2.solvePnP(points, seen, matrix, lens, flags=cv2.SOLVEPNP_SQPNP)
        if not found:
            raise CogError(nothing)
        turn, shift = cv2.solvePnPRefineLM(points, seen, matrix, lens, turn, shift)
    return _checked(seen, points, intrinsics, turn, shift)


def camera_from_points(pixels: ArrayLike, points_m: ArrayLike, size_px: tuple[int, int]) -> Calibration:
    """Compute intrinsics and pose of a camera without lens distortion, from points at several heights.

    Args:
        pixels: Pixels of the points.  # (N, 2)
        points_m: Positions of the points, not all in one plane.  # (N, 3)
        size_px: Height and width of the image.

    Raises:
        CogError: Fewer than six points, points in one plane, or points and pixels that do not fit together.
    """
    seen, points = _pairs(pixels, points_m, size_px, CAMERA_POINTS)
    if _extents(points)[2] < FLAT:
        raise CogError(
            f"the {len(points)} known points lie in one plane, which leaves the focal length open: add "
            f"points at another height, or give intrinsics to pose_from_points"
        )
    fixed = cv2.CALIB_FIX_K1 | cv2.CALIB_FIX_K2 | cv2.CALIB_FIX_K3 | cv2.CALIB_ZERO_TANGENT_DIST
    with solving(f"no camera fits these {len(points)} points: {ORDER}"):
        _, matrix, _, turns, shifts = cv2.calibrateCamera(
            [points.astype(np.float32)], [seen.astype(np.float32)], size_px[::-1], _linear(seen, points),
            np.zeros(5), flags=cv2.CALIB_USE_INTRINSIC_GUESS | fixed,
        )  # fmt: skip
    return _checked(seen, points, intrinsics_of(size_px, matrix), turns[0], shifts[0])


@contextmanager
def solving(otherwise: str) -> Iterator[None]:
    """Return a context that turns errors of OpenCV's and NumPy's solvers into a CogError.

    Args:
        otherwise: Message of the error.

    Raises:
        CogError: There is no solution.
    """
    try:
        with np.errstate(all="ignore"):
            yield
    except (cv2.error, np.linalg.LinAlgError):
        raise CogError(otherwise) from None


def _linear(seen: Float, points: Float) -> Float:
    """Direct linear transform: camera matrix (3, 3) from pixels (N, 2) and points (N, 3)."""
    from_points, from_pixels = _unit(points), _unit(seen)
    ones = np.ones((len(points), 1))
    x, (u, v) = np.hstack([points, ones]) @ from_points.T, (np.hstack([seen, ones]) @ from_pixels.T)[:, :2].T
    zero = np.zeros_like(x)
    rows = np.vstack([np.hstack([x, zero, -u[:, None] * x]), np.hstack([zero, x, -v[:, None] * x])])
    smallest = np.linalg.svd(rows)[2][-1].reshape(3, 4)
    projection = np.linalg.inv(from_pixels) @ smallest @ from_points
    projection *= np.sign(np.linalg.det(projection[:, :3])) or 1.0
    matrix = np.array(cv2.decomposeProjectionMatrix(projection)[0], np.float64)
    matrix /= matrix[2, 2]
    return np.array([[matrix[0, 0], 0.0, matrix[0, 2]], [0.0, matrix[1, 1], matrix[1, 2]], [0.0, 0.0, 1.0]])


def _unit(values: Float) -> Float:
    """Homogeneous transform that centres values (N, D) and scales them to a mean norm of √D."""
    dimensions, middle = values.shape[1], values.mean(axis=0)
    scale = math.sqrt(dimensions) / np.linalg.norm(values - middle, axis=1).mean()
    transform = np.diag([*[scale] * dimensions, 1.0])
    transform[:-1, -1] = -scale * middle
    return transform


def intrinsics_of(
    size_px: tuple[int, int], matrix: ArrayLike, lens: ArrayLike = (0, 0, 0, 0, 0)
) -> Intrinsics:
    """Build intrinsics from OpenCV's camera matrix (3, 3) and distortion."""
    table = np.asarray(matrix, np.float64)
    k1, k2, p1, p2, k3 = np.asarray(lens, np.float64).ravel()[:5].tolist()
    focal, centre = (table[0, 0].item(), table[1, 1].item()), (table[0, 2].item(), table[1, 2].item())
    return Intrinsics(size_px, focal, centre, (k1, k2, p1, p2, k3))


def _pairs(
    pixels: ArrayLike, points_m: ArrayLike, size_px: tuple[int, int], least: int
) -> tuple[Float, Float]:
    """Check and return corresponding pixels (N, 2) and points (N, 3)."""
    seen, points = numbers("pixels", pixels, 2), numbers("points", points_m, 3)
    if len(seen) != len(points):
        raise CogError(f"{len(seen)} pixels for {len(points)} known points: there must be one for each")
    if len(points) < least:
        raise CogError(f"{len(points)} known points, at least {least} are needed")
    if _extents(points)[1] < FLAT:
        raise CogError(f"the {len(points)} known points lie on one line: spread them over the table")
    if _extents(seen)[1] < FLAT:
        raise CogError(f"the {len(seen)} pixels lie on one line: {ORDER}")
    height, width = size_px
    outside = ((seen < -0.5) | (seen > np.array([width, height]) - 0.5)).any(axis=1)
    if outside.any():
        at = int(np.argmax(outside))
        raise CogError(f"pixel {at} is {_text(seen[at])}, outside the image of {height}×{width} px")
    return seen, points


def numbers(what: str, values: ArrayLike, columns: int) -> Float:
    """Check and return a table (N, columns) of finite numbers."""
    try:
        table = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise CogError(f"{what} must be rows of {columns} numbers") from None
    if table.ndim != 2 or table.shape[1] != columns:
        raise CogError(f"{what} have shape {table.shape}, must be rows of {columns} numbers")
    if not np.isfinite(table).all():
        at = int(np.argmin(np.isfinite(table).all(axis=1)))
        raise CogError(f"row {at} of {what} is {_text(table[at])}, must be finite numbers")
    return table


def _extents(points: Float) -> Float:
    """Extents of points (N, D) along their main directions, the largest 1, or 0 if they are one point."""
    sizes = np.zeros(3)
    found = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    sizes[: len(found)] = found
    scaled: Float = sizes / max(float(sizes[0]), 1e-9)
    return scaled


def _project(points: Float, turn_rad: Three, camera_m: Three, inside: Intrinsics) -> Float:
    turn = np.array(turn_rad)
    shift = -np.asarray(cv2.Rodrigues(turn)[0]) @ np.array(camera_m)
    pixels = cv2.projectPoints(points, turn, shift, inside.matrix, np.array(inside.distortion))[0]
    return np.asarray(pixels, np.float64).reshape(-1, 2)


def _checked(
    seen: Float, points: Float, inside: Intrinsics, turn: ArrayLike, shift: ArrayLike
) -> Calibration:
    """Build a calibration with its errors, and raise if they are too large."""
    rotation = np.asarray(cv2.Rodrigues(np.asarray(turn))[0])
    x, y, z = (-rotation.T @ np.asarray(shift).ravel()).tolist()
    a, b, c = np.asarray(turn).ravel().tolist()
    camera = Calibration(inside, (x, y, z), (a, b, c), len(points), 0.0, 0.0)
    away = np.linalg.norm(camera.project(points) - seen, axis=1)
    error_px = math.sqrt(float((away**2).mean()))
    if not error_px <= MAX_ERROR * max(inside.size_px) or min(inside.focal_px) <= 0:
        raise CogError(
            f"the best camera is {error_px:.1f} px off, worst at point {int(np.argmax(away))}: {ORDER}"
        )
    back = [camera.on_plane(pixel, point[2]) for pixel, point in zip(seen, points, strict=True)]
    error_m = math.sqrt(float(((np.array(back) - points) ** 2).sum(axis=1).mean()))
    return Calibration(inside, (x, y, z), (a, b, c), len(points), error_px, error_m)


def _text(values: Float) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values.tolist()) + ")"
