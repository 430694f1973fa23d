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

from cogdata.answers import OF_ERROR, shown
from cogdata.errors import CogError
from cogdata.storage.store import Store
from cogdata.system.cluster import Cluster
from cogdata.system.imports import guard_processes
from cogdata.system.interrupts import LeaveError, ctrl_c_held_back, ignore_ctrl_c
from collectors.collect import CollectRequest
from collectors.collect_part import STOP, Event, collect_part

MAX_RETRIES: Final = 2
"""How often the range of a worker that died is given to a new one."""

Range = tuple[int, int]


class Engine(Protocol):
    """Collects ranges of episodes."""

    def __call__(self, store: Store, asked: CollectRequest, ranges: tuple[Range, ...]) -> Iterator[Event]:
        """Collect every range, a part each, and say what happens."""
        ...

    def stop(self) -> None:
        """Commit what is done as shorter parts, and end; safe in a signal handler."""


def _serve(
    connection: Connection, store: Store, asked: CollectRequest, on_error: str, environment: dict[str, str]
) -> None:
    """Worker: ranges in, events out, after each range None or why it ended, until the parent hangs up."""
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
                    collect_part(store, asked, span, connection.send, lambda: _told(connection), on_error)
                except CogError as error:
                    connection.send(error)
                except (EOFError, BrokenPipeError, ConnectionResetError):
                    raise
                except Exception as error:  # the same episode would fail again: no retry helps
                    connection.send(
                        CogError(f"{_name(span)} of {asked.collection} failed: {shown(error, OF_ERROR)}")
                    )
                else:
                    connection.send(None)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # in the middle of exit handlers it would skip the rest


def _told(connection: Connection) -> bool:
    """Whether the parent asked for the end; EOFError if it has died: then nothing is committed."""
    return connection.poll() and connection.recv() is None


def _name(span: Range) -> str:
    return f"episodes {span[0]} to {span[1] - 1}"


def exit_worker() -> None:
    """Leave by exception, so that half-written files are removed on the way out."""
    raise LeaveError(0)


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
        on_error: What an episode that fails leads to, of `collectors.collect_part.ON_ERROR`.
    """

    def __init__(self, workers: int, on_error: str = STOP) -> None:
        if workers < 1:
            raise CogError(f"--workers is {workers}, must be at least 1, or auto")
        self._workers = workers
        self._on_error = on_error
        self._running: list[_Worker] = []
        self._stopping = False
        self._failure: CogError | None = None
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["collectors.collect_part", "webdataset.writer"])

    def stop(self) -> None:
        """Commit what is done as shorter parts, and end; safe in a signal handler."""
        self._stopping = True

    def pids(self) -> list[int]:
        """Return the process ids of the workers of the call under way."""
        return [worker.process.pid for worker in self._running if worker.process.pid]

    def __call__(self, store: Store, asked: CollectRequest, ranges: tuple[Range, ...]) -> Iterator[Event]:
        """Collect every range.

        Args:
            store: Where to.
            asked: The request.
            ranges: A part each.

        Yields:
            What happens, as it happens.

        Raises:
            CogError: A write failed, an episode failed that may not be skipped, or a range killed its worker
                again and again. The other workers commit what they have done first.
        """
        todo, told = deque(ranges), False
        deaths: dict[Range, int] = {}
        workers: list[_Worker] = []
        self._running, self._failure = workers, None
        try:
            while len(workers) < min(self._workers, len(ranges)) and not self._stopping:
                workers.append(self._start(store, asked))
                self._give(workers[-1], todo)
            while any(worker.range for worker in workers):
                if (self._stopping or self._failure) and not told:
                    told = True
                    todo.clear()
                    for worker in workers:
                        self._send(worker, None)
                for worker in self._ready(workers):
                    yield from self._hear(worker, todo)
                    if worker.range and not worker.process.is_alive():
                        if not told and self._bury(worker, deaths):
                            fresh = self._start(store, asked)
                            todo.appendleft(worker.range)
                            worker.process, worker.connection = fresh.process, fresh.connection
                        elif self._failure:
                            todo.clear()
                        self._give(worker, todo)
        except _StartError:
            if not self._stopping:  # whoever asked for the end may have ended what starts workers
                raise
        finally:
            self._stop(workers)
        if self._failure:
            raise self._failure

    def _hear(self, worker: _Worker, todo: deque[Range]) -> Iterator[Event]:
        """Pass on what a worker says; give it the next range when it has done one."""
        for event in self._receive(worker):
            if isinstance(event, CogError):
                self._fail(event)
                todo.clear()
                worker.range = None
            elif event is None:
                self._give(worker, todo)
            else:
                yield event

    def _fail(self, error: CogError) -> None:
        """Remember the first failure; the others may be what it led to."""
        self._failure = self._failure or error

    def _start(self, store: Store, asked: CollectRequest) -> _Worker:
        with ctrl_c_held_back():
            guard_processes()
            forkserver.ensure_running()
        parent, child = self._context.Pipe()
        process = self._context.Process(
            target=_serve, args=(child, store, asked, self._on_error, dict(os.environ)), daemon=True
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
    def _receive(worker: _Worker) -> Iterator[Event | CogError | None]:
        with suppress(EOFError, ConnectionResetError):
            while worker.connection.poll():
                yield worker.connection.recv()

    def _bury(self, worker: _Worker, deaths: dict[Range, int]) -> bool:
        """Whether the range of a worker that died is tried again."""
        assert worker.range is not None
        deaths[worker.range] = deaths.get(worker.range, 0) + 1
        worker.connection.close()
        if deaths[worker.range] <= MAX_RETRIES:
            return True
        self._fail(
            CogError(
                f"{_name(worker.range)} ended their worker {deaths[worker.range]} times "
                f"(exit code {worker.process.exitcode}): is memory short? try fewer --workers"
            )
        )
        return False

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
        on_error: What an episode that fails leads to, of `collectors.collect_part.ON_ERROR`.

    Raises:
        CogError: Ray is not installed, or the address is not one.
    """

    def __init__(self, address: str | None = None, workers: int | None = None, on_error: str = STOP) -> None:
        self._cluster = Cluster(address, workers)
        self._on_error = on_error

    def stop(self) -> None:
        """Commit what is done as shorter parts, and end; safe in a signal handler."""
        self._cluster.stop()

    def __call__(self, store: Store, asked: CollectRequest, ranges: tuple[Range, ...]) -> Iterator[Event]:
        """Collect every range.

        Args:
            store: Where to; every machine of the cluster must reach it under this name.
            asked: The request.
            ranges: A part each.

        Yields:
            What happened, a part at a time.

        Raises:
            CogError: A write failed, an episode failed that may not be skipped, a range killed its worker
                again and again, or the cluster is gone. Other tasks commit what they have done first.
        """
        if not ranges:
            return
        shared, failure = (store, asked, self._on_error), None
        for _, (events, error) in self._cluster.run(_collect_range, shared, ranges, _name):
            yield from events
            if error is not None:
                failure = failure or error
                self._cluster.stop()
        if failure is not None:
            raise failure


def _collect_range(
    shared: tuple[Store, CollectRequest, str], span: Range, stop_asked: Callable[[], bool]
) -> tuple[list[Event], CogError | None]:
    """The task of a range, on some machine of the cluster: what happened, and why it ended early."""
    store, asked, on_error = shared
    if not store.exists(f"collections/{asked.collection}/collection.json"):
        raise CogError(
            f"{platform.node()} does not see the collection in {store.url}: name a store that every machine "
            f"reaches under that name, such as s3://BUCKET/PREFIX"
        )
    events: list[Event] = []
    try:
        collect_part(store, asked, span, events.append, stop_asked, on_error)
    except CogError as error:
        return events, error
    return events, None
