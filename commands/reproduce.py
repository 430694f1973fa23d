"""`cog reproduce`: the table, unit by unit."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cogdata.errors import CogError, unknown
from commands.collect import local_engine, run_collection
from commands.evaluate import world_of
from commands.finetune import begin_finetune, finetuned_config, online_env_of
from commands.mix import infer_mixture
from commands.requests import device_of, frozen_portion, stages_of
from commands.shared import (
    CLI,
    INTERRUPTED,
    MOST_EPISODES,
    RESULTS,
    Results,
    Root,
    Ticker,
    check_fraction,
    countable,
    ending_on_request,
    frozen_mixture,
    note,
    note_changed_recipe,
    open_root,
    say,
    say_frozen,
    seed_range,
    update_catalog,
    worker_count,
)
from commands.train import train_stages

if TYPE_CHECKING:
    from cogdata.storage.store import Store
    from trainers.paper.comparison import Provenance
    from trainers.paper.reproduce import Trials
    from trainers.paper.results import Result
    from trainers.paper.table1 import Unit


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
    trials: Annotated[int, typer.Option(help="Scenes per initial condition and seed.")] = 250,
    curve: Annotated[int, typer.Option(help="Scenes per checkpoint of the curves; 0: no curves.")] = 30,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="STAGE.KEY=VALUE of the configuration.")
    ] = None,
    finetune: Annotated[
        int | None,
        typer.Option(help="Instead of the table: go on with its policies for so many episodes online."),
    ] = None,
    variations: Annotated[
        str | None,
        typer.Option(help="Instead of the table: comma-separated, see `cog list variations`."),
    ] = None,
    jobs: Annotated[str, typer.Option(help="Units at once: a number, or auto for one per core.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda …")] = "auto",
    results: Results = RESULTS,
    resume: Annotated[
        bool, typer.Option(help="Go on where it was stopped; --no-resume wants nothing to be there yet.")
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, do nothing.")] = False,
    unit: Annotated[str | None, typer.Option(help="This unit alone, in this process.")] = None,
    root: Root = None,
) -> None:
    """Table 1 from nothing: collect, freeze, train every method and seed, judge, write results down."""
    from trainers.paper.reproduce import Trials
    from trainers.paper.table1 import CURVE_POINTS, find_tasks

    countable("--trials", trials)
    if not 0 <= curve <= MOST_EPISODES:
        raise CogError(f"--curve is {curve}, must be from 0 to {MOST_EPISODES:,}")
    if scale is not None:
        check_fraction(scale)
    if unit is not None and (dry_run or scale is not None):
        raise CogError("--unit does one unit on what is collected: leave --dry-run and --scale out")
    common = {"obs": obs, "preset": preset, "seeds": seed_range(seeds, None)}
    units = _planned(find_tasks(task), methods, variations, finetune, set_ or [], common)
    if not resume:
        _refuse_results(units, results)
    amount, store = Trials(trials, curve, CURVE_POINTS), open_root(root)
    if unit is not None:
        chosen = [one for one in units if one.name == unit]
        if not chosen:
            raise unknown("unit", unit, [one.name for one in units])
        _reproduce_unit(store, chosen[0], amount, results, device_of(device))
        return
    command = [
        sys.executable, CLI, "reproduce", task, "--preset", preset, "--obs", obs, "--seeds", seeds,
        "--trials", str(trials), "--curve", str(curve), "--device", device, "--results", str(results),
        "--root", store.url, *([] if methods is None else ["--methods", methods]),
        *(word for pair in set_ or () for word in ("--set", pair)),
        *([] if finetune is None else ["--finetune", str(finetune)]),
        *([] if variations is None else ["--variations", variations]),
    ]  # fmt: skip
    count = worker_count(jobs, option="--jobs")
    for mixture, fraction in _fractions(units, scale).items():
        note_changed_recipe(store, mixture)
        _collect_for(store, mixture, fraction, count, dry_run=dry_run)
    _reproduce(
        store, units, amount, results, command,
        at_once=count, device=device_of(device), dry_run=dry_run,
    )  # fmt: skip


def _planned(
    tasks: list[str],
    methods: str | None,
    variations: str | None,
    finetune: int | None,
    settings: list[str],
    common: dict[str, Any],
) -> list[Unit]:
    """The units that the options ask for: the table's, those that go on from them online, or variations."""
    from trainers.paper.table1 import plan_finetuning, plan_units, plan_variations

    if variations is not None:
        if methods is not None or finetune is not None or settings:
            raise CogError("--variations say what learns and how: leave --methods, --finetune and --set out")
        return plan_variations(tasks, _names(variations), **common)
    names = None if methods is None else _names(methods)
    units = plan_units(tasks, methods=names, settings=settings, **common)
    return units if finetune is None else plan_finetuning(units, countable("--finetune", finetune))


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _reproduce(
    store: Store,
    units: list[Unit],
    trials: Trials,
    results: Path,
    command: list[str],
    *,
    at_once: int,
    device: str,
    dry_run: bool,
) -> None:
    """Do what is missing of a plan, each unit in a process of its own."""
    from trainers.paper.comparison import sort_by_settings
    from trainers.paper.reproduce import expected_seconds, schedule_seconds, shares_learned

    began = time.monotonic()
    left, known, digests = _units_left(store, units, trials, results)
    if not dry_run:
        for one in left:  # once, here: two units that freeze the same at once would make two versions of it
            _freeze_portions(store, one)
        left, known, digests = _units_left(store, units, trials, results)  # on what was new, too
    learned = shares_learned(store, left)
    expected = {one.name: expected_seconds(one, trials, known, device, learned[one.name]) for one in left}
    forecast = schedule_seconds(list(expected.values()), at_once) / 60
    say(
        f"{len(units)} unit{'s' if len(units) > 1 else ''}, {len(units) - len(left)} there, "
        f"{len(left)} to do, {at_once} at a time: about {forecast:.0f} minutes"
    )
    files = sort_by_settings(units, {result.unit.name: result for result in known})
    _say_settings(files, results)
    _note_replaced(left, files, digests, results)
    if dry_run:
        for one in left:
            where, minutes = ", ".join(one.envs), expected[one.name] / 60
            say(f"  {one.name}: {one.mixture}, judged in {where}, about {minutes:.1f} minutes")
        return
    _check_memory(store, left, at_once)
    _run_units(left, expected, at_once, command)
    minutes = (time.monotonic() - began) / 60
    say(f"{len(units)} units are in {results} · {minutes:.1f} minutes · next: cog report")


def _say_settings(found: Provenance, results: Path) -> None:
    """Say which files of a plan are of today's settings; of the others what made them, and what differs."""
    from collectors.provenance import revision

    if not found.todays and not found.others:
        return
    here = revision()
    own = sum(len(names) for (code, _), names in found.others.items() if code and code == here)
    earlier = sum(map(len, found.others.values())) - own
    rest = f", {own} of this commit's with other settings" if own else ""
    say(
        f"files in {results}: {len(found.todays)} of today's settings, {earlier} of an earlier commit's{rest}"
    )
    for (code, differences), names in found.others.items():
        say(f"  made by {code or 'unknown code'}, {differences}: {', '.join(names)}")


def _note_replaced(
    left: list[Unit], files: Provenance, digests: dict[str, str | None], results: Path
) -> None:
    """Say of the units to do which have a file already, and what becomes of it."""
    from trainers.paper.files import REPLACED

    fitting = [one for one in left if one.name in files.todays]
    undecided = [one for one in fitting if digests[one.learned_from] is None]
    if undecided:
        note(
            f"{len(undecided)} of them have a file of today's settings in {results}, which counts if its "
            f"data are the same: name another --results to make them all"
        )
    if differ := len(fitting) - len(undecided) + sum(map(len, files.others.values())):
        note(
            f"{differ} of them have a file in {results}, of other settings, other data or fewer scenes: "
            f"it goes to {results / REPLACED} where the new one does not hold all that it does"
        )


def _refuse_results(units: list[Unit], results: Path) -> None:
    there = [unit.name for unit in units if (results / f"{unit.name}.json").exists()]
    if there:
        raise CogError(
            f"{results} has {len(there)} of these {len(units)} units already, {there[0]} first: leave "
            f"--no-resume out to go on, or name another --results"
        )


def _check_memory(store: Store, left: list[Unit], at_once: int) -> None:
    """Refuse more units at once than there is memory for: each checks its own pool alone."""
    from cogdata.storage.manifest import read_manifest
    from cogdata.streaming.footprint import footprint
    from cogdata.streaming.stream import StreamOptions
    from cogdata.system.machine import free_memory
    from trainers.algorithm import OBS_KINDS
    from trainers.training.methods import configure_stages

    manifests = {name: read_manifest(store, name) for name in {unit.learned_from for unit in left}}
    sizes = []
    for unit in left:
        batch = max(one.batch_size for _, one in configure_stages(unit.method, unit.preset, unit.settings))
        options = StreamOptions(batch, columns=OBS_KINDS[unit.obs])
        sizes.append(sum(footprint(manifests[unit.learned_from], options)))
    sizes.sort(reverse=True)
    free, taken = free_memory(), sum(sizes[:at_once])
    if free is None or taken <= free:
        return
    fit = sum(sum(sizes[: count + 1]) <= free for count in range(at_once))
    raise CogError(
        f"{min(at_once, len(sizes))} units at once read into {taken / 1e9:.1f} GB, {free / 1e9:.1f} GB are "
        f"free: {f'give --jobs {fit}' if fit else 'give a smaller --scale'}, or stop something else"
    )


def _fractions(units: list[Unit], scale: float | None) -> dict[str, float]:
    """Mixture → fraction of the paper's episodes."""
    return {unit.mixture: unit.scale if scale is None else scale for unit in units}


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
        if dry_run:
            say(f"{what} to collect first")
            continue
        say(f"collecting {what}")
        run_collection(store, planned, local_engine(workers))
    if not there:
        return
    collected = {need: (planned.asked.collection, planned.episodes) for need, planned in wanted.items()}
    if dry_run and (lacking or is_short(store, name, collected)):
        say(f"{name} to be frozen anew, larger: units that learned from the smaller one are done again")
    elif not dry_run and is_short(store, name, collected):
        say_frozen(refreeze(store, name))


def _units_left(
    store: Store, units: list[Unit], trials: Trials, results: Path
) -> tuple[list[Unit], list[Result], dict[str, str | None]]:
    """Units without a result on the present mixture, all results, and mixture → digest; None: not frozen."""
    from cogdata.storage.manifest import newest_digest
    from trainers.paper.files import read_result
    from trainers.paper.reproduce import is_done

    found = {path.stem: read_result(path) for path in sorted(results.glob("*.json"))}
    digests = {name: newest_digest(store, name) for name in {unit.learned_from for unit in units}}
    left = [
        unit
        for unit in units
        if unit.name not in found or not is_done(found[unit.name], unit, digests[unit.learned_from], trials)
    ]
    return left, list(found.values()), digests


def _freeze_portions(store: Store, unit: Unit) -> None:
    from trainers.training.methods import find_method

    whole = _mixture_of(store, unit)
    for stage in find_method(unit.method).stages:
        frozen_portion(store, whole, stage.portion)


def _mixture_of(store: Store, unit: Unit) -> str:
    """The mixture that a unit learns from; what is not frozen yet is frozen."""
    from cogdata.storage.manifest import list_versions, read_info

    there = list_versions(store, unit.mixture)  # whether its recipe has changed since is said once, before
    whole = read_info(store, unit.mixture).ref if there else frozen_mixture(store, unit.mixture)
    if unit.learned_from == unit.mixture:
        return whole
    made = unit.derived
    if made.inferred:
        if list_versions(store, unit.learned_from):
            inferred = read_info(store, unit.learned_from)
            if inferred.created_at >= read_info(store, whole).created_at:
                return inferred.ref
        return infer_mixture(store, whole, unit.learned_from, obs=unit.obs)
    from catalog.mixtures.portions import freeze_part

    part = freeze_part(store, whole, unit.variant, where=made.where, until=made.until, reward=made.reward)
    return part.ref


def _run_units(left: list[Unit], expected: dict[str, float], at_once: int, command: list[str]) -> None:
    """Run units as processes; what they say last is shown, what they end with is kept."""
    from cogdata.system.subprocesses import Commands
    from trainers.paper.reproduce import schedule_seconds

    latest: dict[str, str] = {}
    done: list[str] = []
    failed: list[str] = []
    ticker = Ticker(60)

    def minutes_left() -> float:
        rest = [seconds for name, seconds in expected.items() if name not in done]
        return schedule_seconds(rest or [0.0], at_once) / 60

    def ended(name: str, code: int) -> None:
        text = latest.pop(name, "")
        ticker.clear()
        if code == INTERRUPTED:
            return
        done.append(name)
        if code:
            failed.append(name)
            note(f"{name} failed: {text}{_ended_by(code)}")
        else:
            say(f"[{len(done)}/{len(left)}] {text} · about {minutes_left():.0f} minutes left")

    with (
        Commands({one.name: [*command, "--unit", one.name] for one in left}, at_once, ended) as commands,
        ending_on_request(commands.stop) as ending,
    ):
        for line in commands.lines():
            latest[line.name] = line.text
            ticker.show(lambda: " | ".join(f"{name}: {text}" for name, text in latest.items()))
        codes = commands.codes()
    ticker.clear()
    if ending() or INTERRUPTED in codes.values():
        note(
            f"stopped: {len(done)} of {len(left)} units are done; the same command goes on, from the last "
            f"checkpoints of the others"
        )
        raise typer.Exit(INTERRUPTED)
    if failed:
        raise CogError(
            f"{len(failed)} of {len(left)} units failed as said above; the same command tries them again"
        )


def _ended_by(code: int) -> str:
    """What ended a process, if it was a signal."""
    if code >= 0:
        return ""
    name = signal.Signals(-code).name
    likely = ": the system does that when memory runs out, see --jobs" if name == "SIGKILL" else ""
    return f" · ended by {name}{likely}"


def _reproduce_unit(store: Store, unit: Unit, trials: Trials, results: Path, device: str) -> None:
    """Train a unit, judge it, write its result."""
    from cogdata.storage.manifest import read_info
    from collectors.drivers import check_engine, check_name
    from collectors.provenance import revision
    from trainers.algorithm import OBS_KINDS
    from trainers.paper.files import write_result
    from trainers.paper.reproduce import commands_of, judge_unit
    from trainers.paper.results import Result
    from trainers.paper.stored import (
        describe_data,
        describe_machine,
        describe_runs,
        online_outcomes,
        read_judged,
    )
    from trainers.training.settings import TrainSettings

    for env in unit.envs:
        check_name(env)
        check_engine(env)
    mixture = _mixture_of(store, unit)  # one version, whatever is frozen meanwhile
    settings = TrainSettings(
        mixture=mixture, method=unit.method, preset=unit.preset, obs=unit.obs, seed=unit.seed,
        threads=1, device=device, guard="off", set=unit.settings,
    )  # fmt: skip
    run = train_stages(store, settings, stages_of(store, settings), mixture)
    if unit.online:
        run = _finetune_unit(store, unit, run, device)
    size, parts = read_info(store, mixture).image_size[0], OBS_KINDS[unit.obs]
    judged_before, began = bool(read_judged(store, run)), time.monotonic()
    ticker = Ticker()
    judged, curve = judge_unit(
        store,
        unit,
        run,
        trials,
        lambda env: world_of(env, size, parts),
        lambda text: ticker.show(lambda: text),
    )
    ticker.clear()
    result = Result(
        unit,
        describe_data(store, mixture),
        describe_runs(store, run),
        tuple(judged),
        tuple(curve),
        describe_machine(),
        revision(),
        commands_of(unit, trials),
        None if judged_before else round(time.monotonic() - began, 1),
        online_outcomes(store, run) if unit.online else "",
    )
    write_result(results, result)
    update_catalog(store)
    rates = ", ".join(f"{one.env} {one.successes}/{one.episodes}" for one in judged)
    say(f"{unit.name}: {rates} · {(result.training_seconds + time.monotonic() - began) / 60:.1f} minutes")


def _finetune_unit(store: Store, unit: Unit, run: str, device: str) -> str:
    """Go on online from the policy of a unit's run; returns the new run."""
    from cogdata.storage.manifest import read_manifest
    from cogdata.storage.runs import read_run
    from cogdata.streaming.stream import default_memory
    from trainers.paper.reproduce import last_update
    from trainers.paper.table1 import FINETUNED, UPDATES_PER_STEP
    from trainers.training.online import Online
    from trainers.training.request import TrainRequest
    from trainers.training.start import from_run

    theirs, algo = read_run(store, run), FINETUNED[unit.method]
    manifest = read_manifest(store, f"{theirs.mixture}@{theirs.mixture_version}")
    online_env, horizon = online_env_of(unit.envs[0], manifest.info.image_size[0], 1)
    chosen, preset, config = finetuned_config(theirs, algo, None, [])
    online = Online(
        unit.envs[0], unit.online, horizon, "symmetric" if algo is None else "online", UPDATES_PER_STEP,
        continues=algo is None,
    )  # fmt: skip
    request = TrainRequest(
        chosen, config, preset, theirs.obs, unit.seed, device, 1, default_memory() // 2, online=online
    )
    request = from_run(store, request, f"{run}@{last_update(unit)}")
    return begin_finetune(store, manifest, request, online_env, horizon, 1)
