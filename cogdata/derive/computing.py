"""Deriving a layer for the episodes that it lacks, in any number of processes and on any machines.

The work is cut into ranges of 100 episodes of a collection. A process computes what no commit of a range
holds yet, and commits it at the end of the range, every minute, and when it is told to stop. So a command
that was killed loses a minute at most, and the same command goes on; several at once do not harm each other.
"""

from __future__ import annotations

import os
import platform
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import pyarrow as pa

import cogdata
from cogdata.derive.functions import Derivation, find_function
from cogdata.derive.values import checked_row
from cogdata.errors import CogError
from cogdata.rng import generator
from cogdata.storage.layers.commits import LayerPart, covered, part_name
from cogdata.storage.layers.heads import HEAD, LayerInfo
from cogdata.storage.layers.rows import LayerRow
from cogdata.storage.samples import read_episode
from cogdata.storage.store import Store
from cogdata.system.cluster import Function

STOP: Final = "stop"
SKIP: Final = "skip"
ON_ERROR: Final = (STOP, SKIP)
"""What an episode for which the function fails may lead to."""

COMMIT_S: Final = 60.0
"""Most time between two commits of a process, apart from the time of one call of the function."""

NEEDED: Final = (
    "episode_id", "collection", "episode_index", "digest", "image_height", "image_width", "shard",
    "frames_offset", "frames_size", "frames_crc32", "steps_offset", "steps_size", "steps_crc32", "members",
)  # fmt: skip
"""Columns of ``episodes`` that say where an episode is."""


class Engine(Protocol):
    """Runs one function with many arguments: `Workers` or `Cluster`."""

    def run(
        self, function: Function, shared: object, calls: Sequence[Any], what: Callable[[Any], str]
    ) -> Iterator[tuple[int, Any]]:
        """Make every call."""
        ...

    def stop(self) -> None:
        """Ask running calls to end early and begin no more."""


@dataclass(frozen=True)
class Job:
    """What every process has to know.

    Attributes:
        store: Where the episodes are and the layer goes.
        info: Head of the layer.
        batch: Most episodes of one call of the function.
        on_error: :data:`STOP` or :data:`SKIP`.
    """

    store: Store
    info: LayerInfo
    batch: int = 1
    on_error: str = STOP


@dataclass(frozen=True)
class Range:
    """Episodes of one part of a layer that it lacks.

    Attributes:
        collection: Whose episodes.
        part: Folder of their values.
        rows: Table of :data:`NEEDED`.
    """

    collection: str
    part: str
    rows: pa.Table


@dataclass(frozen=True)
class RangeDone:
    """What became of a range.

    Attributes:
        derived: Episodes that were derived and committed.
        there: Episodes that other processes committed meanwhile.
        failed: Episodes that were skipped: episode_id and why.
        error: Why the range ended early.
    """

    derived: int
    there: int
    failed: tuple[tuple[str, str], ...] = ()
    error: CogError | None = None


@dataclass(frozen=True)
class Plan:
    """What a command will do, known before it does it.

    Attributes:
        wanted: Episodes asked for.
        have: Those that the layer holds already.
        ranges: What is missing, in an order of this process's own.
    """

    wanted: int
    have: int
    ranges: tuple[Range, ...]

    @property
    def missing(self) -> int:
        """Episodes to derive."""
        return self.wanted - self.have


def plan(store: Store, info: LayerInfo, episodes: pa.Table, shard: tuple[int, int] = (0, 1)) -> Plan:
    """Compare the episodes that are asked for with those that a layer holds.

    Args:
        store: Where the layer lies.
        info: Its head.
        episodes: Table of :data:`NEEDED`, each episode once.
        shard: (i, n): the i-th of n shares of the ranges, which depends on nothing else.

    Raises:
        CogError: A file of the layer is damaged.
    """
    have = covered(store, info)
    keys = zip(*(episodes.column(name).to_pylist() for name in NEEDED[:4]), strict=True)
    lacking: dict[tuple[str, str], list[int]] = {}
    wanted = there = 0
    for place, (episode_id, collection, index, digest) in enumerate(keys):
        part = part_name(index)
        if (zlib.crc32(collection.encode()) + int(part.removeprefix("part-"))) % shard[1] != shard[0]:
            continue
        wanted += 1
        if (episode_id, digest) in have:
            there += 1
        else:
            lacking.setdefault((collection, part), []).append(place)
    ranges = [Range(*key, episodes.take(places)) for key, places in lacking.items()]
    order = generator("derive", platform.node(), os.getpid()).permutation(len(ranges))  # not that of others
    return Plan(wanted, there, tuple(ranges[place] for place in order))


def derive(engine: Engine, job: Job, ranges: Sequence[Range]) -> Iterator[RangeDone]:
    """Derive a layer for ranges of episodes.

    Args:
        engine: Where.
        job: What.
        ranges: From :func:`plan`.

    Yields:
        What became of each range, as it ends.

    Raises:
        CogError: A write failed, a range ended its worker again and again, or the function failed for an
            episode that may not be skipped. What is derived is committed first.
    """
    failure: CogError | None = None
    for _, done in engine.run(derive_range, job, ranges, lambda one: f"{one.collection}/{one.part}"):
        yield done
        if done.error is not None:
            failure = failure or done.error
            engine.stop()
    if failure is not None:
        raise failure


def derive_range(job: Job, span: Range, stop_asked: Callable[[], bool]) -> RangeDone:
    """Derive and commit what a layer lacks of a range, in some process on some machine.

    Raises:
        CogError: A write failed; or the function is not the one of the layer, or sees another store.
    """
    if not job.store.exists(f"{job.info.folder}/{HEAD}"):
        raise CogError(
            f"{platform.node()} does not see the layer in {job.store.url}: name a store that every machine "
            f"reaches under that name, such as s3://BUCKET/PREFIX"
        )
    function = find_function(job.info.function)
    if function.source != job.info.source:
        raise CogError(
            f"{job.info.function} on {platform.node()} has another source than that of {job.info.ref}: put "
            f"the same there"
        )
    made_with = {"cogdata": cogdata.__version__, "host": platform.node()}
    writer = LayerPart(job.store, job.info, span.collection, span.part, made_with)
    return _Deriving(job, function, writer).run(span.rows.to_pylist(), stop_asked)


class _Deriving:
    """The episodes of one range."""

    def __init__(self, job: Job, function: Derivation, writer: LayerPart) -> None:
        self._job = job
        self._function = function
        self._writer = writer
        self._pending: list[LayerRow] = []
        self._derived = 0
        self._failed: list[tuple[str, str]] = []

    def run(self, rows: list[dict[str, Any]], stop_asked: Callable[[], bool]) -> RangeDone:
        """Derive the rows that nobody has committed; commit them also if one fails."""
        have = self._writer.covered(self._writer.numbers())
        left = [row for row in rows if (row["episode_id"], row["digest"]) not in have]
        batch, error, committed = self._job.batch, None, time.monotonic()
        for first in range(0, len(left), batch):
            if stop_asked():
                break
            try:
                self._derive(left[first : first + batch])
            except CogError as failed:
                error = failed
                break
            if time.monotonic() - committed > COMMIT_S:
                self._commit()
                committed = time.monotonic()
        self._commit()
        return RangeDone(self._derived, len(rows) - len(left), tuple(self._failed), error)

    def _derive(self, rows: list[dict[str, Any]]) -> None:
        try:
            self._pending += self._rows_of(rows)
        except CogError as error:
            if self._job.on_error == STOP:
                raise
            if len(rows) == 1:
                self._failed.append((rows[0]["episode_id"], str(error)))
                return
            for row in rows:  # one of them fails: find out which
                self._derive([row])

    def _rows_of(self, rows: list[dict[str, Any]]) -> list[LayerRow]:
        episodes = [read_episode(self._job.store, row) for row in rows]
        found = []
        for row, episode, given in zip(rows, episodes, self._function(episodes), strict=True):
            try:
                found.append(checked_row(self._job.info.features, given, episode, row["digest"]))
            except ValueError as error:
                name = row["episode_id"]
                raise CogError(f"{self._job.info.function} gives {name} a wrong value: {error}") from None
        return found

    def _commit(self) -> None:
        if self._pending and (commit := self._writer.commit(self._pending)) is not None:
            self._derived += commit.episodes
        self._pending = []
