"""The divergence guard: it stops a run whose values have been impossible for long."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cogdata.errors import CogError


@dataclass(frozen=True)
class DivergenceGuard:
    """Which values are impossible, and for how long a run may have them.

    Attributes:
        patience: Lines of metrics in a row with values out of range after which a run stops; 0: never.
        margin: Share of the possible range by which the mean value may exceed it. The largest value may
            exceed it by ten times that, and a mean be so much below: conservative learners go there in
            health.
    """

    patience: int = 20
    margin: float = 0.1

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.patience < 0 or not 0 < self.margin < float("inf"):
            raise CogError(
                f"a guard after {self.patience} lines with margin {self.margin:g}: must be 0 or more lines "
                f"and a margin above 0"
            )

    def __str__(self) -> str:
        """As :func:`parse_guard` reads it."""
        return f"{self.patience}:{self.margin:g}" if self.patience else "off"


def parse_guard(text: str) -> DivergenceGuard:
    """Read ``off``, ``LINES`` or ``LINES:MARGIN``.

    Args:
        text: As typed.

    Raises:
        CogError: It is none of these.
    """
    if text == "off":
        return DivergenceGuard(patience=0)
    lines, colon, margin = text.partition(":")
    try:
        return DivergenceGuard(int(lines), float(margin)) if colon else DivergenceGuard(int(lines))
    except CogError:
        raise
    except ValueError:
        raise CogError(
            f"--guard {text!r} must be off, LINES or LINES:MARGIN, for example {DivergenceGuard()}"
        ) from None


class GuardState:
    """What the guard knows of a run: it reads the lines of metrics one after another.

    Args:
        guard: When to stop.
        value_range: Smallest and largest value that a policy can have; None: the learner learns no value.
        past: The run's lines so far, so that one that goes on is evaluated as one that was never interrupted.
    """

    def __init__(
        self,
        guard: DivergenceGuard,
        value_range: tuple[float, float] | None,
        past: Iterable[Mapping[str, float]] = (),
    ) -> None:
        self._guard = guard
        self._range = value_range
        self.lines = 0
        """Lines in a row with values out of range, the newest included."""
        self.since = 0
        """Update of the first of them."""
        for line in past:
            if "out_of_range" in line:
                self._count(int(line["update"]), out=bool(line["out_of_range"]))

    def look(self, update: int, metrics: Mapping[str, float]) -> str | None:
        """Say what is wrong with a line of metrics, None if nothing is."""
        if self._range is None:
            return None
        low, high = self._range
        mean, largest, slack = metrics["q_mean"], metrics["q_max"], self._guard.margin * (high - low)
        fine = mean <= high + slack and mean >= low - 10 * slack and largest <= high + 10 * slack
        self._count(update, out=not fine)
        if fine:
            return None
        return f"range [{low:g}, {high:g}] at update {update}: mean {mean:.3g}, max {largest:.3g}"

    @property
    def exhausted(self) -> bool:
        """Whether values were out of range for so long that the run is to stop."""
        return 0 < self._guard.patience <= self.lines

    def _count(self, update: int, *, out: bool) -> None:
        if out and not self.lines:
            self.since = update
        self.lines = self.lines + 1 if out else 0
