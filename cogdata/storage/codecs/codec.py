"""What a frame codec is, and the checks that all of them share."""

from __future__ import annotations

from typing import Any, Final, Protocol

from numpy.typing import NDArray

from cogdata.errors import CogError

ALL: Final = slice(None)
"""Every row."""


class FrameCodec(Protocol):
    """Turns the rows of one feature of an episode into bytes and back.

    Attributes:
        lossless: Whether decoding returns what was encoded.
        dtypes: Types of the values that it holds.
        channels: Numbers of channels of the pictures that it holds; (): rows of any shape.
    """

    lossless: bool
    dtypes: tuple[str, ...]
    channels: tuple[int, ...]

    def encode(self, frames: NDArray[Any], rate_hz: float | None = None) -> bytes:
        """Encode the rows of an episode.

        Args:
            frames: (N, H, W, C); (N, H, W) is one channel.
            rate_hz: Rows per second, for the clock of a video; None: unknown.
        """
        ...

    def decode(self, data: bytes | memoryview, out: NDArray[Any], rows: slice = ALL, first: int = 0) -> None:
        """Decode some rows.

        Args:
            data: What :meth:`encode` returned, or a file of the same kind.
            out: Contiguous array that is filled: row i with the i-th of ``rows``.
            rows: Rows of the episode, as many as ``out`` has.
            first: Rows in ``data`` before the first of the episode.

        Raises:
            CogError: The bytes are damaged, too few, or of another shape or type.
        """
        ...


def row_numbers(out: NDArray[Any], rows: slice, first: int) -> range:
    """Return the number of each row of ``out`` within the encoded data.

    Args:
        out: Array to fill.
        rows: Rows of the episode; from row 0 on and without gaps, where it does not say otherwise.
        first: Rows in the data before the first of the episode.

    Raises:
        ValueError: ``rows`` counts from the end, or is not as long as ``out``.
    """
    start, step = rows.start or 0, 1 if rows.step is None else rows.step
    if start < 0 or step < 1 or first < 0 or (rows.stop is not None and rows.stop < 0):
        raise ValueError(f"rows are {rows} from {first} on, must count forward from the first one")
    if rows.stop is not None and len(range(start, rows.stop, step)) != len(out):
        raise ValueError(f"rows are {rows}, the array has room for {len(out)}")
    return range(first + start, first + start + len(out) * step, step)


def check_count(wanted: range, count: int, kind: str) -> None:
    """Refuse rows beyond the last one.

    Raises:
        CogError: There are fewer.
    """
    if len(wanted) and wanted[-1] >= count:
        raise CogError(f"{kind} holds {count} pictures, picture {wanted[-1]} is wanted")


def channels_of(shape: tuple[int, ...]) -> int:
    """Return the number of channels of a picture of shape (H, W) or (H, W, C); 0: it is no picture."""
    if len(shape) == 2 and min(shape) > 0:
        return 1
    return shape[2] if len(shape) == 3 and min(shape) > 0 else 0
