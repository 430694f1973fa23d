"""The experiments that a command of ``cog reproduce`` asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cogdata.errors import CogError, unknown
from trainers.obs_kinds import OBS_KINDS
from trainers.paper.ablations import ABLATIONS
from trainers.paper.experiments import FINETUNED, Experiment, learns_from_prior
from trainers.paper.table1 import BUDGETS, PRESETS, TASKS, PaperTask
from trainers.training.methods import METHODS, configure_stages, find_method


def plan_experiments(
    tasks: Sequence[str],
    *,
    obs: str,
    preset: str,
    methods: Sequence[str] | None,
    seeds: Sequence[int],
    settings: Sequence[str] = (),
) -> list[Experiment]:
    """List the experiments of the table, the first seed of everything first.

    Args:
        tasks: Keys of ``TASKS``.
        obs: Observation kind.
        preset: Named configuration.
        methods: Keys of ``METHODS``; None: all.
        seeds: Root seeds.
        settings: ``STAGE.key=value`` for every method that has such a stage, stronger than the budget's.

    Raises:
        CogError: An unknown observation, preset, method, stage or key, or a value that does not fit.
    """
    chosen = list(METHODS) if methods is None else list(methods)
    _check_options(obs, preset, chosen, settings)
    found = [
        experiment
        for seed in seeds
        for task in tasks
        for method in chosen
        for experiment in _experiments_of(task, obs, preset, method, seed, settings)
    ]
    for experiment in {one.method: one for one in found}.values():
        configure_stages(experiment.method, preset, experiment.settings)
    return found


def _check_options(obs: str, preset: str, methods: Sequence[str], settings: Sequence[str]) -> None:
    """Refuse unknown names, and a setting for a stage that none of the methods has."""
    if obs not in OBS_KINDS:
        raise unknown("observation", obs, OBS_KINDS)
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    known = {stage.algo for method in methods for stage in find_method(method).stages}
    _refuse_twice("--methods", "a method", methods)
    for pair in settings:
        stage, dot, _ = pair.partition("=")[0].partition(".")
        if not dot or stage not in known:
            raise unknown("stage of --set", stage, known)


def _experiments_of(
    task: str, obs: str, preset: str, method: str, seed: int, settings: Sequence[str]
) -> list[Experiment]:
    """One experiment per scenario; one for all conditions if the method learns from no prior."""
    algos = [stage.algo for stage in find_method(method).stages]
    own = tuple(pair for pair in settings if pair.partition(".")[0] in algos)
    scenarios = TASKS[task].scenarios
    if not learns_from_prior(method):  # what differs between scenarios is the prior
        scenarios = (replace(scenarios[0], envs=tuple(one.env for one in TASKS[task].conditions)),)
    given = (*_budget(TASKS[task], obs, preset, algos), *own)
    return [
        Experiment(task, one.recipe, obs, preset, method, seed, one.mixture(obs), one.envs, given)
        for one in scenarios
    ]


def _budget(task: PaperTask, obs: str, preset: str, algos: Sequence[str]) -> list[str]:
    """Settings of a method's stages: the preset's, and after them the task's, which are stronger."""
    images = "image" in OBS_KINDS[obs]
    layers = [BUDGETS[preset, images]]
    if preset == "fast":
        layers += [task.overrides, task.image_overrides if images else task.state_overrides]
    return [f"{algo}.{pair}" for algo in algos for layer in layers for pair in layer.get(algo, ())]


def plan_ablations(
    tasks: Sequence[str], names: Sequence[str], *, obs: str, preset: str, seeds: Sequence[int]
) -> list[Experiment]:
    """List the experiments of ablations.

    Args:
        tasks: Keys of ``TASKS``; each ablation must be of one of them.
        names: Keys of ``ABLATIONS``.
        obs: Observation kind.
        preset: Named configuration.
        seeds: Root seeds.

    Raises:
        CogError: An unknown ablation, observation or preset, an ablation of another task or named twice.
    """
    for name in names:
        if name not in ABLATIONS:
            raise unknown("ablation", name, ABLATIONS)
        if ABLATIONS[name].task not in tasks:
            raise CogError(f"ablation {name!r} is of {ABLATIONS[name].task}: name that task, or all")
    _refuse_twice("--ablations", "an ablation", names)
    return [_ablated(name, obs, preset, seed) for seed in seeds for name in names]


def _ablated(name: str, obs: str, preset: str, seed: int) -> Experiment:
    """The experiment of an ablation."""
    one = ABLATIONS[name]
    like = plan_experiments(
        [one.task], obs=obs, preset=preset, methods=[one.method], seeds=[seed], settings=one.settings
    )[0]
    return replace(
        like,
        scenario=one.scenario.recipe,
        mixture=one.scenario.mixture(obs),
        envs=one.scenario.envs,
        change=name,
        derivation=one.derivation,
    )


def plan_finetuning(experiments: Sequence[Experiment], episodes: int) -> list[Experiment]:
    """List the experiments that go on online, each in a condition that no rewarded episode begins with.

    Args:
        experiments: Of the table; those whose method is not in ``FINETUNED`` are left out.
        episodes: Number to collect, per experiment.

    Raises:
        CogError: None of them can.
    """
    found = [
        replace(experiment, envs=(experiment.curve_env,), change="online", online=episodes)
        for experiment in experiments
        if experiment.method in FINETUNED and experiment.curve_env is not None
    ]
    if not found:
        raise CogError(f"--finetune goes on with {', '.join(FINETUNED)}: name one of them in --methods")
    return found


def _refuse_twice(option: str, what: str, names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        raise CogError(f"{option} {','.join(names)} names {what} twice: name each once")
