"""From a manifest to batches: episodes decoded once into a replay pool, transitions as indices into it.

``batch(position)`` is a pure function of (manifest, seed, batch size, memory, position): independent of the
number of reading threads, and resumed from these integers alone. :mod:`cogdata.streaming.plan` computes the
sampling order, this module reads the episodes.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cogdata.episode import Float32
from cogdata.errors import CogError
from cogdata.features import EpisodeSpec, Feature
from cogdata.storage.manifest import Manifest
from cogdata.storage.samples import Sample, column_values, read_member, read_steps
from cogdata.storage.store import Store
from cogdata.streaming.plan import (
    Int64,
    Stratum,
    Window,
    counts_per_batch,
    epoch_permutation,
    uniform_draw,
    weighted_draw,
    windows,
)
from cogdata.streaming.pool import Pool
from cogdata.streaming.transitions import Batch

_CHUNK: Final = 32
"""Number of episodes that a reading thread takes at a time."""

_STAGED: Final = 1.125
"""Memory of a moving pool over its capacity: the next refill, an eighth, is read ahead."""


def default_memory() -> int:
    """Return half of the memory, in bytes, that this machine or the container around this process may use."""
    limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # no such file, or "max"
        limit = min(limit, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return limit // 2


@dataclass(frozen=True)
class StreamOptions:
    """Settings of a stream; all but ``threads`` change the batches.

    Attributes:
        batch_size: B.
        seed: Seed of the sampling order.
        columns: Names of the features to deliver; None: all observations of the mixture's declaration.
        memory_bytes: Memory of the replay pool; None: :func:`default_memory`.
        threads: Number of threads that read and decode.
        share: (r, n): deliver only rows r, r + n, r + 2n, … of each batch.
    """

    batch_size: int = 256
    seed: int = 0
    columns: tuple[str, ...] | None = None
    memory_bytes: int | None = None
    threads: int = 2
    share: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        """Raise on a batch size below 1."""
        if self.batch_size < 1:
            raise CogError(f"batch size is {self.batch_size}, must be at least 1")

    def features(self, spec: EpisodeSpec) -> tuple[Feature, ...]:
        """Return the features to deliver, in the order of the declaration.

        Args:
            spec: Declaration of the mixture's episodes.

        Raises:
            CogError: A column is not declared.
        """
        return spec.observations if self.columns is None else spec.taking(self.columns).features

    @property
    def budget(self) -> int:
        """Memory of the replay pool, in bytes."""
        return default_memory() if self.memory_bytes is None else self.memory_bytes


@dataclass
class _Staged:
    """Episodes read ahead.

    Attributes:
        pool: Pool that they are read into; episode i begins at index i * stride.
        slots: Slot of the replay pool that each will replace, int64 (refill,).
        rows: Manifest row of each, int64 (refill,).
        reads: Reads in progress.
    """

    pool: Pool
    slots: Int64
    rows: Int64
    reads: list[Future[None]]


@dataclass
class _Segment:
    """The part of the replay pool that belongs to one stratum.

    Attributes:
        stratum: The stratum.
        window: Number of its episodes in memory, and how many a block replaces.
        base: Index of its first observation.
        stride: Observations per slot of a moving window.
        held: Block whose episodes are in the slots; -1: none yet.
        rows: Manifest row in each slot, int64 (slots,).
        offsets: Index of the first observation of each slot, int64 (slots,).
        transitions: Index of each transition that can be drawn now, int64 (n,).
        cumulative: Cumulative weights of ``transitions``; None: all weights are equal.
        staged: Episodes being read for the next block.
    """

    stratum: Stratum
    window: Window
    base: int
    stride: int
    held: int = -1
    rows: Int64 = field(default_factory=lambda: np.empty(0, np.int64))
    offsets: Int64 = field(default_factory=lambda: np.empty(0, np.int64))
    transitions: Int64 = field(default_factory=lambda: np.empty(0, np.int64))
    cumulative: NDArray[np.float64] | None = None
    staged: _Staged | None = None


class Stream:
    """Batches of a manifest's transitions.

    Args:
        store: Store that holds the shards.
        manifest: Frozen mixture to read.
        options: Settings of the stream.

    Raises:
        CogError: The memory is too small for two episodes of each source, or a column is not declared.
    """

    def __init__(self, store: Store, manifest: Manifest, options: StreamOptions) -> None:
        self._store = store
        self._manifest = manifest
        self._options = options
        self.sources = manifest.sources
        self.spec = manifest.info.spec
        self._features = options.features(self.spec)
        self._rows = manifest.episodes.to_pylist()
        self._times = _transition_times(manifest, self._rows)
        self._rewards = _relabelled(manifest, self._rows)
        self._weights = np.array([1.0 if row["weight"] is None else row["weight"] for row in self._rows])
        self._executor = ThreadPoolExecutor(max(1, options.threads), thread_name_prefix="cog-read")
        strata = self._strata()
        self._segments, count, self._block = self._layout(strata)
        self._pool = self._empty_pool(count)

    # --- sizes -----------------------------------------------------------------------------------------

    @property
    def transitions(self) -> int:
        """Number of transitions of the mixture."""
        return sum(segment.stratum.size for segment in self._segments)

    @property
    def moves(self) -> bool:
        """Whether the mixture is larger than the memory, so that the pool moves through it."""
        return self._block > 0

    def _strata(self) -> list[Stratum]:
        sources = np.array([row["source"] for row in self._rows])
        sizes = np.array([len(times) for times in self._times])
        shares = self._manifest.info.weights or {"": 1.0}
        counts = counts_per_batch(shares, self._options.batch_size)
        strata = []
        for name, count in counts.items():
            members = np.flatnonzero((sources == name) | (name == ""))
            if not len(members):
                raise CogError(
                    f"mixture {self._manifest.info.ref}: source {name!r} has a share but no episode"
                )
            strata.append(Stratum(name, members, sizes[members], count))
        return strata

    def _layout(self, strata: list[Stratum]) -> tuple[list[_Segment], int, int]:
        lengths = np.array([row["steps"] + 1 for row in self._rows])
        budget = self._options.budget // Pool.observation_bytes(self._features, self.spec.action)
        capacities = [len(s.episodes) for s in strata]
        if lengths.sum() > budget:
            capacities = _capacities(strata, lengths, budget)
        chosen, block = windows(strata, capacities)
        segments, base = [], 0
        for stratum, window in zip(strata, chosen, strict=True):
            stride = int(lengths[stratum.episodes].max())
            segments.append(_Segment(stratum, window, base, stride))
            base += int(lengths[stratum.episodes].sum()) if not window.refill else window.capacity * stride
        return segments, base, block

    # --- batches ---------------------------------------------------------------------------------------

    def batch(self, position: int) -> Batch:
        """Return batch number ``position``, from 0.

        Raises:
            CogError: A shard is missing, truncated or damaged.
        """
        indices = self.indices(position)  # first: it may move the pool
        return self._pool.gather(indices)

    def indices(self, position: int) -> Int64:
        """Return the pool indices of the transitions of batch number ``position``, int64 (B,).

        Raises:
            CogError: A shard is missing, truncated or damaged.
        """
        self._load(position // self._block if self._block else 0)
        drawn = np.concatenate(
            [segment.transitions[self._draw(segment, position)] for segment in self._segments]
        )
        first, every = self._options.share
        return drawn[first::every]

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
        pool, self._pool = self._pool, self._empty_pool(0)
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

    def _draw(self, segment: _Segment, position: int) -> Int64:
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
        for segment in self._segments:
            moving = segment.window.refill > 0
            if segment.held == block or (segment.held >= 0 and not moving):
                continue
            if segment.held >= 0 and segment.held == block - 1:
                self._advance(segment, block)
            else:
                self._fill(segment, block)
            if moving:
                self._read_ahead(segment, block + 1)
            self._index(segment, block)

    def _slots(self, segment: _Segment, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Slot and row of the episodes at positions [start, stop) of the sampling order."""
        members = segment.stratum.episodes
        drawn = epoch_permutation(
            self._options.seed, "episodes", segment.stratum.name, len(members), start, stop
        )
        for position, member in zip(range(start, stop), drawn, strict=True):
            yield position % segment.window.capacity, int(members[member])

    def _fill(self, segment: _Segment, block: int) -> None:
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
            lengths = np.array([self._rows[row]["steps"] + 1 for row in segment.rows])
            segment.offsets = segment.base + np.cumsum(lengths) - lengths
        self._finish(self._read(self._pool, segment.rows, segment.offsets))

    def _read_ahead(self, segment: _Segment, block: int) -> None:
        """Start reading the episodes that block ``block`` adds to the previous one."""
        window = segment.window
        stop = block * window.refill + window.capacity
        slots, rows = zip(*self._slots(segment, stop - window.refill, stop), strict=True)
        buffer = segment.staged.pool if segment.staged else self._empty_pool(window.refill * segment.stride)
        reads = self._read(buffer, np.array(rows), np.arange(window.refill) * segment.stride)
        segment.staged = _Staged(buffer, np.array(slots), np.array(rows), reads)

    def _advance(self, segment: _Segment, block: int) -> None:
        staged = segment.staged
        if staged is None:
            raise RuntimeError(f"block {block} was never read ahead")
        segment.held = -1
        self._finish(staged.reads)
        for i, (slot, row) in enumerate(zip(staged.slots, staged.rows, strict=True)):
            count = self._rows[row]["steps"] + 1
            self._pool.copy_rows(int(segment.offsets[slot]), staged.pool, i * segment.stride, count)
            segment.rows[slot] = row

    def _index(self, segment: _Segment, block: int) -> None:
        """List the indices of the transitions that can be drawn in this block."""
        pairs = list(zip(segment.rows, segment.offsets, strict=True))
        segment.transitions = np.concatenate([offset + self._times[row] for row, offset in pairs])
        weights = self._weights[segment.rows]
        segment.cumulative = None
        if np.ptp(weights) > 0:
            segment.cumulative = np.cumsum(
                np.repeat(weights, [len(self._times[row]) for row in segment.rows])
            )
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
            self._read_episode(pool, row, offset)

    def _read_episode(self, pool: Pool, row: int, offset: int) -> None:
        entry = self._rows[row]
        sample = Sample.of(entry)
        batch = read_steps(self._store, sample)
        steps = batch.num_rows - 1
        if steps != entry["steps"]:
            raise CogError(
                f"{self._store.path(sample.steps.file)}: episode {entry['episode_id']} has {steps} steps, "
                f"its mixture says {entry['steps']}: run `cog data verify`"
            )
        rows = slice(offset, offset + steps + 1)
        for feature in self._features:
            if feature.is_member:
                read_member(self._store, sample, feature, pool[feature.name][rows])
            else:
                pool[feature.name][rows] = column_values(batch, feature)
        pool["action"][rows] = column_values(batch, self.spec.action)
        pool["reward"][rows] = batch.column("reward").fill_null(0).to_numpy(zero_copy_only=False)
        pool["terminated"][rows] = batch.column("terminated").fill_null(False).to_numpy(zero_copy_only=False)
        pool["source"][rows] = self.sources.index(entry["source"])
        if row in self._rewards:
            times, rewards = self._rewards[row]
            pool["reward"][offset + times] = rewards

    def _empty_pool(self, count: int) -> Pool:
        return Pool.empty(count, self._features, self.spec.action)


def open_stream(store: Store, manifest: Manifest, options: StreamOptions) -> Stream:
    """Open a stream; nothing is read before the first batch.

    Args:
        store: Store that holds the shards.
        manifest: Frozen mixture to read.
        options: Settings of the stream.
    """
    return Stream(store, manifest, options)


def _transition_times(manifest: Manifest, rows: list[dict[str, Any]]) -> list[Int64]:
    """For each episode, the t of its transitions that belong to the mixture."""
    if manifest.rewards is not None:
        chosen = {row["episode_id"]: row["t"] for row in manifest.rewards.to_pylist()}
        return [np.array(chosen[row["episode_id"]], np.int64) for row in rows]
    return [np.arange(row["t_start"], row["t_end"], dtype=np.int64) for row in rows]


def _relabelled(manifest: Manifest, rows: list[dict[str, Any]]) -> dict[int, tuple[Int64, Float32]]:
    """For each relabelled episode, the t and the rewards that replace the collected ones."""
    if manifest.rewards is None:
        constant = {i: row["reward"] for i, row in enumerate(rows) if row["reward"] is not None}
        return {
            i: (np.arange(rows[i]["steps"], dtype=np.int64), np.full(rows[i]["steps"], reward, np.float32))
            for i, reward in constant.items()
        }
    index = {row["episode_id"]: i for i, row in enumerate(rows)}
    relabelled = {}
    for row in manifest.rewards.to_pylist():
        given = [(t, reward) for t, reward in zip(row["t"], row["reward"], strict=True) if reward is not None]
        if given:
            times, rewards = zip(*given, strict=True)
            relabelled[index[row["episode_id"]]] = (np.array(times, np.int64), np.array(rewards, np.float32))
    return relabelled


def _capacities(strata: Sequence[Stratum], lengths: Int64, budget: int) -> list[int]:
    """Split a number of observations by shares of the batch; the others get what a stratum does not use."""
    need = {s.name: int(lengths[s.episodes].sum()) for s in strata}
    held: dict[str, int] = {}
    while True:
        rest = [s for s in strata if s.name not in held]
        left = budget - sum(need[name] for name in held)
        given = {s.name: left * s.count / sum(r.count for r in rest) for s in rest}
        fits = [name for name, count in given.items() if need[name] <= count]
        if not fits:
            break
        held |= {name: need[name] for name in fits}
    capacities = []
    for stratum in strata:
        stride = int(lengths[stratum.episodes].max())
        capacity = len(stratum.episodes)
        if stratum.name not in held:
            capacity = min(capacity, int(given[stratum.name] / (_STAGED * stride)))
        if capacity < min(2, len(stratum.episodes)):
            raise CogError(
                f"--memory is too small to hold two episodes of source {stratum.name or 'all'!r}: give more"
            )
        capacities.append(capacity)
    return capacities
