"""How long experiments will take, and how much of them is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from cogdata.errors import CogError
from cogdata.storage.manifest import newest_digest
from cogdata.storage.runs import RunInfo, list_runs, read_run, read_state
from cogdata.storage.store import Store
from trainers.paper.experiments import FINETUNED, UPDATES_PER_STEP, Experiment
from trainers.paper.identify import is_stage, portion_of
from trainers.paper.reproduce import EvalBudget
from trainers.paper.results import Result

UPDATE_MS: Final = {
    False: {"bc": 5.0, "sac": 12.0, "cql": 19.0, "bfn": 26.0},
    True: {"bc": 30.0, "sac": 123.0, "cql": 70.0, "bfn": 65.0},
}
"""Whether there are images → algorithm → one update on one thread: a first guess (docs/learning.md)."""
UPDATE_ROWS: Final = {False: 256, True: 128}
"""Whether there are images → batch size of that guess."""
STEP_MS: Final = {False: 2.0, True: 4.0}
"""Whether there are images → one step of an evaluation, acting included: a first guess."""
HORIZON: Final = 60
"""Steps of an evaluation episode, in the mean over tasks."""


def shares_learned(store: Store, experiments: Sequence[Experiment]) -> dict[str, float]:
    """Say which share of their updates experiments have behind them: of those that go on online none.

    Args:
        store: Where their runs are, if they were begun.
        experiments: Wanted.

    Returns:
        Name → share, from 0 to 1.
    """
    there = _progress(store) if experiments else []
    names = {
        portion_of(one.learned_from, stage.portion)
        for one in experiments
        if not one.online
        for stage, _ in one.stages
    }
    digests = {name: newest_digest(store, name) for name in names}
    return {one.name: 0.0 if one.online else _share_learned(one, there, digests) for one in experiments}


def _share_learned(
    experiment: Experiment, there: Sequence[tuple[RunInfo, int]], digests: Mapping[str, str | None]
) -> float:
    """Share of an experiment's updates that runs of its stages on the present mixtures have."""
    done = total = 0
    for stage, config in experiment.stages:
        digest = digests[portion_of(experiment.learned_from, stage.portion)]
        wanted = (experiment.method, experiment.preset, experiment.obs, experiment.seed, digest)
        found = [
            updates
            for info, updates in there
            if (info.method, info.preset, info.obs, info.seed, info.mixture_digest) == wanted
            and is_stage(info, experiment, stage, config)
        ]
        done += max(found, default=0)
        total += config.updates
    return min(1.0, done / total)


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
    experiment: Experiment,
    budget: EvalBudget,
    known: Sequence[Result],
    device: str = "cpu",
    learned: float = 0.0,
) -> float:
    """How long an experiment will take on one thread: as long as its like did, else a guess from tables.

    Args:
        experiment: What is to be done.
        budget: How much it is evaluated.
        known: Results that say how long they took.
        device: Torch device that it will learn on; another kind's times say nothing.
        learned: Share of its updates that are done already.
    """
    like = [
        result.training_seconds * (1 - learned) + result.evaluation_seconds
        for result in known
        if result.evaluation_seconds is not None
        and replace(result.experiment, seed=experiment.seed) == experiment
        and all(run.device.partition(":")[0] == device.partition(":")[0] for run in result.runs)
    ]
    if like:
        return sum(like) / len(like)
    episodes = budget.episodes * len(experiment.envs)
    episodes += budget.curve * budget.points if experiment.curve_env is not None else 0
    evaluation_ms = STEP_MS[experiment.images] * HORIZON * episodes
    return (_training_ms(experiment) * (1 - learned) + evaluation_ms) / 1000


def _training_ms(experiment: Experiment) -> float:
    """A first guess of the training time; of one that goes on online of that part alone."""
    images, stages = experiment.images, experiment.stages
    if experiment.online:
        algo = FINETUNED[experiment.method] or stages[-1][0].algo
        steps = experiment.online * HORIZON
        return steps * (STEP_MS[images] + UPDATES_PER_STEP * UPDATE_MS[images][algo])
    return sum(
        UPDATE_MS[images][stage.algo] * config.updates * config.batch_size / UPDATE_ROWS[images]
        for stage, config in stages
    )


def schedule_seconds(expected: Sequence[float], at_once: int) -> float:
    """How long experiments take on so many places, each in the first that is free."""
    free = [0.0] * at_once
    for seconds in expected:
        free[free.index(min(free))] += seconds
    return max(free)
