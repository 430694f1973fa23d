"""The WidowX 250 six-axis arm: body, actions and state.

Joint table, masses and link sizes are from the manufacturer's model (wx250s); action scales, gains and poses
from the published world (roboverse @ a443f79, widow250.py). Deviations:

1. Links are boxes and a cylinder. The parts that move with the gripper (ee_arm, propeller, bar, ee_bar) are
   merged into it, masses added: the same rigid body with fewer equations.
2. Inverse kinematics in closed form (`kinematics`).
3. Euler angles of an action are relative to the pose with the gripper straight down. Relative to the world's
   axes this pose has pitch 90°, where Euler angles are undefined and noise on one of them causes jumps.
4. The fingers are geared together, because one motor drives the real ones, and close with 10 N and gain 0.1.
   With two motors of 500 N no contact can balance the forces: the grip depends on the solver's iterations
   (165 N with 150, 55 N with 50), and the fingers sink 1.3 mm into the object.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cogdata.schema import COMMAND_THRESHOLD
from collectors.robots import kinematics
from collectors.sim import Box, Cylinder, Link, Quat, Rgb, Simulation, Vec3

NAME: Final = "widowx"

BASE_M: Final[Vec3] = (0.6, 0.0, -0.4)
WORKSPACE_LOW_M: Final[Vec3] = (0.4, -0.2, -0.34)
WORKSPACE_HIGH_M: Final[Vec3] = (0.8, 0.4, -0.1)
MOVE_M: Final = 0.2
"""Translation for an action of 1 in x, y or z."""
TURN_RAD: Final = math.radians(20)
"""Rotation for an action of 1 in alpha, beta or gamma."""

STEPS_PER_MOVE: Final = 10
STEPS_PER_TOGGLE: Final = 75
STEPS_PER_NEUTRAL: Final = 75
ARM_FORCE: Final = 5.0
NEUTRAL_FORCE: Final = 100.0
FINGER_FORCE: Final = 10.0
FINGER_GEAR_FORCE: Final = 1000.0
ARM_GAIN: Final = 0.03
FINGER_GAIN: Final = 0.1

RESET_JOINTS_RAD: Final[kinematics.Joints] = (1.57, -0.6, -0.6, 0.0, -1.57, 0.0)
FINGER_OPEN_M: Final = 0.036
FINGER_CLOSED_M: Final = 0.015
FINGER_THICKNESS_M: Final = 0.016

POINTING_DOWN: Final = kinematics.turn_z(math.pi / 2) @ kinematics.turn_y(math.pi / 2)
"""Orientation with Euler angles zero: gripper down, fingers opening along world x."""

_BLACK: Final[Rgb] = (0.13, 0.13, 0.15)
_GREY: Final[Rgb] = (0.62, 0.64, 0.68)
_RED: Final[Rgb] = (0.35, 0.05, 0.08)
_HALF_TURN_X: Final[Quat] = (1.0, 0.0, 0.0, 0.0)
_FINGER: Final = Box((0.055, FINGER_THICKNESS_M, 0.029), _GREY, at_m=(0.0045, 0.0, 0.0))
_FINGER_FRICTION: Final = 2.0

# Sizes are the extents of the model's meshes. A link's position along its axis follows from its neighbours.
LINKS: Final = (
    Link("base", (Box((0.153, 0.234, 0.072), _RED, at_m=(0.0, 0.0, 0.036)),)),
    Link(
        "shoulder", (Cylinder(0.051, 0.052, _BLACK, at_m=(0.0, 0.0, 0.026)),), mass_kg=0.4809,
        parent=0, joint="revolute", at_m=(0.0, 0.0, 0.0716), axis=(0.0, 0.0, 1.0),
    ),
    Link(
        "upper_arm", (Box((0.060, 0.075, 0.283), _BLACK, at_m=(0.025, 0.0, 0.12)),), mass_kg=0.4308,
        parent=1, joint="revolute", at_m=(0.0, 0.0, 0.03865), axis=(0.0, 1.0, 0.0),
    ),
    Link(
        "upper_forearm", (Box((0.189, 0.042, 0.042), _BLACK, at_m=(0.085, 0.0, 0.0)),), mass_kg=0.2346,
        parent=2, joint="revolute", at_m=(0.04975, 0.0, 0.25), quat=_HALF_TURN_X, axis=(0.0, 1.0, 0.0),
    ),
    Link(
        "lower_forearm", (Box((0.091, 0.060, 0.049), _BLACK, at_m=(0.045, 0.0, 0.0)),), mass_kg=0.2210,
        parent=3, joint="revolute", at_m=(0.175, 0.0, 0.0), axis=(1.0, 0.0, 0.0),
    ),
    Link(
        "wrist", (Box((0.044, 0.068, 0.055), _BLACK, at_m=(0.02, 0.0, 0.0)),), mass_kg=0.0850,
        parent=4, joint="revolute", at_m=(0.075, 0.0, 0.0), axis=(0.0, 1.0, 0.0),
    ),
    Link(
        "gripper",
        (
            Box((0.040, 0.043, 0.055), _BLACK, at_m=(0.005, 0.0, 0.0)),
            Box((0.028, 0.103, 0.049), _BLACK, at_m=(0.029, 0.0, 0.0)),
        ),
        mass_kg=0.0729 + 0.001 + 0.0043 + 0.0342 + 0.001,
        parent=5, joint="revolute", at_m=(0.065, 0.0, 0.0), quat=_HALF_TURN_X, axis=(1.0, 0.0, 0.0),
    ),
    Link(
        "left_finger", (_FINGER,), mass_kg=0.0162,
        parent=6, joint="prismatic", at_m=(0.066, 0.0, 0.0), axis=(0.0, 1.0, 0.0), friction=_FINGER_FRICTION,
    ),
    Link(
        "right_finger", (_FINGER,), mass_kg=0.0162,
        parent=6, joint="prismatic", at_m=(0.066, 0.0, 0.0), axis=(0.0, 1.0, 0.0), friction=_FINGER_FRICTION,
    ),
)  # fmt: skip
ARM: Final = (1, 2, 3, 4, 5, 6)
FINGERS: Final = (7, 8)
GRIPPER: Final = 6
_EE_IN_GRIPPER_M: Final = 0.043


class WidowX:
    """The arm in a simulation; `build` must be called after every `Simulation.clear`."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self.gripper_open = True
        self._pose_of: object = None
        self._pose: tuple[Vec3, kinematics.Matrix] = ((0.0, 0.0, 0.0), np.eye(3))

    def build(self, *, joints: kinematics.Joints = RESET_JOINTS_RAD, finger_m: float | None = None) -> None:
        """Build the arm on the table.

        Args:
            joints: Initial joint angles of the arm.
            finger_m: Initial finger position of a closing gripper; None: the gripper is open.
        """
        self._sim.add(NAME, LINKS, BASE_M)
        self.gripper_open = finger_m is None
        finger = FINGER_OPEN_M if finger_m is None else finger_m
        self._sim.place_joints(NAME, ARM + FINGERS, (*joints, finger, -finger))
        self._sim.gear(NAME, FINGERS, FINGER_GEAR_FORCE)
        self._sim.drive_joints(NAME, ARM, joints, ARM_FORCE, ARM_GAIN)
        self._drive_fingers()

    def apply(self, action: NDArray[np.floating]) -> None:
        """Execute one action (8,), simulating 10 to 150 time steps."""
        values = [float(value) for value in action]
        x, y, z, alpha, beta, gamma, gripper, neutral = values
        position, rotation = self.ee_pose()
        goal = [
            min(high, max(low, now + MOVE_M * by))
            for now, by, low, high in zip(position, (x, y, z), WORKSPACE_LOW_M, WORKSPACE_HIGH_M, strict=True)
        ]
        a, b, c = turned_from_down(rotation)
        turned = kinematics.matrix_from_euler(a + TURN_RAD * alpha, b + TURN_RAD * beta, c + TURN_RAD * gamma)
        joints = inverse((goal[0], goal[1], goal[2]), turned @ POINTING_DOWN)
        self._sim.drive_joints(NAME, ARM, joints, ARM_FORCE, ARM_GAIN)
        self._sim.step(self._toggle(gripper))
        if neutral > COMMAND_THRESHOLD:
            self._sim.drive_joints(NAME, ARM, RESET_JOINTS_RAD, NEUTRAL_FORCE, ARM_GAIN)
            self._sim.step(STEPS_PER_NEUTRAL)

    def _toggle(self, gripper: float) -> int:
        """Open or close the gripper if commanded; return the number of time steps of the action."""
        wanted = gripper > 0 if abs(gripper) > COMMAND_THRESHOLD else self.gripper_open
        if wanted == self.gripper_open:
            return STEPS_PER_MOVE
        self.gripper_open = wanted
        self._drive_fingers()
        return STEPS_PER_TOGGLE

    def _drive_fingers(self) -> None:
        finger = FINGER_OPEN_M if self.gripper_open else FINGER_CLOSED_M
        self._sim.drive_joints(NAME, FINGERS, (finger, -finger), FINGER_FORCE, FINGER_GAIN)

    def ee_pose(self) -> tuple[Vec3, kinematics.Matrix]:
        """Return position in m and rotation (3, 3) of the end effector in the world."""
        at, quat = pose = self._sim.link_pose(NAME, GRIPPER)
        if pose != self._pose_of:
            rotation = kinematics.matrix_from_quat(quat)
            dx, dy, dz = (_EE_IN_GRIPPER_M * rotation[:, 0]).tolist()
            self._pose_of, self._pose = pose, ((at[0] + dx, at[1] + dy, at[2] + dz), rotation)
        return self._pose

    def ee_position(self) -> Vec3:
        """Return the position of the end effector in the world, m."""
        return self.ee_pose()[0]

    def state(self) -> NDArray[np.float32]:
        """Return the state with the names `cogdata.schema.ROBOT_NAMES`.  # (10,)."""
        _, quat = self._sim.link_pose(NAME, GRIPPER)
        fingers = self._sim.joint_positions(NAME, FINGERS)
        return np.array([*self.ee_position(), *quat, *fingers, float(self.gripper_open)], np.float32)


def turned_from_down(rotation: kinematics.Matrix) -> Vec3:
    """Return Euler angles alpha, beta, gamma in rad of an orientation (3, 3), relative to pointing down."""
    return kinematics.euler_from_matrix(rotation @ POINTING_DOWN.T)


def inverse(position_m: Vec3, rotation: kinematics.Matrix) -> kinematics.Joints:
    """Return the joint angles for an end-effector pose in the world (the base is not rotated)."""
    x, y, z = (value - base for value, base in zip(position_m, BASE_M, strict=True))
    return kinematics.solve((x, y, z), rotation)
