"""Codecs of features: zstd, PNG, JPEG, the checks that all share, and what damage becomes."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from cogdata.errors import CogError
from cogdata.features import Feature
from cogdata.rng import generator
from cogdata.storage.codecs import (
    ALL,
    CODECS,
    check_codec,
    decode_feature,
    encode_feature,
    frame_codec,
    join_pictures,
)

MiB = 2**20


def feature(dtype: str, shape: tuple[int, ...], codec: str, name: str = "camera") -> Feature:
    return Feature(name, dtype, shape, codec=codec)


def noise(dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    values = generator(3, "noise").integers(0, 2**16, shape)
    return values.astype(dtype) if dtype != "bool" else values % 2 == 1


def smooth(rows: int, height: int, width: int) -> NDArray[np.uint8]:
    """Pictures (N, H, W, 3) of a moving gradient, each different."""
    t, y, x = np.ogrid[:rows, :height, :width]
    planes = (x * 3 + t * 5, y * 3 + t * 2, x + y + t * 0)
    return np.stack([np.broadcast_to(one % 256, (rows, height, width)) for one in planes], -1).astype(
        np.uint8
    )


LOSSLESS = [
    ("zst", "uint8", (6, 5, 3)),
    ("zst", "uint16", (6, 5)),
    ("zst", "float32", (7,)),
    ("zst", "float16", (2, 2)),
    ("zst", "bool", ()),
    ("png", "uint8", (6, 5)),
    ("png", "uint8", (6, 5, 1)),
    ("png", "uint8", (6, 5, 3)),
    ("png", "uint8", (6, 5, 4)),
    ("png", "uint16", (6, 5)),
    ("png", "uint16", (6, 5, 1)),
    ("png", "uint16", (6, 5, 3)),
]


@pytest.mark.parametrize(("codec", "dtype", "shape"), LOSSLESS)
def test_a_lossless_codec_returns_what_was_encoded(codec: str, dtype: str, shape: tuple[int, ...]) -> None:
    rows = noise(dtype, (9, *shape))
    one = feature(dtype, shape, codec)
    data = encode_feature(one, rows)
    assert frame_codec(codec).lossless
    assert data == encode_feature(one, rows)
    out = np.empty_like(rows)
    decode_feature(one, data, out)
    np.testing.assert_array_equal(out, rows)


@pytest.mark.parametrize(("codec", "dtype", "shape"), LOSSLESS)
@pytest.mark.parametrize(
    ("rows", "first", "expected"),
    [
        (slice(0, 2), 0, [0, 1]),
        (slice(4, 9), 0, [4, 5, 6, 7, 8]),
        (slice(1, 3), 5, [6, 7]),
        (slice(None), 7, [7, 8]),
        (slice(1, 8, 3), 0, [1, 4, 7]),
        (slice(3, 3), 0, []),
    ],
)
def test_some_rows_are_decoded(
    codec: str, dtype: str, shape: tuple[int, ...], rows: slice, first: int, expected: list[int]
) -> None:
    values = noise(dtype, (9, *shape))
    one = feature(dtype, shape, codec)
    out = np.zeros((len(expected), *shape), dtype)
    decode_feature(one, encode_feature(one, values), out, rows, first)
    np.testing.assert_array_equal(out, values[expected])


def test_rows_that_do_not_fit_the_array_are_a_mistake_of_the_caller() -> None:
    data = CODECS["zst"].encode(noise("uint8", (9, 2)))
    out = np.zeros((3, 2), np.uint8)
    with pytest.raises(ValueError, match=r"rows are slice\(0, 4, None\), the array has room for 3"):
        CODECS["zst"].decode(data, out, slice(0, 4))
    with pytest.raises(ValueError, match="must count forward from the first one"):
        CODECS["zst"].decode(data, out, slice(-3, None))


def test_pictures_are_red_green_blue_in_the_files() -> None:
    red = np.zeros((1, 4, 4, 4), np.uint8)
    red[..., 0], red[..., 3] = 255, 7
    png = CODECS["png"].encode(red)
    read = cv2.imdecode(np.frombuffer(png[20:], np.uint8), cv2.IMREAD_UNCHANGED)
    assert read is not None
    assert read[0, 0].tolist() == [0, 0, 255, 7]  # OpenCV's order: blue, green, red


def test_the_layout_of_picture_members() -> None:
    rows = noise("uint8", (2, 3, 4, 3))
    data = CODECS["png"].encode(rows)
    assert data[:8] == b"cogpics1"
    count, size0, crc0, size1, crc1 = struct.unpack("<5I", data[8:28])
    assert count == 2
    assert len(data) == 28 + size0 + size1
    first, second = data[28 : 28 + size0], data[28 + size0 :]
    assert (zlib.crc32(first), zlib.crc32(second)) == (crc0, crc1)
    assert first[:8] == second[:8] == b"\x89PNG\r\n\x1a\n"
    assert join_pictures([first, second]) == data


def test_jpeg_keeps_smooth_pictures_closely() -> None:
    rows = smooth(4, 40, 60)
    one = feature("uint8", (40, 60, 3), "jpeg")
    data = encode_feature(one, rows)
    out = np.empty_like(rows)
    decode_feature(one, data, out)
    assert not frame_codec("jpeg").lossless
    assert np.abs(out.astype(int) - rows).mean() < 4
    part = np.empty_like(rows[:2])
    decode_feature(one, data, part, slice(1, 3))
    np.testing.assert_array_equal(part, out[1:3])
    assert len(data) < rows.nbytes / 4


def test_jpegs_of_others_are_joined_without_encoding_again() -> None:
    grey = np.full((8, 12), 90, np.uint8)
    file = cv2.imencode(".jpg", grey)[1].tobytes()
    out = np.empty((2, 8, 12, 1), np.uint8)
    CODECS["jpeg"].decode(join_pictures([file, file]), out)
    assert np.unique(out).tolist() == [90]


# --- what a codec cannot hold --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "shape", "codec", "line"),
    [
        ("uint16", (4, 4), "jpeg", "feature depth is uint16, codec jpeg holds uint8: choose zst or png"),
        ("float32", (4, 4), "png", "feature depth is float32, codec png holds uint8 or uint16: choose zst"),
        ("string", (), "zst", "feature depth is string, codec zst holds"),
        ("uint8", (4, 4, 2), "mp4", "feature depth has 2 channels, codec mp4 holds pictures of 1 or 3 channels: choose zst"),
        ("uint8", (4, 4, 4), "jpeg", "feature depth has 4 channels, codec jpeg holds pictures of 1 or 3 channels: choose zst or png"),
        ("uint8", (7,), "png", "feature depth has shape (7,), which is no picture, codec png holds pictures of 1 or 3 or 4 channels: choose zst"),
        ("uint8", (4, 4), "gif", "unknown frame codec 'gif': known: av1, jpeg, mp4, png, zst"),
    ],
)  # fmt: skip
def test_a_codec_that_cannot_hold_a_feature_is_refused(
    dtype: str, shape: tuple[int, ...], codec: str, line: str
) -> None:
    with pytest.raises(CogError) as error:
        check_codec(feature(dtype, shape, codec, "depth"))
    assert str(error.value).startswith(line)


def test_text_is_stored_as_a_column() -> None:
    with pytest.raises(CogError, match="float64 or bool: store it as a column$"):
        check_codec(feature("string", (), "zst"))


def test_rows_that_are_not_the_features_are_refused() -> None:
    one = feature("uint8", (4, 4, 3), "png")
    with pytest.raises(CogError) as error:
        encode_feature(one, np.zeros((2, 4, 5, 3), np.uint8))
    assert str(error.value) == (
        "feature camera holds uint8 (2, 4, 5, 3), must be uint8 (N, 4, 4, 3) with N of at least 1"
    )
    with pytest.raises(CogError, match="holds float64"):
        encode_feature(one, np.zeros((2, 4, 4, 3)))
    with pytest.raises(CogError, match="N of at least 1"):
        encode_feature(one, np.zeros((0, 4, 4, 3), np.uint8))
    with pytest.raises(CogError, match="the array to fill is uint16"):
        decode_feature(one, b"", np.zeros((2, 4, 4, 3), np.uint16))


# --- damage --------------------------------------------------------------------------------------------------


def refused(codec: str, data: bytes, out: NDArray[Any], rows: slice = ALL) -> str:
    with pytest.raises(CogError) as error:
        decode_feature(feature(str(out.dtype), out.shape[1:], codec), data, out, rows)
    line = str(error.value)
    assert line.startswith("feature camera: ")
    assert "\n" not in line
    return line.removeprefix("feature camera: ")


@pytest.mark.parametrize("codec", ["zst", "png", "jpeg"])
@pytest.mark.parametrize("rows", [ALL, slice(2, 5)])
def test_a_truncated_member_is_an_error(codec: str, rows: slice) -> None:
    values = smooth(6, 8, 8)
    data = CODECS[codec].encode(values)
    out = np.zeros_like(values[:3] if rows != ALL else values)
    for size in range(len(data) - 1):
        assert refused(codec, data[:size], out, rows)


@pytest.mark.parametrize("codec", ["png", "jpeg"])
def test_any_flipped_byte_of_picture_files_is_an_error(codec: str) -> None:
    values = smooth(3, 8, 8)
    data = CODECS[codec].encode(values)
    out = np.zeros_like(values)
    for at in range(len(data)):
        assert refused(codec, data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :], out)


def test_a_flipped_byte_of_a_zstd_block_raises_nothing_else() -> None:
    """Literals carry no checksum: the member's own, in the episode's row, finds those."""
    values = smooth(3, 8, 8)
    data = CODECS["zst"].encode(values)
    out = np.zeros_like(values)
    lines = set()
    for at in range(len(data)):
        try:
            CODECS["zst"].decode(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :], out)
        except CogError as error:
            lines.add(str(error).split(":")[0])
    assert "frames are damaged" in lines


@pytest.mark.parametrize("rows", [ALL, slice(1, 2)])
def test_the_size_that_a_zstd_block_declares_is_checked_before_it_is_decompressed(rows: slice) -> None:
    bomb = CODECS["zst"].encode(np.zeros(256 * MiB, np.uint8))
    assert len(bomb) < 64 * 1024
    out = np.zeros((2 if rows == ALL else 1, 7, 7, 3), np.uint8)
    line = refused("zst", bomb, out, rows)
    assert line.startswith(f"frames hold {256 * MiB} bytes, ")


def test_a_zstd_block_with_fewer_rows_is_an_error() -> None:
    data = CODECS["zst"].encode(noise("uint8", (4, 5)))
    assert refused("zst", data, np.zeros((5, 5), np.uint8)) == "frames hold 20 bytes, 25 wanted"
    line = refused("zst", data, np.zeros((2, 5), np.uint8), slice(3, 5))
    assert line == "frames hold 20 bytes, row 4 is wanted and a row has 5 bytes"
    assert (
        refused("zst", b"", np.zeros((2, 5), np.uint8))
        == "frames are damaged: 0 bytes that are no zstd block"
    )


def test_the_size_that_a_picture_declares_is_checked_before_it_is_decoded() -> None:
    large = np.zeros((1, 3000, 3000, 3), np.uint8)
    out = np.zeros((1, 8, 8, 3), np.uint8)
    for codec in ("png", "jpeg"):
        assert refused(codec, CODECS[codec].encode(large), out) == (
            "picture 0 is 3000x3000, 3 channels of 8 bits, 8x8, 3 channels of 8 bits is wanted"
        )
    depth = CODECS["png"].encode(np.zeros((1, 8, 8), np.uint16))
    assert refused("png", depth, np.zeros((1, 8, 8), np.uint8)) == (
        "picture 0 is 8x8, 1 channel of 16 bits, 8x8, 1 channel of 8 bits is wanted"
    )


def test_other_files_among_pictures_are_named() -> None:
    out = np.zeros((1, 8, 8, 3), np.uint8)
    assert refused("png", join_pictures([b"GIF89a"]), out) == "picture 0 is no PNG file"
    assert refused("jpeg", join_pictures([b"GIF89a" * 9]), out) == "picture 0 is no JPEG file"
    broken = CODECS["png"].encode(smooth(1, 8, 8))[20:60]
    assert refused("png", join_pictures([broken]), out).startswith("picture 0 is damaged: ")


def test_fewer_pictures_than_wanted_are_counted() -> None:
    data = CODECS["png"].encode(smooth(3, 8, 8))
    out = np.zeros((2, 8, 8, 3), np.uint8)
    assert refused("png", data, out, slice(2, 4)) == "the member holds 3 pictures, picture 3 is wanted"
