"""A range of pictures out of a video, without decoding or encoding: its packets are copied."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import numpy as np

from cogdata.errors import CogError
from cogdata.storage.codecs.pyav import Source, name_of, opened, packet_of, pyav
from cogdata.storage.codecs.source import read_track
from cogdata.storage.codecs.track import Track


@dataclass(frozen=True)
class RemuxedVideo:
    """A video of its own with a range of another one's pictures.

    Attributes:
        data: An mp4 file.
        first: Pictures before the range, from the key picture that it is decoded from.
        frames: N, the pictures of the range.
        shape: (N, H, W, 3).
        rate_hz: Pictures per second; None: unknown.
    """

    data: bytes
    first: int
    frames: int
    shape: tuple[int, int, int, int]
    rate_hz: float | None


def remux(source: Source, start: int = 0, frames: int | None = None) -> RemuxedVideo:
    """Take a range of pictures out of a video; the encoded pictures keep their bytes.

    Args:
        source: The bytes of the file, or where it lies.
        start: Number of the first picture.
        frames: Number of pictures; None: all that follow.

    Raises:
        CogError: The video is damaged, has fewer pictures, or has a codec that mp4 cannot hold.
    """
    track = read_track(source)
    count = len(track.pictures)
    number = count - start if frames is None else frames
    if start < 0 or number < 1 or start + number > count:
        raise CogError(f"{name_of(source)} holds {count} pictures: there are no {number} from {start} on")
    packets = track.packets_for(start, start + number - 1)
    before = track.show_times[packets] < track.show_times[track.pictures[start]]
    return RemuxedVideo(
        data=_written(source, track, packets),
        first=int(before.sum()),
        frames=number,
        shape=(number, track.height, track.width, 3),
        rate_hz=track.rate_hz,
    )


def _written(source: Source, track: Track, packets: np.ndarray[tuple[int], np.dtype[np.int64]]) -> bytes:
    """Write packets as an mp4 file whose first picture is shown at time 0."""
    av = pyav()
    file = BytesIO()
    show = track.show_times[packets] - track.show_times[packets].min()
    decode = track.decode_times[packets] - track.show_times[packets].min()
    decode = decode - max(int((decode - show).max()), 0)  # mp4: nothing is shown before it is decoded
    steps = np.diff(decode)
    lengths = [*steps.tolist(), int(steps[-1]) if len(steps) else _only_length(track)]
    with opened(source) as original:
        try:
            with av.open(file, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
                stream = container.add_stream_from_template(original.streams.video[0], opaque=True)
                stream.time_base = track.time_base
                for k, index in enumerate(packets.tolist()):
                    packet = packet_of(track.packet(index))
                    packet.stream = stream
                    packet.time_base = track.time_base
                    packet.pts, packet.dts, packet.duration = int(show[k]), int(decode[k]), lengths[k]
                    packet.is_keyframe = bool(track.keys[index])
                    container.mux(packet)
        except (av.FFmpegError, ValueError) as error:
            raise CogError(
                f"{name_of(source)} is encoded as {track.codec}, which cannot be copied into an mp4 file "
                f"({error}): decode it and store the pictures with a codec"
            ) from None
    return file.getvalue()


def _only_length(track: Track) -> int:
    """Return how long the only picture of a copy is shown: as the pictures of the source on average."""
    return round(1 / (track.rate_hz * track.time_base)) if track.rate_hz else 1
