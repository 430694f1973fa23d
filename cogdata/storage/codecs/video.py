"""Pictures as a video in an mp4 file: H.264 or AV1, encoded and decoded by PyAV.

A key picture comes every :data:`GROUP` pictures: any picture is reached by decoding three others at most.
Colour has half the resolution of brightness (yuv420p, BT.601). Heights and widths that are odd are stored
with their last row or column twice; decoding leaves it out. One thread encodes, so that the bytes do not
depend on the machine's number of cores.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from fractions import Fraction
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from cogdata.errors import CogError
from cogdata.storage.codecs.codec import ALL, channels_of, check_count, row_numbers
from cogdata.storage.codecs.pyav import packet_of, pyav
from cogdata.storage.codecs.source import read_track
from cogdata.storage.codecs.track import Buffer, Track

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.reformatter import VideoReformatter

GROUP: Final = 4
"""Pictures from one key picture to the next."""

NOMINAL_HZ: Final = 30
"""Rate that a video claims whose real one is unknown; pictures are counted, so nothing reads it."""

SMALLEST: Final = 16
"""Least height and width that is stored, px."""

_DECODERS: Final = {"av1": "libdav1d"}
"""Codec → decoder, where the one of the same name needs hardware."""

_BT601: Final = 6  # FFmpeg's number of SMPTE 170M, and of its matrix in all three places
_LIMITED: Final = 1


class Video:
    """Pictures as a video.

    Args:
        encoder: FFmpeg's name of the encoder; decoding takes any codec.
        options: Its options.
    """

    lossless: bool = False
    dtypes: tuple[str, ...] = ("uint8",)
    channels: tuple[int, ...] = (1, 3)

    def __init__(self, encoder: str, options: Mapping[str, str]) -> None:
        self.encoder = encoder
        self.options = options

    def encode(self, frames: NDArray[Any], rate_hz: float | None = None) -> bytes:
        """Encode uint8 (N, H, W, 3), or one channel as grey."""
        av = pyav()
        os.environ.setdefault("SVT_LOG", "1")  # errors only: it writes its settings to the terminal
        rate = Fraction(rate_hz or NOMINAL_HZ).limit_denominator(100_000)
        height, width = (_stored(size) for size in frames.shape[1:3])
        file = BytesIO()
        try:
            with av.open(file, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
                stream = container.add_stream(self.encoder, rate=rate, options=dict(self.options))
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                context = stream.codec_context
                context.thread_count = 1
                context.color_primaries = context.color_trc = context.colorspace = _BT601
                context.color_range = _LIMITED
                for number, frame in enumerate(frames):
                    picture = _to_yuv(frame, height, width)
                    picture.pts, picture.time_base = number, 1 / rate
                    container.mux(stream.encode(picture))
                container.mux(stream.encode(None))
        except av.FFmpegError as error:
            raise CogError(
                f"FFmpeg cannot encode {len(frames)} pictures of {height}x{width} at {float(rate):g} Hz by "
                f"{self.encoder}: {error.strerror}"
            ) from None
        return file.getvalue()

    def decode(self, data: bytes | memoryview, out: NDArray[Any], rows: slice = ALL, first: int = 0) -> None:
        """Decode rows into ``out``, from the key picture before the first of them."""
        wanted = row_numbers(out, rows, first)
        track = read_track(data)
        check_count(wanted, len(track.pictures), "the video")
        height, width = out.shape[1:3]
        size = (track.height, track.width)
        if size not in ((height, width), (_stored(height), _stored(width))):
            raise CogError(f"the video is {size[0]}x{size[1]}, pictures of {height}x{width} are wanted")
        if not len(wanted):
            return
        av, reformatter = pyav(), _reformatter()
        for number, picture in _decoded(track, wanted):
            if (picture.height, picture.width) != size:
                raise CogError(
                    f"the video is {size[0]}x{size[1]}, but picture {number} is "
                    f"{picture.height}x{picture.width}: one feature has one size"
                )
            try:
                plane = reformatter.reformat(picture, format="rgb24").planes[0]
            except (av.FFmpegError, ValueError) as error:
                raise CogError(f"the video is damaged at picture {number}: {error}") from None
            lines = np.frombuffer(memoryview(plane), np.uint8).reshape(size[0], plane.line_size)
            rgb = lines[:height, : 3 * width].reshape(height, width, 3)
            row = out[wanted.index(number)]
            row[...] = rgb if channels_of(row.shape) == 3 else rgb[..., :1].reshape(row.shape)


_THREAD: Final = threading.local()
_REUSED: Final = ("h264", "av1")
"""Codecs whose decoders are used again: to set one up takes as long as to decode two pictures."""
_MOST_KEPT: Final = 4


def _reformatter() -> VideoReformatter:
    """Return the thread's converter of colours: to set one up takes as long as to convert two pictures."""
    found: VideoReformatter | None = getattr(_THREAD, "reformatter", None)
    if found is None:
        from av.video.reformatter import VideoReformatter

        found = _THREAD.reformatter = VideoReformatter()
    return found


def _stored(size: int) -> int:
    return max(size + size % 2, SMALLEST)


def _to_yuv(frame: NDArray[Any], height: int, width: int) -> VideoFrame:
    """Return a picture (H, W[, C]) as yuv420p, its last row and column repeated up to a size."""
    from av.video.frame import VideoFrame
    from av.video.reformatter import ColorRange, Colorspace

    pixels = frame.reshape(*frame.shape[:2], -1)
    more = ((0, height - len(pixels)), (0, width - pixels.shape[1]), (0, 0))
    if any(after for _, after in more):
        pixels = np.pad(pixels, more, mode="edge")
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    rgb = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    return rgb.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU601, dst_color_range=ColorRange.MPEG)


def _decoder(track: Track) -> VideoCodecContext:
    """Return a decoder without pictures: a new one, or one that decoded another video of the same kind."""
    kept = _kept().pop(_kind(track), None)
    if kept is not None:
        kept.flush_buffers()
        return kept
    av = pyav()
    try:
        context: VideoCodecContext = av.CodecContext.create(_DECODERS.get(track.codec, track.codec), "r")
    except ValueError:
        raise CogError(f"the video is encoded as {track.codec}, which PyAV cannot decode here") from None
    if track.setup:
        context.extradata = track.setup
    context.thread_count = 1  # more threads decode ahead: pictures that nobody asked for
    options = {"err_detect": "explode", "max_pixels": str(4 * max(track.height * track.width, 2**16))}
    if track.reorders:
        options["strict"] = "1"  # H.264 that does not say how far pictures move: wait, rather than lose one
    colors = ("color_primaries", "color_trc", "colorspace", "color_range")
    options |= dict(zip(colors, map(str, track.color), strict=False))
    context.options = options
    return context


def _decoded(track: Track, wanted: range) -> Iterator[tuple[int, VideoFrame]]:
    """Yield the pictures of a range with their numbers, in order."""
    av = pyav()
    context = _decoder(track)
    missing = set(wanted)
    reusable = track.codec in _REUSED
    for index in [*track.packets_for(wanted[0], wanted[-1]).tolist(), None]:
        packet = None
        if index is not None:
            data = track.packet(index)
            packet = packet_of(data)
            packet.pts = int(track.numbers[index])
            reusable = reusable and not (track.codec == "h264" and _has_setup(data, track.setup))
        try:
            pictures = context.decode(packet)
        except av.FFmpegError as error:
            at = wanted[-1] if index is None else int(track.numbers[index])
            raise CogError(f"the video is damaged at picture {at}: {error.strerror}") from None
        for picture in pictures:
            number = picture.pts
            if number is not None and number in wanted:
                if picture.is_corrupt:
                    raise CogError(f"the video is damaged at picture {number}")
                yield number, picture
                missing.discard(number)
        if not missing:
            if reusable:
                _keep(track, context)
            return
    raise CogError(
        f"the video is damaged: {len(missing)} of pictures {wanted[0]} to {wanted[-1]} cannot be decoded"
    )


def _has_setup(data: Buffer, setup: bytes) -> bool:
    """Whether an H.264 packet of an mp4 file carries setup data, which a decoder would keep."""
    length, at = (setup[4] & 3) + 1 if len(setup) > 4 else 4, 0
    while at + length < len(data):
        kind = data[at + length] & 31
        if kind in (7, 8):
            return True
        if kind <= 5:  # a slice: setup data come before
            return False
        at += length + int.from_bytes(data[at : at + length], "big")
    return False


def _keep(track: Track, context: VideoCodecContext) -> None:
    """Keep a decoder for the next video of the same kind; the oldest of too many goes."""
    kept = _kept()
    kept[_kind(track)] = context
    while len(kept) > _MOST_KEPT:
        del kept[next(iter(kept))]


def _kept() -> dict[tuple[object, ...], VideoCodecContext]:
    kept: dict[tuple[object, ...], VideoCodecContext] | None = getattr(_THREAD, "decoders", None)
    if kept is None:
        kept = _THREAD.decoders = {}
    return kept


def _kind(track: Track) -> tuple[object, ...]:
    """Return all that a decoder is set up with."""
    return track.codec, track.setup, track.height, track.width, track.reorders, track.color


H264: Final = Video(
    "libx264",
    {
        "g": str(GROUP),
        "bf": "0",
        "sc_threshold": "0",  # no key picture between: they would come at irregular places
        "crf": "20",
        "preset": "veryfast",
        "tune": "fastdecode",  # decodes in half the time, for a seventh more bytes
    },
)
AV1: Final = Video(
    "libsvtav1",
    {"g": str(GROUP), "crf": "30", "preset": "8", "svtav1-params": "lp=1"},
)
