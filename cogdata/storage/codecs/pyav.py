"""PyAV (FFmpeg), which the extra ``video`` installs: imported when a video is encoded or decoded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cogdata.errors import CogError
from cogdata.storage.codecs.track import Track
from cogdata.system.distribution import pip_install

if TYPE_CHECKING:
    from types import ModuleType

    from av import Packet
    from av.container import InputContainer
    from av.video.codeccontext import VideoCodecContext

Source = bytes | memoryview | str | Path
"""A video: the bytes of its file, or where the file lies."""


def pyav() -> ModuleType:
    """Return PyAV.

    Raises:
        CogError: It is not installed.
    """
    try:
        import av
    except ModuleNotFoundError:
        raise CogError(f"video needs PyAV, which is not installed: {pip_install('video')}") from None
    return av


def name_of(source: Source) -> str:
    """Return what a video is called in errors."""
    return f"video {source}" if isinstance(source, str | Path) else "the video"


def packet_of(data: bytes | memoryview) -> Packet[Any]:
    """Return a packet with a copy of bytes.

    FFmpeg reads some bytes beyond the end of a packet. `Packet(data)` would let it read what lies there;
    a packet of a given size has room that is zero.
    """
    packet: Packet[Any] = pyav().Packet(len(data))
    if len(data):
        packet.update(bytes(data))
    return packet


@contextmanager
def opened(source: Source) -> Iterator[InputContainer]:
    """Return a context with the opened file.

    Raises:
        CogError: It cannot be read, there or later in the context, or it holds no video.
    """
    av = pyav()
    file: Any = str(source) if isinstance(source, str | Path) else BytesIO(source)
    try:
        with av.open(file, metadata_errors="replace") as container:
            if not container.streams.video:
                raise CogError(f"{name_of(source)} holds no pictures")
            yield container
    except av.FFmpegError as error:
        raise CogError(f"{name_of(source)} is damaged: {error.strerror}") from None


def read_by_pyav(source: Source) -> Track:
    """Read the packet table of any file that FFmpeg reads; its packets are held in memory.

    Raises:
        CogError: It is no video, or is damaged.
    """
    with opened(source) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        data = [bytes(packet) for packet in packets]
        if any(packet.pts is None for packet in packets):
            raise CogError(f"{name_of(source)} does not say when its pictures are shown: convert it to mp4")
        shown = np.array([packet.pts for packet in packets], np.int64)
        decoded = [packet.dts for packet in packets]
        context: VideoCodecContext | None = stream.codec_context
        if context is None:
            raise CogError(f"{name_of(source)} has a codec that PyAV does not know")
        time_base = stream.time_base
        assert time_base is not None
        return Track(
            codec=context.codec.canonical_name,
            setup=context.extradata or b"",
            height=context.height,
            width=context.width,
            time_base=time_base,
            decode_times=np.sort(shown) if None in decoded else np.array(decoded, np.int64),
            show_times=shown,
            keys=np.array([packet.is_keyframe for packet in packets], bool),
            shown=np.array([not packet.is_discard for packet in packets], bool),
            packet=data.__getitem__,
            color=tuple(
                int(value)
                for value in (
                    context.color_primaries, context.color_trc, context.colorspace, context.color_range
                )
            ),
        )  # fmt: skip
