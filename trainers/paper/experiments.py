"""An experiment: one method on one mixture with one seed, trained, evaluated and written down by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trainers.obs_kinds import OBS_KINDS
from trainers.paper.table1 import TASKS
from trainers.training.methods import WHOLE, Stage, configure_stages, find_method

if TYPE_CHECKING:
    from trainers.algorithm import Config


@dataclass(frozen=True)
class Derivation:
    """What is made of a mixture's rows before learning: SQL over ``m``, these rows, and ``e``, the episodes.

    Attributes:
        where: Condition that chosen episodes meet.
        until: Step before which each of them ends.
        reward: Reward of each of their transitions; null: as collected.
        inferred: Whether a classifier then infers the rewards of the prior.
    """

    where: str = "true"
    until: str = "m.t_end"
    reward: str = "m.reward"
    inferred: bool = False


AS_FROZEN: Final = Derivation()


@dataclass(frozen=True)
class Experiment:
    """One method in one scenario with one seed.

    Attributes:
        task: Key of :data:`TASKS`.
        scenario: Recipe of the scenario for state observations, which is its name.
        obs: "state", "image" or "image+robot".
        preset: "fast" or "paper".
        method: Key of ``METHODS``.
        seed: Root seed of the run.
        mixture: Recipe that it learns from.
        envs: Environments that it is evaluated in.
        settings: ``STAGE.key=value`` beside the preset's.
        change: Difference from the table's experiment: key of ``ABLATIONS``, "online", or "" (none).
        derivation: What is made of the mixture first.
        online: Episodes that its policy then collects and learns from; 0: none.
    """

    task: str
    scenario: str
    obs: str
    preset: str
    method: str
    seed: int
    mixture: str
    envs: tuple[str, ...]
    settings: tuple[str, ...]
    change: str = ""
    derivation: Derivation = AS_FROZEN
    online: int = 0

    @property
    def name(self) -> str:
        """The name of its file in ``results/``."""
        parts = [self.scenario, self.obs.replace("+", "_"), self.preset, self.method, self.change]
        return "-".join([*(part for part in parts if part), f"s{self.seed}"])

    @property
    def learned_from(self) -> str:
        """The mixture that it learns from: the recipe's, or what its ablation makes of it.

        Rewards that a classifier infers are those of the observations that it saw.
        """
        if self.derivation == AS_FROZEN:
            return self.mixture
        obs = self.obs.replace("+", "_") if self.derivation.inferred and self.obs != "state" else ""
        return "_".join(part for part in (self.mixture, self.change, obs) if part)

    @property
    def images(self) -> bool:
        """Whether its observations have images."""
        return "image" in OBS_KINDS[self.obs]

    @property
    def stages(self) -> list[tuple[Stage, Config]]:
        """Stages of its method with the configurations that today's code gives them."""
        return configure_stages(self.method, self.preset, self.settings)

    @property
    def last_update(self) -> int:
        """Gradient steps of its last stage: the checkpoint that is evaluated."""
        return self.stages[-1][1].updates

    @property
    def scale(self) -> float:
        """Fraction of the paper's episodes that it learns from."""
        task = TASKS[self.task]
        if self.preset == "paper":
            return 1.0
        images = task.image_scale if self.images else None
        return task.scale if images is None else images

    @property
    def curve_env(self) -> str | None:
        """Environment of its learning curve: the first whose initial condition no rewarded episode has."""
        hard = [env for env in self.envs if env in TASKS[self.task].hard]
        return hard[0] if hard and learns_from_prior(self.method) and not self.online else None


def learns_from_prior(method: str) -> bool:
    """Whether some stage of a method learns from the prior data."""
    return any(stage.portion in (WHOLE, "prior") for stage in find_method(method).stages)


FINETUNED: Final[Mapping[str, str | None]] = {"bfn": None, "cog": None, "bc_all": "sac"}
"""Method → the algorithm that goes on from its policy online; None: its own."""
UPDATES_PER_STEP: Final = 0.25
"""Gradient steps per action collected online."""
