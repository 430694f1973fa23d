"""Pictures one by one, as PNG or JPEG files in one member with an index.

The layout of a member, integers little-endian:

    8 bytes       "cogpics1"
    4 bytes       N, the number of pictures
    N x 8 bytes   size and crc32 of each picture, 4 bytes each
    the rest      the files, one after the other, without gaps

Any picture is reached by its index alone. OpenCV encodes and decodes them.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cogdata.errors import CogError
from cogdata.storage.codecs.codec import ALL, channels_of, check_count, row_numbers

MAGIC: Final = b"cogpics1"
_HEAD: Final = len(MAGIC) + 4

JPEG_QUALITY: Final = 95
"""Of 100, with colour at half the resolution (4:2:0)."""


def join_pictures(files: Sequence[bytes]) -> bytes:
    """Return PNG or JPEG files as one member; nothing is encoded again.

    Args:
        files: One file per picture, all of one kind and shape.
    """
    index = np.array([(len(one), zlib.crc32(one)) for one in files], "<u4").reshape(-1, 2)
    return b"".join((MAGIC, len(files).to_bytes(4, "little"), index.tobytes(), *files))


class Pictures:
    """Pictures as files of their own: what PNG and JPEG have in common.

    Args:
        suffix: Kind of file, as OpenCV names it: ".png", ".jpg".
        lossless: Whether pixels are kept exactly.
        dtypes: Types of pixels.
        channels: Numbers of channels.
        settings: OpenCV's settings of the encoder by name: value.
    """

    def __init__(
        self,
        suffix: str,
        lossless: bool,
        dtypes: tuple[str, ...],
        channels: tuple[int, ...],
        settings: dict[str, int],
    ) -> None:
        self.suffix = suffix
        self.lossless = lossless
        self.dtypes = dtypes
        self.channels = channels
        self.settings = settings

    def encode(self, frames: NDArray[Any], rate_hz: float | None = None) -> bytes:
        """Encode (N, H, W) or (N, H, W, C); the rate does not matter."""
        import cv2

        swap = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}.get(channels_of(frames.shape[1:]))
        settings = [value for name, number in self.settings.items() for value in (getattr(cv2, name), number)]
        files = []
        for frame in frames:
            picture = np.ascontiguousarray(frame)
            done, encoded = cv2.imencode(
                self.suffix, picture if swap is None else cv2.cvtColor(picture, swap), settings
            )
            if not done:
                raise CogError(f"OpenCV cannot write {frame.dtype} {frame.shape} as {self.suffix}")
            files.append(encoded.tobytes())
        return join_pictures(files)

    def decode(self, data: bytes | memoryview, out: NDArray[Any], rows: slice = ALL, first: int = 0) -> None:
        """Decode rows into ``out``; each picture's size is checked before it is decoded."""
        view = memoryview(data)
        ends, crcs = _index(view)
        wanted = row_numbers(out, rows, first)
        check_count(wanted, len(crcs), "the member")
        channels = channels_of(out.shape[1:])
        for row, number in enumerate(wanted):
            encoded = view[ends[number] : ends[number + 1]]
            if zlib.crc32(encoded) != crcs[number]:
                raise CogError(f"picture {number} is damaged: its bytes have another checksum")
            declared = (_png_head if self.suffix == ".png" else _jpeg_head)(encoded, number)
            expected = (*out.shape[1:3], channels, out.dtype.itemsize * 8)
            if declared != expected:
                raise CogError(
                    f"picture {number} is {_described(declared)}, {_described(expected)} is wanted"
                )
            out[row] = _decoded(encoded, number, channels).reshape(out.shape[1:])


def _described(size: tuple[int, ...]) -> str:
    height, width, channels, bits = size
    return f"{height}x{width}, {channels} channel{'s' if channels != 1 else ''} of {bits} bits"


def _index(view: memoryview) -> tuple[list[int], NDArray[np.uint32]]:
    """Return where each picture begins and the last one ends, and their checksums."""
    if len(view) < _HEAD or bytes(view[: len(MAGIC)]) != MAGIC:
        raise CogError(f"pictures are damaged: {len(view)} bytes that do not begin with {MAGIC.decode()}")
    count = int.from_bytes(view[len(MAGIC) : _HEAD], "little")
    if len(view) < _HEAD + 8 * count:
        raise CogError(f"pictures are damaged: the index of {count} pictures is cut off")
    table = np.frombuffer(view[_HEAD : _HEAD + 8 * count], "<u4").reshape(count, 2)
    ends = _HEAD + 8 * count + np.concatenate(([0], np.cumsum(table[:, 0], dtype=np.int64)))
    if int(ends[-1]) != len(view):
        raise CogError(f"pictures are damaged: {len(view)} bytes, the index says {int(ends[-1])}")
    return ends.tolist(), table[:, 1]


def _decoded(encoded: memoryview, number: int, channels: int) -> NDArray[Any]:
    import cv2

    flags = cv2.IMREAD_UNCHANGED if channels == 4 else cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    if channels == 3:
        flags |= cv2.IMREAD_COLOR_RGB
    try:
        picture = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    except cv2.error as error:
        raise CogError(f"picture {number} is damaged: {error.err}") from None
    if picture is None:
        raise CogError(f"picture {number} is damaged: OpenCV cannot decode it")
    return cv2.cvtColor(picture, cv2.COLOR_BGRA2RGBA) if channels == 4 else picture


def _png_head(encoded: memoryview, number: int) -> tuple[int, int, int, int]:
    """Return (height, width, channels, bits) that a PNG declares."""
    if len(encoded) < 26 or bytes(encoded[:8]) != b"\x89PNG\r\n\x1a\n" or bytes(encoded[12:16]) != b"IHDR":
        raise CogError(f"picture {number} is no PNG file")
    width, height = (int.from_bytes(encoded[at : at + 4], "big") for at in (16, 20))
    kind = encoded[25]
    if kind not in (0, 2, 6):
        raise CogError(f"picture {number} is a PNG with a palette or grey with alpha: store it as RGB")
    return height, width, {0: 1, 2: 3, 6: 4}[kind], encoded[24]


def _jpeg_head(encoded: memoryview, number: int) -> tuple[int, int, int, int]:
    """Return (height, width, channels, bits) that a JPEG declares in its start-of-frame segment."""
    at = 2
    while bytes(encoded[:2]) == b"\xff\xd8" and at + 9 < len(encoded) and encoded[at] == 0xFF:
        marker = encoded[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = (int.from_bytes(encoded[at + k : at + k + 2], "big") for k in (5, 7))
            return height, width, encoded[at + 9], encoded[at + 4]
        at += 2 + int.from_bytes(encoded[at + 2 : at + 4], "big") if marker != 0xFF else 1
    raise CogError(f"picture {number} is no JPEG file")


PNG: Final = Pictures(".png", True, ("uint8", "uint16"), (1, 3, 4), {})
"""With the settings of OpenCV, its fastest: others take two to four times as long for a tenth fewer bytes."""

JPEG: Final = Pictures(
    ".jpg",
    False,
    ("uint8",),
    (1, 3),
    {
        "IMWRITE_JPEG_QUALITY": JPEG_QUALITY,
        "IMWRITE_JPEG_SAMPLING_FACTOR": 0x221111,  # 4:2:0
    },
)
