"""Scripted policies by name. A script sees a `SceneView`, never a simulator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from cogdata.errors import unknown
from collectors.policies import tray
from collectors.policies.script import Phase, ScriptedPolicy
from collectors.policies.view import SceneView

__all__ = ["POLICIES", "Phase", "PolicySpec", "SceneView", "ScriptedPolicy", "make_policy"]


class Factory(Protocol):
    """Make a policy for one episode; everything random in it comes from `rng`."""

    def __call__(self, *, noise: float, rng: np.random.Generator) -> ScriptedPolicy:
        """Draw the episode's thresholds and targets and list the phases."""
        ...


@dataclass(frozen=True)
class PolicySpec:
    """What there is to know about a scripted policy.

    Attributes:
        name: Its key in `POLICIES`.
        help: What it does, in one line.
        default_env: Where it is meant to act.
        success: The predicate that says, on an episode's last observation, whether it did what it is for.
        success_range: Lowest and highest success rate to expect over many episodes with noise 0.2.
        factory: Makes the policy of one episode.
        horizon: Actions per collected episode.
    """

    name: str
    help: str
    default_env: str
    success: str
    success_range: tuple[float, float]
    factory: Factory
    horizon: int = 30


POLICIES: Final[dict[str, PolicySpec]] = {
    "weak_grasp": PolicySpec(
        "weak_grasp", "grasp the object or, half of the time, at a random point; the tray prior",
        "cog/PickTray-v0", "grasped", (0.30, 0.50), tray.weak_grasp_policy,
    ),
    "grasp": PolicySpec(
        "grasp", "grasp the object and hold it up",
        "cog/PickTray-v0", "grasped", (0.60, 0.85), tray.grasp_policy,
    ),
    "place": PolicySpec(
        "place", "carry the object that is held over the tray and let go",
        "cog/PlaceTray-v0", "placed", (0.90, 1.0), tray.place_policy,
    ),
    "pick_place": PolicySpec(
        "pick_place", "grasp the object, drop it in the tray or, half of the time, elsewhere, go to neutral",
        "cog/PickTray-v0", "placed", (0.20, 0.50), tray.pick_place_policy, horizon=40,
    ),
    "random": PolicySpec(
        "random", "uniformly random actions", "cog/PickTray-v0", "placed", (0.0, 0.02), tray.random_policy,
    ),
}  # fmt: skip


def make_policy(name: str, *, noise: float = 0.2, rng: np.random.Generator) -> ScriptedPolicy:
    """Make the policy of one episode.

    Args:
        name: A key of `POLICIES`.
        noise: Standard deviation of the action noise.
        rng: Where thresholds, targets and noise come from.

    Raises:
        CogError: No such policy.
    """
    if name not in POLICIES:
        raise unknown("policy", name, POLICIES)
    return POLICIES[name].factory(noise=noise, rng=rng)
