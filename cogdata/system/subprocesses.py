"""Several commands at once, each a process of its own; their lines as they come."""

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
    """What a command printed.

    Attributes:
        name: Which command.
        text: The line, without its end.
        result: Whether it came on stdout.
    """

    name: str
    text: str
    result: bool


class Commands:
    """Processes that share nothing but what they were told to.

    They begin with Ctrl-C held back, which :func:`cogdata.system.interrupts.answer_ctrl_c` lets through: one
    that is asked to end while it starts ends without a traceback.

    Args:
        commands: Name → program and arguments.
        at_once: How many may run at a time; each that ends makes room for the next. None: all.
        on_end: Called with a name and its exit code when that command has ended, while lines are read.
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
            if self._stopped:  # asked for by a signal that is not held back
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
            start_new_session=True,  # a terminal's Ctrl-C is for us alone; `stop` passes it on
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
        """Yield lines as they come, until all have ended."""
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
        """Wait for all; name → exit code, below 0 a signal's number."""
        return {name: process.wait() for name, process in self._processes.items()}

    def stop(self) -> None:
        """Ask all to end as Ctrl-C would, and begin no other; safe in a signal handler."""
        self._stopped = True
        for process in list(self._processes.values()):
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)

    def close(self) -> None:
        """End at once what still runs."""
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
