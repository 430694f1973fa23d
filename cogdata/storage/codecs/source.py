"""Where a video comes from: bytes or a file, and what is in it."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cogdata.errors import CogError
from cogdata.storage.codecs.mp4 import read_mp4
from cogdata.storage.codecs.pyav import Source, name_of, read_by_pyav
from cogdata.storage.codecs.track import Track


@dataclass(frozen=True)
class VideoInfo:
    """What a video holds.

    Attributes:
        frames: Number of pictures that are shown.
        height: px; even, as the video is stored.
        width: px; even, as the video is stored.
        rate_hz: Pictures per second on average; None: there is one only.
        codec: "h264", "av1", or another name of FFmpeg's.
        keyframes: Numbers of the pictures that are encoded without others, ascending.
    """

    frames: int
    height: int
    width: int
    rate_hz: float | None
    codec: str
    keyframes: tuple[int, ...]


def read_track(source: Source) -> Track:
    """Read the packet table of a video.

    Args:
        source: The bytes of the file, or where it lies.

    Raises:
        CogError: It is no video, is damaged, or is missing.
    """
    data = _mapped(source) if isinstance(source, str | Path) else memoryview(source)
    if not len(data):
        raise CogError(f"{name_of(source)} is empty")
    track = read_mp4(data, name_of(source)) or read_by_pyav(source)
    if not len(track.pictures):
        raise CogError(f"{name_of(source)} holds no pictures")
    return track


def _mapped(path: str | Path) -> memoryview:
    try:
        with Path(path).open("rb") as file:
            if not file.seek(0, 2):
                return memoryview(b"")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except FileNotFoundError:
        raise CogError(f"there is no video {path}") from None
    except OSError as error:
        raise CogError(f"video {path} cannot be read: {error.strerror}") from None


def probe(source: Source) -> VideoInfo:
    """Return what a video holds; nothing is decoded.

    Args:
        source: The bytes of the file, or where it lies.

    Raises:
        CogError: It is no video, is damaged, or is missing.
    """
    track = read_track(source)
    keyed = track.numbers[np.flatnonzero(track.keys & track.shown)]
    return VideoInfo(
        frames=len(track.pictures),
        height=track.height,
        width=track.width,
        rate_hz=track.rate_hz,
        codec=track.codec,
        keyframes=tuple(sorted(keyed.tolist())),
    )
