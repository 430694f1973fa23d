"""The paper's Table 1 as data: tasks, initial conditions, published numbers, budgets of the methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cogdata.errors import unknown
from trainers.obs_kinds import OBS_KINDS

SEEDS: Final = 3
"""Runs per cell (COG, §6)."""
CURVE_POINTS: Final = 10
"""Checkpoints of a run that are evaluated on the way, the last one among them."""
PRESETS: Final = ("fast", "paper")


@dataclass(frozen=True)
class Condition:
    """An initial condition: a row of the table.

    Attributes:
        env: Gymnasium id.
        label: What the table calls it.
        familiar: Whether the task data begin like this.
        paper: Method → published mean and standard deviation over three seeds (None: not given).
    """

    env: str
    label: str
    familiar: bool
    paper: Mapping[str, tuple[float, float | None]]


@dataclass(frozen=True)
class Scenario:
    """A mixture, and the environments that policies trained on it are evaluated in.

    Attributes:
        recipe: Mixture for state observations.
        envs: Gymnasium ids.
        image_recipe: Mixture for observations with images, if it is another one.
    """

    recipe: str
    envs: tuple[str, ...]
    image_recipe: str | None = None

    def mixture(self, obs: str) -> str:
        """Name the recipe for an observation kind."""
        if self.image_recipe is not None and "image" in OBS_KINDS[obs]:
            return self.image_recipe
        return self.recipe


@dataclass(frozen=True)
class PaperTask:
    """A task of the table.

    Attributes:
        title: What the table calls it.
        conditions: In the paper's order.
        scenarios: The first is the one that methods without a prior are trained on.
        scale: Fraction of the paper's episodes that the preset "fast" learns from.
        overrides: Algorithm → settings of the preset "fast" beside :data:`BUDGETS`.
        state_overrides: The same, for observations without images alone.
        image_overrides: The same, for observations with images alone.
        image_scale: ``scale`` for observations with images, if it is another one.
    """

    title: str
    conditions: tuple[Condition, ...]
    scenarios: tuple[Scenario, ...]
    scale: float
    overrides: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    state_overrides: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    image_overrides: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    image_scale: float | None = None

    @property
    def hard(self) -> tuple[str, ...]:
        """Environments whose initial condition no rewarded episode has."""
        return tuple(one.env for one in self.conditions if not one.familiar)


def _paper(
    no_prior: tuple[float, float | None],
    bc_init: tuple[float, float | None],
    bc_all: tuple[float, float | None],
    bc_oracle: tuple[float, float | None],
    cog: tuple[float, float | None],
    sac: float | None = None,
) -> Mapping[str, tuple[float, float | None]]:
    found = {"no_prior": no_prior, "bc_init": bc_init, "bc_all": bc_all, "bc_oracle": bc_oracle, "cog": cog}
    return found if sac is None else {**found, "sac": (sac, None)}


_NEVER: Final = (0.0, None)

TASKS: Final[Mapping[str, PaperTask]] = {
    "place_in_tray": PaperTask(
        "place in tray",
        (
            Condition(
                "cog/PlaceTray-v0", "object in gripper", True,
                _paper((1.0, 0.0), (1.0, 0.0), (0.94, 0.01), (0.95, 0.01), (1.0, 0.0), sac=0.0),
            ),
            Condition(
                "cog/PickTray-v0", "object on the table", False,
                _paper(_NEVER, _NEVER, (0.02, 0.0), (0.02, 0.01), (0.96, 0.04)),
            ),
        ),
        (
            Scenario(
                "place_in_tray", ("cog/PlaceTray-v0", "cog/PickTray-v0"), image_recipe="place_in_tray_wide"
            ),
        ),
        scale=0.4,
        state_overrides={"cql": ("updates=30000", "decay=0.3", "acting_samples=1")},
        image_overrides=dict.fromkeys(("bc", "bfn", "cql", "sac"), ("encoder=hand_eye",)),
        image_scale=0.6,
    ),
    "drawer": PaperTask(
        "grasp from drawer",
        (
            Condition(
                "cog/DrawerOpen-v0", "drawer open", True,
                _paper((0.98, 0.01), (0.99, 0.0), (0.63, 0.01), (0.82, 0.01), (0.98, 0.02), sac=0.0),
            ),
            Condition(
                "cog/DrawerClosed-v0", "drawer closed", False,
                _paper(_NEVER, _NEVER, (0.23, 0.01), (0.27, 0.03), (0.68, 0.07)),
            ),
            Condition(
                "cog/DrawerBlocked1-v0", "blocked 1: by the top drawer", False,
                _paper(_NEVER, _NEVER, (0.34, 0.03), (0.35, 0.03), (0.78, 0.07)),
            ),
            Condition(
                "cog/DrawerBlocked2-v0", "blocked 2: by a bottle", False,
                _paper(_NEVER, _NEVER, (0.22, 0.03), (0.25, 0.01), (0.76, 0.09)),
            ),
        ),
        (
            Scenario("closed_drawer", ("cog/DrawerOpen-v0", "cog/DrawerClosed-v0")),
            Scenario("blocked_drawer_1", ("cog/DrawerBlocked1-v0",)),
            Scenario("blocked_drawer_2", ("cog/DrawerBlocked2-v0",)),
        ),
        scale=0.4,
        overrides={"bfn": ("critic_loss=cross_entropy", "discount=0.97", "acting_samples=4")},
        state_overrides={"cql": ("updates=6000",)},
        image_overrides={"bfn": ("updates=25000", "batch_size=256"), "cql": ("acting_samples=4",)},
    ),
}  # fmt: skip
"""Name → task (arXiv 2010.14500, Table 1: success over 250 trials × 3 seeds, mean and standard deviation)."""

BUDGETS: Final[Mapping[tuple[str, bool], Mapping[str, tuple[str, ...]]]] = {
    ("fast", False): {"bfn": ("updates=16000",)},
    ("fast", True): {
        "bc": ("updates=12000", "batch_size=128"),
        "bfn": ("updates=40000", "batch_size=128", "decay=0.3", "acting_samples=8"),
        "cql": ("updates=30000", "batch_size=128", "shared_encoder=true", "decay=0.3", "acting_samples=1"),
        "sac": ("updates=6000", "batch_size=128"),
    },
    ("paper", False): {},
    ("paper", True): {},
}  # fmt: skip
"""(Preset, whether observations have images) → algorithm → settings other than the preset's own."""


def find_tasks(name: str) -> list[str]:
    """Resolve a task's name, or "all".

    Raises:
        CogError: There is no such task.
    """
    if name == "all":
        return list(TASKS)
    if name not in TASKS:
        raise unknown("task", name, ("all", *TASKS))
    return [name]
