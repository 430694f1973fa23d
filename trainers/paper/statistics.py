"""Table 1 from results: means and deviations over seeds, intervals over episodes, paired tests, targets.

Everything here is a function of :class:`trainers.paper.results.Result`; no store is read.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from cogdata.intervals import mcnemar, wilson
from trainers.paper.ablations import ABLATIONS
from trainers.paper.results import Evaluated, Result
from trainers.paper.table1 import SEEDS, TASKS, Condition
from trainers.training.methods import METHODS

REFERENCE: Final = "cog"
"""The method that others are compared with: the paper's."""

STEADY: Final = 0.9
"""Fraction of the final success that counts as having learned."""
HALF: Final = 0.5
"""Final success below which a curve has learned too little to ask when."""


@dataclass(frozen=True)
class Cell:
    """One method in one condition.

    Attributes:
        evaluated: Seed → its evaluation.
    """

    evaluated: Mapping[int, Evaluated]

    @property
    def mean(self) -> float:
        """Mean success over seeds."""
        return statistics.fmean(one.rate for one in self.evaluated.values())

    @property
    def std(self) -> float | None:
        """Sample standard deviation over seeds; None of a single one."""
        rates = [one.rate for one in self.evaluated.values()]
        return statistics.stdev(rates) if len(rates) > 1 else None

    @property
    def successes(self) -> int:
        """Successes over all seeds."""
        return sum(one.successes for one in self.evaluated.values())

    @property
    def episodes(self) -> int:
        """Episodes over all seeds."""
        return sum(one.episodes for one in self.evaluated.values())

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval over all episodes of all seeds."""
        return wilson(self.successes, self.episodes)

    def __str__(self) -> str:
        """Mean and deviation, as in the paper."""
        return rate_text(self.mean) + ("" if self.std is None else f" ({rate_text(self.std)})")


@dataclass(frozen=True)
class PairedTest:
    """A method and the reference on the same eval seeds, run by run.

    Attributes:
        pairs: Episodes that both were evaluated on.
        only_this: Episodes in which the method alone succeeded.
        only_other: Episodes in which the reference alone succeeded.
    """

    pairs: int
    only_this: int
    only_other: int

    @property
    def p(self) -> float:
        """McNemar's exact two-sided p-value."""
        return mcnemar(self.only_this, self.only_other)


@dataclass(frozen=True)
class ResultTable:
    """The table of one task, observation and preset.

    Attributes:
        task: Key of ``TASKS``.
        obs: Observation kind.
        preset: Named configuration.
        cells: (Environment, method) → cell.
        results: What it was made of.
    """

    task: str
    obs: str
    preset: str
    cells: Mapping[tuple[str, str], Cell]
    results: Sequence[Result]

    @property
    def methods(self) -> list[str]:
        """Those with a cell, in the order of ``METHODS``; one that is gone from there comes last."""
        found = {method for _, method in self.cells}
        return [name for name in (*METHODS, *sorted(found - METHODS.keys())) if name in found]

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions of the task."""
        return TASKS[self.task].conditions

    def against(self, env: str, method: str, other: str = REFERENCE) -> PairedTest | None:
        """Compare two methods on the episodes that both have; None if there are none."""
        this, that = self.cells.get((env, method)), self.cells.get((env, other))
        if this is None or that is None or method == other:
            return None
        return compare(this, that)


def rate_text(value: float, digits: int = 2) -> str:
    """Write a rate as the paper does: .97, 1.00."""
    text = f"{value:.{digits}f}"
    return text[1:] if text.startswith("0") else text


def compare(this: Cell, that: Cell) -> PairedTest | None:
    """Pair the outcomes of two cells by seed of the run and eval seed; None if they share none."""
    pairs = only_this = only_that = 0
    for seed in this.evaluated.keys() & that.evaluated.keys():
        a, b = this.evaluated[seed], that.evaluated[seed]
        if a.first_seed != b.first_seed:
            continue
        for one, other in zip(a.outcomes, b.outcomes, strict=False):
            pairs += 1
            only_this += one > other
            only_that += other > one
    return PairedTest(pairs, only_this, only_that) if pairs else None


def result_tables(results: Iterable[Result]) -> list[ResultTable]:
    """Sort results into tables, in the order of ``TASKS``; ablations are left out.

    Each observation kind and preset has a table of its own.
    """
    chosen = [result for result in results if not result.experiment.change]
    found = []
    for task in TASKS:
        here = [one for one in chosen if one.experiment.task == task]
        for obs, preset in sorted(
            {(one.experiment.obs, one.experiment.preset) for one in here}, reverse=True
        ):
            own = [one for one in here if (one.experiment.obs, one.experiment.preset) == (obs, preset)]
            found.append(ResultTable(task, obs, preset, cells_of(own), own))
    return found


def cells_of(results: Iterable[Result]) -> dict[tuple[str, str], Cell]:
    """Collect the final evaluations of results by condition and method."""
    evaluated: dict[tuple[str, str], dict[int, Evaluated]] = {}
    for result in results:
        for one in result.evaluated:
            evaluated.setdefault((one.env, result.experiment.method), {})[result.experiment.seed] = one
    return {key: Cell(dict(sorted(seeds.items()))) for key, seeds in evaluated.items()}


def before_tuning(result: Result, results: Iterable[Result]) -> Evaluated | None:
    """How the policy that an online result goes on from was evaluated; None: not run."""
    name = replace(result.experiment, change="").name
    return next((one.of(result.experiment.envs[0]) for one in results if one.experiment.name == name), None)


@dataclass(frozen=True)
class AblationCell:
    """An ablation in one condition, and beside it the cell that it changes one thing of.

    Attributes:
        ablation: Key of ``ABLATIONS``.
        method: Key of ``METHODS``.
        env: Gymnasium id.
        cell: The ablation's cell.
        unchanged: The table's cell, or that of the ablation it is compared with; None: not run.
    """

    ablation: str
    method: str
    env: str
    cell: Cell
    unchanged: Cell | None

    @property
    def against(self) -> PairedTest | None:
        """Its successes against those of the unchanged one; None: no episode in common."""
        return None if self.unchanged is None else compare(self.cell, self.unchanged)


def ablations(results: Sequence[Result]) -> list[AblationCell]:
    """Collect the cells of ablations, in the order of ``ABLATIONS``, each beside what it changes.

    One that is gone from ``ABLATIONS`` comes last, beside the table's.
    """
    names = {one.experiment.change for one in results if one.experiment.change and not one.experiment.online}
    found = []
    for name in (*ABLATIONS, *sorted(names - ABLATIONS.keys())):
        against = ABLATIONS[name].against if name in ABLATIONS else None
        changed = [one for one in results if one.experiment.change == name]
        beside = [one for one in results if one.experiment.change == (against or "")]
        for kind in sorted({(one.experiment.obs, one.experiment.preset) for one in changed}):
            cells = cells_of(one for one in changed if (one.experiment.obs, one.experiment.preset) == kind)
            others = cells_of(one for one in beside if (one.experiment.obs, one.experiment.preset) == kind)
            for (env, method), cell in cells.items():
                found.append(AblationCell(name, method, env, cell, others.get((env, method))))
    return found


@dataclass(frozen=True)
class SuccessTarget:
    """Success that a cell should reach.

    Attributes:
        task: Key of ``TASKS``.
        images: Whether observations have images.
        methods: Keys of ``METHODS``; the best of these counts.
        envs: Environments whose mean success it is about.
        least: Lower bound, or None.
        most: Upper bound, or None.
    """

    task: str
    images: bool
    methods: tuple[str, ...]
    envs: tuple[str, ...]
    least: float | None = None
    most: float | None = None

    def holds(self, found: float) -> bool:
        """Whether a mean is within its bounds."""
        return (self.least is None or found >= self.least) and (self.most is None or found <= self.most)


_TABLE, _GRIPPER = "cog/PickTray-v0", "cog/PlaceTray-v0"
_OPEN, _CLOSED = "cog/DrawerOpen-v0", "cog/DrawerClosed-v0"
_BLOCKED_1, _BLOCKED_2 = "cog/DrawerBlocked1-v0", "cog/DrawerBlocked2-v0"
_HARD = (_CLOSED, _BLOCKED_1, _BLOCKED_2)
_OURS = ("cog", "bfn")

SUCCESS_TARGETS: Final = (
    SuccessTarget("place_in_tray", False, _OURS, (_TABLE,), least=0.97),
    SuccessTarget("place_in_tray", False, _OURS, (_GRIPPER,), least=0.99),
    SuccessTarget("place_in_tray", False, ("bc_all",), (_TABLE,), most=0.15),
    SuccessTarget("place_in_tray", False, ("no_prior",), (_TABLE,), most=0.02),
    SuccessTarget("place_in_tray", False, ("bfn_no_prior",), (_TABLE,), most=0.02),
    SuccessTarget("place_in_tray", False, ("bc_init",), (_TABLE,), most=0.10),
    SuccessTarget("place_in_tray", False, ("bc_oracle",), (_TABLE,), most=0.15),
    SuccessTarget("place_in_tray", True, _OURS, (_TABLE,), least=0.90),
    SuccessTarget("place_in_tray", True, _OURS, (_GRIPPER,), least=0.98),
    SuccessTarget("drawer", False, _OURS, (_OPEN,), least=0.98),
    SuccessTarget("drawer", False, _OURS, (_CLOSED,), least=0.90),
    SuccessTarget("drawer", False, _OURS, (_BLOCKED_1,), least=0.90),
    SuccessTarget("drawer", False, _OURS, (_BLOCKED_2,), least=0.90),
    SuccessTarget("drawer", False, ("no_prior",), _HARD, most=0.02),
    SuccessTarget("drawer", False, ("bfn_no_prior",), _HARD, most=0.02),
    SuccessTarget("drawer", False, ("bc_oracle",), _HARD, most=0.35),
    SuccessTarget("drawer", True, _OURS, (_OPEN,), least=0.90),
    SuccessTarget("drawer", True, _OURS, _HARD, least=0.74),
)
"""What this project set out to reach, fixed before the runs."""


@dataclass(frozen=True)
class Verdict:
    """A target and what was found.

    Attributes:
        target: What was wanted.
        method: The best of its methods; None: not run.
        found: Its mean over the target's conditions and all seeds; None: not run.
        seeds: The fewest in any of these cells.
        others: Method → the same mean of the target's other methods, those that were run.
    """

    target: SuccessTarget
    method: str | None
    found: float | None
    seeds: int
    others: Mapping[str, float]

    @property
    def met(self) -> bool | None:
        """Whether the target was reached; None: not run."""
        return None if self.found is None else self.target.holds(self.found)


def verdicts(tables: Sequence[ResultTable]) -> list[Verdict]:
    """Hold tables against the targets; of several methods, or kinds of images, the best one counts.

    One with at least :data:`SEEDS` seeds goes before one with fewer.
    """
    return [_verdict(target, tables) for target in SUCCESS_TARGETS]


def _verdict(target: SuccessTarget, tables: Sequence[ResultTable]) -> Verdict:
    fitting = [
        table for table in tables if table.task == target.task and ("image" in table.obs) == target.images
    ]
    found = []
    for table in fitting:
        for method in target.methods:
            cells = [table.cells[env, method] for env in target.envs if (env, method) in table.cells]
            if len(cells) == len(target.envs):
                mean = statistics.fmean(cell.mean for cell in cells)
                found.append((mean, method, min(len(cell.evaluated) for cell in cells)))
    if not found:
        return Verdict(target, None, None, 0, {})
    wanted = 1 if target.least is not None else -1
    found.sort(key=lambda one: (one[2] >= SEEDS, wanted * one[0]), reverse=True)
    mean, method, seeds = found[0]
    others = {other: rate for rate, other, _ in reversed(found) if other != method}  # its best comes last
    return Verdict(target, method, mean, seeds, others)


def updates_to_learn(result: Result) -> int | None:
    """Updates until :data:`STEADY` of a curve's end; None if that is below :data:`HALF`, or all there is."""
    if not result.has_curve or result.curve[-1].rate < HALF:
        return None
    goal = STEADY * result.curve[-1].rate
    return next(point.update for point in result.curve if point.rate >= goal)
