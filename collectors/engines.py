"""Where episodes are made: in processes of this machine, or in tasks of a Ray cluster."""

from __future__ import annotations

import multiprocessing
import os
import platform
import signal
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Final, Protocol

from cogdata.errors import CogError
from cogdata.storage.parts import Commit
from cogdata.storage.store import Store
from cogdata.system.cluster import Cluster
from cogdata.system.interrupts import ctrl_c_held_back, ignore_ctrl_c
from collectors.collect import CollectRequest, EpisodeDone, collect_part

MAX_RETRIES: Final = 2
"""How often the range of a worker that died is given to a new one."""

Range = tuple[int, int]


class Engine(Protocol):
    """Collects ranges of episodes."""

    def __call__(
        self, store: Store, asked: CollectRequest, ranges: tuple[Range, ...]
    ) -> Iterator[EpisodeDone | Commit]:
        """Collect every range, a part each, and say what happens."""
        ...

    def stop(self) -> None:
        """Commit what is done as shorter parts, and end; safe in a signal handler."""


def _serve(connection: Connection, store: Store, asked: CollectRequest, environment: dict[str, str]) -> None:
    """Worker: ranges in, episodes and commits out, until the parent hangs up."""
    os.environ.update(environment)  # the server that forks has that of its first call
    ignore_ctrl_c()
    signal.signal(signal.SIGTERM, lambda *_: exit_worker())
    try:
        with suppress(EOFError, BrokenPipeError, ConnectionResetError):
            while True:
                span = connection.recv()
                if span is None:  # told to stop when it had just finished
                    continue
                try:
                    commit = collect_part(store, asked, span, connection.send, lambda: _told(connection))
                except CogError as error:
                    connection.send(error)
                except (EOFError, BrokenPipeError, ConnectionResetError):
                    raise
                except Exception as error:  # the same episode would fail again: no retry helps
                    connection.send(CogError(f"{_name(span)} of {asked.collection} failed: {error!r}"))
                else:
                    connection.send(commit)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # in the middle of exit handlers it would skip the rest


def _told(connection: Connection) -> bool:
    """Whether the parent asked for the end; EOFError if it has died: then nothing is committed."""
    return connection.poll() and connection.recv() is None


def _name(span: Range) -> str:
    return f"episodes {span[0]} to {span[1] - 1}"


def exit_worker() -> None:
    """Leave by exception, so that half-written files are removed on the way out."""
    raise SystemExit(0)


class _StartError(CogError):
    """A worker could not be started."""


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    range: Range | None = None


class LocalEngine:
    """Runs ranges in worker processes; one that dies is replaced and its range retried.

    Args:
        workers: Number of processes, at least 1.
    """

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise CogError(f"--workers is {workers}, must be at least 1, or auto")
        self._workers = workers
        self._running: list[_Worker] = []
        self._stopping = False
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["collectors.collect", "webdataset.writer", "collectors.bullet"])

    def stop(self) -> None:
        """Commit what is done as shorter parts, and end; safe in a signal handler."""
        self._stopping = True

    def pids(self) -> list[int]:
        """Return the process ids of the workers of the call under way."""
        return [worker.process.pid for worker in self._running if worker.process.pid]

    def __call__(
        self, store: Store, asked: CollectRequest, ranges: tuple[Range, ...]
    ) -> Iterator[EpisodeDone | Commit]:
        """Collect every range.

        Args:
            store: Where to.
            asked: The request.
            ranges: A part each.

        Yields:
            What happens, as it happens.

        Raises:
            CogError: A write failed, or a range killed its worker again and again.
        """
        todo, told = deque(ranges), False
        deaths: dict[Range, int] = {}
        workers: list[_Worker] = []
        self._running = workers
        try:
            while len(workers) < min(self._workers, len(ranges)) and not self._stopping:
                workers.append(self._start(store, asked))
                self._give(workers[-1], todo)
            while any(worker.range for worker in workers):
                if self._stopping and not told:
                    told = True
                    todo.clear()
                    for worker in workers:
                        self._send(worker, None)
                for worker in self._ready(workers):
                    for event in self._receive(worker):
                        if event is not None:
                            yield event
                        if not isinstance(event, EpisodeDone):
                            self._give(worker, todo)
                    if worker.range and not worker.process.is_alive():
                        if not told:
                            self._bury(worker, deaths)
                            fresh = self._start(store, asked)
                            todo.appendleft(worker.range)
                            worker.process, worker.connection = fresh.process, fresh.connection
                        self._give(worker, todo)
        except _StartError:
            if not self._stopping:  # whoever asked for the end may have ended what starts workers
                raise
        finally:
            self._stop(workers)

    def _start(self, store: Store, asked: CollectRequest) -> _Worker:
        with ctrl_c_held_back():
            forkserver.ensure_running()
        parent, child = self._context.Pipe()
        process = self._context.Process(
            target=_serve, args=(child, store, asked, dict(os.environ)), daemon=True
        )
        try:
            process.start()
        except (EOFError, OSError) as error:
            raise _StartError(
                f"no worker can be started ({error!r}): is memory short? try fewer --workers"
            ) from None
        child.close()
        return _Worker(process, parent)

    @staticmethod
    def _give(worker: _Worker, todo: deque[Range]) -> None:
        worker.range = todo.popleft() if todo else None
        if worker.range:
            LocalEngine._send(worker, worker.range)

    @staticmethod
    def _send(worker: _Worker, message: Range | None) -> None:
        with suppress(BrokenPipeError):  # it died meanwhile: its sentinel says so
            worker.connection.send(message)

    @staticmethod
    def _ready(workers: list[_Worker]) -> list[_Worker]:
        busy = [worker for worker in workers if worker.range]
        handles: list[Any] = [worker.connection for worker in busy]
        handles += [worker.process.sentinel for worker in busy]
        woken = wait(handles, timeout=1.0)
        return [w for w in busy if w.connection in woken or w.process.sentinel in woken]

    @staticmethod
    def _receive(worker: _Worker) -> Iterator[EpisodeDone | Commit | None]:
        with suppress(EOFError, ConnectionResetError):
            while worker.connection.poll():
                event = worker.connection.recv()
                if isinstance(event, CogError):
                    raise event
                yield event

    @staticmethod
    def _bury(worker: _Worker, deaths: dict[Range, int]) -> None:
        assert worker.range is not None
        deaths[worker.range] = deaths.get(worker.range, 0) + 1
        worker.connection.close()
        if deaths[worker.range] > MAX_RETRIES:
            raise CogError(
                f"{_name(worker.range)} ended their worker {deaths[worker.range]} times "
                f"(exit code {worker.process.exitcode}): is memory short? try fewer --workers"
            )

    @staticmethod
    def _stop(workers: list[_Worker]) -> None:
        for worker in workers:
            worker.connection.close()
            if worker.process.is_alive():
                worker.process.terminate()
        for worker in workers:
            worker.process.join(timeout=5)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()


class RayEngine:
    """Runs ranges as tasks of a Ray cluster, which write their parts into the store themselves.

    Args:
        address: HOST:PORT, ray://HOST:PORT or auto; None: ``$RAY_ADDRESS``, else a Ray of this machine's own.
        workers: Tasks at a time; None: as many as the cluster has CPUs.

    Raises:
        CogError: Ray is not installed, or the address is not one.
    """

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        self._cluster = Cluster(address, workers)

    def stop(self) -> None:
        """Commit what is done as shorter parts, and end; safe in a signal handler."""
        self._cluster.stop()

    def __call__(
        self, store: Store, asked: CollectRequest, ranges: tuple[Range, ...]
    ) -> Iterator[EpisodeDone | Commit]:
        """Collect every range.

        Args:
            store: Where to; every machine of the cluster must reach it under this name.
            asked: The request.
            ranges: A part each.

        Yields:
            What happened, a part at a time.

        Raises:
            CogError: A write failed, a range killed its worker again and again, or the cluster is gone.
        """
        if not ranges:
            return
        for _, (done, commit) in self._cluster.run(_collect_range, (store, asked), ranges, _name):
            yield from done
            if commit is not None:
                yield commit


def _collect_range(
    shared: tuple[Store, CollectRequest], span: Range, stop_asked: Callable[[], bool]
) -> tuple[list[EpisodeDone], Commit | None]:
    """The task of a range, on some machine of the cluster."""
    store, asked = shared
    if not store.exists(f"collections/{asked.collection}/collection.json"):
        raise CogError(
            f"{platform.node()} does not see the collection in {store.url}: name a store that every machine "
            f"reaches under that name, such as s3://BUCKET/PREFIX"
        )
    done: list[EpisodeDone] = []
    commit = collect_part(store, asked, span, done.append, stop_asked)
    return done, commit
