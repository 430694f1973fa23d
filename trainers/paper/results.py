"""The result of an experiment, as one small JSON file that needs no store to be read.

``results/table1/<experiment>.json`` holds a :class:`Result`: what was trained on what, with which settings,
how long it took on which machine, and the outcome of every evaluated episode in order of its seed. Tables
and figures are functions of these files alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cogdata.intervals import wilson
from trainers.paper.experiments import Experiment


@dataclass(frozen=True)
class Evaluated:
    """The outcomes of one checkpoint in one environment.

    Attributes:
        env: Gymnasium id.
        update: Gradient steps behind the checkpoint.
        checkpoint_digest: sha256 (hex) of its weights.
        first_seed: Episode i was reset with the seed ``first_seed + i``.
        outcomes: A character per episode: "1" if the task held on its last observation, else "0".
        last: Predicate → episodes on whose last observation it held; those of the scene alone.
    """

    env: str
    update: int
    checkpoint_digest: str
    first_seed: int
    outcomes: str
    last: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that every episode has an outcome."""
        if not self.outcomes or set(self.outcomes) - {"0", "1"}:
            raise ValueError(f"outcomes {self.outcomes[:20]!r} must be one 0 or 1 per episode")

    @property
    def episodes(self) -> int:
        """Number of evaluated episodes."""
        return len(self.outcomes)

    @property
    def successes(self) -> int:
        """Number of episodes that succeeded."""
        return self.outcomes.count("1")

    @property
    def rate(self) -> float:
        """Successes per episode."""
        return self.successes / self.episodes

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the rate."""
        return wilson(self.successes, self.episodes)


@dataclass(frozen=True)
class Trained:
    """One run.

    Attributes:
        run: Run id.
        algo: Algorithm.
        mixture: ``name@version`` that it learned from.
        updates: Gradient steps done.
        batch_size: Transitions per update.
        seconds: Wall time in updates.
        threads: torch threads.
        device: torch device.
        config: Resolved configuration.
        parent: Run that it started from.
        accelerator: What the device calls itself; None: a CPU, or not known.
        mixture_digest: sha256 (hex) of that mixture's content.
        transitions: How many it holds; None: the mixture is not where this was written.
    """

    run: str
    algo: str
    mixture: str
    updates: int
    batch_size: int
    seconds: float
    threads: int
    device: str
    config: Mapping[str, Any]
    parent: str | None = None
    accelerator: str | None = None
    mixture_digest: str = ""
    transitions: int | None = None


@dataclass(frozen=True)
class Data:
    """The mixture of an experiment, of which a method's stages may learn from a portion alone.

    Attributes:
        mixture: ``name@version``.
        digest: sha256 (hex) of its content.
        episodes: Source → episodes.
        transitions: Source → transitions.
        rewarded: Source → transitions with a reward, as frozen.
        sql: The query it was frozen from; files of the store by their names in it.
    """

    mixture: str
    digest: str
    episodes: Mapping[str, int]
    transitions: Mapping[str, int]
    rewarded: Mapping[str, int]
    sql: str


@dataclass(frozen=True)
class Result:
    """The result of an experiment.

    Attributes:
        experiment: The experiment.
        data: The mixture whose rows it learned from.
        runs: Its stages, in order; the last one was evaluated.
        evaluated: The last checkpoint in every condition.
        curve: Checkpoints on the way, on seeds of their own.
        machine: Processor, cores, library versions.
        code: git revision of the code; "": not known.
        commands: What to type for the same.
        evaluation_seconds: Wall time of evaluation; None: not measured.
        online: Outcomes of the episodes that a fine-tuned run collected, in order, as in :class:`Evaluated`.
    """

    experiment: Experiment
    data: Data
    runs: tuple[Trained, ...]
    evaluated: tuple[Evaluated, ...]
    curve: tuple[Evaluated, ...]
    machine: Mapping[str, Any]
    code: str
    commands: tuple[str, ...]
    evaluation_seconds: float | None = None
    online: str = ""

    def of(self, env: str) -> Evaluated | None:
        """The final evaluation in an environment, if there is one."""
        return next((one for one in self.evaluated if one.env == env), None)

    @property
    def has_curve(self) -> bool:
        """Whether checkpoints on the way were evaluated, not only the last one."""
        return len(self.curve) > 1

    @property
    def training_seconds(self) -> float:
        """Wall time of all stages."""
        return sum(run.seconds for run in self.runs)
