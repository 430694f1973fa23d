"""Experiments of `cog reproduce`: one in this process, and several as processes."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cogdata.errors import CogError
from commands.evaluate import eval_env_of
from commands.finetune import begin_finetune, finetuned_config, online_env_of
from commands.mix import infer_mixture
from commands.requests import frozen_portion, stages_of
from commands.shared import INTERRUPTED, Ticker, ending_on_request, frozen_mixture, note, say, update_catalog
from commands.train import train_stages

if TYPE_CHECKING:
    from cogdata.storage.store import Store
    from trainers.paper.experiments import Experiment
    from trainers.paper.reproduce import EvalBudget
    from trainers.paper.results import Result


def freeze_portions(store: Store, experiment: Experiment) -> None:
    """Freeze the mixture of an experiment and the portions that its stages learn from."""
    from trainers.training.methods import find_method

    whole = _mixture_of(store, experiment)
    for stage in find_method(experiment.method).stages:
        frozen_portion(store, whole, stage.portion)


def _mixture_of(store: Store, experiment: Experiment) -> str:
    """The mixture that an experiment learns from; what is not frozen yet is frozen."""
    from catalog.mixtures.portions import freeze_part
    from cogdata.storage.manifest import list_versions, read_info

    name, recipe, made = experiment.learned_from, experiment.mixture, experiment.derivation
    there = list_versions(store, recipe)  # whether the recipe has changed since is said once, before
    whole = read_info(store, recipe).ref if there else frozen_mixture(store, recipe)
    if name == recipe:
        return whole
    if not made.inferred:
        change = experiment.change
        return freeze_part(store, whole, change, where=made.where, until=made.until, reward=made.reward).ref
    if list_versions(store, name):
        inferred = read_info(store, name)
        if inferred.created_at >= read_info(store, whole).created_at:
            return inferred.ref
    return infer_mixture(store, whole, name, obs=experiment.obs)


class _Progress:
    """What experiments that run as processes said last, and how they ended.

    Attributes:
        done: Names of those that ended by themselves, failed or not.
        failed: Names of those that failed.
    """

    def __init__(self, expected: dict[str, float], at_once: int) -> None:
        self.done: list[str] = []
        self.failed: list[str] = []
        self._expected = expected
        self._at_once = at_once
        self._latest: dict[str, str] = {}
        self._ticker = Ticker(60)

    def show(self, name: str, text: str) -> None:
        """Show what an experiment says."""
        self._latest[name] = text
        self._ticker.show(lambda: " | ".join(f"{name}: {text}" for name, text in self._latest.items()))

    def end(self, name: str, code: int) -> None:
        """Say how an experiment ended, by its exit code."""
        text = self._latest.pop(name, "")
        self.clear()
        if code == INTERRUPTED:
            return
        self.done.append(name)
        if code:
            self.failed.append(name)
            note(f"{name} failed: {text}{_ended_by(code)}")
        else:
            of = f"{len(self.done)}/{len(self._expected)}"
            say(f"[{of}] {text} · about {self._minutes_left():.0f} minutes left")

    def clear(self) -> None:
        """Take the live line away."""
        self._ticker.clear()

    def _minutes_left(self) -> float:
        from trainers.paper.forecast import schedule_seconds

        rest = [seconds for name, seconds in self._expected.items() if name not in self.done]
        return schedule_seconds(rest or [0.0], self._at_once) / 60


def run_experiments(expected: dict[str, float], at_once: int, command: list[str]) -> None:
    """Run experiments as processes; what they say last is shown, what they end with is kept.

    Args:
        expected: Name → seconds that it will take.
        at_once: Number of processes.
        command: The command line, but for the name.
    """
    from cogdata.system.subprocesses import Commands

    progress, count = _Progress(expected, at_once), len(expected)
    commands = {name: [*command, "--experiment", name] for name in expected}
    with Commands(commands, at_once, progress.end) as running, ending_on_request(running.stop) as ending:
        for line in running.lines():
            progress.show(line.name, line.text)
        codes = running.codes()
    progress.clear()
    if ending() or INTERRUPTED in codes.values():
        note(
            f"stopped: {len(progress.done)} of {count} experiments are done; the same command goes on, from "
            f"the last checkpoints of the others"
        )
        raise typer.Exit(INTERRUPTED)
    if progress.failed:
        raise CogError(
            f"{len(progress.failed)} of {count} experiments failed as said above; the same command tries "
            f"them again"
        )


def _ended_by(code: int) -> str:
    """What ended a process, if it was a signal."""
    if code >= 0:
        return ""
    name = signal.Signals(-code).name
    likely = ": the system does that when memory runs out, see --jobs" if name == "SIGKILL" else ""
    return f" · ended by {name}{likely}"


def reproduce_experiment(
    store: Store, experiment: Experiment, budget: EvalBudget, results: Path, device: str
) -> None:
    """Train an experiment, evaluate it, write its result."""
    from collectors.drivers import check_engine, check_name
    from trainers.paper.files import write_result

    for env in experiment.envs:
        check_name(env)
        check_engine(env)
    mixture = _mixture_of(store, experiment)  # one version, whatever is frozen meanwhile
    run = _train(store, experiment, mixture, device)
    began = time.monotonic()
    result = _evaluated(store, experiment, budget, mixture, run)
    write_result(results, result)
    update_catalog(store)
    rates = ", ".join(f"{one.env} {one.successes}/{one.episodes}" for one in result.evaluated)
    minutes = (result.training_seconds + time.monotonic() - began) / 60
    say(f"{experiment.name}: {rates} · {minutes:.1f} minutes")


def _train(store: Store, experiment: Experiment, mixture: str, device: str) -> str:
    """Train the stages of an experiment, and fine-tune if it goes on online; return the last run."""
    from trainers.training.settings import TrainSettings

    settings = TrainSettings(
        mixture=mixture, method=experiment.method, preset=experiment.preset, obs=experiment.obs,
        seed=experiment.seed, threads=1, device=device, guard="off", set=experiment.settings,
    )  # fmt: skip
    run = train_stages(store, settings, stages_of(store, settings), mixture)
    return _finetune(store, experiment, run, device) if experiment.online else run


def _evaluated(store: Store, experiment: Experiment, budget: EvalBudget, mixture: str, run: str) -> Result:
    """Evaluate the last run of an experiment, and put its result together."""
    from cogdata.storage.manifest import read_info
    from collectors.provenance import revision
    from trainers.obs_kinds import OBS_KINDS
    from trainers.paper import stored
    from trainers.paper.reproduce import Evaluator, commands_of, evaluate_experiment
    from trainers.paper.results import Result

    size, features = read_info(store, mixture).camera_size[0], OBS_KINDS[experiment.obs]
    before, began, ticker = bool(stored.read_evaluated(store, run)), time.monotonic(), Ticker()
    evaluator = Evaluator(
        store, run, lambda env: eval_env_of(env, size, features), lambda text: ticker.show(lambda: text)
    )
    final, curve = evaluate_experiment(evaluator, experiment, budget)
    ticker.clear()
    return Result(
        experiment,
        stored.describe_data(store, mixture),
        stored.describe_runs(store, run),
        tuple(final),
        tuple(curve),
        stored.describe_machine(),
        revision(),
        commands_of(experiment, budget),
        None if before else round(time.monotonic() - began, 1),
        stored.online_outcomes(store, run) if experiment.online else "",
    )


def _finetune(store: Store, experiment: Experiment, run: str, device: str) -> str:
    """Go on online from the policy of an experiment's run; return the new run."""
    from cogdata.storage.manifest import read_manifest
    from cogdata.storage.runs import read_run
    from cogdata.streaming.stream import default_memory
    from trainers.paper.experiments import FINETUNED, UPDATES_PER_STEP
    from trainers.training.online import Online
    from trainers.training.request import TrainRequest
    from trainers.training.start import from_run

    theirs, algo = read_run(store, run), FINETUNED[experiment.method]
    manifest = read_manifest(store, f"{theirs.mixture}@{theirs.mixture_version}")
    online_env, horizon = online_env_of(experiment.envs[0], manifest.info.camera_size[0], 1)
    chosen, preset, config = finetuned_config(theirs, algo, None, [])
    online = Online(
        experiment.envs[0], experiment.online, horizon, "symmetric" if algo is None else "online",
        UPDATES_PER_STEP, continues=algo is None,
    )  # fmt: skip
    request = TrainRequest(
        chosen, config, preset, theirs.obs, experiment.seed, device, 1, default_memory() // 2, online=online
    )
    request = from_run(store, request, f"{run}@{experiment.last_update}")
    return begin_finetune(store, manifest, request, online_env, horizon, 1)
