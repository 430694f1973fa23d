"""The simulator: one private PyBullet client, bodies by name, everything made of primitives.

This module is independent of robots and tasks. A body is a tuple of `Link`s; the first one is its base. The
world is rebuilt for every episode (`Simulation.clear`), because this is deterministic, unlike PyBullet's
saved states: the same calls after `clear` give the same bytes in any process, independent of earlier calls.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from cogdata.errors import CogError

Vec3 = tuple[float, float, float]
Quat = tuple[float, float, float, float]
Rgb = tuple[float, float, float]

TIME_STEP_S: Final = 1 / 240
GRAVITY_M_S2: Final = -10.0
"""Gravity of the published world (roboverse), as is the time step."""
SOLVER_ITERATIONS: Final = 50
"""Iterations of the contact solver. The published world has 150; with the grip of `robots.widowx` 50 hold an
object as still, in half the time."""


@functools.cache
def engine() -> ModuleType:
    """Return `collectors.bullet`, imported when the first world is made: nothing else needs PyBullet.

    Raises:
        CogError: PyBullet is not installed.
    """
    try:
        from collectors import bullet
    except ImportError as error:
        raise without_engine(sys.version_info[:2], error) from None
    return bullet


def without_engine(python: tuple[int, int], error: ImportError) -> CogError:
    """Build the error for a machine that has no PyBullet.

    Args:
        python: Version of Python, for which the message differs.
        error: Error of the import.
    """
    if not isinstance(error, ModuleNotFoundError):
        return CogError(f"the simulated worlds need PyBullet, which cannot be loaded here: {error}")
    if python < (3, 12):
        return CogError("the simulated worlds need PyBullet, which is not installed: pip install pybullet")
    return CogError(
        "the simulated worlds need PyBullet, which has wheels for Python 3.11 only, this is "
        f"{python[0]}.{python[1]}: use Python 3.11 for this command, on the same store, or a world of your "
        "own, --env module:Class"
    )


@dataclass(frozen=True)
class Box:
    """A box with full edge lengths, placed in its link's frame."""

    size_m: Vec3
    color: Rgb
    at_m: Vec3 = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Cylinder:
    """A cylinder along z of its own frame, which `quat` rotates in the link's frame."""

    radius_m: float
    length_m: float
    color: Rgb
    at_m: Vec3 = (0.0, 0.0, 0.0)
    quat: Quat = (0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Sphere:
    """A ball, placed in its link's frame."""

    radius_m: float
    color: Rgb
    at_m: Vec3 = (0.0, 0.0, 0.0)


Shape = Box | Cylinder | Sphere


@dataclass(frozen=True)
class Link:
    """A rigid part of a body and the joint that carries it; the first link of a body is its base.

    Attributes:
        name: Name, unique within the body.
        shapes: Shapes for collisions and images.
        mass_kg: Mass; a base of mass 0 does not move.
        parent: Index of the parent link within the body; unused for the base.
        joint: Kind of joint to the parent; the joint's frame is the link's frame.
        at_m: Origin in the parent's frame.
        quat: Orientation in the parent's frame.
        axis: Joint axis in the link's frame.
        friction: Coulomb coefficient, multiplied by the other body's.
        rolling_friction: Lever of rolling resistance, m; 0: no resistance.
        limits: Lowest and highest joint position (rad or m); None: no limits.
    """

    name: str
    shapes: tuple[Shape, ...]
    mass_kg: float = 0.0
    parent: int = 0
    joint: Literal["fixed", "revolute", "prismatic"] = "fixed"
    at_m: Vec3 = (0.0, 0.0, 0.0)
    quat: Quat = (0.0, 0.0, 0.0, 1.0)
    axis: Vec3 = (0.0, 0.0, 1.0)
    friction: float = 0.5
    rolling_friction: float = 0.0
    limits: tuple[float, float] | None = None


@dataclass(frozen=True)
class Camera:
    """Pose and lens of the camera in PyBullet's terms, and the direction of the light."""

    target_m: Vec3
    distance_m: float
    yaw_deg: float
    pitch_deg: float
    field_of_view_deg: float
    near_m: float
    far_m: float
    light: Vec3


class Simulation:
    """One PyBullet world without a window; close it, or use it in a `with` block."""

    def __init__(self) -> None:
        bullet = engine()
        self._p = bullet.pybullet
        with bullet.silenced():
            self._client: Any = bullet.BulletClient(self._p.DIRECT)
        self._ids: dict[str, int] = {}
        self._views: dict[tuple[Camera, float], tuple[Sequence[float], Sequence[float]]] = {}
        self._read: dict[Any, Any] = {}  # results of queries about the current state
        # BulletClient wraps a function at each attribute access, so the most frequent one is stored.
        self._step = self._client.stepSimulation
        self.clear()

    def __enter__(self) -> Simulation:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def clear(self) -> None:
        """Remove all bodies and set the physics parameters."""
        self._client.resetSimulation()
        self._client.setPhysicsEngineParameter(
            fixedTimeStep=TIME_STEP_S,
            numSolverIterations=SOLVER_ITERATIONS,
            deterministicOverlappingPairs=1,
        )
        self._client.setGravity(0, 0, GRAVITY_M_S2)
        self._ids.clear()
        self._read.clear()

    def close(self) -> None:
        """Release the world's memory; a second call has no effect."""
        if self._client is not None:
            with engine().silenced():
                self._client.disconnect()
            self._client = None

    def add(self, name: str, links: Sequence[Link], at_m: Vec3, quat: Quat = (0.0, 0.0, 0.0, 1.0)) -> None:
        """Add a body to the world.

        Args:
            name: Name of the body for all other methods.
            links: The base, then the moving links, each after its parent.
            at_m: Position of the base.
            quat: Orientation of the base.

        Raises:
            ValueError: The name is taken.
        """
        if name in self._ids:
            raise ValueError(f"a body called {name!r} exists already")
        base, rest = links[0], links[1:]
        made = [self._make_shapes(link.shapes) for link in links]
        body = self._client.createMultiBody(
            baseMass=base.mass_kg,
            baseCollisionShapeIndex=made[0][0],
            baseVisualShapeIndex=made[0][1],
            basePosition=at_m,
            baseOrientation=quat,
            linkMasses=[link.mass_kg for link in rest],
            linkCollisionShapeIndices=[shapes[0] for shapes in made[1:]],
            linkVisualShapeIndices=[shapes[1] for shapes in made[1:]],
            linkPositions=[link.at_m for link in rest],
            linkOrientations=[link.quat for link in rest],
            linkInertialFramePositions=[_center(link.shapes) for link in rest],
            linkInertialFrameOrientations=[(0, 0, 0, 1)] * len(rest),
            linkParentIndices=[link.parent for link in rest],
            linkJointTypes=[getattr(self._p, f"JOINT_{link.joint.upper()}") for link in rest],
            linkJointAxis=[link.axis for link in rest],
        )
        for index, link in enumerate(links, start=-1):
            self._client.changeDynamics(body, index, **_dynamics(link))
        self._ids[name] = body
        self._read.clear()

    def remove(self, name: str) -> None:
        """Remove a body from the world."""
        self._read.clear()
        self._client.removeBody(self._ids.pop(name))

    def _make_shapes(self, shapes: Sequence[Shape]) -> tuple[int, int]:
        """Create one compound collision shape and one compound visual shape; return their ids."""
        kinds, halves, radii, lengths, places, turns, colors = [], [], [], [], [], [], []
        for shape in shapes:
            kinds.append(getattr(self._p, _GEOMETRY[type(shape)]))
            halves.append([edge / 2 for edge in shape.size_m] if isinstance(shape, Box) else [0, 0, 0])
            radii.append(0 if isinstance(shape, Box) else shape.radius_m)
            lengths.append(shape.length_m if isinstance(shape, Cylinder) else 0)
            places.append(shape.at_m)
            turns.append(shape.quat if isinstance(shape, Cylinder) else (0, 0, 0, 1))
            colors.append((*shape.color, 1))
        collision = self._client.createCollisionShapeArray(
            shapeTypes=kinds, halfExtents=halves, radii=radii, lengths=lengths,
            collisionFramePositions=places, collisionFrameOrientations=turns,
        )  # fmt: skip
        visual = self._client.createVisualShapeArray(
            shapeTypes=kinds, halfExtents=halves, radii=radii, lengths=lengths, rgbaColors=colors,
            visualFramePositions=places, visualFrameOrientations=turns,
        )  # fmt: skip
        return collision, visual

    def pose(self, name: str) -> tuple[Vec3, Quat]:
        """Return position in m and quaternion xyzw of a body's base."""
        if name not in self._read:
            self._read[name] = self._client.getBasePositionAndOrientation(self._ids[name])
        position, quat = self._read[name]
        return position, quat

    def link_pose(self, name: str, link: int) -> tuple[Vec3, Quat]:
        """Return position in m and quaternion xyzw of a link's frame; the base is link 0."""
        if (name, link) not in self._read:
            state = self._client.getLinkState(self._ids[name], link - 1, computeForwardKinematics=1)
            self._read[name, link] = state[4:6]
        position, quat = self._read[name, link]
        return position, quat

    def joint_positions(self, name: str, links: tuple[int, ...]) -> tuple[float, ...]:
        """Return the joint positions (rad or m) of links."""
        if (name, links) not in self._read:
            states = self._client.getJointStates(self._ids[name], [link - 1 for link in links])
            self._read[name, links] = tuple(state[0] for state in states)
        positions: tuple[float, ...] = self._read[name, links]
        return positions

    def place_joints(self, name: str, links: Sequence[int], positions: Sequence[float]) -> None:
        """Set joint positions (rad or m) at rest, without simulating contacts."""
        self._read.clear()
        for link, position in zip(links, positions, strict=True):
            self._client.resetJointState(self._ids[name], link - 1, position, 0.0)

    def drive_joints(
        self, name: str, links: Sequence[int], targets: Sequence[float], force: float, gain: float
    ) -> None:
        """Set the motor targets of joints (rad or m).

        Args:
            name: Name of the body.
            links: Links whose joints are driven.
            targets: Target positions.
            force: Largest torque (N m) or force (N) per joint.
            gain: Fraction of the error to remove in one simulation step.
        """
        n = len(links)
        self._client.setJointMotorControlArray(
            self._ids[name], [link - 1 for link in links], self._p.POSITION_CONTROL,
            targetPositions=targets, forces=[force] * n, positionGains=[gain] * n,
        )  # fmt: skip

    def brake_joints(self, name: str, links: Sequence[int], force: float) -> None:
        """Set the dry friction of joints, a constant resistance to any motion.

        Args:
            name: Name of the body.
            links: Links whose joints are braked.
            force: Largest resistance per joint (N or N m).
        """
        for link in links:
            self._client.setJointMotorControl2(
                self._ids[name], link - 1, self._p.VELOCITY_CONTROL, targetVelocity=0.0, force=force
            )

    def touching(self, one: str, other: str) -> bool:
        """Return whether two bodies were in contact in the last time step."""
        return bool(self._client.getContactPoints(self._ids[one], self._ids[other]))

    def gear(self, name: str, links: tuple[int, int], force: float) -> None:
        """Gear two joints of a body together, as if one motor drove both.

        Args:
            name: Name of the body.
            links: The two links.
            force: Largest force (N) or torque (N m) between them.
        """
        body, (one, other) = self._ids[name], (link - 1 for link in links)
        constraint = self._client.createConstraint(
            body, one, body, other, self._p.JOINT_GEAR, (0, 1, 0), (0, 0, 0), (0, 0, 0)
        )
        self._client.changeConstraint(constraint, gearRatio=1, maxForce=force, erp=0.1)

    def step(self, count: int = 1) -> None:
        """Simulate `count` time steps."""
        self._read.clear()
        for _ in range(count):
            self._step()

    def render(self, camera: Camera, height_px: int, width_px: int) -> NDArray[np.uint8]:
        """Render an image.  # (H, W, 3)."""
        key = (camera, width_px / height_px)
        if key not in self._views:
            self._views[key] = _matrices(*key)
        view, projection = self._views[key]
        image = self._client.getCameraImage(
            width_px, height_px, view, projection,
            lightDirection=camera.light, shadow=0,
            lightAmbientCoeff=0.5, lightDiffuseCoeff=0.5, lightSpecularCoeff=0.0,
            renderer=self._p.ER_TINY_RENDERER, flags=self._p.ER_NO_SEGMENTATION_MASK,
        )[2]  # fmt: skip
        pixels = np.asarray(image, dtype=np.uint8).reshape(height_px, width_px, 4)
        return np.ascontiguousarray(pixels[:, :, :3])


_GEOMETRY: Final[dict[type, str]] = {Box: "GEOM_BOX", Cylinder: "GEOM_CYLINDER", Sphere: "GEOM_SPHERE"}


def _dynamics(link: Link) -> dict[str, float]:
    """Return a link's contact and joint properties as PyBullet's parameters."""
    values = {"lateralFriction": link.friction}
    if link.rolling_friction:
        values |= {"rollingFriction": link.rolling_friction, "spinningFriction": link.rolling_friction}
    if link.limits:
        values |= {"jointLowerLimit": link.limits[0], "jointUpperLimit": link.limits[1]}
    return values


def _center(shapes: Sequence[Shape]) -> Vec3:
    """Return the mean of the shapes' positions, used as the centre of mass of a link."""
    x, y, z = np.mean([shape.at_m for shape in shapes], axis=0).tolist()
    return x, y, z


def _matrices(camera: Camera, aspect: float) -> tuple[Sequence[float], Sequence[float]]:
    p = engine().pybullet
    view = p.computeViewMatrixFromYawPitchRoll(
        camera.target_m, camera.distance_m, camera.yaw_deg, camera.pitch_deg, 0.0, 2
    )
    projection = p.computeProjectionMatrixFOV(camera.field_of_view_deg, aspect, camera.near_m, camera.far_m)
    return view, projection
