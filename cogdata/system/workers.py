"""Run one function with many arguments in processes of this machine, as `Cluster` does on a cluster.

A process that dies is replaced and its call made again. One worker is this process itself.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

from cogdata.answers import OF_ERROR, shown
from cogdata.errors import CogError
from cogdata.system.cluster import MAX_RETRIES, Function
from cogdata.system.imports import guard_processes
from cogdata.system.interrupts import LeaveError, ctrl_c_held_back, ignore_ctrl_c

_PAUSE_S: Final = 1.0


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    call: int | None = None


class Workers:
    """Processes of this machine.

    Args:
        count: Number of processes, at least 1; one is this process itself.
    """

    def __init__(self, count: int) -> None:
        if count < 1:
            raise CogError(f"--workers is {count}, must be at least 1, or auto")
        self._count = count
        self._stopping = False
        self._context = multiprocessing.get_context("forkserver")

    def stop(self) -> None:
        """Ask running calls to end early and begin no more; safe in a signal handler."""
        self._stopping = True

    def run(
        self, function: Function, shared: object, calls: Sequence[Any], what: Callable[[Any], str]
    ) -> Iterator[tuple[int, Any]]:
        """Make every call, and repeat those whose process dies.

        Args:
            function: Called as ``function(shared, call, stop_asked)``; importable.
            shared: First argument, the same for all calls.
            calls: Second argument of each call.
            what: Function that names a call in messages.

        Yields:
            (index of the call, result), in the order of completion.

        Raises:
            CogError: A call failed, or ended its process again and again.
        """
        if self._count == 1 or len(calls) < 2:
            for index, call in enumerate(calls):
                if self._stopping:
                    return
                yield index, function(shared, call, lambda: self._stopping)
        else:
            yield from self._spread(function, shared, calls, what)

    def _spread(
        self, function: Function, shared: object, calls: Sequence[Any], what: Callable[[Any], str]
    ) -> Iterator[tuple[int, Any]]:
        todo, deaths, told = deque(range(len(calls))), Counter[int](), False
        workers: list[_Worker] = []
        try:
            while len(workers) < min(self._count, len(calls)):
                workers.append(self._start(function, shared))
                self._give(workers[-1], calls, todo)
            while any(worker.call is not None for worker in workers):
                if self._stopping and not told:
                    told = True
                    todo.clear()
                    for worker in workers:
                        _send(worker, None)
                for worker in _ready(workers):
                    for error, result in _received(worker):
                        index, worker.call = worker.call, None
                        if error is not None:
                            raise error
                        assert index is not None
                        yield index, result
                        self._give(worker, calls, todo)
                    if worker.call is not None and not worker.process.is_alive() and not told:
                        deaths[worker.call] += 1
                        if deaths[worker.call] > MAX_RETRIES:
                            raise _deadly(what(calls[worker.call]), deaths[worker.call], worker)
                        todo.appendleft(worker.call)
                        fresh = self._start(function, shared)
                        worker.process, worker.connection = fresh.process, fresh.connection
                        self._give(worker, calls, todo)
                    elif worker.call is not None and not worker.process.is_alive():
                        worker.call = None
        finally:
            _end(workers)

    def _start(self, function: Function, shared: object) -> _Worker:
        with ctrl_c_held_back():
            guard_processes()
            forkserver.ensure_running()
        parent, child = self._context.Pipe()
        surroundings = dict(os.environ), str(Path.cwd())
        process = self._context.Process(
            target=_serve, args=(child, function, shared, surroundings), daemon=True
        )
        try:
            process.start()
        except (EOFError, OSError) as error:
            raise CogError(
                f"no worker can be started ({error!r}): is memory short? try fewer --workers"
            ) from None
        child.close()
        return _Worker(process, parent)

    @staticmethod
    def _give(worker: _Worker, calls: Sequence[Any], todo: deque[int]) -> None:
        worker.call = todo.popleft() if todo else None
        if worker.call is not None:
            _send(worker, (calls[worker.call],))


def _deadly(name: str, times: int, worker: _Worker) -> CogError:
    return CogError(
        f"{name} ended their worker {times} times (exit code {worker.process.exitcode}): is memory short? "
        f"try fewer --workers"
    )


def _send(worker: _Worker, message: tuple[Any] | None) -> None:
    with suppress(BrokenPipeError):  # it died meanwhile: its sentinel says so
        worker.connection.send(message)


def _ready(workers: list[_Worker]) -> list[_Worker]:
    busy = [worker for worker in workers if worker.call is not None]
    handles: list[Any] = [worker.connection for worker in busy]
    handles += [worker.process.sentinel for worker in busy]
    woken = wait(handles, timeout=_PAUSE_S)
    return [one for one in busy if one.connection in woken or one.process.sentinel in woken]


def _received(worker: _Worker) -> Iterator[tuple[CogError | None, Any]]:
    with suppress(EOFError, ConnectionResetError):
        while worker.connection.poll():
            yield worker.connection.recv()


def _end(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.connection.close()
        if worker.process.is_alive():
            worker.process.terminate()
    for worker in workers:
        worker.process.join(timeout=5)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


# --- in a worker -----------------------------------------------------------------------------------------


def _serve(
    connection: Connection, function: Function, shared: object, surroundings: tuple[dict[str, str], str]
) -> None:
    """Worker: calls in, (error, result) out, until the parent hangs up."""
    os.environ.update(surroundings[0])  # the server that forks has those of its first call
    os.chdir(surroundings[1])
    ignore_ctrl_c()
    signal.signal(signal.SIGTERM, lambda *_: _leave())
    try:
        with suppress(EOFError, BrokenPipeError, ConnectionResetError):
            while True:
                message = connection.recv()
                if message is None:  # told to stop when it had just finished
                    continue
                connection.send(_answer(connection, function, shared, message[0]))
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # in the middle of exit handlers it would skip the rest


def _answer(
    connection: Connection, function: Function, shared: object, call: object
) -> tuple[CogError | None, Any]:
    stopping = False

    def stop_asked() -> bool:
        nonlocal stopping
        if not stopping and connection.poll():
            stopping = connection.recv() is None  # EOFError: the parent has died
        return stopping

    try:
        return None, function(shared, call, stop_asked)
    except CogError as error:
        return error, None
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:  # the same call would fail again: no retry helps
        return CogError(f"a worker failed: {shown(error, OF_ERROR)}"), None


def _leave() -> None:
    """Leave by exception, so that half-written files are removed on the way out."""
    raise LeaveError(0)
