"""Learning from one's own episodes: the settings, and which round does what.

A round is a few episodes, committed as one part of the run's own collection, and after it the updates that
these episodes pay for. Episode i is a function of (seed, i) and of the weights at the start of its round, so
an interrupted run is the same as one that was not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from cogdata.errors import CogError, unknown
from cogdata.features import EpisodeSpec
from cogdata.storage.parts import PART_SIZE
from trainers.evaluation.worlds import WORLDS, MakeEnv
from trainers.identity import identity_of

MAX_EPISODES: Final = 1_000_000

KEEP_ROUNDS: Final = 5
"""Every so many rounds the checkpoint at its end is kept, and the newest two always."""

DATA: Final = ("symmetric", "online")
"""What a batch holds: half of it online transitions and half offline ones, or online ones alone."""


@dataclass(frozen=True)
class Online:
    """How a run learns from its own episodes.

    Attributes:
        env: Where they come from.
        episodes: How many in all; not part of what the run is, as its number of updates is not.
        horizon: Most actions of an episode.
        data: Key of :data:`DATA`.
        updates_per_step: Gradient steps per action.
        round_episodes: Episodes between two stretches of updates.
        continues: Whether the parent's learner goes on, optimisers and count of updates included; else a
            new learner starts from its weights.
    """

    env: str
    episodes: int
    horizon: int
    data: str = "symmetric"
    updates_per_step: float = 1.0
    round_episodes: int = 10
    continues: bool = True

    def __post_init__(self) -> None:
        """Check ranges, in the words of the command line."""
        if not 1 <= self.episodes <= MAX_EPISODES:
            raise CogError(f"--episodes is {self.episodes}, must be from 1 to {MAX_EPISODES:,}")
        if not 1 <= self.round_episodes <= WORLDS:
            raise CogError(f"--round is {self.round_episodes} episodes, must be from 1 to {WORLDS}")
        if not 0.01 <= self.updates_per_step <= 100:
            raise CogError(f"--updates-per-step is {self.updates_per_step:g}, must be from 0.01 to 100")
        if self.data not in DATA:
            raise unknown("data", self.data, DATA)

    def identity(self) -> dict[str, Any]:
        """What makes it another run."""
        return {name: value for name, value in identity_of(self).items() if name != "episodes"}

    def rounds(self, done: Sequence[tuple[int, int]] = ()) -> list[tuple[int, int]]:
        """Return the episodes [start, stop) of each round; none crosses the border of a whole part.

        Args:
            done: Rounds that there have been, from episode 0 on without a gap.
        """
        found = list(done)
        start = found[-1][1] if found else 0
        while start < self.episodes:
            border = (start // PART_SIZE + 1) * PART_SIZE
            found.append((start, min(start + self.round_episodes, border, self.episodes)))
            start = found[-1][1]
        return found

    def updates(self, steps: int) -> int:
        """Return the updates that so many online actions pay for."""
        return int(self.updates_per_step * steps + 1e-9)

    @property
    def frames(self) -> int:
        """Most observations there can be."""
        return self.episodes * (self.horizon + 1)

    @property
    def most_updates(self) -> int:
        """Updates if every episode takes its whole time."""
        return self.updates(self.episodes * self.horizon)


@dataclass(frozen=True)
class OnlineEnv:
    """The environment that episodes come from.

    Attributes:
        env: Its id.
        make: Makes one that shows all that it declares; picklable if there are several workers.
        task: Predicate of its task; None: it states no success.
        episode_spec: Declaration of its episodes.
        together: How many there may be at a time: of a robot, as many as there are robots.
    """

    env: str
    make: MakeEnv
    task: str | None
    episode_spec: EpisodeSpec
    together: int = WORLDS
