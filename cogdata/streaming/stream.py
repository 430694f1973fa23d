"""From a manifest to batches: episodes decoded once into a replay pool, transitions as indices into it.

``batch(position)`` is a pure function of (manifest, seed, batch size, memory, position): independent of the
number of reading threads, and resumed from these integers alone. :mod:`cogdata.streaming.plan` computes the
sampling order, this module reads the episodes.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Final

import numpy as np

from cogdata.errors import CogError
from cogdata.storage.manifest import Manifest
from cogdata.storage.store import Store
from cogdata.streaming.options import StreamOptions as StreamOptions
from cogdata.streaming.options import default_memory as default_memory
from cogdata.streaming.plan import (
    Int64,
    Stratum,
    counts_per_batch,
    epoch_permutation,
    uniform_draw,
    weighted_draw,
)
from cogdata.streaming.pool import EMBODIMENT, Pool, length_of
from cogdata.streaming.reading import EpisodeReader
from cogdata.streaming.segments import Segment, Staged, lay_out
from cogdata.streaming.transitions import Batch
from cogdata.streaming.windows import BatchRows, Runs, returns, with_windows

_CHUNK: Final = 32
"""Number of episodes that a reading thread takes at a time."""


class Stream:
    """Batches of a manifest's transitions.

    Args:
        store: Store that holds the shards.
        manifest: Frozen mixture to read.
        options: Settings of the stream.
        say: Told in one line each, and once, what of the mixture is left out or unknown.

    Raises:
        CogError: The memory is too small for two episodes of each source, or a column is not declared.
    """

    def __init__(
        self,
        store: Store,
        manifest: Manifest,
        options: StreamOptions,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._manifest = manifest
        self._options = options
        self._say = say
        self._reader = EpisodeReader(store, manifest, options)
        self._executor = ThreadPoolExecutor(max(1, options.threads), thread_name_prefix="cog-read")
        strata = self._strata()
        per_observation = Pool.observation_bytes(
            self._reader.features, self._reader.spec.action, self._reader.marks
        )
        self._segments, count, self._block = lay_out(
            strata, self._reader.lengths, options.budget // per_observation
        )
        self._pool = self._reader.empty_pool(count)
        self._features = {one.name: one for one in (*self._reader.features, self._reader.spec.action)}
        self._told = False
        if self.left_out:
            say(
                f"mixture {manifest.info.ref}: {self.left_out:,} transitions are left out, because the "
                f"observation that they lead to is unknown; {self.transitions:,} remain"
            )

    # --- what it delivers ------------------------------------------------------------------------------

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources, sorted; a batch's ``source`` indexes them."""
        return self._reader.sources

    @property
    def embodiments(self) -> tuple[str, ...]:
        """Names of the embodiments, sorted; a batch's ``embodiment`` indexes them."""
        return self._reader.embodiments

    @property
    def texts(self) -> Mapping[str, tuple[str, ...]]:
        """Feature → its texts in the mixture, sorted, which batches hold the indices of.

        Raises:
            CogError: A shard is missing, truncated or damaged.
        """
        self._reader.list_texts(self._executor)
        return self._reader.texts

    # --- sizes -----------------------------------------------------------------------------------------

    @property
    def transitions(self) -> int:
        """Number of transitions of the mixture."""
        return sum(segment.stratum.size for segment in self._segments)

    @property
    def left_out(self) -> int:
        """Number of transitions that the mixture chose and whose successor is unknown: never drawn."""
        return self._reader.left_out

    @property
    def unknown_ends(self) -> int:
        """Number of transitions read so far with an unknown ``terminated``, which batches give as False."""
        return self._reader.unknown_ends

    @property
    def moves(self) -> bool:
        """Whether the mixture is larger than the memory, so that the pool moves through it."""
        return self._block > 0

    def _strata(self) -> list[Stratum]:
        sources = np.array([row["source"] for row in self._reader.rows])
        sizes = np.array([len(times) for times in self._reader.times])
        shares = self._manifest.info.weights or {"": 1.0}
        counts = counts_per_batch(shares, self._options.batch_size)
        strata = []
        for name, count in counts.items():
            members = np.flatnonzero(((sources == name) | (name == "")) & (sizes > 0))
            if not len(members):
                which = f"source {name!r} has a share but" if name else "it has"
                raise CogError(
                    f"mixture {self._manifest.info.ref}: {which} no transition whose successor is known"
                )
            strata.append(Stratum(name, members, sizes[members], count))
        return strata

    # --- batches ---------------------------------------------------------------------------------------

    def batch(self, position: int) -> Batch:
        """Return batch number ``position``, from 0.

        Raises:
            CogError: A shard is missing, truncated or damaged.
        """
        rows = self.rows(position)  # first: it may move the pool
        return self._pool.gather(rows)

    def indices(self, position: int) -> Int64:
        """Return the pool indices of the transitions of batch number ``position``, int64 (B,).

        Raises:
            CogError: A shard is missing, truncated or damaged.
        """
        return self.rows(position).now

    def rows(self, position: int) -> BatchRows:
        """Return the rows of the pool that make batch number ``position``.

        Raises:
            CogError: A shard is missing, truncated or damaged.
        """
        now, runs = self._draw(position)
        rows, pool = BatchRows.of(now), self._pool
        if runs is not None and self._options.discount is not None:
            rows = returns(now, runs, self._options, pool["reward"], pool["terminated"])
        if runs is not None and self._options.windows:
            rows = with_windows(rows, runs, self._options.windows, self._features)
        if not self._reader.marks:
            return rows
        mask = {
            name: np.arange(self._features[name].shape[0]) < pool[length_of(name)][now][:, None]
            for name in self._reader.padded
        }
        return replace(rows, mask=mask, embodiment=pool[EMBODIMENT][now])

    def take_pool(self) -> Pool:
        """Read all episodes and hand the pool over; :meth:`indices` index it from then on.

        Raises:
            CogError: The mixture is larger than the memory.
        """
        if self.moves:
            raise CogError(
                f"mixture {self._manifest.info.ref} does not fit into a pool of {self._options.budget:,} "
                f"bytes, so it cannot stay on a device: give more --memory, or leave --pool device out"
            )
        self._load(0)
        pool, self._pool = self._pool, self._pool.without_features()
        return pool

    def batches(self, start: int = 0, prefetch: int = 2) -> Iterator[Batch]:
        """Yield batches from number ``start`` on without end, prepared ahead by a thread.

        Args:
            start: Number of the first batch.
            prefetch: Number of batches kept ready.
        """
        ready: queue.Queue[Batch | BaseException] = queue.Queue(prefetch)
        closed = threading.Event()

        def put(item: Batch | BaseException) -> None:
            while not closed.is_set():
                try:
                    return ready.put(item, timeout=0.1)
                except queue.Full:
                    continue

        def produce() -> None:
            position = start
            try:
                while not closed.is_set():
                    put(self.batch(position))
                    position += 1
            except BaseException as error:
                put(error)

        thread = threading.Thread(target=produce, name="cog-batches", daemon=True)
        thread.start()
        try:
            while True:
                item = ready.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            closed.set()
            thread.join()

    def _draw(self, position: int) -> tuple[Int64, Runs | None]:
        """Transitions of a batch as rows of the pool, and the runs that they are part of."""
        self._load(position // self._block if self._block else 0)
        first, every = self._options.share
        drawn = [self._draw_from(segment, position) for segment in self._segments]
        now = np.concatenate(
            [segment.transitions[chosen] for segment, chosen in zip(self._segments, drawn, strict=True)]
        )[first::every]
        if not self._options.looks_around:
            return now, None
        runs = [one.runs[chosen] for one, chosen in zip(self._segments, drawn, strict=True) if one.runs]
        return now, Runs.joined(runs)[first::every]

    def _draw_from(self, segment: Segment, position: int) -> Int64:
        seed, stratum = self._options.seed, segment.stratum
        if segment.cumulative is not None:
            return weighted_draw(seed, stratum.name, position, stratum.count, segment.cumulative)
        if segment.window.refill:
            return uniform_draw(seed, stratum.name, position, stratum.count, len(segment.transitions))
        start = position * stratum.count
        return epoch_permutation(
            seed, "transitions", stratum.name, stratum.size, start, start + stratum.count
        )

    # --- filling the pool ------------------------------------------------------------------------------

    def _load(self, block: int) -> None:
        """Make block ``block`` resident: no-op, swap in the refill that was read ahead, or reload."""
        missing = [one for one in self._segments if one.held != block and (one.held < 0 or one.window.refill)]
        if not missing:
            return
        self._reader.list_texts(self._executor)
        for segment in missing:
            if segment.held >= 0 and segment.held == block - 1:
                self._advance(segment, block)
            else:
                self._fill(segment, block)
            if segment.window.refill:
                self._read_ahead(segment, block + 1)
            self._index(segment, block)
        self._tell()

    def _tell(self) -> None:
        """Say once that ends are unknown."""
        if self.unknown_ends and not self._told:
            self._told = True
            self._say(
                f"mixture {self._manifest.info.ref}: of {self.unknown_ends:,} transitions read so far it is "
                f"unknown whether they ended in a terminal state; batches say that they did not"
            )

    def _slots(self, segment: Segment, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Slot and row of the episodes at positions [start, stop) of the sampling order."""
        members = segment.stratum.episodes
        drawn = epoch_permutation(
            self._options.seed, "episodes", segment.stratum.name, len(members), start, stop
        )
        for position, member in zip(range(start, stop), drawn, strict=True):
            yield position % segment.window.capacity, int(members[member])

    def _fill(self, segment: Segment, block: int) -> None:
        window = segment.window
        segment.held = -1  # until everything has been read
        if segment.staged:
            wait(segment.staged.reads)
        if window.refill:
            start = block * window.refill
            segment.rows = np.empty(window.capacity, np.int64)
            for slot, row in self._slots(segment, start, start + window.capacity):
                segment.rows[slot] = row
            segment.offsets = segment.base + np.arange(window.capacity) * segment.stride
        else:
            segment.rows = segment.stratum.episodes
            lengths = self._reader.lengths[segment.rows]
            segment.offsets = segment.base + np.cumsum(lengths) - lengths
        self._finish(self._read(self._pool, segment.rows, segment.offsets))

    def _read_ahead(self, segment: Segment, block: int) -> None:
        """Start reading the episodes that block ``block`` adds to the previous one."""
        window = segment.window
        stop = block * window.refill + window.capacity
        slots, rows = zip(*self._slots(segment, stop - window.refill, stop), strict=True)
        count = window.refill * segment.stride
        buffer = segment.staged.pool if segment.staged else self._reader.empty_pool(count)
        reads = self._read(buffer, np.array(rows), np.arange(window.refill) * segment.stride)
        segment.staged = Staged(buffer, np.array(slots), np.array(rows), reads)

    def _advance(self, segment: Segment, block: int) -> None:
        staged = segment.staged
        if staged is None:
            raise RuntimeError(f"block {block} was never read ahead")
        segment.held = -1
        self._finish(staged.reads)
        for i, (slot, row) in enumerate(zip(staged.slots, staged.rows, strict=True)):
            count = int(self._reader.lengths[row])
            self._pool.copy_rows(int(segment.offsets[slot]), staged.pool, i * segment.stride, count)
            segment.rows[slot] = row

    def _index(self, segment: Segment, block: int) -> None:
        """List the indices of the transitions that can be drawn in this block."""
        pairs = list(zip(segment.rows, segment.offsets, strict=True))
        times = self._reader.times
        segment.transitions = np.concatenate([offset + times[row] for row, offset in pairs])
        if self._options.looks_around:
            segment.runs = Runs.joined([self._reader.runs(row) + offset for row, offset in pairs])
        weights = self._reader.weights[segment.rows]
        segment.cumulative = None
        if np.ptp(weights) > 0:
            segment.cumulative = np.cumsum(np.repeat(weights, [len(times[row]) for row in segment.rows]))
        segment.held = block

    def _read(self, pool: Pool, rows: Int64, offsets: Int64) -> list[Future[None]]:
        """Start reading episodes into a pool, in chunks distributed over the threads."""
        pairs = list(zip(rows.tolist(), offsets.tolist(), strict=True))
        chunks = [pairs[i : i + _CHUNK] for i in range(0, len(pairs), _CHUNK)]
        return [self._executor.submit(self._read_chunk, pool, chunk) for chunk in chunks]

    @staticmethod
    def _finish(reads: list[Future[None]]) -> None:
        """Wait for reads; cancel the others when one fails."""
        try:
            for read in reads:
                read.result()
        except BaseException:
            for read in reads:
                read.cancel()
            raise

    def _read_chunk(self, pool: Pool, pairs: list[tuple[int, int]]) -> None:
        for row, offset in pairs:
            self._reader.read(pool, row, offset)


def open_stream(
    store: Store, manifest: Manifest, options: StreamOptions, say: Callable[[str], None] = lambda line: None
) -> Stream:
    """Open a stream; nothing is read before the first batch.

    Args:
        store: Store that holds the shards.
        manifest: Frozen mixture to read.
        options: Settings of the stream.
        say: Told in one line each, and once, what of the mixture is left out or unknown.
    """
    return Stream(store, manifest, options, say)
