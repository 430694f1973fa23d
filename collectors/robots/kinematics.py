"""Forward and inverse kinematics of the WidowX 250 in closed form.

The last three joint axes (forearm roll, wrist angle, wrist rotate) meet in one point, so position and
orientation are separate: waist, shoulder and elbow position that point; the last three orient the gripper.
The product of the rotations of the joint table (the half turns of elbow and wrist cancel) is::

    R = Rz(waist) Ry(shoulder - elbow) Rx(forearm_roll) Ry(-wrist_angle) Rx(wrist_rotate)

The exact solution takes microseconds; PyBullet's iterative solver takes 0.39 ms and leaves an error.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Joints = tuple[float, float, float, float, float, float]

# the model's joint table (wx250s)
SHOULDER_HEIGHT_M: Final = 0.0716 + 0.03865
ELBOW_FORWARD_M: Final = 0.04975
ELBOW_UP_M: Final = 0.25
FOREARM_M: Final = 0.175 + 0.075
"""Distance from elbow to wrist centre."""
WRIST_TO_END_EFFECTOR_M: Final = 0.065 + 0.043
"""Distance from wrist centre to end effector."""
LOWER_LIMITS_RAD: Final[Joints] = (-3.14159, -1.885, -1.606, -3.14159, -2.147, -3.14159)
UPPER_LIMITS_RAD: Final[Joints] = (3.14159, 1.990, 2.147, 3.14159, 1.745, 3.14159)

_UPPER_ARM_M: Final = math.hypot(ELBOW_FORWARD_M, ELBOW_UP_M)
_UPPER_ARM_LEAN_RAD: Final = math.atan2(ELBOW_FORWARD_M, ELBOW_UP_M)


def solve(position_m: tuple[float, float, float], rotation: Matrix) -> Joints:
    """Return the joint angles for an end-effector pose in the base's frame.

    This is the solution with elbow up and wrist bent down, the only one that occurs at a table. Poses out of
    reach are replaced by the nearest pose in that direction; angles are clipped to their limits.

    Args:
        position_m: Position of the end effector in the base's frame.
        rotation: Orientation of the end effector in the base's frame.  # (3, 3)

    Returns:
        The six arm joint angles in rad.
    """
    x, y, z = (position_m[i] - WRIST_TO_END_EFFECTOR_M * float(rotation[i, 0]) for i in range(3))
    waist = math.atan2(y, x)
    reach, height = math.hypot(x, y), z - SHOULDER_HEIGHT_M
    cosine = (reach**2 + height**2 - _UPPER_ARM_M**2 - FOREARM_M**2) / (2 * _UPPER_ARM_M * FOREARM_M)
    bend = math.acos(min(1.0, max(-1.0, cosine)))
    raised = math.atan2(height, reach) + math.atan2(
        FOREARM_M * math.sin(bend), _UPPER_ARM_M + FOREARM_M * math.cos(bend)
    )  # elevation of the line shoulder-elbow
    shoulder = math.pi / 2 - _UPPER_ARM_LEAN_RAD - raised
    pitch = bend - raised  # pitch of the forearm, positive downwards: shoulder - elbow
    roll, angle, rotate = _wrist(rotation, waist, pitch)
    joints = (waist, shoulder, shoulder - pitch, roll, angle, rotate)
    low, high = LOWER_LIMITS_RAD, UPPER_LIMITS_RAD
    a, b, c, d, e, f = (min(high[i], max(low[i], joints[i])) for i in range(6))
    return a, b, c, d, e, f


def _wrist(rotation: Matrix, waist: float, pitch: float) -> tuple[float, float, float]:
    """Return roll, angle and rotate for the rotation that remains after waist and forearm."""
    cw, sw, cp, sp = math.cos(waist), math.sin(waist), math.cos(pitch), math.sin(pitch)
    forearm = np.array([[cw * cp, -sw, cw * sp], [sw * cp, cw, sw * sp], [-sp, 0.0, cp]])
    (r00, r01, r02), (r10, _, _), (r20, _, _) = (forearm.T @ rotation).tolist()
    return math.atan2(r10, -r20), -math.atan2(math.hypot(r10, r20), r00), math.atan2(r01, r02)


def place(joints: Joints) -> tuple[tuple[float, float, float], Matrix]:
    """Return the end effector's position in m and rotation (3, 3) in the base's frame."""
    waist, shoulder, elbow, roll, angle, rotate = joints
    pitch = shoulder - elbow
    rotation = turn_z(waist) @ turn_y(pitch) @ turn_x(roll) @ turn_y(-angle) @ turn_x(rotate)
    upper = turn_z(waist) @ turn_y(shoulder) @ np.array([ELBOW_FORWARD_M, 0.0, ELBOW_UP_M])
    forearm = turn_z(waist) @ turn_y(pitch) @ np.array([FOREARM_M, 0.0, 0.0])
    x, y, z = (upper + forearm + WRIST_TO_END_EFFECTOR_M * rotation[:, 0]).tolist()
    return (x, y, z + SHOULDER_HEIGHT_M), rotation


def turn_x(angle: float) -> Matrix:
    """Rotation about x by an angle in rad.  # (3, 3)."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


def turn_y(angle: float) -> Matrix:
    """Rotation about y by an angle in rad.  # (3, 3)."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def turn_z(angle: float) -> Matrix:
    """Rotation about z by an angle in rad.  # (3, 3)."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def matrix_from_quat(quat: tuple[float, float, float, float]) -> Matrix:
    """Rotation matrix of a unit quaternion xyzw.  # (3, 3)."""
    x, y, z, w = quat
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def euler_from_matrix(rotation: Matrix) -> tuple[float, float, float]:
    """Angles (a, b, c) in rad with rotation = Rz(c) Ry(b) Rx(a), well defined for |b| < 90°."""
    sine = max(-1.0, min(1.0, -float(rotation[2, 0])))
    return (
        math.atan2(float(rotation[2, 1]), float(rotation[2, 2])),
        math.asin(sine),
        math.atan2(float(rotation[1, 0]), float(rotation[0, 0])),
    )


def matrix_from_euler(a: float, b: float, c: float) -> Matrix:
    """Rotation Rz(c) Ry(b) Rx(a) from angles in rad.  # (3, 3)."""
    return turn_z(c) @ turn_y(b) @ turn_x(a)
