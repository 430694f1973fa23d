"""One unit of a reproduction: the command that trains it, its judgements, and what is left of a plan."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from cogdata.errors import CogError
from cogdata.storage.manifest import newest_digest
from cogdata.storage.runs import (
    EVALUATION,
    FIRST_SELECTION_SEED,
    SELECTION,
    RunInfo,
    list_runs,
    read_run,
    read_state,
)
from cogdata.storage.store import Store
from trainers.algorithm import OBS_KINDS, Config
from trainers.algos import config_from_dict
from trainers.checkpoint import list_checkpoints
from trainers.evaluation.evaluate import World, evaluate, open_policy, write_evaluation
from trainers.paper.comparison import differences
from trainers.paper.results import Judged, Result
from trainers.paper.stored import describe_data, describe_runs, find_judged, read_judged, read_scenes
from trainers.paper.table1 import FINETUNED, PRESETS, TASKS, UPDATES_PER_STEP, Unit, plan_units
from trainers.training.methods import METHODS, WHOLE, Stage, configure_stages

MakeWorld = Callable[[str], World]
"""Environment id → where to judge."""

UPDATE_MS: Final = {
    False: {"bc": 5.0, "sac": 12.0, "cql": 19.0, "bfn": 26.0},
    True: {"bc": 30.0, "sac": 123.0, "cql": 70.0, "bfn": 65.0},
}
"""Whether pictures are seen → algorithm → one update on one thread: a first guess (docs/learning.md)."""
UPDATE_ROWS: Final = {False: 256, True: 128}
"""Whether pictures are seen → the batch of that guess."""
STEP_MS: Final = {False: 2.0, True: 4.0}
"""Whether pictures are seen → one judged step, acting included: a first guess."""
HORIZON: Final = 60
"""Steps of a judged episode, in the mean over tasks."""


@dataclass(frozen=True)
class Trials:
    """How much a unit is judged.

    Attributes:
        episodes: Scenes per condition, from seed 0 on.
        curve: Scenes of each checkpoint on the way, from ``FIRST_SELECTION_SEED`` on; 0: no curve.
        points: Checkpoints of the curve.
    """

    episodes: int
    curve: int
    points: int


def last_update(unit: Unit) -> int:
    """Gradient steps behind the checkpoint that a unit is judged at: as many as its last stage is given."""
    return configure_stages(unit.method, unit.preset, unit.settings)[-1][1].updates


def curve_updates(available: Sequence[int], updates: int, points: int) -> list[int]:
    """Pick checkpoints for a curve: those nearest to equal distances, the last one among them.

    Args:
        available: Updates of the checkpoints that there are.
        updates: Of the last one to take.
        points: How many.
    """
    known = [update for update in available if 0 < update <= updates]
    wanted = [updates * (number + 1) / points for number in range(points)]
    return sorted({min(known, key=lambda update: abs(update - goal)) for goal in wanted} if known else ())


def judge_unit(
    store: Store, unit: Unit, run: str, trials: Trials, world_of: MakeWorld, say: Callable[[str], None]
) -> tuple[list[Judged], list[Judged]]:
    """Judge the last checkpoint of a unit in every condition, and those on the way in a hard one.

    What has been judged before is not judged again.

    Args:
        store: Where the run is.
        unit: What it is.
        run: Its last stage.
        trials: How much.
        world_of: Makes the worlds.
        say: Told what is being done.

    Returns:
        The judgements of the last checkpoint, and the curve.
    """
    updates = list_checkpoints(store, run)[-1] if unit.online else last_update(unit)
    final = [judge_scenes(store, run, updates, env, (0, trials.episodes), world_of, say) for env in unit.envs]
    curve: list[Judged] = []
    if unit.curve_env is not None and trials.curve:
        for update in curve_updates(list_checkpoints(store, run), updates, trials.points):
            chosen = (FIRST_SELECTION_SEED, trials.curve)
            curve.append(
                judge_scenes(store, run, update, unit.curve_env, chosen, world_of, say, purpose=SELECTION)
            )
    return final, curve


def judge_scenes(
    store: Store,
    run: str,
    update: int,
    env: str,
    seeds: tuple[int, int],
    world_of: MakeWorld,
    say: Callable[[str], None],
    workers: int = 1,
    purpose: str = EVALUATION,
) -> Judged:
    """Judge a checkpoint in one condition, or find the judgement that is there; the store keeps its rows.

    Args:
        store: Where the run is.
        run: Run id.
        update: Which checkpoint.
        env: Where.
        seeds: The first scene, and how many.
        world_of: Makes the world.
        say: Told what is being done.
        workers: Processes.
        purpose: What the rows are for, as :data:`cogdata.storage.runs.EVALUATIONS` says.
    """
    first, episodes = seeds
    there = find_judged(read_judged(store, run), env, update, first, episodes)
    if there is not None:
        return there

    def progress(done: int, total: int, successes: int) -> None:
        say(f"{env} at {update:,}: {done}/{total} · {successes} succeeded")

    policy = open_policy(store, run, update)
    scenes = range(first, first + episodes)
    found = evaluate(policy, world_of(env), scenes, workers=workers, on_progress=progress, purpose=purpose)
    write_evaluation(store, found)
    judged = find_judged(read_judged(store, run), env, update, first, episodes)
    if judged is None:
        raise RuntimeError(f"evaluation {found.name} was written and is not there")
    return judged


def is_done(result: Result, unit: Unit, digest: str | None, trials: Trials) -> bool:
    """Whether a result is that of this unit on this mixture, judged at least as much as is asked for.

    It may be of any commit, as long as today's settings are the same.

    Args:
        result: Read from its file.
        unit: Wanted.
        digest: Of the mixture that it would learn from; None: not frozen yet.
        trials: Wanted.
    """
    if result.data.digest != digest or differences(result, unit):
        return False
    updates = result.runs[-1].updates if unit.online else last_update(unit)
    seen = {one.env for one in result.judged if one.update == updates and one.episodes >= trials.episodes}
    curved = not trials.curve or unit.curve_env is None
    curved = curved or (bool(result.curve) and result.curve[0].episodes >= trials.curve)
    return seen >= set(unit.envs) and curved


def commands_of(unit: Unit, trials: Trials) -> tuple[str, ...]:
    """What to type for the same run and the same judgement."""
    train = [
        "cog", "train", "--mixture", unit.learned_from, "--method", unit.method, "--obs", unit.obs,
        "--preset", unit.preset, "--seed", str(unit.seed), "--threads", "1", "--guard", "off",
        *(word for pair in unit.settings for word in ("--set", pair)),
    ]  # fmt: skip
    tuned = FINETUNED.get(unit.method)
    online = [
        "cog", "finetune", "RUN", "--env", unit.envs[0], "--episodes", str(unit.online),
        "--updates-per-step", f"{UPDATES_PER_STEP:g}", "--threads", "1",
        *([] if tuned is None else ["--algo", tuned, "--data", "online"]),
    ]  # fmt: skip
    judge = ["cog", "eval", "RUN", *(word for env in unit.envs for word in ("--env", env))]
    judge += ["--episodes", str(trials.episodes)]
    return tuple(map(shlex.join, [train, online, judge] if unit.online else [train, judge]))


def unit_of_run(info: RunInfo) -> Unit | None:
    """Say which unit a run is the last stage of, as its settings and mixture tell; None: of none.

    Args:
        info: Head of the run.
    """
    if info.method is None or info.method not in METHODS or info.preset not in PRESETS:
        return None
    units = plan_units(
        list(TASKS), obs=info.obs, preset=info.preset, methods=[info.method], seeds=[info.seed]
    )
    for unit in units:
        if _is_stage(info, unit, *configure_stages(unit.method, unit.preset, unit.settings)[-1]):
            return unit
    return None


def _is_stage(info: RunInfo, unit: Unit, stage: Stage, config: Config) -> bool:
    """Whether a run, of a unit's method, observations and seed, is this stage of it."""
    learned_from = _portion_of(unit.learned_from, stage.portion)
    return (stage.algo, learned_from) == (info.algo, info.mixture) and config == _config_of(info)


def _portion_of(mixture: str, portion: str) -> str:
    """The name under which the catalog freezes a portion of a mixture."""
    return {WHOLE: mixture, "task": f"{mixture}_no_prior"}.get(portion, f"{mixture}_{portion}")


def _config_of(info: RunInfo) -> Config | None:
    """A run's configuration, keys that are newer than it at their defaults; None: it has one that is gone."""
    try:
        return config_from_dict(info.algo, info.config)
    except CogError:
        return None


def result_of_run(store: Store, unit: Unit, run: str) -> Result | None:
    """Put together what the store knows of a unit: all but machine, code and how long judging took.

    Args:
        store: Where the run is.
        unit: What it is.
        run: Its last stage.

    Returns:
        None if its last checkpoint was not judged in every condition on the scenes from 0 on.
    """
    updates, found = last_update(unit), read_judged(store, run)
    final = [read_scenes(store, run, env, updates) for env in unit.envs]
    judged = tuple(one for one in final if one is not None)
    if len(judged) < len(final):
        return None
    curve = [one for one in found if (one.env, one.first_seed) == (unit.curve_env, FIRST_SELECTION_SEED)]
    most = max((one.episodes for one in curve), default=0)
    curve = sorted((one for one in curve if one.episodes == most), key=lambda one: one.update)
    trials = Trials(judged[0].episodes, curve[0].episodes if curve else 0, len(curve))
    runs = describe_runs(store, run)
    whole = [stage.mixture for stage in runs if stage.mixture.partition("@")[0] == unit.mixture]
    data = describe_data(store, [*whole, unit.mixture][0])
    return Result(unit, data, runs, judged, tuple(curve), {}, "", commands_of(unit, trials))


def shares_learned(store: Store, units: Sequence[Unit]) -> dict[str, float]:
    """Say which share of their gradient steps units have behind them: of those that go on online none.

    Args:
        store: Where their runs are, if they were begun.
        units: Wanted.

    Returns:
        Name → share, from 0 to 1.
    """
    there = _progress(store) if units else []
    digests: dict[str, str | None] = {}
    shares = {}
    for unit in units:
        stages = configure_stages(unit.method, unit.preset, unit.settings)
        done = 0
        for stage, config in () if unit.online else stages:
            name = _portion_of(unit.learned_from, stage.portion)
            if name not in digests:
                digests[name] = newest_digest(store, name)
            wanted = (unit.method, unit.preset, unit.obs, unit.seed, digests[name])
            found = [
                updates
                for info, updates in there
                if (info.method, info.preset, info.obs, info.seed, info.mixture_digest) == wanted
                and _is_stage(info, unit, stage, config)
            ]
            done += max(found, default=0)
        shares[unit.name] = min(1.0, done / sum(config.updates for _, config in stages))
    return shares


def _progress(store: Store) -> list[tuple[RunInfo, int]]:
    """Every run that learns offline, with the updates that it has; not those that are damaged."""
    found = []
    for run in list_runs(store):
        with suppress(CogError):
            info, state = read_run(store, run), read_state(store, run)
            if info.online is None and state is not None:
                found.append((info, state.updates_done))
    return found


def expected_seconds(
    unit: Unit, trials: Trials, known: Sequence[Result], device: str = "cpu", learned: float = 0.0
) -> float:
    """How long a unit will take on one thread: as long as its like did, else a guess from tables.

    Args:
        unit: What is to be done.
        trials: How much it is judged.
        known: Results that say how long they took.
        device: Torch device that it will learn on; another kind's times say nothing.
        learned: Share of its gradient steps that need no doing.
    """
    like = [
        result.training_seconds * (1 - learned) + result.judging_seconds
        for result in known
        if result.judging_seconds is not None
        and replace(result.unit, seed=unit.seed) == unit
        and all(run.device.partition(":")[0] == device.partition(":")[0] for run in result.runs)
    ]
    if like:
        return sum(like) / len(like)
    images = "image" in OBS_KINDS[unit.obs]
    stages = configure_stages(unit.method, unit.preset, unit.settings)
    training = sum(
        UPDATE_MS[images][stage.algo] * config.updates * config.batch_size / UPDATE_ROWS[images]
        for stage, config in stages
    )
    if unit.online:
        algo = FINETUNED[unit.method] or stages[-1][0].algo
        steps = unit.online * HORIZON
        training = steps * (STEP_MS[images] + UPDATES_PER_STEP * UPDATE_MS[images][algo])
    episodes = trials.episodes * len(unit.envs)
    episodes += trials.curve * trials.points if unit.curve_env is not None else 0
    return (training * (1 - learned) + STEP_MS[images] * HORIZON * episodes) / 1000


def schedule_seconds(expected: Sequence[float], at_once: int) -> float:
    """How long units will take, one after another on so many places, each in the first that is free."""
    free = [0.0] * at_once
    for seconds in expected:
        free[free.index(min(free))] += seconds
    return max(free)
