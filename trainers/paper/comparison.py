"""The settings in a result file beside those that today's code gives the same experiment.

A result file is frozen: it stays what the commit in its ``code`` made, whatever a budget or a default becomes
later. Here is the one rule by which it still counts as made with today's settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from trainers.algorithm import Config
from trainers.algos import ALGORITHMS, config_class, configure
from trainers.identity import before_later, lists
from trainers.paper.experiments import FINETUNED, Experiment
from trainers.paper.results import Result
from trainers.training.start import same_policy

ABSENT: Final = "none"
"""Stands for the value of a setting that only one side has."""

LONGEST: Final = 40
"""Characters of a value in a line of differences."""

Settings = Mapping[str, Mapping[str, Any]]
"""Stage → key → value; the stage "" has what is no setting of an algorithm."""


def frozen_defaults(algo: str) -> dict[str, Any]:
    """Return the values that settings count as which a file is too old to have.

    Args:
        algo: Algorithm of a run; one that is gone has none.
    """
    if algo not in ALGORITHMS:
        return {}
    kind = config_class(algo)
    return lists({**{one.name: one.default for one in fields(kind)}, **before_later(kind)})


def differences(result: Result, experiment: Experiment) -> dict[str, tuple[Any, Any]]:
    """Compare the settings of a result with those that today's code gives an experiment.

    Texts of ``--set`` are not compared, but the configurations that they lead to.

    Returns:
        ``STAGE.key``, or a key of the experiment → its value in the file, and today's; empty if none differs.
    """
    return _differences(settings_of_result(result), settings_of_experiment(experiment))


def same_settings(this: Result, that: Result) -> bool:
    """Whether two results were made with the same settings."""
    return not _differences(settings_of_result(this), settings_of_result(that))


def settings_of_result(result: Result) -> Settings:
    """Return the settings that a result was made with, as its file says."""
    stages = [(run.algo, {**frozen_defaults(run.algo), **lists(run.config)}) for run in result.runs]
    return _by_stage(result.experiment, stages)


def settings_of_experiment(experiment: Experiment) -> Settings:
    """Return the settings that today's code gives an experiment."""
    stages = [(stage.algo, config) for stage, config in experiment.stages]
    if experiment.online:
        stages.append(_online_stage(experiment, *stages[-1]))
    return _by_stage(experiment, [(algo, config.to_dict()) for algo, config in stages])


def _online_stage(experiment: Experiment, algo: str, config: Config) -> tuple[str, Config]:
    """The learner that goes on online: the last stage's own, or another one with its policy network."""
    other = FINETUNED[experiment.method]
    if other is None:
        return algo, config.override(["decay=0"] if hasattr(config, "decay") else [])
    return other, configure(other, "fast", same_policy(algo, config.to_dict(), other))


def _by_stage(experiment: Experiment, stages: list[tuple[str, dict[str, Any]]]) -> Settings:
    own = {
        name: value for name, value in asdict(experiment).items() if name not in ("settings", "derivation")
    }
    own |= {f"derivation.{name}": value for name, value in asdict(experiment.derivation).items()}
    found = {"": {**lists(own), "stages": " + ".join(algo for algo, _ in stages)}}
    for place, (algo, config) in enumerate(stages):
        online = bool(experiment.online) and place == len(stages) - 1
        known = dict(config)
        if online:
            known.pop("updates", None)  # as many as the collected steps lead to
        found[f"online.{algo}" if online else algo] = known
    return found


def _differences(before: Settings, today: Settings) -> dict[str, tuple[Any, Any]]:
    found = {}
    for stage in before.keys() & today.keys():  # "stages" says which are on one side alone
        old, new = before[stage], today[stage]
        for key in old.keys() | new.keys():
            values = (old.get(key, ABSENT), new.get(key, ABSENT))
            if values[0] != values[1]:
                found[f"{stage}.{key}" if stage else key] = values
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class Provenance:
    """Which result files are of today's settings, and what made the others.

    Attributes:
        todays: Names of the experiments whose files are.
        others: Revision of the code and :func:`describe_differences` → names of the experiments.
    """

    todays: tuple[str, ...]
    others: Mapping[tuple[str, str], tuple[str, ...]]


def sort_by_settings(experiments: Sequence[Experiment], results: Mapping[str, Result]) -> Provenance:
    """Sort the files of experiments by the settings that they were made with.

    Args:
        experiments: As today's code plans them; those without a file are left out.
        results: Name of an experiment → what its file holds.
    """
    todays: list[str] = []
    others: dict[tuple[str, str], tuple[str, ...]] = {}
    for experiment in experiments:
        if (result := results.get(experiment.name)) is None:
            continue
        if changed := differences(result, experiment):
            key = (result.code, describe_differences(changed))
            others[key] = (*others.get(key, ()), experiment.name)
        else:
            todays.append(experiment.name)
    return Provenance(tuple(todays), others)


def describe_differences(changed: Mapping[str, tuple[Any, Any]]) -> str:
    """Write differences in one line: ``bfn.updates 16000 → 20000, bfn.decay 0.0 → 0.3``."""
    return ", ".join(f"{key} {_short(old)} → {_short(new)}" for key, (old, new) in changed.items())


def _short(value: object) -> str:
    """A value in one line, without the end of a long one."""
    text = " ".join(str(value).split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
