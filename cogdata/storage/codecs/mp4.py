"""The packet table of an mp4 file (ISO/IEC 14496-12), read by NumPy: no library must open the file.

It reads files of the usual kind: one list of pictures, which are all shown. Files in fragments, and edit
lists that cut pictures off, are left to PyAV.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cogdata.errors import CogError
from cogdata.storage.codecs.track import Track

Boxes = dict[bytes, list[tuple[int, int]]]
"""Kind → (start, end) of the contents of each box of that kind."""

_CODECS: Final = {
    b"avc1": ("h264", b"avcC"),
    b"avc3": ("h264", b"avcC"),
    b"hvc1": ("hevc", b"hvcC"),
    b"hev1": ("hevc", b"hvcC"),
    b"av01": ("av1", b"av1C"),
}
"""Kind of a sample entry → codec, and the box of the decoder's setup data."""

_ENTRY: Final = 78
"""Bytes of a sample entry of pictures between its own header and its boxes."""


def read_mp4(data: memoryview, where: str) -> Track | None:
    """Return the table of the first video track; None: PyAV has to read the file.

    Args:
        data: The whole file.
        where: What it is called in errors.

    Raises:
        CogError: The file ends early, or its tables contradict each other.
    """
    if bytes(data[4:8]) != b"ftyp":
        return None
    return _Mp4(data, where).track()


class _Mp4:
    def __init__(self, data: memoryview, where: str) -> None:
        self._data = data
        self._where = where

    def track(self) -> Track | None:
        top = self._boxes(0, len(self._data))
        if b"moov" not in top:
            raise self._damaged("its list of pictures (moov) is missing")
        movie = self._boxes(*top[b"moov"][0])
        if b"mvex" in movie:
            return None
        for place in movie.get(b"trak", []):
            track = self._boxes(*place)
            media = self._boxes(*self._only(track, b"mdia"))
            start, _ = self._only(media, b"hdlr")
            if bytes(self._data[start + 8 : start + 12]) == b"vide":
                return self._table(movie, track, media)
        return None

    def _table(self, movie: Boxes, track: Boxes, media: Boxes) -> Track | None:
        tables = self._boxes(*self._only(self._boxes(*self._only(media, b"minf")), b"stbl"))
        entry = self._entry(*self._only(tables, b"stsd"))
        if entry is None or b"stsz" not in tables:
            return None
        sizes = self._sizes(*self._only(tables, b"stsz"))
        count = len(sizes)
        steps = self._runs(*self._only(tables, b"stts"), count)
        decode = np.cumsum(steps) - steps
        show = decode + (self._runs(*tables[b"ctts"][0], count) if b"ctts" in tables else 0)
        scale = self._scale(*self._only(media, b"mdhd"))
        movie_scale = self._scale(*self._only(movie, b"mvhd"))
        if count and not self._shows_all(track, show, Fraction(scale, movie_scale)):
            return None
        keys = np.ones(count, bool)
        if b"stss" in tables:
            start, end = tables[b"stss"][0]
            keys = np.isin(np.arange(1, count + 1), self._numbers(start + 4, end, 1))
        begin = self._offsets(tables, sizes)
        if count and not (int(begin.min()) >= 0 and int((begin + sizes).max()) <= len(self._data)):
            raise self._damaged("it is cut off")
        data, places = self._data, list(zip(begin.tolist(), (begin + sizes).tolist(), strict=True))
        codec, setup, height, width, color = entry
        return Track(
            codec, setup, height, width, Fraction(1, scale), decode, show, keys, np.ones(count, bool),
            lambda packet: data[slice(*places[packet])], color,
        )  # fmt: skip

    # --- boxes -------------------------------------------------------------------------------------------

    def _damaged(self, what: str) -> CogError:
        return CogError(f"{self._where} is damaged: {what}")

    def _u(self, at: int, size: int = 4) -> int:
        if at + size > len(self._data):
            raise self._damaged("a box ends early")
        return int.from_bytes(self._data[at : at + size], "big")

    def _boxes(self, start: int, end: int) -> Boxes:
        found: Boxes = {}
        while start + 8 <= end:
            size, head = self._u(start), 8
            kind = bytes(self._data[start + 4 : start + 8])
            if size == 1:
                size, head = self._u(start + 8, 8), 16
            size = size or end - start
            if size < head or start + size > end:
                raise self._damaged(f"its box {kind.decode('latin-1')!r} is cut off")
            found.setdefault(kind, []).append((start + head, start + size))
            start += size
        return found

    def _only(self, boxes: Boxes, kind: bytes) -> tuple[int, int]:
        if kind not in boxes:
            raise self._damaged(f"its box {kind.decode()!r} is missing")
        return boxes[kind][0]

    def _numbers(self, start: int, end: int, columns: int, wide: bool = False) -> NDArray[np.int64]:
        """Return a table that begins with the number of its rows: int64 (rows, columns)."""
        rows, size = self._u(start), 8 if wide else 4
        if start + 4 + rows * columns * size > end:
            raise self._damaged("a table of its list of pictures is cut off")
        values = np.frombuffer(self._data, f">i{size}" if wide else ">u4", rows * columns, start + 4)
        return values.astype(np.int64).reshape(rows, columns)

    def _scale(self, start: int, end: int) -> int:
        """Return the units per second of a header (mvhd, mdhd)."""
        return self._u(start + (20 if self._u(start, 1) == 1 else 12)) or 1

    # --- tables ------------------------------------------------------------------------------------------

    def _entry(self, start: int, end: int) -> tuple[str, bytes, int, int, tuple[int, ...]] | None:
        """Return codec, setup data, height, width and colours; None: there are several, or another codec."""
        entries = self._boxes(start + 8, end)
        kind = next(iter(entries), b"")
        if self._u(start + 4) != 1 or kind not in _CODECS:
            return None
        codec, setup_kind = _CODECS[kind]
        at, end = entries[kind][0]
        boxes = self._boxes(at + _ENTRY, end)
        setup = self._only(boxes, setup_kind)
        color: tuple[int, ...] = ()
        for first, _ in boxes.get(b"colr", []):
            if bytes(self._data[first : first + 4]) == b"nclx":
                full = self._u(first + 10, 1) >> 7
                color = (*(self._u(first + 4 + 2 * k, 2) for k in range(3)), 1 + full)
        return codec, bytes(self._data[slice(*setup)]), self._u(at + 26, 2), self._u(at + 24, 2), color

    def _sizes(self, start: int, end: int) -> NDArray[np.int64]:
        same = self._u(start + 4)
        if not same:
            return self._numbers(start + 8, end, 1)[:, 0]
        count = self._u(start + 8)
        if count * same > len(self._data):
            raise self._damaged("it is cut off")
        return np.full(count, same, np.int64)

    def _runs(self, start: int, end: int, count: int) -> NDArray[np.int64]:
        """Return the values of a run-length table (stts, ctts), one per packet."""
        runs = self._numbers(start + 4, end, 2)
        if int(runs[:, 0].sum()) != count:
            raise self._damaged(f"it lists {count} pictures and {int(runs[:, 0].sum())} times")
        values = runs[:, 1]
        signed: NDArray[np.int64] = np.where(values >= 2**31, values - 2**32, values)
        return np.repeat(signed, runs[:, 0])

    def _offsets(self, tables: Boxes, sizes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where each packet begins: packets lie in chunks, without gaps within one."""
        wide = b"co64" in tables
        start, end = self._only(tables, b"co64" if wide else b"stco")
        chunks = self._numbers(start + 4, end, 1, wide)[:, 0]
        start, end = self._only(tables, b"stsc")
        runs = self._numbers(start + 4, end, 3)
        lengths = np.diff(np.append(runs[:, 0], len(chunks) + 1))
        if len(sizes) and (not len(runs) or runs[0, 0] != 1 or (lengths < 0).any()):
            raise self._damaged("its table of chunks is in disorder")
        per_chunk = np.repeat(runs[:, 1], lengths)
        if int(per_chunk.sum()) != len(sizes):
            raise self._damaged(f"it lists {len(sizes)} pictures, its chunks hold {int(per_chunk.sum())}")
        begin = np.cumsum(sizes) - sizes
        if not len(sizes):
            return begin
        firsts = begin[np.minimum(np.cumsum(per_chunk) - per_chunk, len(sizes) - 1)]
        offsets: NDArray[np.int64] = begin + np.repeat(chunks - firsts, per_chunk)
        return offsets

    def _shows_all(self, track: Boxes, show: NDArray[np.int64], units: Fraction) -> bool:
        """Whether the edit list hides no picture.

        Args:
            track: Its boxes.
            show: When each picture is shown.
            units: Units of ``show`` per unit of the durations of edits.
        """
        edits = self._boxes(*track[b"edts"][0]).get(b"elst") if b"edts" in track else None
        if not edits:
            return True
        start, _ = edits[0]
        size = 8 if self._u(start, 1) == 1 else 4
        rows: list[tuple[int, Any]] = []
        for row in range(min(self._u(start + 4), 3)):
            at = start + 8 + row * (2 * size + 4)
            media = self._u(at + size, size)
            rows.append((self._u(at, size), media - 2 ** (8 * size) if media >> (8 * size - 1) else media))
        if len(rows) == 2 and rows[0][1] == -1:  # nothing is shown for a while
            del rows[0]
        if len(rows) != 1:
            return False
        duration, begin = rows[0]
        lasts = not duration or int(show.max()) + 1 < begin + duration * units
        return bool(0 <= begin <= int(show.min()) and lasts)
