"""Benchmark of codecs: random windows of three cameras' videos, and the bytes of a picture in each codec.

Three videos of 480x640 are made: textures that move, with noise. Windows of random starts are decoded in two
ways that alternate: by PyAV alone, which keeps each file open, seeks to the key picture and decodes; and by
`FrameCodec.decode`, which gets the bytes of the file each time. Both decode on one thread.

    python -m bench.video
    python -m bench.video --codec av1 --window 1 --rounds 15
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from io import BytesIO

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from cogdata.rng import generator
from cogdata.storage.codecs import CODECS, frame_codec, probe

CAMERAS = 3
SIZE = (480, 640)
RATE_HZ = 30.0

UInt8 = NDArray[np.uint8]
Window = tuple[int, int]
"""Camera, first picture."""


def pictures(camera: int, count: int) -> UInt8:
    """Return (count, 480, 640, 3): a camera that sways over a texture, a disc that circles, and noise."""
    height, width = SIZE
    draw = generator(camera, "video")
    texture = draw.integers(0, 256, (height + 200, width + 300, 3), dtype=np.uint8)
    texture = cv2.normalize(cv2.GaussianBlur(texture, (0, 0), 4.0), None, 0, 255, cv2.NORM_MINMAX)  # type: ignore[call-overload]
    frames = np.empty((count, height, width, 3), np.uint8)
    for t in range(count):
        y, x = int(100 + 90 * np.sin(t / 20 + camera)), int(150 + 140 * np.sin(t / 31))
        view = np.ascontiguousarray(texture[y : y + height, x : x + width])
        center = (int(width * (0.5 + 0.3 * np.cos(t / 9))), int(height * (0.5 + 0.3 * np.sin(t / 9))))
        cv2.circle(view, center, 40, (220, 40, 40), -1)
        noise = draw.integers(-2, 3, view.shape, dtype=np.int16)
        frames[t] = np.clip(view.astype(np.int16) + noise, 0, 255)
    return frames


class Bare:
    """PyAV alone, with files that stay open."""

    def __init__(self, videos: list[bytes]) -> None:
        self._containers = [av.open(BytesIO(video), "r") for video in videos]
        self._ticks = []
        for container in self._containers:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            assert stream.time_base is not None
            self._ticks.append(round(1 / (RATE_HZ * stream.time_base)))

    def window(self, camera: int, start: int, out: UInt8) -> None:
        """Decode ``len(out)`` pictures from a start on."""
        container, ticks = self._containers[camera], self._ticks[camera]
        container.seek(start * ticks, stream=container.streams.video[0])
        row = 0
        for frame in container.decode(video=0):
            if frame.pts is not None and frame.pts >= start * ticks:
                out[row] = frame.to_ndarray(format="rgb24")
                row += 1
                if row == len(out):
                    return


class Ours:
    """`FrameCodec.decode`, which is given the bytes."""

    def __init__(self, codec: str, videos: list[bytes]) -> None:
        self._codec = frame_codec(codec)
        self._videos = videos

    def window(self, camera: int, start: int, out: UInt8) -> None:
        """Decode ``len(out)`` pictures from a start on."""
        self._codec.decode(self._videos[camera], out, slice(start, start + len(out)))


def rate(decode: Callable[[int, int, UInt8], None], windows: list[Window], out: UInt8) -> float:
    """Return pictures per second of processor time over some windows."""
    began = time.process_time()
    for camera, start in windows:
        decode(camera, start, out)
    return len(windows) * len(out) / (time.process_time() - began)


def compare(codec: str, videos: list[bytes], count: int, length: int, rounds: int) -> None:
    """Print the rates of both ways, and the ratio of their medians."""
    bare, ours = Bare(videos), Ours(codec, videos)
    draw = generator(length, "windows")
    out, other = np.empty((2, length, *SIZE, 3), np.uint8)
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        starts = draw.integers(0, count - length + 1, 24)
        windows = [(k % CAMERAS, int(start)) for k, start in enumerate(starts)]
        for rates, decode in zip(found, (bare.window, ours.window), strict=True):
            rates.append(rate(decode, windows, out))
        camera, start = windows[-1]
        bare.window(camera, start, other)
        assert (out == other).all(), "the two ways decode different pictures"
    slow, fast = (statistics.median(rates) for rates in found)
    print(
        f"{codec}, windows of {length:2}: PyAV alone {slow:6.0f} pictures/s, ours {fast:6.0f} pictures/s, "
        f"ratio of medians {fast / slow:.2f}"
    )


def sizes(frames: UInt8) -> None:
    """Print bytes per picture of each codec, and times of encoding and decoding."""
    out = np.empty_like(frames)
    for name, codec in CODECS.items():
        began = time.process_time()
        data = codec.encode(frames, RATE_HZ)
        between = time.process_time()
        codec.decode(data, out)
        ended = time.process_time()
        error = np.abs(out.astype(np.int16) - frames).mean()
        encode, decode = (1e3 * seconds / len(frames) for seconds in (between - began, ended - between))
        print(
            f"{name:4} {len(data) // len(frames):9,} bytes per picture, encode {encode:5.1f} ms, "
            f"decode {decode:4.1f} ms, mean error {error:.1f} of 255"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--codec", default="mp4", choices=("mp4", "av1"))
    parser.add_argument("--pictures", type=int, default=150, help="per camera")
    parser.add_argument("--window", type=int, action="append", help="pictures; default: 1, 4 and 16")
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    print(f"{os.cpu_count()} cores; {CAMERAS} videos of {asked.pictures} pictures of 480x640")
    sizes(pictures(0, 30))
    videos = [frame_codec(asked.codec).encode(pictures(k, asked.pictures), RATE_HZ) for k in range(CAMERAS)]
    keys = len(probe(videos[0]).keyframes)
    print(f"{asked.codec}: {sum(map(len, videos)):,} bytes, {keys} key pictures in the first video")
    for length in asked.window or (1, 4, 16):
        compare(asked.codec, videos, asked.pictures, length, asked.rounds)


if __name__ == "__main__":
    main()
