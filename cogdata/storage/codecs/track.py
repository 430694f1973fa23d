"""The pictures of a video as a table of packets.

A packet is one encoded picture. Packets lie in the order of decoding; pictures are counted in the order of
showing, which is another one where a picture is predicted from a later one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Buffer = bytes | memoryview


@dataclass(frozen=True)
class Track:
    """The P packets of a video, in the order of decoding.

    Attributes:
        codec: What the pictures are encoded with, as FFmpeg names it: "h264", "av1".
        setup: The decoder's setup data, from the head of the file.
        height: px, as the file declares it.
        width: px, as the file declares it.
        time_base: Seconds per unit of times.
        decode_times: int64 (P,), ascending.
        show_times: int64 (P,), when each packet's picture is shown.
        keys: bool (P,), True where decoding can begin.
        shown: bool (P,), False where the file's edit list hides the picture.
        packet: Returns the bytes of a packet by its index.
        color: FFmpeg's numbers of primaries, transfer, matrix and range, as the head declares them; ():
            it declares none.
    """

    codec: str
    setup: bytes
    height: int
    width: int
    time_base: Fraction
    decode_times: NDArray[np.int64]
    show_times: NDArray[np.int64]
    keys: NDArray[np.bool_]
    shown: NDArray[np.bool_]
    packet: Callable[[int], Buffer] = field(repr=False)
    color: tuple[int, ...] = ()

    @cached_property
    def pictures(self) -> NDArray[np.int64]:
        """Packet of each picture (N,), in the order of showing."""
        shown = np.flatnonzero(self.shown)
        return shown[np.argsort(self.show_times[shown], kind="stable")]

    @cached_property
    def numbers(self) -> NDArray[np.int64]:
        """Number of each packet's picture (P,); hidden pictures have numbers after the last."""
        order = np.concatenate((self.pictures, np.flatnonzero(~self.shown)))
        numbers = np.empty(len(order), np.int64)
        numbers[order] = np.arange(len(order))
        return numbers

    @property
    def reorders(self) -> bool:
        """Whether pictures are shown in another order than they are decoded in."""
        return bool((np.diff(self.show_times) < 0).any())

    @property
    def rate_hz(self) -> float | None:
        """Pictures per second on average; None: there is one picture only."""
        times = self.show_times[self.pictures]
        if len(times) < 2 or times[-1] == times[0]:
            return None
        return float((len(times) - 1) / (int(times[-1] - times[0]) * self.time_base))

    def key_before(self, picture: int) -> int:
        """Return the last packet from which decoding can begin to reach a picture; 0 if none is marked.

        Pictures that are shown before the picture of that packet cannot be decoded from it.
        """
        packet = int(self.pictures[picture])
        usable = self.keys[: packet + 1] & (self.show_times[: packet + 1] <= self.show_times[packet])
        found = np.flatnonzero(usable)
        return int(found[-1]) if len(found) else 0

    def packets_for(self, first: int, last: int) -> NDArray[np.int64]:
        """Return the packets that pictures ``first`` to ``last`` are decoded from, in order.

        It begins with a key; pictures that need what lies before that key are left out.
        """
        key = self.key_before(first)
        packets = np.arange(key, int(self.pictures[first : last + 1].max()) + 1)
        decodable = self.show_times[packets] >= self.show_times[key]
        return packets[decodable] if self.keys[key] else packets
