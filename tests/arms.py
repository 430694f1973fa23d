"""Toy robots that are not the built-in one: two arms with three cameras, and one arm with seven joints."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete

from cogdata.features import Feature, Per

JOINTS = 14
TEXTS = ("hand over the red block", "fold the towel")


class Bimanual(gymnasium.Env[Any, Any]):
    """Fourteen joints that go where they are told; three cameras of other sizes, one of them depth."""

    predicates = ("block_held", "block_handed_over")
    task_predicate = "block_handed_over"
    horizon = 4
    rate_hz = 25.0
    feature_names: ClassVar[dict[str, tuple[str, ...]]] = {
        "joint_position_rad": tuple(f"{side}_{i}" for side in ("left", "right") for i in range(7)),
        "action": tuple(f"{side}_{i}_rad" for side in ("left", "right") for i in range(7)),
    }
    extras = (
        Feature("instruction", "string", per=Per.EPISODE),
        Feature("effort_nm", "float32", (2,), per=Per.TRANSITION),
    )
    action_space = Box(-np.pi, np.pi, (JOINTS,), np.float32)
    observation_space = Dict(
        observation=Dict(
            {
                "images.front": Box(0, 255, (480, 640, 3), np.uint8),
                "images.wrist": Box(0, 255, (64, 64, 3), np.uint8),
                "depth": Box(0, 65535, (32, 48), np.uint16),
            }
        ),
        joint_position_rad=Box(-np.inf, np.inf, (JOINTS,), np.float64),
        gripper_open=Discrete(2),
    )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.time, self.joints = 0, self.np_random.uniform(-1, 1, JOINTS)
        return self._shown(), self._told() | {"instruction": TEXTS[int(self.np_random.integers(2))]}

    def step(self, action: Any) -> Any:
        self.time += 1
        self.joints = self.joints + 0.1 * (action - self.joints)
        told = self._told() | {"effort_nm": np.array([self.time, 0.5], np.float32)}
        return self._shown(), -float(np.abs(self.joints).sum()), self.time == 3, False, told

    def _shown(self) -> Any:
        front = np.zeros((480, 640, 3), np.uint8)
        front[self.time] = 200
        wrist = np.full((64, 64, 3), 10 * self.time, np.uint8)
        depth = np.full((32, 48), 1000 * self.time, np.uint16)
        return {
            "observation": {"images.front": front, "images.wrist": wrist, "depth": depth},
            "joint_position_rad": self.joints,
            "gripper_open": self.time % 2,
        }

    def _told(self) -> dict[str, Any]:
        handed = None if self.time == 1 else self.time >= 3
        return {"predicates": {"block_held": self.time > 0, "block_handed_over": handed}}


class SevenDof(gymnasium.Env[Any, Any]):
    """Six joint speeds and a gripper; one small camera; no reward of its own."""

    predicates = ("cup_on_shelf", "cup_held")
    task_predicate = "cup_on_shelf"
    horizon = 5
    action_space = Box(
        np.array([-0.5] * 6 + [0.0], np.float32), np.array([0.5] * 6 + [1.0], np.float32), (7,), np.float32
    )

    def __init__(self, image_size: int = 32, shelf_m: float = 0.4) -> None:
        self.size, self.shelf_m = image_size, shelf_m
        self.observation_space: Any = Dict(
            camera=Box(0, 255, (image_size, image_size, 3), np.uint8),
            joints_rad=Box(-np.inf, np.inf, (6,), np.float32),
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.time, self.joints = 0, self.np_random.uniform(-1, 1, 6).astype(np.float32)
        return self._shown(), self._told()

    def step(self, action: Any) -> Any:
        self.time += 1
        self.joints = self.joints + 0.1 * action[:6]
        return self._shown(), None, False, False, self._told()

    def _shown(self) -> Any:
        camera = np.full((self.size, self.size, 3), 40 * self.time, np.uint8)
        return {"camera": camera, "joints_rad": self.joints}

    def _told(self) -> dict[str, Any]:
        return {
            "predicates": {"cup_on_shelf": bool(self.joints.sum() > self.shelf_m), "cup_held": self.time > 2}
        }


class SixDof(SevenDof):
    """The same arm without a gripper."""

    action_space = Box(-0.5, 0.5, (6,), np.float32)
