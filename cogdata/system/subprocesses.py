"""Run several commands at once as processes, and read their output line by line."""

from __future__ import annotations

import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Final, Self

_CTRL_C: Final = (signal.SIGINT,)


@dataclass(frozen=True)
class Line:
    """A line that a command printed.

    Attributes:
        name: Name of the command.
        text: The line without its line break.
        result: Whether it was printed on stdout; else on stderr.
    """

    name: str
    text: str
    result: bool


class Commands:
    """Commands running as processes.

    They start with Ctrl-C blocked until :func:`cogdata.system.interrupts.answer_ctrl_c`, so a process that is
    stopped while it starts ends without a traceback.

    Args:
        commands: Name → program and arguments.
        at_once: Maximal number of processes at a time; None: all.
        on_end: Called with name and exit code when a command has ended, while lines are read.
    """

    def __init__(
        self,
        commands: Mapping[str, Sequence[str]],
        at_once: int | None = None,
        on_end: Callable[[str, int], None] = lambda name, code: None,
    ) -> None:
        self._queue: queue.SimpleQueue[Line | str] = queue.SimpleQueue()
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._readers: list[threading.Thread] = []
        self._waiting = list(commands.items())
        self._on_end = on_end
        self._stopped = False
        try:
            for _ in range(len(commands) if at_once is None else at_once):
                self._start_next()
        except BaseException:
            self.close()
            raise

    def _start_next(self) -> None:
        if self._stopped or not self._waiting:
            return
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _CTRL_C)
        try:
            self._start(*self._waiting.pop(0))
            if self._stopped:  # requested by a signal that is not blocked
                self.stop()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _start(self, name: str, command: Sequence[str]) -> None:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a terminal's Ctrl-C reaches this process alone; `stop` passes it on
        )
        self._processes[name] = process
        for pipe, result in ((process.stdout, True), (process.stderr, False)):
            reader = threading.Thread(target=self._read, args=(name, pipe, result), daemon=True)
            reader.start()
            self._readers.append(reader)

    def _read(self, name: str, pipe: IO[str], result: bool) -> None:
        for line in pipe:
            self._queue.put(Line(name, line.rstrip("\n"), result))
        self._queue.put(name)

    def lines(self) -> Iterator[Line]:
        """Yield lines as they are printed, until all commands have ended."""
        open_pipes = dict.fromkeys(self._processes, 2)
        while open_pipes:
            line = self._queue.get()
            if isinstance(line, Line):
                yield line
                continue
            open_pipes[line] -= 1
            if not open_pipes[line]:
                del open_pipes[line]
                self._on_end(line, self._processes[line].wait())
                before = len(self._processes)
                self._start_next()
                if len(self._processes) > before:
                    open_pipes[next(reversed(self._processes))] = 2

    def codes(self) -> dict[str, int]:
        """Wait for all commands; return name → exit code, negative: the number of a signal."""
        return {name: process.wait() for name, process in self._processes.items()}

    def stop(self) -> None:
        """Send SIGINT to all processes and start no more; safe in a signal handler."""
        self._stopped = True
        for process in list(self._processes.values()):
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)

    def close(self) -> None:
        """Kill the processes that still run."""
        for process in self._processes.values():
            process.kill()
            process.wait()
        for reader in self._readers:
            reader.join()
        for process in self._processes.values():
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
