from collections.abc import Iterator

import numpy as np
import pytest

from cogdata.schema import PREDICATES
from collectors.policies import tray as tray_policies
from collectors.robots.widowx import WidowX
from collectors.sim import Box, Simulation, Vec3
from collectors.tasks import SimulatedTask
from collectors.tasks.table import TABLE_TOP_M
from collectors.tasks.tray import (
    OBJECT_FROM_TRAY_M,
    TRAY_M,
    InitialCondition,
    TrayTask,
    draw_block,
    draw_place,
    tray_link,
)


@pytest.fixture
def sim() -> Iterator[Simulation]:
    with Simulation() as made:
        yield made


def built(sim: Simulation, initial: InitialCondition, seed: int = 0) -> tuple[WidowX, SimulatedTask]:
    sim.clear()
    robot = WidowX(sim)
    task = TrayTask(sim, robot, initial=initial)
    task.build(np.random.default_rng(seed))
    return robot, task


def predicates_at(
    position: Vec3, ee_m: Vec3, monkeypatch: pytest.MonkeyPatch, sim: Simulation
) -> dict[str, bool]:
    task = TrayTask(sim, WidowX(sim), initial="object_on_table")
    monkeypatch.setattr(sim, "pose", lambda name: (position, (0.0, 0.0, 0.0, 1.0)))
    return task.predicate_values(ee_m)


@pytest.mark.parametrize(
    ("position", "ee_m", "grasped"),
    [
        ((0.6, 0.2, -0.249), (0.6, 0.2, -0.2), True),
        ((0.6, 0.2, -0.251), (0.6, 0.2, -0.2), False),
        ((0.6, 0.2, -0.2), (0.699, 0.2, -0.2), True),
        ((0.6, 0.2, -0.2), (0.701, 0.2, -0.2), False),
        ((0.6, 0.2, -0.2), (0.6, 0.2, -0.09), False),
    ],
)
def test_grasped_means_lifted_and_near_the_hand(
    sim: Simulation, monkeypatch: pytest.MonkeyPatch, position: Vec3, ee_m: Vec3, grasped: bool
) -> None:
    assert predicates_at(position, ee_m, monkeypatch, sim) == {"grasped": grasped, "placed": False}


@pytest.mark.parametrize(
    ("position", "placed"),
    [
        ((0.5, 0.25, -0.346), True),
        ((0.5, 0.25, -0.321), True),
        ((0.5, 0.25, -0.319), False),
        ((0.539, 0.25, -0.346), True),
        ((0.541, 0.25, -0.346), False),
        ((0.5, 0.211, -0.346), True),
        ((0.47, 0.22, -0.346), False),
    ],
)
def test_placed_means_low_and_near_the_middle_of_the_tray(
    sim: Simulation, monkeypatch: pytest.MonkeyPatch, position: Vec3, placed: bool
) -> None:
    verdict = predicates_at(position, (0.6, 0.2, -0.2), monkeypatch, sim)
    assert verdict == {"grasped": False, "placed": placed}


def test_the_tray_occupies_the_published_space() -> None:
    boxes = [shape for shape in tray_link().shapes if isinstance(shape, Box)]
    low = np.min([np.subtract(b.at_m, np.array(b.size_m) / 2) for b in boxes], axis=0) + TRAY_M
    high = np.max([np.add(b.at_m, np.array(b.size_m) / 2) for b in boxes], axis=0) + TRAY_M
    assert low == pytest.approx((0.439, 0.194, -0.374), abs=0.003)
    assert high == pytest.approx((0.556, 0.306, -0.343), abs=0.003)


def test_objects_start_all_over_the_region_clear_of_the_tray() -> None:
    rng = np.random.default_rng(0)
    places = np.array([draw_place(rng) for _ in range(2000)])
    assert places.min(axis=0) == pytest.approx((0.585, 0.18), abs=0.01)
    assert places.max(axis=0) == pytest.approx((0.75, 0.27), abs=0.005)
    assert np.hypot(*(places - TRAY_M[:2]).T).min() >= OBJECT_FROM_TRAY_M


def test_blocks_differ_a_little() -> None:
    rng = np.random.default_rng(0)
    blocks = [draw_block(rng) for _ in range(500)]
    sizes = np.array([block.size_m for block in blocks])
    assert sizes.min(axis=0) == pytest.approx(np.array([0.028, 0.056, 0.050]) * 0.9, rel=0.01)
    assert sizes.max(axis=0) == pytest.approx(np.array([0.028, 0.056, 0.050]) * 1.1, rel=0.01)
    colors = np.array([block.color for block in blocks])
    assert (colors[:, 1] > colors[:, 0] + 0.2).all()
    assert (colors[:, 1] > colors[:, 2] + 0.1).all()
    assert colors.std(axis=0).min() > 0.04


@pytest.mark.parametrize("seed", range(10))
def test_on_the_table_the_object_stands_still(sim: Simulation, seed: int) -> None:
    robot, task = built(sim, "object_on_table", seed)
    scene = task.scene()
    named = dict(zip(task.scene_fields, scene.tolist(), strict=True))
    assert named["object_z_m"] == pytest.approx(TABLE_TOP_M + named["object_height_m"] / 2, abs=0.001)
    assert named["object_qw"] == pytest.approx(1.0, abs=1e-4)
    sim.step(120)
    assert task.scene() == pytest.approx(scene, abs=0.001)
    assert robot.gripper_open
    assert task.predicate_values(robot.ee_position()) == {"grasped": False, "placed": False}


@pytest.mark.parametrize("seed", range(10))
def test_in_the_gripper_the_object_is_held_by_friction(sim: Simulation, seed: int) -> None:
    robot, task = built(sim, "object_in_gripper", seed)
    named = dict(zip(task.scene_fields, task.scene().tolist(), strict=True))
    at = (named["object_x_m"], named["object_y_m"], named["object_z_m"])
    assert at == pytest.approx((0.600, 0.155, -0.22), abs=0.003)
    assert not robot.gripper_open
    assert task.predicate_values(robot.ee_position()) == {"grasped": True, "placed": False}
    before = np.subtract(at, robot.ee_position())
    for _ in range(20):
        robot.apply(np.zeros(8, np.float32))
    after = np.subtract(sim.pose("object")[0], robot.ee_position())
    assert after == pytest.approx(before, abs=0.002)
    # the fingers touch it from both sides and do not sink in
    left, right = robot.state()[7:9].tolist()
    assert left - right == pytest.approx(named["object_width_m"] + 0.016, abs=0.001)
    robot.apply(np.array([0, 0, 0, 0, 0, 0, 0.9, 0], np.float32))
    assert sim.pose("object")[0][2] < at[2] - 0.05


def test_the_task_names_what_it_gives(sim: Simulation) -> None:
    _, task = built(sim, "object_on_table")
    assert len(task.scene_fields) == task.scene().size
    assert task.scene().dtype == np.float32
    assert set(task.predicates) <= set(PREDICATES)
    assert task.task_predicate in task.predicates
    assert set(task.predicate_values((0.0, 0.0, 0.0))) == set(task.predicates)
    marks = task.landmarks()
    assert marks["object"] == pytest.approx(task.scene()[:3], abs=1e-6)
    assert marks["tray"] == pytest.approx(TRAY_M)


def test_scripts_and_scene_agree_where_the_tray_is() -> None:
    assert TRAY_M[:2] == tray_policies.TRAY_XY_M
