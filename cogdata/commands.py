"""Several commands at once, each a process of its own; their lines as they come."""

from __future__ import annotations

import queue
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
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


def answer_ctrl_c() -> None:
    """Let Ctrl-C through that was held back when this process was started."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _CTRL_C)


class Commands:
    """Processes that share nothing but what they were told to.

    They begin with Ctrl-C held back, which :func:`answer_ctrl_c` lets through: one that is asked to end while
    it starts ends without a traceback.

    Args:
        commands: Name → program and arguments.
    """

    def __init__(self, commands: Mapping[str, Sequence[str]]) -> None:
        self._queue: queue.SimpleQueue[Line | None] = queue.SimpleQueue()
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._readers: list[threading.Thread] = []
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _CTRL_C)
        try:
            for name, command in commands.items():
                self._start(name, command)
        except BaseException:
            self.close()
            raise
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
        self._queue.put(None)

    def lines(self) -> Iterator[Line]:
        """Yield lines as they come, until all have ended."""
        open_pipes = len(self._readers)
        while open_pipes:
            line = self._queue.get()
            if line is None:
                open_pipes -= 1
            else:
                yield line

    def codes(self) -> dict[str, int]:
        """Wait for all; name → exit code, below 0 a signal's number."""
        return {name: process.wait() for name, process in self._processes.items()}

    def stop(self) -> None:
        """Ask all to end as Ctrl-C would; safe in a signal handler."""
        for process in self._processes.values():
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
