"""The environments: one Gymnasium class, one table of ids, everything an observation is made of.

Importing this module registers the ids with Gymnasium, so `gymnasium.make("cog/PickTray-v0")` works.
The same seed and the same actions give the same observations, images included, byte for byte: after any
history of the environment object and in any process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Space
from numpy.typing import NDArray

from cogdata.errors import CogError, unknown
from cogdata.features import EpisodeSpec
from cogdata.layout1 import OBSERVATIONS, layout1_spec
from cogdata.schema import ACTION_DIM, ROBOT_DIM
from collectors.policies.view import SceneView
from collectors.robots.widowx import WidowX, turned_from_down
from collectors.sim import Camera, Simulation
from collectors.tasks import TaskFactory, drawer
from collectors.tasks.drawer import DrawerTask
from collectors.tasks.tray import TrayTask

Observation = dict[str, NDArray[Any]]

CAMERA: Final = Camera(
    target_m=(0.6, 0.2, -0.28), distance_m=0.29, yaw_deg=180.0, pitch_deg=-40.0,
    field_of_view_deg=60.0, near_m=0.1, far_m=2.0, light=(0.5, 1.0, 2.0),
)  # fmt: skip
"""As published (roboverse, widow250.py), except the light: the published (1, 1, 1) shades
the three visible sides of a box alike."""

METADATA: Final[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 24}


@dataclass(frozen=True)
class EnvSpec:
    """One environment: a task and how its episodes start.

    Attributes:
        id: Its Gymnasium id.
        task: Makes the task in a simulation, around a robot.
        horizon: Actions after which an episode is truncated.
        help: What it is, in one line.
    """

    id: str
    task: TaskFactory
    horizon: int
    help: str


ENVS: Final[dict[str, EnvSpec]] = {
    spec.id: spec
    for spec in (
        EnvSpec(
            "cog/PickTray-v0", partial(TrayTask, initial="object_on_table"), 40,
            "put the block into the tray; it starts on the table",
        ),
        EnvSpec(
            "cog/PlaceTray-v0", partial(TrayTask, initial="object_in_gripper"), 40,
            "put the block into the tray; it starts in the gripper",
        ),
        *(
            EnvSpec(
                f"cog/Drawer{name}{suffix}-v0", partial(DrawerTask, start=start, spread=spread), 80,
                f"take the ball out of the bottom drawer; {begins}{varies}",
            )
            for spread, suffix, varies in (
                (drawer.PUBLISHED, "", ""),
                (drawer.RANDOMIZED, "Randomized", "; places, shapes and colours vary"),
            )
            for name, start, begins in (
                ("Open", drawer.OPEN, "it starts open"),
                ("Closed", drawer.CLOSED, "it starts closed"),
                ("Blocked1", drawer.BLOCKED_1, "it starts closed, the top drawer half open above its handle"),
                ("Blocked2", drawer.BLOCKED_2, "it starts closed, a bottle in front of it"),
            )
        ),
    )
}  # fmt: skip


class CogEnv(gymnasium.Env[Observation, NDArray[np.float32]]):
    """A robot with a task, as a Gymnasium environment. It never terminates; the horizon truncates.

    Args:
        spec: Which environment.
        image_size: Height and width of the observed picture in pixels.
        observations: Which of "image", "robot" and "scene" to observe; without "image" nothing is rendered.
        horizon: Actions per episode; None takes the environment's own.
        render_mode: "rgb_array" or None.
    """

    metadata = METADATA

    def __init__(
        self,
        spec: EnvSpec,
        *,
        image_size: int = 48,
        observations: tuple[str, ...] = OBSERVATIONS,
        horizon: int | None = None,
        render_mode: str | None = "rgb_array",
    ) -> None:
        for name in observations:
            if name not in OBSERVATIONS:
                raise unknown("observation", name, OBSERVATIONS)
        if image_size < 1 or (horizon is not None and horizon < 1):
            raise CogError(f"image size and horizon must be 1 or more: found {image_size} and {horizon}")
        self.env_id = spec.id
        self.horizon = spec.horizon if horizon is None else horizon
        self.image_size = image_size
        self.render_mode = render_mode
        self._sim = Simulation()
        self._robot = WidowX(self._sim)
        self._task = spec.task(self._sim, self._robot)
        self.scene_fields = self._task.scene_fields
        self.predicates = self._task.predicates
        self.task_predicate = self._task.task_predicate
        self.located = self._task.located
        self._observed = tuple(name for name in OBSERVATIONS if name in observations)
        self._time = 0
        self._predicates: dict[str, bool] = {}
        spaces: dict[str, Space[Any]] = {
            "image": Box(0, 255, (image_size, image_size, 3), np.uint8),
            "robot": Box(-np.inf, np.inf, (ROBOT_DIM,), np.float32),
            "scene": Box(-np.inf, np.inf, (len(self.scene_fields),), np.float32),
        }
        self.observation_space: Any = Dict({name: spaces[name] for name in self._observed})
        self.action_space = Box(-1.0, 1.0, (ACTION_DIM,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Rebuild the world and start an episode.

        Args:
            seed: Determines everything about the initial state; None goes on with the present generator.
            options: Not used.

        Returns:
            The first observation, and the same info as `step` gives.
        """
        super().reset(seed=seed, options=options)
        self._time = 0
        self._sim.clear()
        self._task.build(self.np_random)
        return self._observe(), self._info()

    def step(self, action: NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Do one action (8,), see `cogdata.schema` for its numbers.

        Returns:
            Observation; reward, 1 if the resulting state satisfies the task's predicate, else 0; terminated,
            always False; truncated, at the horizon; info with `predicates` (name to bool) and `success`, the
            rewarded one.
        """
        action = np.asarray(action, np.float32)
        if action.shape != (ACTION_DIM,):
            raise ValueError(f"an action has shape ({ACTION_DIM},): found {action.shape}")
        self._robot.apply(np.clip(action, -1.0, 1.0))
        self._time += 1
        info = self._info()
        truncated = self._time >= self.horizon
        return self._observe(), float(info["success"]), False, truncated, info

    @property
    def episode_spec(self) -> EpisodeSpec:
        """Declaration of its episodes."""
        return layout1_spec((self.image_size, self.image_size), self.scene_fields, self.predicates)

    def view(self) -> SceneView:
        """What a scripted policy sees of the present state."""
        ee_m, rotation = self._robot.ee_pose()
        return SceneView(
            ee_m=np.array(ee_m),
            turned_rad=np.array(turned_from_down(rotation)),
            gripper_open=self._robot.gripper_open,
            landmarks=self._task.landmarks(),
            predicates=self._predicates,
        )

    def render(self, size: int | None = None) -> NDArray[np.uint8]:
        """Take a picture at any size.

        Args:
            size: Height and width in pixels; None takes the observed size.

        Returns:
            The picture.  # (H, W, 3)
        """
        size = self.image_size if size is None else size
        return self._sim.render(CAMERA, size, size)

    def take_away(self, landmark: str) -> None:
        """Remove a thing that a camera can find, for a picture of what is behind it, until the next reset."""
        self._sim.remove(self.located[landmark].body)

    def close(self) -> None:
        """Give the world's memory back."""
        self._sim.close()

    def _observe(self) -> Observation:
        makers: dict[str, Callable[[], NDArray[Any]]] = {
            "image": self.render,
            "robot": self._robot.state,
            "scene": self._task.scene,
        }
        return {name: makers[name]() for name in self._observed}

    def _info(self) -> dict[str, Any]:
        self._predicates = self._task.predicate_values(self._robot.ee_position())
        return {"predicates": self._predicates, "success": self._predicates[self.task_predicate]}


def make(
    env_id: str,
    *,
    image_size: int = 48,
    observations: tuple[str, ...] = OBSERVATIONS,
    horizon: int | None = None,
    render_mode: str | None = "rgb_array",
) -> CogEnv:
    """Make an environment.

    Args:
        env_id: A key of `ENVS`.
        image_size: Height and width of the observed picture in pixels.
        observations: Which of "image", "robot" and "scene" to observe; without "image" nothing is rendered.
        horizon: Actions per episode; None takes the environment's own.
        render_mode: "rgb_array" or None.

    Raises:
        CogError: No such environment, observation, or size.
    """
    if env_id not in ENVS:
        raise unknown("environment", env_id, ENVS)
    return CogEnv(
        ENVS[env_id],
        image_size=image_size,
        observations=observations,
        horizon=horizon,
        render_mode=render_mode,
    )


def _register() -> None:
    for env_id in ENVS:
        if env_id not in gymnasium.registry:
            gymnasium.register(env_id, entry_point=f"{__name__}:make", kwargs={"env_id": env_id})


_register()
