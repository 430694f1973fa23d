"""Results made by hand."""

from __future__ import annotations

from dataclasses import replace

from trainers.paper.experiments import Experiment
from trainers.paper.plan import plan_experiments
from trainers.paper.results import Data, Evaluated, Result, Trained
from trainers.training.methods import configure_stages

TABLE, GRIPPER = "cog/PickTray-v0", "cog/PlaceTray-v0"


def experiment_of(method: str, seed: int = 0, **changed: object) -> Experiment:
    (experiment,) = plan_experiments(
        ["place_in_tray"], obs="state", preset="fast", methods=[method], seeds=[seed]
    )
    return replace(experiment, **changed)  # type: ignore[arg-type]


def evaluated(env: str, outcomes: str, update: int = 100, first_seed: int = 0) -> Evaluated:
    held = {"grasped": 0, "placed": outcomes.count("1")}
    return Evaluated(env, update, "d" * 64, first_seed, outcomes, held)


def result_of(
    method: str,
    seed: int,
    table: str,
    gripper: str = "1111",
    *,
    curve: tuple[str, ...] = (),
    **changed: object,
) -> Result:
    """A result with these outcomes from the table and from the gripper."""
    experiment = experiment_of(method, seed, **changed)
    runs = tuple(
        Trained(
            f"{method}-run-s{seed}", stage.algo, "place_in_tray@1", 100, 256, 60.0, 1, "cpu", config.to_dict()
        )
        for stage, config in configure_stages(method, experiment.preset, experiment.settings)
    )
    data = Data(
        "place_in_tray@1", "e" * 64, {"prior": 2, "task": 1}, {"prior": 20, "task": 10}, {"task": 5}, "sql"
    )
    points = tuple(evaluated(TABLE, one, 10 * (place + 1), 1_000_000) for place, one in enumerate(curve))
    both = (evaluated(GRIPPER, gripper), evaluated(TABLE, table))
    return Result(
        experiment,
        data,
        runs,
        both,
        points,
        {"cores": 2},
        "abc",
        ("cog train",),
        30.0,
    )
