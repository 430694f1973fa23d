"""Running a command of ``cog`` in this process, and what it said."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TINY = ("--image-size", "16", "--horizon", "3")
"""Options that make collecting quick."""

STOPPING = "stopping: what is done is committed; Ctrl-C again stops at once"
"""What the first Ctrl-C says."""


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line that a mistake costs."""
        assert self.code != 0, self
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self
        assert "Traceback" not in self.err
        return lines[0].removeprefix("error: ")


Run = Callable[..., Said]


def wait_for(happened: Callable[[], object], seconds: int = 30) -> None:
    """Look every 10 ms whether something has happened."""
    for _ in range(100 * seconds):
        if happened():
            return
        time.sleep(0.01)
    raise AssertionError(f"nothing happened within {seconds} s")


def members(group: int) -> int:
    """How many processes a process group has; on Linux."""
    count = 0
    for path in Path("/proc").iterdir():
        with suppress(ProcessLookupError):
            count += path.name.isdecimal() and os.getpgid(int(path.name)) == group
    return count
