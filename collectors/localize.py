"""Where a robot that looked once believes things to be, and the simulated camera that lets ours do so.

A camera sees where things are when an episode begins, before the arm is in the way. From then on the robot
has its proprioception alone: a thing is where it was seen, or in the hand while the closed fingers do not
meet, or where the hand let go of it. What is hidden in one episode is believed in the middle of the image,
where the script most likely fails: an episode like others. What is hidden in every one is refused.
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
"""The camera takes its own images, of the size of the real robot's [paper], whatever an episode shows."""
PLACE_DECIMALS: Final = 4
"""Places are rounded to so many decimals of a metre: the last bits of a solver decide no episode."""

GLANCES: Final = 16
"""Episodes' beginnings in which a thing must be seen once, or it is said to be hidden always."""

SLACK_M: Final = 0.002
"""Closed fingers that stop so far before they meet hold something."""
CLOSED_ON_WITHIN_M: Final = 0.08
"""What the fingers closed on was believed no farther from the point between them."""


@dataclass(frozen=True)
class Hand:
    """A gripper, as far as `Whereabouts` has to know it.

    Attributes:
        closed_m: Finger position when it has closed on nothing.
        grip_m: Where the middle of what it holds is: from the end effector, in the gripper's frame.
    """

    closed_m: float = widowx.FINGER_CLOSED_M
    grip_m: tuple[float, float, float] = (0.044, 0.0, 0.0)

    def holds(self, robot: NDArray[np.float32]) -> bool:
        """Say whether there is something between the fingers.

        Args:
            robot: State, as `cogdata.schema` says.  # (10,)
        """
        return bool(robot[9] < 0.5 and (robot[7] - robot[8]) / 2 > self.closed_m + SLACK_M)

    def grip(self, robot: NDArray[np.float32]) -> Point:
        """Say where the middle of what is held would be.

        Args:
            robot: State, as `cogdata.schema` says.  # (10,)
        """
        x, y, z, w = (float(value) for value in robot[3:7])
        place: Point = robot[:3] + kinematics.matrix_from_quat((x, y, z, w)) @ np.array(self.grip_m)
        return place


class Whereabouts:
    """The places of movable things, followed by proprioception from where they were seen.

    Args:
        seen: Where things were seen when the episode began, by landmark; their z is the height they lie at.
        hand: The gripper.
        in_hand: Which of them the gripper holds already.
    """

    def __init__(self, seen: Mapping[str, Point], hand: Hand, in_hand: str | None = None) -> None:
        self._places = dict(seen)
        self._rest_m = {name: float(place[2]) for name, place in seen.items()}
        self._hand = hand
        self._in_hand = in_hand
        self._held = in_hand is not None

    def update(self, robot: NDArray[np.float32]) -> dict[str, Point]:
        """Take the robot's state of this moment in and say where things are believed to be.

        Args:
            robot: State, as `cogdata.schema` says.  # (10,)

        Returns:
            Places by landmark.  # (3,) each
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
    """What a script sees of an episode of a simulated world if a camera has to find the movable things.

    Fixtures (tray, drawers and their handles), the arm and the predicates are as the world says: furniture is
    measured once, and a person or a sensor tells a real robot that a drawer is open.

    Args:
        world: Where the episode takes place.
        seed: What the episode was reset with.
        wanted: Landmarks that the script asks for.
    """

    def __init__(self, world: CogEnv, seed: int, wanted: Set[str]) -> None:
        self._world = world
        self._seed = seed
        self._wanted = wanted
        self._whereabouts: Whereabouts | None = None

    def __call__(self, obs: Mapping[str, NDArray[Any]]) -> SceneView:
        """See the present moment; the first time, through the camera."""
        world = self._world
        if self._whereabouts is None:
            self._whereabouts = look(world, self._seed, obs["robot"], self._wanted)
        places, view = self._whereabouts.update(obs["robot"]), world.view()
        fixed = {name: at for name, at in view.landmarks.items() if name not in world.located}
        return replace(view, landmarks=fixed | places)


def check_sight(env_id: str, wanted: Set[str]) -> None:
    """Refuse an environment in which things are hidden whenever an episode begins.

    Args:
        env_id: A key of `ENVS`.
        wanted: Landmarks that a script asks for.

    Raises:
        CogError: The camera sees one of them never.
    """
    located = _studio(env_id).located
    hidden = set(wanted & located.keys())
    for seed in range(GLANCES):
        if not hidden:
            return
        images = itertools.pairwise(render_removals(env_id, seed))
        hidden -= {name for name, pair in zip(located, images, strict=True) if find_blob(*pair)}
    if hidden:
        raise CogError(
            f"the camera sees no {', '.join(sorted(hidden))} when episodes of {env_id} begin: leave "
            f"--localize camera out, or use another --env"
        )


def look(world: CogEnv, seed: int, robot: NDArray[np.float32], wanted: Set[str] = frozenset()) -> Whereabouts:
    """Find the movable things of an episode's beginning; what is out of sight is left out, unless wanted.

    Args:
        world: Any world of that kind; it is left alone.
        seed: Of the episode.
        robot: Its state at the beginning.  # (10,)
        wanted: What is believed in the middle of the image if it is out of sight.
    """
    camera, hand = simulated_camera(), Hand()
    images = render_removals(world.env_id, seed)
    grip, seen, in_hand = hand.grip(robot), {}, None
    for (name, thing), (with_it, without_it) in zip(
        world.located.items(), itertools.pairwise(images), strict=True
    ):
        place = locate(camera, with_it, without_it, thing.height_m)
        if place is None:
            if name in wanted:
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
    """Take an image of an episode's beginning, then one more after each movable thing was taken away.

    So the difference of two neighbours is one thing, as when things are put before a real camera one by one.
    """
    studio = _studio(env_id)
    obs, _ = studio.reset(seed=seed)
    images = [obs["image"]]
    for name in studio.located:
        studio.take_away(name)
        images.append(studio.render())
    return images


@functools.cache
def _studio(env_id: str) -> CogEnv:
    """A second world per process and kind: taking things away must not disturb the episode."""
    return make(env_id, image_size=IMAGE_PX, observations=("image",))


@functools.cache
def simulated_camera() -> Calibration:
    """Calibrate the simulated camera from images of a ball at known places, as one would a real one."""
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
"""A ball so near to the image's edge may be cut off."""


def _ball_image(sim: Simulation, at_m: tuple[float, float, float] | None) -> Image:
    sim.clear()
    sim.add("table", (Link("table", (Box((1.0, 1.5, 0.05), (0.8, 0.7, 0.6)),)),), (0.75, -0.2, -0.399))
    if at_m is not None:
        sim.add("ball", (Link("ball", (Sphere(_BALL_M, (0.8, 0.1, 0.1)),)),), at_m)
    return sim.render(CAMERA, IMAGE_PX, IMAGE_PX)
