"""Progress of a collection, and a warning when success is far from the policy's documentation."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final

from cogdata.intervals import wilson
from cogdata.storage.collections import CollectionInfo
from cogdata.storage.parts import Commit
from collectors.collect import EpisodeDone, Plan
from collectors.collect_part import EpisodeFailed, Event

WARN_AFTER: Final = 100
"""Number of episodes before the success rate is compared with the documented one."""

MOST_NAMED: Final = 10
"""Skipped episodes that are named one by one."""


@dataclass
class ProgressCounter:
    """Counts since the start of a command; a retried episode counts once.

    Attributes:
        plan: Episodes that the command collects.
        bytes: Number of bytes committed.
        committed: Number of episodes committed.
        steps: Number of actions.
        skipped: Index of each episode that failed and was left out → why.
    """

    plan: Plan
    bytes: int = 0
    committed: int = 0
    steps: int = 0
    skipped: dict[int, str] = field(default_factory=dict)
    _success: dict[int, bool | None] = field(default_factory=dict)
    _unstored: set[str] = field(default_factory=set)
    _started: float = field(default_factory=time.monotonic)

    def add(self, event: Event) -> None:
        """Count an event of an engine."""
        if isinstance(event, Commit):
            self.bytes += event.bytes
            self.committed += event.episodes
        elif isinstance(event, EpisodeFailed):
            self.skipped[event.index] = event.why
        elif event.index not in self._success:
            self._success[event.index] = event.success
            self.steps += event.steps

    @property
    def episodes(self) -> int:
        """Number of episodes that have ended."""
        return len(self._success)

    @property
    def successes(self) -> int:
        """Number of episodes in which the policy reached its goal."""
        return sum(success is True for success in self._success.values())

    @property
    def judged(self) -> int:
        """Number of episodes in which it is known whether the policy reached its goal."""
        return sum(success is not None for success in self._success.values())

    @property
    def seconds(self) -> float:
        """Time since the start of the command, s."""
        return max(time.monotonic() - self._started, 1e-6)

    @property
    def steps_per_s(self) -> float:
        """Actions per second of all workers together."""
        return self.steps / self.seconds

    @property
    def seconds_left(self) -> float | None:
        """Estimated remaining time, s; None before the first episode."""
        left = self.plan.missing - self.episodes - len(self.skipped)
        return self.seconds / self.episodes * left if self.episodes else None

    def line(self) -> str:
        """Format episodes, success with interval, speed, bytes and remaining time as one line."""
        parts = [f"{self.plan.have + self.episodes}/{self.plan.episodes} episodes"]
        if self.judged:
            low, high = wilson(self.successes, self.judged)
            parts.append(f"success {self.successes / self.judged:.0%} [{low:.0%}, {high:.0%}]")
        if self.skipped:
            parts.append(f"{len(self.skipped)} skipped")
        if self.judged < self.episodes:
            parts.append(f"{self.episodes - self.judged} not judged")
        parts.append(f"{self.steps_per_s:.0f} steps/s")
        parts.append(f"{self.bytes / 1e6:.1f} MB")
        if self.seconds_left is not None:
            parts.append(f"{self.seconds_left:.0f} s left")
        return " · ".join(parts)

    def left_out(self, event: Event) -> str | None:
        """Say what an environment told that is not stored, once for each name; None: nothing new."""
        names = sorted(set(event.unstored) - self._unstored) if isinstance(event, EpisodeDone) else []
        self._unstored |= set(names)
        if not names:
            return None
        return f"{', '.join(f'info[{name!r}]' for name in names)} of {self.plan.asked.env} is not stored"

    def skips(self) -> list[str]:
        """Lines that say which episodes were left out, and why."""
        if not self.skipped:
            return []
        named = sorted(self.skipped.items())[:MOST_NAMED]
        more = len(self.skipped) - len(named)
        return [
            f"{len(self.skipped)} episodes of {self.plan.asked.collection} failed and were skipped; the same "
            f"command tries them again",
            *(f"  episode {index}: {why}" for index, why in named),
            *([f"  and {more} more"] if more else []),
        ]

    def warning(self, info: CollectionInfo) -> str | None:
        """Format a warning that the success rate is outside the documented range.

        Args:
            info: Head of the collection.

        Returns:
            A line, or None while the 95 % interval overlaps the range or episodes are too few.
        """
        if self.judged < WARN_AFTER:
            return None
        low, high = wilson(self.successes, self.judged)
        documented = info.success_range
        if low <= documented[1] and high >= documented[0]:
            return None
        return (
            f"{info.policy} succeeds in {self.successes} of {self.judged} episodes "
            f"({low:.0%} to {high:.0%}), documented are {documented[0]:.0%} to {documented[1]:.0%}: "
            f"is --noise {info.noise:g} or --env {info.env} what you meant?"
        )
