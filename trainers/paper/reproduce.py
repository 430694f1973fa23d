"""One experiment of a reproduction: its evaluations, its commands, and whether its result is there."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cogdata.storage.manifest import newest_digest
from cogdata.storage.runs import EVALUATION, FIRST_SELECTION_SEED, SELECTION
from cogdata.storage.store import Store
from trainers.checkpoint import list_checkpoints
from trainers.evaluation.evaluate import EvalEnv, evaluate, open_policy, write_evaluation
from trainers.paper.comparison import differences
from trainers.paper.experiments import FINETUNED, UPDATES_PER_STEP, Experiment
from trainers.paper.files import read_result
from trainers.paper.results import Evaluated, Result
from trainers.paper.stored import describe_data, describe_runs, find_evaluated, read_evaluated, read_scenes

MakeEvalEnv = Callable[[str], EvalEnv]
"""Environment id → environment to evaluate in."""


@dataclass(frozen=True)
class EvalBudget:
    """How much an experiment is evaluated.

    Attributes:
        episodes: Episodes per condition, from eval seed 0 on.
        curve: Episodes of each checkpoint of the curve, from ``FIRST_SELECTION_SEED`` on; 0: no curve.
        points: Checkpoints of the curve.
    """

    episodes: int
    curve: int
    points: int


@dataclass(frozen=True)
class Evaluator:
    """Evaluates checkpoints of a run; an evaluation that the store has is read instead.

    Attributes:
        store: Where the run is.
        run: Run id.
        eval_env_of: Makes the environments.
        say: Called with a line of progress.
        workers: Processes.
    """

    store: Store
    run: str
    eval_env_of: MakeEvalEnv
    say: Callable[[str], None]
    workers: int = 1

    def evaluate(self, update: int, env: str, seeds: range, purpose: str = EVALUATION) -> Evaluated:
        """Evaluate a checkpoint in one environment; the store keeps the rows.

        Args:
            update: Which checkpoint.
            env: Gymnasium id.
            seeds: Eval seeds, one episode each.
            purpose: What the rows are for, as :data:`cogdata.storage.runs.EVALUATIONS` says.
        """
        if (there := self._find(update, env, seeds)) is not None:
            return there

        def progress(done: int, total: int, successes: int) -> None:
            self.say(f"{env} at {update:,}: {done}/{total} · {successes} succeeded")

        policy = open_policy(self.store, self.run, update)
        found = evaluate(
            policy, self.eval_env_of(env), seeds, workers=self.workers, on_progress=progress, purpose=purpose
        )
        write_evaluation(self.store, found)
        if (evaluated := self._find(update, env, seeds)) is None:
            raise RuntimeError(f"evaluation {found.name} was written and is not there")
        return evaluated

    def _find(self, update: int, env: str, seeds: range) -> Evaluated | None:
        return find_evaluated(read_evaluated(self.store, self.run), env, update, seeds.start, len(seeds))


def evaluate_experiment(
    evaluator: Evaluator, experiment: Experiment, budget: EvalBudget
) -> tuple[list[Evaluated], list[Evaluated]]:
    """Evaluate the last checkpoint of an experiment in every condition, and those of its curve.

    Args:
        evaluator: Of the experiment's last run.
        experiment: The experiment.
        budget: How much it is evaluated.

    Returns:
        The evaluations of the last checkpoint, and the curve.
    """
    available = list_checkpoints(evaluator.store, evaluator.run)
    last = available[-1] if experiment.online else experiment.last_update
    final = [evaluator.evaluate(last, env, range(budget.episodes)) for env in experiment.envs]
    if experiment.curve_env is None or not budget.curve:
        return final, []
    seeds = range(FIRST_SELECTION_SEED, FIRST_SELECTION_SEED + budget.curve)
    curve = [
        evaluator.evaluate(update, experiment.curve_env, seeds, SELECTION)
        for update in curve_updates(available, last, budget.points)
    ]
    return final, curve


def curve_updates(available: Sequence[int], updates: int, points: int) -> list[int]:
    """Pick checkpoints for a curve: those nearest to equal distances, the last one among them.

    Args:
        available: Updates of the checkpoints that there are.
        updates: Updates of the last one to take.
        points: Number of checkpoints.
    """
    known = [update for update in available if 0 < update <= updates]
    wanted = [updates * (number + 1) / points for number in range(points)]
    return sorted({min(known, key=lambda update: abs(update - goal)) for goal in wanted} if known else ())


@dataclass(frozen=True)
class Remaining:
    """What is left of a plan.

    Attributes:
        left: Experiments without a result on the present mixture.
        known: Name → result, of all files in the folder.
        digests: Mixture → digest; None: not frozen.
    """

    left: list[Experiment]
    known: dict[str, Result]
    digests: dict[str, str | None]


def find_remaining(
    store: Store, experiments: Sequence[Experiment], budget: EvalBudget, results: Path
) -> Remaining:
    """Find the experiments of a plan that have no result with today's settings on the present mixture.

    Args:
        store: Where the mixtures are.
        experiments: The plan.
        budget: How much they are evaluated.
        results: Folder of result files.

    Raises:
        CogError: A file is damaged.
    """
    known = {path.stem: read_result(path) for path in sorted(results.glob("*.json"))}
    digests = {name: newest_digest(store, name) for name in {one.learned_from for one in experiments}}
    left = [
        one
        for one in experiments
        if one.name not in known or not is_done(known[one.name], one, digests[one.learned_from], budget)
    ]
    return Remaining(left, known, digests)


def is_done(result: Result, experiment: Experiment, digest: str | None, budget: EvalBudget) -> bool:
    """Whether a result is this experiment's on this mixture, with at least so many episodes.

    It may be of any commit, as long as today's settings are the same.

    Args:
        result: Read from its file.
        experiment: Wanted.
        digest: Digest of the mixture that it would learn from; None: not frozen yet.
        budget: Wanted.
    """
    if result.data.digest != digest or differences(result, experiment):
        return False
    last = result.runs[-1].updates if experiment.online else experiment.last_update
    enough = {one.env for one in result.evaluated if one.update == last and one.episodes >= budget.episodes}
    curved = not budget.curve or experiment.curve_env is None
    curved = curved or (bool(result.curve) and result.curve[0].episodes >= budget.curve)
    return enough >= set(experiment.envs) and curved


def commands_of(experiment: Experiment, budget: EvalBudget) -> tuple[str, ...]:
    """What to type for the same run and the same evaluation."""
    train = [
        "cog", "train", "--mixture", experiment.learned_from, "--method", experiment.method,
        "--obs", experiment.obs, "--preset", experiment.preset, "--seed", str(experiment.seed),
        "--threads", "1", "--guard", "off",
        *(word for pair in experiment.settings for word in ("--set", pair)),
    ]  # fmt: skip
    other = FINETUNED.get(experiment.method)
    online = [
        "cog", "finetune", "RUN", "--env", experiment.envs[0], "--episodes", str(experiment.online),
        "--updates-per-step", f"{UPDATES_PER_STEP:g}", "--threads", "1",
        *([] if other is None else ["--algo", other, "--data", "online"]),
    ]  # fmt: skip
    envs = [word for env in experiment.envs for word in ("--env", env)]
    evaluation = ["cog", "eval", "RUN", *envs, "--episodes", str(budget.episodes)]
    return tuple(map(shlex.join, [train, *([online] if experiment.online else []), evaluation]))


def result_of_run(store: Store, experiment: Experiment, run: str) -> Result | None:
    """Put together what the store knows of an experiment: all but machine, code and evaluation time.

    Args:
        store: Where the run is.
        experiment: The experiment.
        run: Its last stage.

    Returns:
        None if its last checkpoint was not evaluated in every condition on the eval seeds from 0 on.
    """
    final = [read_scenes(store, run, env, experiment.last_update) for env in experiment.envs]
    evaluated = tuple(one for one in final if one is not None)
    if len(evaluated) < len(final):
        return None
    curve = _longest_curve(read_evaluated(store, run), experiment.curve_env)
    budget = EvalBudget(evaluated[0].episodes, curve[0].episodes if curve else 0, len(curve))
    runs = describe_runs(store, run)
    whole = [stage.mixture for stage in runs if stage.mixture.partition("@")[0] == experiment.mixture]
    data = describe_data(store, [*whole, experiment.mixture][0])
    return Result(experiment, data, runs, evaluated, curve, {}, "", commands_of(experiment, budget))


def _longest_curve(found: Sequence[Evaluated], env: str | None) -> tuple[Evaluated, ...]:
    """The evaluations of a curve; of curves with different numbers of episodes the one with the most."""
    curve = [one for one in found if (one.env, one.first_seed) == (env, FIRST_SELECTION_SEED)]
    most = max((one.episodes for one in curve), default=0)
    return tuple(sorted((one for one in curve if one.episodes == most), key=lambda one: one.update))
