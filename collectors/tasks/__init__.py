"""Tasks: what stands in the world, how an episode starts, and what counts as success."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from collectors.robots.widowx import WidowX
from collectors.sim import Simulation, Vec3


class Located(NamedTuple):
    """A movable thing that a camera can find.

    Attributes:
        body: Its name in the simulation.
        height_m: z of its middle when it lies where episodes begin.
        off_m: From the middle of its outline, as the camera sees it there, to the landmark, (x, y).
    """

    body: str
    height_m: float
    off_m: tuple[float, float] = (0.0, 0.0)


class SimulatedTask(Protocol):
    """A scene and its rules, around one robot in one simulation.

    To add a task: a file here with a class of this shape, an entry per environment in
    `collectors.envs.ENVS`, a test.
    """

    @property
    def scene_fields(self) -> tuple[str, ...]:
        """Names of the numbers that `scene` gives, units in the names."""
        ...

    @property
    def predicates(self) -> tuple[str, ...]:
        """Which of `cogdata.schema.PREDICATES` this scene can predicate_values."""
        ...

    @property
    def task_predicate(self) -> str:
        """The one that is rewarded."""
        ...

    @property
    def located(self) -> Mapping[str, Located]:
        """Which landmarks a camera has to find if the simulator may not tell."""
        ...

    def build(self, rng: np.random.Generator) -> None:
        """Fill the empty simulation, robot included, with an initial state drawn from `rng`."""
        ...

    def scene(self) -> NDArray[np.float32]:
        """Poses and sizes of the movable things.  # (S,)."""
        ...

    def predicate_values(self, ee_m: Vec3) -> dict[str, bool]:
        """Say for every predicate whether the present state satisfies it."""
        ...

    def landmarks(self) -> dict[str, NDArray[np.float64]]:
        """The places a scripted policy may ask for, by name.  # (3,) each."""
        ...


TaskFactory = Callable[[Simulation, WidowX], SimulatedTask]
