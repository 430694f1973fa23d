"""The paper's Table 1 as data: tasks, initial conditions, published figures, and what each method is given.

A *row* is an initial condition, a *study* one mixture whose policy is judged in some of them, a *unit* one
method on one study with one seed: the piece of work that is trained, judged and written down by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from cogdata.errors import CogError, unknown
from trainers.obs_kinds import OBS_KINDS
from trainers.training.methods import METHODS, WHOLE, configure_stages, find_method

SEEDS: Final = 3
"""Runs per cell (COG, §6)."""
CURVE_POINTS: Final = 10
"""Checkpoints of a run that are judged on the way, the last one among them."""
PRESETS: Final = ("fast", "paper")


@dataclass(frozen=True)
class Row:
    """An initial condition.

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
class Study:
    """A mixture, and the conditions that policies trained on it are judged in.

    Attributes:
        recipe: Mixture for state observations.
        envs: Where.
        seen: Mixture for learners that look at pictures, if it is another one.
    """

    recipe: str
    envs: tuple[str, ...]
    seen: str | None = None

    def mixture(self, obs: str) -> str:
        """Name the recipe for an observation kind."""
        return self.seen if self.seen is not None and "image" in OBS_KINDS[obs] else self.recipe


@dataclass(frozen=True)
class Task:
    """A part of the table.

    Attributes:
        title: What the table calls it.
        rows: Conditions, in the paper's order.
        studies: The first is the one that methods without a prior are trained on.
        scale: Fraction of the paper's episodes that the preset "fast" learns from.
        settings: Algorithm → settings of the preset "fast" beside :data:`BUDGETS`.
        posed: The same, for observations without images alone.
        seen: The same, for observations with images alone.
        seen_scale: ``scale`` for observations with images, if it is another one.
    """

    title: str
    rows: tuple[Row, ...]
    studies: tuple[Study, ...]
    scale: float
    settings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    posed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    seen: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    seen_scale: float | None = None

    @property
    def hard(self) -> tuple[str, ...]:
        """Conditions that no rewarded episode begins with."""
        return tuple(row.env for row in self.rows if not row.familiar)


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

TASKS: Final[Mapping[str, Task]] = {
    "place_in_tray": Task(
        "place in tray",
        (
            Row(
                "cog/PlaceTray-v0", "object in gripper", True,
                _paper((1.0, 0.0), (1.0, 0.0), (0.94, 0.01), (0.95, 0.01), (1.0, 0.0), sac=0.0),
            ),
            Row(
                "cog/PickTray-v0", "object on the table", False,
                _paper(_NEVER, _NEVER, (0.02, 0.0), (0.02, 0.01), (0.96, 0.04)),
            ),
        ),
        (
            Study(
                "place_in_tray", ("cog/PlaceTray-v0", "cog/PickTray-v0"), seen="place_in_tray_wide"
            ),
        ),
        scale=0.4,
        posed={"cql": ("updates=30000", "decay=0.3", "acting_samples=1")},
        seen=dict.fromkeys(("bc", "bfn", "cql", "sac"), ("encoder=hand_eye",)),
        seen_scale=0.6,
    ),
    "drawer": Task(
        "grasp from drawer",
        (
            Row(
                "cog/DrawerOpen-v0", "drawer open", True,
                _paper((0.98, 0.01), (0.99, 0.0), (0.63, 0.01), (0.82, 0.01), (0.98, 0.02), sac=0.0),
            ),
            Row(
                "cog/DrawerClosed-v0", "drawer closed", False,
                _paper(_NEVER, _NEVER, (0.23, 0.01), (0.27, 0.03), (0.68, 0.07)),
            ),
            Row(
                "cog/DrawerBlocked1-v0", "blocked 1: by the top drawer", False,
                _paper(_NEVER, _NEVER, (0.34, 0.03), (0.35, 0.03), (0.78, 0.07)),
            ),
            Row(
                "cog/DrawerBlocked2-v0", "blocked 2: by a bottle", False,
                _paper(_NEVER, _NEVER, (0.22, 0.03), (0.25, 0.01), (0.76, 0.09)),
            ),
        ),
        (
            Study("closed_drawer", ("cog/DrawerOpen-v0", "cog/DrawerClosed-v0")),
            Study("blocked_drawer_1", ("cog/DrawerBlocked1-v0",)),
            Study("blocked_drawer_2", ("cog/DrawerBlocked2-v0",)),
        ),
        scale=0.4,
        settings={"bfn": ("critic_loss=cross_entropy", "discount=0.97", "acting_samples=4")},
        posed={"cql": ("updates=6000",)},
        seen={"bfn": ("updates=25000", "batch_size=256"), "cql": ("acting_samples=4",)},
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
"""(Preset, whether pictures are seen) → algorithm → settings other than the preset's own."""


@dataclass(frozen=True)
class Derivation:
    """What is made of a mixture's rows before learning: SQL over ``m``, these rows, and ``e``, the episodes.

    Attributes:
        where: Which episodes.
        until: Before which step each ends.
        reward: Of its transitions; null: as collected.
        inferred: Whether a classifier then says the rewards of the prior.
    """

    where: str = "true"
    until: str = "m.t_end"
    reward: str = "m.reward"
    inferred: bool = False


AS_FROZEN: Final = Derivation()


@dataclass(frozen=True)
class Unit:
    """One method on one study with one seed.

    Attributes:
        task: Key of :data:`TASKS`.
        study: Recipe of the study, as for state observations.
        obs: "state", "image" or "image+robot".
        preset: "fast" or "paper".
        method: Key of ``METHODS``.
        seed: Root seed of the run.
        mixture: Recipe that it learns from.
        envs: Conditions that it is judged in.
        settings: ``STAGE.key=value`` beside the preset's.
        variant: What is different from the table's unit of the same name; "": nothing.
        derived: What is made of the mixture first.
        online: Episodes that its policy then collects and learns from; 0: none.
    """

    task: str
    study: str
    obs: str
    preset: str
    method: str
    seed: int
    mixture: str
    envs: tuple[str, ...]
    settings: tuple[str, ...]
    variant: str = ""
    derived: Derivation = AS_FROZEN
    online: int = 0

    @property
    def name(self) -> str:
        """The name of its file in ``results/``."""
        parts = [self.study, self.obs.replace("+", "_"), self.preset, self.method, self.variant]
        return "-".join([*(part for part in parts if part), f"s{self.seed}"])

    @property
    def learned_from(self) -> str:
        """The mixture that it learns from: the recipe's, or what the variant makes of it.

        Rewards that a classifier infers are those of the observations that it saw.
        """
        if self.derived == AS_FROZEN:
            return self.mixture
        seen = self.obs.replace("+", "_") if self.derived.inferred and self.obs != "state" else ""
        return "_".join(part for part in (self.mixture, self.variant, seen) if part)

    @property
    def scale(self) -> float:
        """Fraction of the paper's episodes that it learns from."""
        task = TASKS[self.task]
        if self.preset == "paper":
            return 1.0
        seen = task.seen_scale if "image" in OBS_KINDS[self.obs] else None
        return task.scale if seen is None else seen

    @property
    def curve_env(self) -> str | None:
        """Where its checkpoints are judged: in the first condition that the task data do not show."""
        hard = [env for env in self.envs if env in TASKS[self.task].hard]
        return hard[0] if hard and learns_from_prior(self.method) and not self.online else None


@dataclass(frozen=True)
class Variation:
    """One thing changed of a unit of the table.

    Attributes:
        summary: What, in one line.
        task: Key of :data:`TASKS`.
        study: Of it, or another one.
        method: Key of ``METHODS``.
        settings: ``STAGE.key=value`` beside the table's.
        derived: What is made of the study's mixture.
        against: The variation that it differs from in one thing; None: the table's unit.
    """

    summary: str
    task: str
    study: Study
    method: str = "bfn"
    settings: tuple[str, ...] = ()
    derived: Derivation = AS_FROZEN
    against: str | None = None


_TRAY: Final = TASKS["place_in_tray"].studies[0]
_CLOSED_DRAWER: Final = TASKS["drawer"].studies[0]
_SOLVED_TRAY: Final = Study("place_in_tray_solved", _TRAY.envs)
_BEFORE_HOME: Final = """case when m.source = 'prior' and {episodes} then coalesce(
    (select min(s.t) from steps s where s.episode_id = m.episode_id and s.phase = 'neutral'), m.t_end)
else m.t_end end"""
_RANDOMIZED: Final = {env: env.replace("-v0", "Randomized-v0") for env in _CLOSED_DRAWER.envs}
_ALL_STARTS: Final = Study("drawer_all", tuple(row.env for row in TASKS["drawer"].rows))

VARIATIONS: Final[Mapping[str, Variation]] = {
    "prior-10": Variation(
        "a tenth of the prior", "place_in_tray", _TRAY,
        derived=Derivation(where="m.source <> 'prior' or e.episode_index % 10 = 0"),
    ),
    "prior-30": Variation(
        "three tenths of the prior", "place_in_tray", _TRAY,
        derived=Derivation(where="m.source <> 'prior' or e.episode_index % 10 < 3"),
    ),
    "flow-clone": Variation(
        "cloning by a flow instead of a Gaussian", "place_in_tray", _TRAY, "bc_all", ("bc.head=flow",)
    ),
    "cql-short": Variation(
        "CQL for a fifth of the updates, the best of 64 samples", "place_in_tray", _TRAY, "cog",
        ("cql.updates=6000", "cql.decay=0", "cql.acting_samples=64"),
    ),
    "cql-short-mode": Variation(
        "CQL for a fifth of the updates, by its mode", "place_in_tray", _TRAY, "cog",
        ("cql.updates=6000", "cql.decay=0"),
    ),
    "solved-zeros": Variation(
        "a prior that solves the task now and then, all rewards 0", "place_in_tray", _SOLVED_TRAY,
    ),
    "solved-kept": Variation(
        "the same, rewards as the simulator knows them", "place_in_tray", _SOLVED_TRAY,
        derived=Derivation(reward="null"), against="solved-zeros",
    ),
    "solved-inferred": Variation(
        "the same, rewards as a classifier infers them", "place_in_tray", _SOLVED_TRAY,
        derived=Derivation(inferred=True), against="solved-zeros",
    ),
    "no-returns": Variation(
        "the prior's episodes end before the arm goes home", "drawer", _CLOSED_DRAWER,
        derived=Derivation(until=_BEFORE_HOME.format(episodes="true")),
    ),
    "half-returns": Variation(
        "every other episode of the prior does", "drawer", _CLOSED_DRAWER,
        derived=Derivation(until=_BEFORE_HOME.format(episodes="e.episode_index % 2 = 1")),
    ),
    "randomized": Variation(
        "places, shapes and colours vary, in data and judgement", "drawer",
        Study("closed_drawer_randomized", tuple(_RANDOMIZED.values())), against="randomized-unseen",
    ),
    "randomized-unseen": Variation(
        "they vary in the judgement alone", "drawer", Study("closed_drawer", tuple(_RANDOMIZED.values()))
    ),
    "generalist": Variation("one policy for every start", "drawer", _ALL_STARTS),
}  # fmt: skip
"""Name → variation."""

_LABELS: Final = {row.env: row.label for task in TASKS.values() for row in task.rows}
CONDITIONS: Final[Mapping[str, str]] = {
    **_LABELS,
    **{varied: f"{_LABELS[env]}, randomised" for env, varied in _RANDOMIZED.items()},
}
"""Environment → what a page calls it."""

FINETUNED: Final[Mapping[str, str | None]] = {"bfn": None, "cog": None, "bc_all": "sac"}
"""Method → the algorithm that goes on from its policy online; None: its own."""
UPDATES_PER_STEP: Final = 0.25
"""Gradient steps per action collected online."""


def plan_variations(
    tasks: Sequence[str], names: Sequence[str], *, obs: str, preset: str, seeds: Sequence[int]
) -> list[Unit]:
    """List the units of variations.

    Args:
        tasks: Keys of :data:`TASKS`; each variation must be of one of them.
        names: Keys of :data:`VARIATIONS`.
        obs: Observation kind.
        preset: Named configuration.
        seeds: Root seeds.

    Raises:
        CogError: An unknown variation, observation or preset, a variation of another task or named twice.
    """
    for name in names:
        if name not in VARIATIONS:
            raise unknown("variation", name, VARIATIONS)
        if VARIATIONS[name].task not in tasks:
            raise CogError(f"variation {name!r} is of {VARIATIONS[name].task}: name that task, or all")
    _refuse_twice("--variations", "variation", names)
    found = []
    for seed in seeds:
        for name in names:
            one = VARIATIONS[name]
            (like,) = plan_units(
                [one.task], obs=obs, preset=preset, methods=[one.method], seeds=[seed], settings=one.settings
            )[:1]
            mixture = one.study.mixture(obs)
            changed = replace(like, study=one.study.recipe, mixture=mixture, envs=one.study.envs)
            found.append(replace(changed, variant=name, derived=one.derived))
    return found


def plan_finetuning(units: Sequence[Unit], episodes: int) -> list[Unit]:
    """List the units that go on online, each in a condition that its task data do not show.

    Args:
        units: Of the table; those whose method is not in :data:`FINETUNED` are left out.
        episodes: To collect, per unit.

    Raises:
        CogError: None of them can.
    """
    found = [
        replace(unit, envs=(unit.curve_env,), variant="online", online=episodes)
        for unit in units
        if unit.method in FINETUNED and unit.curve_env is not None
    ]
    if not found:
        raise CogError(f"--finetune goes on with {', '.join(FINETUNED)}: name one of them in --methods")
    return found


def learns_from_prior(method: str) -> bool:
    """Whether some stage of a method sees the prior data."""
    return any(stage.portion in (WHOLE, "prior") for stage in find_method(method).stages)


def _refuse_twice(option: str, what: str, names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        raise CogError(f"{option} {','.join(names)} names a {what} twice: name each once")


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


def plan_units(
    tasks: Sequence[str],
    *,
    obs: str,
    preset: str,
    methods: Sequence[str] | None,
    seeds: Sequence[int],
    settings: Sequence[str] = (),
) -> list[Unit]:
    """List the units of a reproduction, the first seed of everything first.

    Args:
        tasks: Keys of :data:`TASKS`.
        obs: Observation kind.
        preset: Named configuration.
        methods: Keys of ``METHODS``; None: all.
        seeds: Root seeds.
        settings: ``STAGE.key=value`` for every method that has such a stage, stronger than the budget's.

    Raises:
        CogError: An unknown observation, preset, method, stage or key, or a value that does not fit.
    """
    if obs not in OBS_KINDS:
        raise unknown("observation", obs, OBS_KINDS)
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    chosen = list(METHODS) if methods is None else list(methods)
    stages = {method: {stage.algo for stage in find_method(method).stages} for method in chosen}
    _refuse_twice("--methods", "method", chosen)
    known = {name for names in stages.values() for name in names}
    for pair in settings:
        stage, dot, _ = pair.partition("=")[0].partition(".")
        if not dot or stage not in known:
            raise unknown("stage of --set", stage, known)
    units = []
    for seed in seeds:
        for task in tasks:
            for method in chosen:
                own = tuple(pair for pair in settings if pair.partition(".")[0] in stages[method])
                units += _units_of(task, obs, preset, method, seed, own)
    for unit in {unit.method: unit for unit in units}.values():
        configure_stages(unit.method, preset, unit.settings)
    return units


def _units_of(
    task: str, obs: str, preset: str, method: str, seed: int, settings: tuple[str, ...]
) -> list[Unit]:
    """A unit per study, or one for all conditions if the method sees nothing that differs between studies."""
    studies = TASKS[task].studies
    if not learns_from_prior(method):
        envs = tuple(row.env for row in TASKS[task].rows)
        studies = (Study(studies[0].recipe, envs, studies[0].seen),)
    images = "image" in OBS_KINDS[obs]
    budgets = [BUDGETS[preset, images]]
    if preset == "fast":
        budgets += [TASKS[task].settings, TASKS[task].seen if images else TASKS[task].posed]
    algos = [stage.algo for stage in find_method(method).stages]
    given = tuple(f"{algo}.{pair}" for algo in algos for budget in budgets for pair in budget.get(algo, ()))
    return [
        Unit(
            task, study.recipe, obs, preset, method, seed, study.mixture(obs), study.envs, (*given, *settings)
        )
        for study in studies
    ]  # fmt: skip
