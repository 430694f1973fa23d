"""Which experiment a run is a stage of."""

from __future__ import annotations

from cogdata.errors import CogError
from cogdata.storage.runs import RunInfo
from trainers.algorithm import Config
from trainers.algos import config_from_dict
from trainers.paper.experiments import Experiment
from trainers.paper.plan import plan_experiments
from trainers.paper.table1 import PRESETS, TASKS
from trainers.training.methods import METHODS, WHOLE, Stage


def experiment_of_run(info: RunInfo) -> Experiment | None:
    """Find the experiment of the table whose last stage a run is, by its settings and mixture; None: none.

    Args:
        info: Head of the run.
    """
    if info.method is None or info.method not in METHODS or info.preset not in PRESETS:
        return None
    planned = plan_experiments(
        list(TASKS), obs=info.obs, preset=info.preset, methods=[info.method], seeds=[info.seed]
    )
    return next((one for one in planned if is_stage(info, one, *one.stages[-1])), None)


def is_stage(info: RunInfo, experiment: Experiment, stage: Stage, config: Config) -> bool:
    """Whether a run, of an experiment's method, observations and seed, is this stage of it."""
    learned_from = portion_of(experiment.learned_from, stage.portion)
    return (stage.algo, learned_from) == (info.algo, info.mixture) and config == _config_of(info)


def portion_of(mixture: str, portion: str) -> str:
    """The name under which the catalog freezes a portion of a mixture."""
    return {WHOLE: mixture, "task": f"{mixture}_no_prior"}.get(portion, f"{mixture}_{portion}")


def _config_of(info: RunInfo) -> Config | None:
    """A run's configuration, later settings at what runs did before them; None: it has one that is gone."""
    try:
        return config_from_dict(info.algo, info.config)
    except CogError:
        return None
