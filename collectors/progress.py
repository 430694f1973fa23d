"""Counting what a collection has done so far, and whether it does what its policy documents."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final

from cogdata.intervals import wilson
from cogdata.storage.parts import CollectionInfo, Commit
from collectors.collect import EpisodeDone, Plan

WARN_AFTER: Final = 100
"""Attempts before a success rate is held against the documented one."""


@dataclass
class ProgressCounter:
    """Episodes seen since the command began; an episode that was retried counts once.

    Attributes:
        plan: What the command does.
        bytes: Committed.
        committed: Episodes committed.
        steps: Actions.
    """

    plan: Plan
    bytes: int = 0
    committed: int = 0
    steps: int = 0
    _success: dict[int, bool | None] = field(default_factory=dict)
    _unstored: set[str] = field(default_factory=set)
    _started: float = field(default_factory=time.monotonic)

    def add(self, event: EpisodeDone | Commit) -> None:
        """Count what an engine yields."""
        if isinstance(event, Commit):
            self.bytes += event.bytes
            self.committed += event.episodes
        elif event.index not in self._success:
            self._success[event.index] = event.success
            self.steps += event.steps

    @property
    def episodes(self) -> int:
        """Episodes that ended."""
        return len(self._success)

    @property
    def successes(self) -> int:
        """Episodes in which the policy reached its goal."""
        return sum(success is True for success in self._success.values())

    @property
    def judged(self) -> int:
        """Episodes in which it was judged whether the policy reached its goal."""
        return sum(success is not None for success in self._success.values())

    @property
    def seconds(self) -> float:
        """Since the command began."""
        return max(time.monotonic() - self._started, 1e-6)

    @property
    def steps_per_s(self) -> float:
        """Actions per second, all workers together."""
        return self.steps / self.seconds

    @property
    def seconds_left(self) -> float | None:
        """At this pace; None before the first episode."""
        left = self.plan.missing - self.episodes
        return self.seconds / self.episodes * left if self.episodes else None

    def line(self) -> str:
        """One line: episodes, success with interval, speed, bytes, time left."""
        parts = [f"{self.plan.have + self.episodes}/{self.plan.episodes} episodes"]
        if self.judged:
            low, high = wilson(self.successes, self.judged)
            parts.append(f"success {self.successes / self.judged:.0%} [{low:.0%}, {high:.0%}]")
        if self.judged < self.episodes:
            parts.append(f"{self.episodes - self.judged} not judged")
        parts.append(f"{self.steps_per_s:.0f} steps/s")
        parts.append(f"{self.bytes / 1e6:.1f} MB")
        if self.seconds_left is not None:
            parts.append(f"{self.seconds_left:.0f} s left")
        return " · ".join(parts)

    def left_out(self, event: EpisodeDone | Commit) -> str | None:
        """Say what an environment told that is not stored, once for each name; None: nothing new."""
        names = sorted(set(event.unstored) - self._unstored) if isinstance(event, EpisodeDone) else []
        self._unstored |= set(names)
        if not names:
            return None
        return f"{', '.join(f'info[{name!r}]' for name in names)} of {self.plan.asked.env} is not stored"

    def warning(self, info: CollectionInfo) -> str | None:
        """Say that the success rate is far from the documented one, once there are attempts enough.

        Args:
            info: Head of the collection.

        Returns:
            A line, or None while the 95 % interval touches the documented range.
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
