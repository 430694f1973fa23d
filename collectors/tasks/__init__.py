"""Tasks: objects of the scene, initial states, success predicates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from collectors.robots.widowx import WidowX
from collectors.sim import Simulation, Vec3


class Located(NamedTuple):
    """A movable object that a camera can locate.

    Attributes:
        body: Name of its body in the simulation.
        height_m: z of its middle at the start of an episode.
        off_m: Offset (x, y) of the landmark from the middle of the object's silhouette in the camera image.
    """

    body: str
    height_m: float
    off_m: tuple[float, float] = (0.0, 0.0)


class SimulatedTask(Protocol):
    """A scene and its success predicates, for one robot in one simulation.

    To add a task: a file here with a class of this protocol, an entry per environment in
    `collectors.envs.ENVS`, a test.
    """

    @property
    def scene_fields(self) -> tuple[str, ...]:
        """Names of the numbers that `scene` returns, with units."""
        ...

    @property
    def predicates(self) -> tuple[str, ...]:
        """Names of the predicates of this scene, of `cogdata.schema.PREDICATES`."""
        ...

    @property
    def task_predicate(self) -> str:
        """Name of the rewarded predicate."""
        ...

    @property
    def located(self) -> Mapping[str, Located]:
        """Landmarks that a camera has to locate when positions do not come from the simulator."""
        ...

    def build(self, rng: np.random.Generator) -> None:
        """Build scene and robot in the empty simulation, with an initial state drawn from `rng`."""
        ...

    def scene(self) -> NDArray[np.float32]:
        """Return poses and sizes of the movable objects.  # (S,)."""
        ...

    def predicate_values(self, ee_m: Vec3) -> dict[str, bool]:
        """Return for every predicate whether it holds in the current state."""
        ...

    def landmarks(self) -> dict[str, NDArray[np.float64]]:
        """Return the positions that a scripted policy can look up, by name.  # (3,) each."""
        ...


TaskFactory = Callable[[Simulation, WidowX], SimulatedTask]
