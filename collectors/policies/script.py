"""A scripted policy: a list of named phases, gone through in order, with noise on every action."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cogdata.schema import ACTION_DIM
from collectors.policies.view import Point, SceneView

Action = NDArray[np.float32]
Rule = Callable[[SceneView, SceneView], NDArray[np.float64]]
Test = Callable[[SceneView, SceneView], bool]

LIMIT: Final = 0.9
"""Noisy actions are clipped to this [published]: a tanh policy can reach every recorded action."""
MOVE_GAIN: Final = 7.0
"""Move command per metre of error [published]."""
OPEN_GRIPPER: Final = 0.8
CLOSE_GRIPPER: Final = -0.8
"""Gripper commands far enough from ±0.5 that noise of 0.2 seldom flips them, inside the clip."""
KEEP_GRIPPER: Final = 0.0
GO_NEUTRAL: Final = 0.9
NOT_NEUTRAL: Final = -0.3
"""With noise of 0.2 a neutral command of 0 sends the arm home every 160 steps; this one does so never."""


@dataclass(frozen=True)
class Phase:
    """One stretch of a script.

    Attributes:
        name: As it appears in the data, one word or two.
        command: The noiseless action (8,), from the view now and the view when the phase began.
        until: Whether the phase is over, from the same two.
    """

    name: str
    command: Rule
    until: Test


class ScriptedPolicy:
    """Go through phases; add Gaussian noise to every number of every action, then clip.

    Args:
        phases: In order; the last one lasts for ever.
        drawn: The thresholds and targets that were drawn for this episode.
        noise: Standard deviation of the action noise.
        rng: Where the noise comes from.
    """

    def __init__(
        self, phases: Sequence[Phase], drawn: dict[str, float], *, noise: float, rng: np.random.Generator
    ) -> None:
        if not phases:
            raise ValueError("a scripted policy needs at least one phase, found none")
        self.drawn = drawn
        self.phases = tuple(phases)
        self._noise = noise
        self._rng = rng
        self._index = 0
        self._start: SceneView | None = None

    def act(self, view: SceneView) -> tuple[Action, str]:
        """Choose the next action (8,) and say in which phase it was chosen."""
        start = self._start or view
        while self._index < len(self.phases) - 1 and self.phases[self._index].until(view, start):
            self._index += 1
            start = view
        self._start = start
        phase = self.phases[self._index]
        noisy = phase.command(view, start) + self._noise * self._rng.standard_normal(ACTION_DIM)
        return np.clip(noisy, -LIMIT, LIMIT).astype(np.float32), phase.name


def command(
    move: Point | None = None, *, gripper: float = KEEP_GRIPPER, neutral: float = 0.0
) -> NDArray[np.float64]:
    """Put a noiseless action together.

    Args:
        move: Way to go in m; None stays.  # (3,)
        gripper: `OPEN_GRIPPER`, `CLOSE_GRIPPER` or `KEEP_GRIPPER`.
        neutral: `GO_NEUTRAL`, `NOT_NEUTRAL` or 0.

    Returns:
        The action.  # (8,)
    """
    action = np.zeros(ACTION_DIM)
    if move is not None:
        action[:3] = MOVE_GAIN * move
    action[6], action[7] = gripper, neutral
    return action


def never(_view: SceneView, _start: SceneView) -> bool:
    """Never over: the test of a last phase."""
    return False
