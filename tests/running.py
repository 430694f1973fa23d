"""Running a command of ``cog`` in this process, and what it said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

TINY = ("--image-size", "16", "--horizon", "3")
"""Options that make collecting quick."""


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
