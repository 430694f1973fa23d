"""Registry of the scripted policies. A script observes a `SceneView`, never a simulator."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from cogdata.errors import CogError, unknown
from collectors.policies import drawer, tray
from collectors.policies.script import Phase, ScriptedPolicy
from collectors.policies.view import SceneView

__all__ = ["POLICIES", "Phase", "PolicySpec", "SceneView", "ScriptedPolicy", "make_policy"]


class Factory(Protocol):
    """Factory of the policy of one episode, with all random numbers from `rng`."""

    def __call__(self, *, noise: float, rng: np.random.Generator) -> ScriptedPolicy:
        """Draw the episode's thresholds and targets, and build its phases."""
        ...


@dataclass(frozen=True)
class PolicySpec:
    """A scripted policy and its documentation.

    Attributes:
        name: Key in `POLICIES`.
        help: One line about what it does.
        default_env: Environment that it was made for.
        goals: Predicates that can be its goal; the first that a scene has defines success, on the last
            observation of an episode.
        success_range: Expected lowest and highest success rate over many episodes with noise 0.2 in its
            default environment.
        factory: Factory of the policy of one episode.
        horizon: Number of actions of a collected episode.
    """

    name: str
    help: str
    default_env: str
    goals: tuple[str, ...]
    success_range: tuple[float, float]
    factory: Factory
    horizon: int = 30

    def goal(self, predicates: Collection[str]) -> str:
        """Return the predicate that is the policy's goal in a scene with these predicates.

        Raises:
            CogError: The scene has none of the goals.
        """
        for name in self.goals:
            if name in predicates:
                return name
        raise CogError(
            f"the goal of policy {self.name} is {' or '.join(self.goals)}, this environment has only "
            f"{', '.join(predicates)}: use --env {self.default_env}"
        )


POLICIES: Final[dict[str, PolicySpec]] = {
    "weak_grasp": PolicySpec(
        "weak_grasp", "grasp the object or, half of the time, at a random point; the tray prior",
        "cog/PickTray-v0", ("grasped",), (0.30, 0.50), tray.weak_grasp_policy,
    ),
    "grasp": PolicySpec(
        "grasp", "grasp the object and hold it up",
        "cog/PickTray-v0", ("grasped",), (0.60, 0.85), tray.grasp_policy,
    ),
    "near_grasp": PolicySpec(
        "near_grasp", "close the hand at a random point within 6 cm of the object",
        "cog/PickTray-v0", ("grasped",), (0.08, 0.28), tray.near_grasp_policy,
    ),
    "blind_grasp": PolicySpec(
        "blind_grasp", "close the hand at a random point in and around the tray, wherever the object is",
        "cog/PickTray-v0", ("grasped",), (0.0, 0.15), tray.blind_grasp_policy,
    ),
    "place": PolicySpec(
        "place", "carry the object that is held over the tray and let go",
        "cog/PlaceTray-v0", ("placed",), (0.90, 1.0), tray.place_policy,
    ),
    "pick_place": PolicySpec(
        "pick_place", "put the object into the tray or, half of the time, anywhere else, go to neutral",
        "cog/PickTray-v0", ("placed", "blocker_moved"), (0.20, 0.50), tray.pick_place_policy, horizon=40,
    ),
    "drawer_open": PolicySpec(
        "drawer_open", "pull the bottom drawer open, go to neutral",
        "cog/DrawerClosed-v0", ("drawer_open",), (0.40, 0.60), drawer.drawer_open_policy,
    ),
    "drawer_close": PolicySpec(
        "drawer_close", "push the bottom drawer shut, go to neutral",
        "cog/DrawerOpen-v0", ("drawer_closed",), (0.40, 0.60), drawer.drawer_close_policy,
    ),
    "drawer_open_suboptimal": PolicySpec(
        "drawer_open_suboptimal", "pull the bottom drawer open or, half of the time, push it shut",
        "cog/DrawerClosed-v0", ("drawer_open",), (0.20, 0.30), drawer.suboptimal_policy,
    ),
    "drawer_open_flipping": PolicySpec(
        "drawer_open_flipping", "pull or push the bottom drawer, drawn anew every step; as published",
        "cog/DrawerClosed-v0", ("drawer_open",), (0.0, 0.2), drawer.flipping_policy,
    ),
    "close_top_then_open": PolicySpec(
        "close_top_then_open", "push the top drawer shut, then pull the bottom one open, go to neutral",
        "cog/DrawerBlocked1-v0", ("drawer_open",), (0.25, 0.50), drawer.close_top_then_open_policy,
        horizon=40,
    ),
    "clear_blocker_then_open": PolicySpec(
        "clear_blocker_then_open", "put the bottle away, then pull the bottom drawer open, go to neutral",
        "cog/DrawerBlocked2-v0", ("drawer_open",), (0.40, 0.60), drawer.clear_blocker_then_open_policy,
        horizon=70,
    ),
    "grasp_from_drawer": PolicySpec(
        "grasp_from_drawer", "grasp the ball in the open drawer and hold it up; the drawer task",
        "cog/DrawerOpen-v0", ("grasped",), (0.60, 0.80), drawer.grasp_from_drawer_policy,
    ),
    "random": PolicySpec(
        "random", "uniformly random actions",
        "cog/PickTray-v0", ("placed", "grasped"), (0.0, 0.02), tray.random_policy,
    ),
}  # fmt: skip


def make_policy(name: str, *, noise: float = 0.2, rng: np.random.Generator) -> ScriptedPolicy:
    """Build the policy of one episode.

    Args:
        name: Key of `POLICIES`.
        noise: Standard deviation of the action noise.
        rng: Generator of thresholds, targets and noise.

    Raises:
        CogError: No such policy.
    """
    if name not in POLICIES:
        raise unknown("policy", name, POLICIES)
    return POLICIES[name].factory(noise=noise, rng=rng)
