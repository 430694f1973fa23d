"""Object positions from one camera image and proprioception, and the simulated camera.

A camera locates objects at the start of an episode, before the arm occludes them. After that the robot has
proprioception only: an object is where it was located, or in the hand while the closed fingers do not meet,
or where the hand released it. An object that is hidden in one episode is assumed in the middle of the image,
where the script most likely fails; the episode is kept. An environment that hides it in every episode is
refused.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cogdata.errors import CogError
from collectors.calibration import Calibration, camera_from_points
from collectors.envs import CAMERA, CogEnv, make
from collectors.perception import Image, find_blob, locate
from collectors.policies.view import Point, SceneView
from collectors.robots import kinematics, widowx
from collectors.sim import Box, Link, Simulation, Sphere

SIMULATOR: Final = "simulator"
LOCALIZERS: Final = {
    SIMULATOR: "the simulator reports where things are",
    "camera": "a 64×64 image shows where movable things are when an episode begins",
}

IMAGE_PX: Final = 64
"""Size of the camera's images, that of the real robot [paper], independent of the episode's images."""
PLACE_DECIMALS: Final = 4
"""Decimals of a metre of located positions, so that the last bits of a solver change no episode."""

VISIBILITY_EPISODES: Final = 16
"""Number of episodes in which an object must be visible at least once at the start."""

SLACK_M: Final = 0.002
"""Distance of the fingers from their closed position beyond which they hold an object."""
CLOSED_ON_WITHIN_M: Final = 0.08
"""Largest distance from the point between the fingers of the object that they closed on."""


@dataclass(frozen=True)
class Hand:
    """Geometry of the gripper for `Whereabouts`.

    Attributes:
        closed_m: Finger position when closed without an object.
        grip_m: Position of a held object's middle, relative to the end effector in the gripper's frame.
    """

    closed_m: float = widowx.FINGER_CLOSED_M
    grip_m: tuple[float, float, float] = (0.044, 0.0, 0.0)

    def holds(self, robot: NDArray[np.float32]) -> bool:
        """Return whether there is an object between the fingers.

        Args:
            robot: Robot state, see `cogdata.schema`.  # (10,)
        """
        return bool(robot[9] < 0.5 and (robot[7] - robot[8]) / 2 > self.closed_m + SLACK_M)

    def grip(self, robot: NDArray[np.float32]) -> Point:
        """Return the position of a held object's middle.

        Args:
            robot: Robot state, see `cogdata.schema`.  # (10,)
        """
        x, y, z, w = (float(value) for value in robot[3:7])
        place: Point = robot[:3] + kinematics.matrix_from_quat((x, y, z, w)) @ np.array(self.grip_m)
        return place


class Whereabouts:
    """Positions of movable objects, tracked by proprioception from where they were located.

    Args:
        seen: Landmark → position at the start of the episode; z is the height at which it rests.
        hand: Geometry of the gripper.
        in_hand: Landmark of the object that is held at the start.
    """

    def __init__(self, seen: Mapping[str, Point], hand: Hand, in_hand: str | None = None) -> None:
        self._places = dict(seen)
        self._rest_m = {name: float(place[2]) for name, place in seen.items()}
        self._hand = hand
        self._in_hand = in_hand
        self._held = in_hand is not None

    def update(self, robot: NDArray[np.float32]) -> dict[str, Point]:
        """Update with the current robot state and return the estimated positions.

        Args:
            robot: Robot state, see `cogdata.schema`.  # (10,)

        Returns:
            Landmark → position.  # (3,) each
        """
        holds, grip = self._hand.holds(robot), self._hand.grip(robot)
        if holds and not self._held:
            self._in_hand = self._nearest(grip)
        if self._in_hand is not None:
            x, y, _ = grip.tolist() if holds else self._places[self._in_hand].tolist()
            z = float(grip[2]) if holds else self._rest_m[self._in_hand]
            self._places[self._in_hand] = np.array([x, y, z])
        if not holds:
            self._in_hand = None
        self._held = holds
        return dict(self._places)

    def _nearest(self, grip: Point) -> str | None:
        away = {name: float(np.linalg.norm(place - grip)) for name, place in self._places.items()}
        near = {name: distance for name, distance in away.items() if distance < CLOSED_ON_WITHIN_M}
        return min(near, key=near.__getitem__, default=None)


class CameraView:
    """Scene views of a script in a simulated world whose movable objects are located by camera.

    Fixtures (tray, drawers, handles), arm and predicates come from the simulator: on a real robot fixtures
    are measured once, and a person or a sensor reports that a drawer is open.

    Args:
        world: World of the episode.
        seed: Seed that the episode was reset with.
        required: Landmarks that the script looks up.
    """

    def __init__(self, world: CogEnv, seed: int, required: Set[str]) -> None:
        self._world = world
        self._seed = seed
        self._required = required
        self._tracker: Whereabouts | None = None

    def __call__(self, obs: Mapping[str, NDArray[Any]]) -> SceneView:
        """Return the view of the current step; the first call locates the objects by camera."""
        world = self._world
        if self._tracker is None:
            self._tracker = locate_objects(world, self._seed, obs["robot"], self._required)
        places, view = self._tracker.update(obs["robot"]), world.view()
        fixed = {name: at for name, at in view.landmarks.items() if name not in world.located}
        return replace(view, landmarks=fixed | places)


def check_visibility(env_id: str, required: Set[str]) -> None:
    """Raise if required objects are hidden at the start of all episodes of an environment.

    Args:
        env_id: Key of `ENVS`.
        required: Landmarks that a script looks up.

    Raises:
        CogError: One of them is hidden at the start of every episode checked.
    """
    located = _image_world(env_id).located
    hidden = set(required & located.keys())
    for seed in range(VISIBILITY_EPISODES):
        if not hidden:
            return
        images = itertools.pairwise(render_removals(env_id, seed))
        hidden -= {name for name, pair in zip(located, images, strict=True) if find_blob(*pair)}
    if hidden:
        raise CogError(
            f"the camera sees no {', '.join(sorted(hidden))} when episodes of {env_id} begin: leave "
            f"--localize camera out, or use another --env"
        )


def locate_objects(
    world: CogEnv, seed: int, robot: NDArray[np.float32], required: Set[str] = frozenset()
) -> Whereabouts:
    """Locate the movable objects at the start of an episode; hidden ones are left out unless required.

    Args:
        world: World of the same environment; it is not changed.
        seed: Seed of the episode.
        robot: Robot state at the start.  # (10,)
        required: Landmarks that are assumed in the middle of the image if they are hidden.
    """
    camera, hand = simulated_camera(), Hand()
    images = render_removals(world.env_id, seed)
    grip, seen, in_hand = hand.grip(robot), {}, None
    for (name, thing), (with_it, without_it) in zip(
        world.located.items(), itertools.pairwise(images), strict=True
    ):
        place = locate(camera, with_it, without_it, thing.height_m)
        if place is None:
            if name in required:
                middle_px = (IMAGE_PX - 1) / 2
                place = camera.on_plane((middle_px, middle_px), thing.height_m)
                seen[name] = place.round(PLACE_DECIMALS)
            continue
        seen[name] = (place + np.array([*thing.off_m, 0.0])).round(PLACE_DECIMALS)
        at_hand = locate(camera, with_it, without_it, float(grip[2]))
        if hand.holds(robot) and at_hand is not None and math.dist(at_hand, grip) < CLOSED_ON_WITHIN_M:
            in_hand = name
    return Whereabouts(seen, hand, in_hand)


def render_removals(env_id: str, seed: int) -> list[Image]:
    """Render the start of an episode, then again after each removal of a movable object.

    So two successive images differ by one object, as if objects were put before a real camera one by one.
    """
    image_world = _image_world(env_id)
    obs, _ = image_world.reset(seed=seed)
    images = [obs["image"]]
    for name in image_world.located:
        image_world.take_away(name)
        images.append(image_world.render())
    return images


@functools.cache
def _image_world(env_id: str) -> CogEnv:
    """Return a second world of an environment, one per process: removals must not change the episode."""
    return make(env_id, image_size=IMAGE_PX, observations=("image",))


@functools.cache
def simulated_camera() -> Calibration:
    """Calibrate the simulated camera from images of a ball at known positions, like a real one."""
    grid = itertools.product((0.48, 0.58, 0.68, 0.78), (0.14, 0.21, 0.28), (-0.35, -0.30, -0.25))
    pixels, places = [], []
    with Simulation() as sim:
        background = _ball_image(sim, None)
        for place in grid:
            blob = find_blob(_ball_image(sim, place), background)
            u, v = blob.centre_px if blob is not None else (0.0, 0.0)
            if min(u, v) > _EDGE_PX and max(u, v) < IMAGE_PX - 1 - _EDGE_PX:
                pixels.append((u, v))
                places.append(place)
    return camera_from_points(pixels, places, (IMAGE_PX, IMAGE_PX))


_BALL_M: Final = 0.012
_EDGE_PX: Final = 4
"""Distance from the image's edge within which a ball may be cut off."""


def _ball_image(sim: Simulation, at_m: tuple[float, float, float] | None) -> Image:
    sim.clear()
    sim.add("table", (Link("table", (Box((1.0, 1.5, 0.05), (0.8, 0.7, 0.6)),)),), (0.75, -0.2, -0.399))
    if at_m is not None:
        sim.add("ball", (Link("ball", (Sphere(_BALL_M, (0.8, 0.1, 0.1)),)),), at_m)
    return sim.render(CAMERA, IMAGE_PX, IMAGE_PX)
