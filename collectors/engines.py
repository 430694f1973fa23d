"""Where episodes are made: processes of this machine. Other engines stand beside this one."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Final

from cogdata.errors import CogError
from cogdata.parts import Commit
from cogdata.store import Store
from collectors.collect import CollectRequest, EpisodeDone, collect_part

MAX_RETRIES: Final = 2
"""How often the range of a worker that died is given to a new one."""

Range = tuple[int, int]


def _serve(connection: Connection, store: Store, asked: CollectRequest) -> None:
    """Worker: ranges in, episodes and commits out, until the parent hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGTERM, lambda *_: exit_worker())
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            start, stop = connection.recv()
            try:
                commit = collect_part(store, asked, start, stop, connection.send)
            except CogError as error:
                connection.send(error)
            except (EOFError, BrokenPipeError, ConnectionResetError):
                raise
            except Exception as error:  # the same episode would fail again: no retry helps
                connection.send(
                    CogError(f"episodes {start} to {stop - 1} of {asked.collection} failed: {error!r}")
                )
            else:
                connection.send(commit)


def exit_worker() -> None:
    """Leave by exception, so that half-written files are removed on the way out."""
    raise SystemExit(0)


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
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["collectors.collect", "webdataset.writer"])

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
        todo = deque(ranges)
        deaths: dict[Range, int] = {}
        self._running = workers = [self._start(store, asked) for _ in range(min(self._workers, len(ranges)))]
        try:
            for worker in workers:
                self._give(worker, todo)
            while any(worker.range for worker in workers):
                for worker in self._ready(workers):
                    for event in self._receive(worker):
                        yield event
                        if isinstance(event, Commit):
                            self._give(worker, todo)
                    if worker.range and not worker.process.is_alive():
                        self._bury(worker, deaths)
                        fresh = self._start(store, asked)
                        todo.appendleft(worker.range)
                        worker.process, worker.connection = fresh.process, fresh.connection
                        self._give(worker, todo)
        finally:
            self._stop(workers)

    def _start(self, store: Store, asked: CollectRequest) -> _Worker:
        parent, child = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(child, store, asked), daemon=True)
        process.start()
        child.close()
        return _Worker(process, parent)

    @staticmethod
    def _give(worker: _Worker, todo: deque[Range]) -> None:
        worker.range = todo.popleft() if todo else None
        if worker.range:
            with suppress(BrokenPipeError):  # it died meanwhile: its sentinel says so
                worker.connection.send(worker.range)

    @staticmethod
    def _ready(workers: list[_Worker]) -> list[_Worker]:
        busy = [worker for worker in workers if worker.range]
        handles: list[Any] = [worker.connection for worker in busy]
        handles += [worker.process.sentinel for worker in busy]
        woken = wait(handles, timeout=1.0)
        return [w for w in busy if w.connection in woken or w.process.sentinel in woken]

    @staticmethod
    def _receive(worker: _Worker) -> Iterator[EpisodeDone | Commit]:
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
            start, stop = worker.range
            raise CogError(
                f"episodes {start} to {stop - 1} ended their worker {deaths[worker.range]} times "
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
