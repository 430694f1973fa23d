"""A scripted policy: a sequence of named phases, with noise on every action."""

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
"""Bound of noisy actions [published], so that a tanh policy can output every recorded action."""
MOVE_GAIN: Final = 7.0
"""Move command per metre of error [published]."""
OPEN_GRIPPER: Final = 0.8
CLOSE_GRIPPER: Final = -0.8
"""Gripper commands within `LIMIT` and so far from ±0.5 that noise of 0.2 seldom flips them."""
KEEP_GRIPPER: Final = 0.0
GO_NEUTRAL: Final = 0.9
NOT_NEUTRAL: Final = -0.3
"""Neutral command that noise of 0.2 never flips; a command of 0 would flip every 160 steps."""


@dataclass(frozen=True)
class Phase:
    """A phase of a script.

    Attributes:
        name: Name in the data, one word or two.
        command: Function of the current view and the view at the start of the phase that returns the
            noiseless action (8,).
        until: Function of the same two views that returns whether the phase is over.
    """

    name: str
    command: Rule
    until: Test


class ScriptedPolicy:
    """A policy that runs phases in order and adds Gaussian noise to every action, then clips it.

    Args:
        phases: The phases in order; the last one does not end.
        drawn: Thresholds and targets drawn for this episode.
        noise: Standard deviation of the action noise.
        rng: Generator of the noise.
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
        """Return the next action (8,) and the name of its phase."""
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
    """Build a noiseless action.

    Args:
        move: Translation in m; None: no motion.  # (3,)
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
    """Return False: the end test of a last phase."""
    return False
