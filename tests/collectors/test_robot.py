import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cogdata.schema import ROBOT_DIM, ROBOT_NAMES
from collectors.robots import kinematics, widowx
from collectors.robots.widowx import WidowX
from collectors.sim import Box, Link, Simulation

ANGLE = st.floats(-0.4, 0.4)


@pytest.fixture
def sim() -> Iterator[Simulation]:
    with Simulation() as made:
        yield made


@pytest.fixture
def robot(sim: Simulation) -> WidowX:
    made = WidowX(sim)
    made.build()
    return made


def action(**parts: float) -> np.ndarray:
    names = ("x", "y", "z", "alpha", "beta", "gamma", "gripper", "neutral")
    return np.array([parts.get(name, 0.0) for name in names], np.float32)


# kinematics


def test_the_stretched_arm_reaches_as_far_as_its_links_are_long() -> None:
    # all joints 0: upper arm up, forearm and gripper straight ahead
    (x, y, z), rotation = kinematics.place((0.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    assert (x, y, z) == pytest.approx((0.04975 + 0.25 + 0.108, 0.0, 0.11025 + 0.25))
    assert rotation == pytest.approx(np.eye(3))


def test_the_reset_pose_worked_by_hand() -> None:
    # forearm level (shoulder and elbow cancel), gripper straight down, arm along y
    (x, y, z), rotation = kinematics.place((math.pi / 2, -0.6, -0.6, 0.0, -math.pi / 2, 0.0))
    forward = 0.04975 * math.cos(0.6) - 0.25 * math.sin(0.6) + 0.25
    up = 0.04975 * math.sin(0.6) + 0.25 * math.cos(0.6) + 0.11025 - 0.108
    assert (x, y, z) == pytest.approx((0.0, forward, up))
    assert rotation == pytest.approx(widowx.POINTING_DOWN)


@settings(max_examples=200)
@given(
    x=st.floats(-0.2, 0.2),
    y=st.floats(0.12, 0.35),
    z=st.floats(0.06, 0.24),
    turn=st.tuples(ANGLE, ANGLE, ANGLE),
)
def test_inverse_undoes_forward(x: float, y: float, z: float, turn: tuple[float, float, float]) -> None:
    rotation = kinematics.matrix_from_euler(*turn) @ widowx.POINTING_DOWN
    joints = kinematics.solve((x, y, z), rotation)
    for value, low, high in zip(
        joints, kinematics.LOWER_LIMITS_RAD, kinematics.UPPER_LIMITS_RAD, strict=True
    ):
        assert low <= value <= high
    wrist = np.array([x, y, z]) - kinematics.WRIST_TO_END_EFFECTOR_M * rotation[:, 0]
    reach = math.dist(wrist, (0.0, 0.0, kinematics.SHOULDER_HEIGHT_M))
    if reach > math.hypot(0.04975, 0.25) + 0.25 - 1e-9:
        return  # beyond the arm: judged in the next test
    position, turned = kinematics.place(joints)
    assert position == pytest.approx((x, y, z), abs=1e-9)
    assert turned == pytest.approx(rotation, abs=1e-9)


def test_beyond_its_reach_the_arm_stretches_towards_the_goal() -> None:
    position, rotation = kinematics.place(kinematics.solve((0.0, 2.0, 0.11025), np.eye(3)))
    assert rotation == pytest.approx(np.eye(3), abs=1e-9)
    wrist = np.array(position) - kinematics.WRIST_TO_END_EFFECTOR_M * rotation[:, 0]
    assert math.dist(wrist, (0.0, 0.0, 0.11025)) == pytest.approx(math.hypot(0.04975, 0.25) + 0.25)
    assert wrist[1] > 0.49


@given(turn=st.tuples(ANGLE, ANGLE, ANGLE))
def test_euler_angles_there_and_back(turn: tuple[float, float, float]) -> None:
    assert kinematics.euler_from_matrix(kinematics.matrix_from_euler(*turn)) == pytest.approx(turn)


def test_rotations_of_a_quarter_turn() -> None:
    quarter = math.pi / 2
    assert kinematics.turn_x(quarter) @ [0, 1, 0] == pytest.approx([0, 0, 1])
    assert kinematics.turn_y(quarter) @ [0, 0, 1] == pytest.approx([1, 0, 0])
    assert kinematics.turn_z(quarter) @ [1, 0, 0] == pytest.approx([0, 1, 0])
    half = math.sqrt(0.5)
    assert kinematics.matrix_from_quat((0.0, 0.0, half, half)) == pytest.approx(kinematics.turn_z(quarter))


def test_the_body_moves_as_the_formulas_say(sim: Simulation, robot: WidowX) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        joints = tuple(rng.uniform(-1.4, 1.4, 6).tolist())
        sim.place_joints(widowx.NAME, widowx.ARM, joints)
        position, rotation = kinematics.place(joints)
        there, turned = robot.ee_pose()
        assert np.subtract(there, widowx.BASE_M) == pytest.approx(np.array(position), abs=1e-6)
        assert turned == pytest.approx(rotation, abs=1e-5)


# actions


def test_the_arm_starts_at_the_published_pose(robot: WidowX) -> None:
    assert robot.ee_position() == pytest.approx((0.600, 0.155, -0.173), abs=0.012)


def test_state_holds_what_the_contract_says(robot: WidowX) -> None:
    state = robot.state()
    assert state.shape == (ROBOT_DIM,)
    assert state.dtype == np.float32
    named = dict(zip(ROBOT_NAMES, state.tolist(), strict=True))
    ee = (named["ee_x_m"], named["ee_y_m"], named["ee_z_m"])
    assert ee == pytest.approx(robot.ee_position(), abs=1e-6)
    x, y, z, w = (named[f"ee_q{axis}"] for axis in "xyzw")
    assert kinematics.matrix_from_quat((x, y, z, w)) == pytest.approx(robot.ee_pose()[1], abs=1e-6)
    assert named["finger_left_m"] == pytest.approx(0.036, abs=1e-6)
    assert named["finger_right_m"] == pytest.approx(-0.036, abs=1e-6)
    assert named["gripper_open"] == 1.0


@pytest.mark.parametrize(("name", "axis"), [("x", 0), ("y", 1), ("z", 2)])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_move_goes_a_quarter_of_the_way_in_its_ten_steps(
    robot: WidowX, name: str, axis: int, sign: float
) -> None:
    before = np.array(robot.ee_position())
    robot.apply(action(**{name: 0.2 * sign}))
    moved = (np.array(robot.ee_position()) - before) * sign
    expected = 0.2 * widowx.MOVE_M * (1 - (1 - widowx.ARM_GAIN) ** widowx.STEPS_PER_MOVE)
    assert moved[axis] == pytest.approx(expected, rel=0.15)
    assert np.abs(np.delete(moved, axis)).max() < 0.003


def test_doing_nothing_stays(robot: WidowX) -> None:
    before = robot.state()
    for _ in range(30):
        robot.apply(action())
    assert robot.state() == pytest.approx(before, abs=0.002)


@pytest.mark.parametrize(
    ("push", "axis", "bound"),
    [("x", 0, 0.8), ("y", 1, 0.4), ("z", 2, -0.34)],
)
def test_targets_stay_inside_the_workspace(robot: WidowX, push: str, axis: int, bound: float) -> None:
    sign = math.copysign(1.0, bound)
    for _ in range(40):
        robot.apply(action(**{push: sign}))
    assert sign * robot.ee_position()[axis] <= sign * bound + 0.005


@pytest.mark.parametrize(("name", "axis"), [("alpha", 0), ("beta", 1), ("gamma", 2)])
def test_a_turn_turns_about_its_own_axis(robot: WidowX, name: str, axis: int) -> None:
    before = np.array(robot.ee_position())
    for _ in range(3):
        robot.apply(action(**{name: 0.5}))
    turned = np.array(kinematics.euler_from_matrix(robot.ee_pose()[1] @ widowx.POINTING_DOWN.T))
    assert turned[axis] > math.radians(5)
    assert np.abs(np.delete(turned, axis)).max() < math.radians(2)
    assert np.array(robot.ee_position()) == pytest.approx(before, abs=0.02)


@pytest.mark.parametrize(
    ("parts", "steps"),
    [
        ({"x": 0.3}, 10),
        ({"gripper": 0.9}, 10),
        ({"gripper": -0.5}, 10),
        ({"gripper": -0.51}, 75),
        ({"neutral": 0.5}, 10),
        ({"neutral": 0.51}, 85),
        ({"gripper": -0.9, "neutral": 0.9}, 150),
    ],
)
def test_an_action_takes_the_published_number_of_steps(
    sim: Simulation, robot: WidowX, monkeypatch: pytest.MonkeyPatch, parts: dict[str, float], steps: int
) -> None:
    counts: list[int] = []
    monkeypatch.setattr(sim, "step", counts.append)
    robot.apply(action(**parts))
    assert sum(counts) == steps


def test_the_gripper_closes_and_opens_beyond_a_half_strictly(robot: WidowX) -> None:
    robot.apply(action(gripper=-0.5))
    assert robot.gripper_open
    robot.apply(action(gripper=-0.6))
    assert not robot.gripper_open
    assert robot.state()[7:] == pytest.approx([0.015, -0.015, 0.0], abs=0.001)
    robot.apply(action(gripper=0.5))
    assert not robot.gripper_open
    robot.apply(action(gripper=0.6))
    assert robot.state()[7:] == pytest.approx([0.036, -0.036, 1.0], abs=0.001)


def test_neutral_brings_the_arm_back(robot: WidowX) -> None:
    home = np.array(robot.ee_position())
    for _ in range(6):
        robot.apply(action(x=0.5, y=0.3, z=-0.2))
    away = np.linalg.norm(np.array(robot.ee_position()) - home)
    robot.apply(action(neutral=1.0))
    left = np.linalg.norm(np.array(robot.ee_position()) - home)
    assert away > 0.1
    assert left < 0.2 * away


def test_a_held_thing_is_squeezed_by_both_fingers_alike_and_not_entered(
    sim: Simulation, robot: WidowX
) -> None:
    width = 0.03
    x, y, z = robot.ee_position()
    sim.add(
        "shelf",
        (
            Link(
                "shelf",
                (Box((0.02, 0.1, 0.02), (1, 1, 1)),),
            ),
        ),
        (x, y, z - 0.075),
    )
    sim.add("thing", (Link("thing", (Box((width, 0.05, 0.05), (1, 1, 1)),), mass_kg=0.05),), (x, y, z - 0.04))
    robot.apply(action(gripper=-1.0))
    left, right = robot.state()[7:9].tolist()
    touch = (width + widowx.FINGER_THICKNESS_M) / 2
    assert (left, -right) == pytest.approx((touch, touch), abs=0.0005)
