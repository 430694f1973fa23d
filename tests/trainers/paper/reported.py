"""Results made by hand."""

from __future__ import annotations

from dataclasses import replace

from trainers.paper.results import Data, Judged, Result, Trained
from trainers.paper.table1 import Unit, plan_units
from trainers.training.methods import configure_stages

TABLE, GRIPPER = "cog/PickTray-v0", "cog/PlaceTray-v0"


def unit_of(method: str, seed: int = 0, **changed: object) -> Unit:
    (unit,) = plan_units(["place_in_tray"], obs="state", preset="fast", methods=[method], seeds=[seed])
    return replace(unit, **changed)  # type: ignore[arg-type]


def judged(env: str, outcomes: str, update: int = 100, first_seed: int = 0) -> Judged:
    held = {"grasped": 0, "placed": outcomes.count("1")}
    return Judged(env, update, "d" * 64, first_seed, outcomes, held)


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
    unit = unit_of(method, seed, **changed)
    runs = tuple(
        Trained(
            f"{method}-run-s{seed}", stage.algo, "place_in_tray@1", 100, 256, 60.0, 1, "cpu", config.to_dict()
        )
        for stage, config in configure_stages(method, unit.preset, unit.settings)
    )
    data = Data(
        "place_in_tray@1", "e" * 64, {"prior": 2, "task": 1}, {"prior": 20, "task": 10}, {"task": 5}, "sql"
    )
    points = tuple(judged(TABLE, one, 10 * (place + 1), 1_000_000) for place, one in enumerate(curve))
    both = (judged(GRIPPER, gripper), judged(TABLE, table))
    return Result(
        unit,
        data,
        runs,
        both,
        points,
        {"cores": 2},
        "abc",
        ("cog train",),
        30.0,
    )
