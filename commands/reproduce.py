"""`cog reproduce`: the table, experiment by experiment."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cogdata.errors import CogError, unknown
from commands.collect import local_engine, run_collection
from commands.experiment import freeze_portions, reproduce_experiment, run_experiments
from commands.requests import device_of
from commands.shared import (
    CLI,
    MOST_EPISODES,
    RESULTS,
    Results,
    Root,
    check_fraction,
    countable,
    note,
    note_changed_recipe,
    open_root,
    say,
    say_frozen,
    seed_range,
    worker_count,
)

if TYPE_CHECKING:
    from cogdata.storage.store import Store
    from trainers.paper.comparison import Provenance
    from trainers.paper.experiments import Experiment
    from trainers.paper.reproduce import EvalBudget, Remaining


@dataclass(frozen=True)
class _Reproduction:
    """A plan, and how it is carried out.

    Attributes:
        store: Where data and runs are.
        experiments: The plan.
        budget: How much each is evaluated.
        results: Folder of result files.
        at_once: Number of processes.
        device: torch device.
    """

    store: Store
    experiments: list[Experiment]
    budget: EvalBudget
    results: Path
    at_once: int
    device: str

    def remaining(self) -> Remaining:
        """Find what has no result yet."""
        from trainers.paper.reproduce import find_remaining

        return find_remaining(self.store, self.experiments, self.budget, self.results)


def reproduce_command(
    task: Annotated[str, typer.Argument(help="place_in_tray, drawer, or all.")] = "all",
    preset: Annotated[str, typer.Option(help="fast: made for two cores; paper: the paper's.")] = "fast",
    obs: Annotated[str, typer.Option(help="state, image or image+robot.")] = "state",
    methods: Annotated[
        str | None, typer.Option(help="Comma-separated: see `cog list methods`.", show_default="all")
    ] = None,
    seeds: Annotated[str, typer.Option(help="START:STOP, a run each.")] = "0:3",
    scale: Annotated[
        float | None,
        typer.Option(help="Fraction of the paper's episodes.", show_default="of paper 1, of fast less"),
    ] = None,
    trials: Annotated[int, typer.Option(help="Episodes evaluated per initial condition and seed.")] = 250,
    curve: Annotated[int, typer.Option(help="Episodes per checkpoint of the curves; 0: no curves.")] = 30,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="STAGE.KEY=VALUE of the configuration.")
    ] = None,
    finetune: Annotated[
        int | None,
        typer.Option(help="Instead of the table: go on with its policies for so many episodes online."),
    ] = None,
    ablations: Annotated[
        str | None,
        typer.Option(help="Instead of the table: comma-separated, see `cog list ablations`."),
    ] = None,
    jobs: Annotated[
        str, typer.Option(help="Experiments at once: a number, or auto for one per core.")
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda …")] = "auto",
    results: Results = RESULTS,
    resume: Annotated[
        bool, typer.Option(help="Go on where it was stopped; --no-resume wants nothing to be there yet.")
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, do nothing.")] = False,
    experiment: Annotated[str | None, typer.Option(help="This experiment alone, in this process.")] = None,
    root: Root = None,
) -> None:
    """Table 1 from nothing: collect, freeze, train every method and seed, evaluate, write results down."""
    from trainers.paper.reproduce import EvalBudget
    from trainers.paper.table1 import CURVE_POINTS, find_tasks

    _check_options(trials, curve, scale, alone=experiment is not None, dry_run=dry_run)
    common = {"obs": obs, "preset": preset, "seeds": seed_range(seeds, None)}
    experiments = _planned(find_tasks(task), methods, ablations, finetune, set_ or [], common)
    if not resume:
        _refuse_results(experiments, results)
    budget, store = EvalBudget(trials, curve, CURVE_POINTS), open_root(root)
    if experiment is not None:
        reproduce_experiment(store, _named(experiments, experiment), budget, results, device_of(device))
        return
    count = worker_count(jobs, option="--jobs")
    options = {
        "--preset": preset, "--obs": obs, "--seeds": seeds, "--trials": trials, "--curve": curve,
        "--device": device, "--results": results, "--root": store.url, "--methods": methods,
        "--finetune": finetune, "--ablations": ablations,
    }  # fmt: skip
    _collect(store, experiments, scale, count, dry_run=dry_run)
    asked = _Reproduction(store, experiments, budget, results, count, device_of(device))
    _reproduce(asked, _command(task, options, set_ or []), dry_run=dry_run)


def _check_options(trials: int, curve: int, scale: float | None, *, alone: bool, dry_run: bool) -> None:
    countable("--trials", trials)
    if not 0 <= curve <= MOST_EPISODES:
        raise CogError(f"--curve is {curve}, must be from 0 to {MOST_EPISODES:,}")
    if scale is not None:
        check_fraction(scale)
    if alone and (dry_run or scale is not None):
        raise CogError(
            "--experiment does one experiment on what is collected: leave --dry-run and --scale out"
        )


def _planned(
    tasks: list[str],
    methods: str | None,
    ablations: str | None,
    finetune: int | None,
    settings: list[str],
    common: dict[str, Any],
) -> list[Experiment]:
    """The experiments that the options ask for: of the table, of ablations, or fine-tuned online."""
    from trainers.paper.plan import plan_ablations, plan_experiments, plan_finetuning

    if ablations is not None:
        if methods is not None or finetune is not None or settings:
            raise CogError("--ablations say what learns and how: leave --methods, --finetune and --set out")
        return plan_ablations(tasks, _names(ablations), **common)
    names = None if methods is None else _names(methods)
    found = plan_experiments(tasks, methods=names, settings=settings, **common)
    return found if finetune is None else plan_finetuning(found, countable("--finetune", finetune))


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _named(experiments: list[Experiment], name: str) -> Experiment:
    """The experiment of a plan that has this name."""
    for one in experiments:
        if one.name == name:
            return one
    raise unknown("experiment", name, [one.name for one in experiments])


def _command(task: str, options: dict[str, object], settings: list[str]) -> list[str]:
    """The command line that does the same; options that are None are left out."""
    given = [word for name, value in options.items() if value is not None for word in (name, str(value))]
    return [
        sys.executable,
        CLI,
        "reproduce",
        task,
        *given,
        *(w for pair in settings for w in ("--set", pair)),
    ]


def _refuse_results(experiments: list[Experiment], results: Path) -> None:
    there = [one.name for one in experiments if (results / f"{one.name}.json").exists()]
    if there:
        raise CogError(
            f"{results} has {len(there)} of these {len(experiments)} experiments already, {there[0]} first: "
            f"leave --no-resume out to go on, or name another --results"
        )


def _reproduce(asked: _Reproduction, command: list[str], *, dry_run: bool) -> None:
    """Do what is missing of a plan, each experiment in a process of its own."""
    from trainers.paper.comparison import sort_by_settings
    from trainers.paper.memory import check_memory

    began, remaining = time.monotonic(), asked.remaining()
    if not dry_run:
        # Here, before the processes start: two that freeze the same at once would make two versions of it.
        for one in remaining.left:
            freeze_portions(asked.store, one)
        remaining = asked.remaining()  # on what was frozen now, too
    expected = _forecast(asked, remaining)
    files = sort_by_settings(asked.experiments, remaining.known)
    _say_settings(files, asked.results)
    _note_replaced(remaining, files, asked.results)
    if dry_run:
        for one in remaining.left:
            where, minutes = ", ".join(one.envs), expected[one.name] / 60
            say(f"  {one.name}: {one.mixture}, evaluated in {where}, about {minutes:.1f} minutes")
        return
    check_memory(asked.store, remaining.left, asked.at_once)
    run_experiments(expected, asked.at_once, command)
    count, minutes = len(asked.experiments), (time.monotonic() - began) / 60
    results = "" if asked.results == RESULTS else f" --results {shlex.quote(str(asked.results))}"
    say(f"{count} experiments are in {asked.results} · {minutes:.1f} minutes · next: cog report{results}")


def _forecast(asked: _Reproduction, remaining: Remaining) -> dict[str, float]:
    """Say how much there is to do and how long it will take; return name → seconds of what is left."""
    from trainers.paper.forecast import expected_seconds, schedule_seconds, shares_learned

    left, known = remaining.left, list(remaining.known.values())
    learned = shares_learned(asked.store, left)
    expected = {
        one.name: expected_seconds(one, asked.budget, known, asked.device, learned[one.name]) for one in left
    }
    minutes = schedule_seconds(list(expected.values()), asked.at_once) / 60
    count = len(asked.experiments)
    say(
        f"{count} experiment{'s' if count > 1 else ''}, {count - len(left)} there, {len(left)} to do, "
        f"{asked.at_once} at a time: about {minutes:.0f} minutes"
    )
    return expected


def _say_settings(found: Provenance, results: Path) -> None:
    """Say which files of a plan are of today's settings; of the others what made them, and what differs."""
    from collectors.provenance import revision

    if not found.todays and not found.others:
        return
    here = revision()
    own = sum(len(names) for (code, _), names in found.others.items() if code and code == here)
    earlier = sum(map(len, found.others.values())) - own
    rest = f", {own} of this commit's with other settings" if own else ""
    todays = len(found.todays)
    say(f"files in {results}: {todays} of today's settings, {earlier} of an earlier commit's{rest}")
    for (code, differences), names in found.others.items():
        say(f"  made by {code or 'unknown code'}, {differences}: {', '.join(names)}")


def _note_replaced(remaining: Remaining, files: Provenance, results: Path) -> None:
    """Say of the experiments to do which have a file already, and what becomes of it."""
    from trainers.paper.files import REPLACED

    fitting = [one for one in remaining.left if one.name in files.todays]
    undecided = [one for one in fitting if remaining.digests[one.learned_from] is None]
    if undecided:
        note(
            f"{len(undecided)} of them have a file of today's settings in {results}, which counts if its "
            f"data are the same: name another --results to make them all"
        )
    if differ := len(fitting) - len(undecided) + sum(map(len, files.others.values())):
        note(
            f"{differ} of them have a file in {results}, of other settings, other data or fewer episodes: "
            f"it goes to {results / REPLACED} where the new one does not hold all that it does"
        )


def _collect(
    store: Store, experiments: Sequence[Experiment], scale: float | None, workers: int, *, dry_run: bool
) -> None:
    """Collect what the recipes of a plan lack."""
    fractions = {one.mixture: one.scale if scale is None else scale for one in experiments}
    for mixture, fraction in fractions.items():
        note_changed_recipe(store, mixture)
        _collect_for(store, mixture, fraction, workers, dry_run=dry_run)


def _collect_for(store: Store, name: str, scale: float, workers: int, *, dry_run: bool) -> None:
    """Collect what a recipe lacks, and freeze it anew if its mixture is smaller than what is asked for.

    A mixture of that name that is not the recipe of today is taken as it is.
    """
    from catalog.recipes import find_recipe, is_short, is_todays, refreeze
    from cogdata.storage.manifest import list_versions
    from collectors.collect import plan, request

    there = bool(list_versions(store, name))
    if there and not is_todays(store, name):
        return
    wanted = {
        need: plan(store, request(need.policy, env=need.env), need.scaled(scale))
        for need in find_recipe(name).needs
    }
    lacking = [planned for planned in wanted.values() if planned.missing]
    for planned in lacking:
        what = f"{planned.missing:,} episodes of {planned.asked.policy} in {planned.asked.env}"
        say(f"{what} to collect first" if dry_run else f"collecting {what}")
        if not dry_run:
            run_collection(store, planned, local_engine(workers))
    collected = {need: (planned.asked.collection, planned.episodes) for need, planned in wanted.items()}
    if not there or not ((dry_run and lacking) or is_short(store, name, collected)):
        return
    if dry_run:
        say(f"{name} to be frozen anew, larger: experiments that learned from the smaller one are done again")
    else:
        say_frozen(refreeze(store, name))
