"""One episode from a world and whatever acts in it: the loop that collecting and judging share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cogdata.episode import Episode, EpisodeMeta, Float32

Act = Callable[[dict[str, NDArray[Any]]], tuple[Float32, str]]
"""From the observation (image, robot, scene) to an action, float32 (8,), and the name of its phase."""


class World(Protocol):
    """What a Gymnasium environment must offer beside its API for its episodes to be stored.

    ``info["predicates"]`` of reset and step maps predicate names to booleans. What is given is kept until the
    episode ends: it may not be written into again.
    """

    scene_fields: tuple[str, ...]
    task_predicate: str

    def reset(self, *, seed: int | None = None) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Start an episode that the seed alone decides."""
        ...

    def step(self, action: Float32) -> tuple[dict[str, NDArray[Any]], float, bool, bool, dict[str, Any]]:
        """Apply an action."""
        ...


def rollout(world: World, act: Act, meta: EpisodeMeta) -> Episode:
    """Run one episode until the world says terminated or truncated.

    Args:
        world: Shows image, robot and scene.
        act: Chooses the actions.
        meta: Of the episode; its seed resets the world.

    Returns:
        The checked episode.
    """
    obs, info = world.reset(seed=meta.seed)
    observations, infos = [obs], [info]
    actions, rewards, ends, phases = [], [], [], []
    terminated = truncated = False
    while not (terminated or truncated):
        action, phase = act(obs)
        obs, reward, terminated, truncated, info = world.step(action)
        observations.append(obs)
        infos.append(info)
        actions.append(action)
        rewards.append(reward)
        ends.append((terminated, truncated))
        phases.append(phase)
    stacked = {name: np.stack([obs[name] for obs in observations]) for name in ("image", "robot", "scene")}
    predicates = {
        name: np.array([info["predicates"][name] for info in infos], bool) for name in infos[0]["predicates"]
    }
    return Episode(
        meta=meta,
        **stacked,
        action=np.stack(actions).astype(np.float32),
        reward=np.array(rewards, np.float32),
        terminated=np.array([end[0] for end in ends], bool),
        truncated=np.array([end[1] for end in ends], bool),
        predicates=predicates,
        phase=tuple(phases),
        scene_fields=world.scene_fields,
    )
