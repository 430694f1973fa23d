"""One episode as a value: its arrays, its metadata, its digest. Checked at birth, frozen afterwards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cogdata.schema import ACTION_DIM, NAME_PATTERN, PREDICATES, ROBOT_DIM

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

_ID_DIGITS: Final = 7


def episode_id(collection: str, index: int) -> str:
    """Name an episode: ``<collection>/<index>``, safe as a WebDataset key (no dot).

    Args:
        collection: Name of the collection.
        index: Index of the episode within it, from 0.

    Returns:
        For example ``weak_grasp-1f2e3d4c/0000042``.
    """
    return f"{collection}/{index:0{_ID_DIGITS}d}"


@dataclass(frozen=True)
class EpisodeMeta:
    """Where an episode comes from: enough to make it again, and to find it by SQL.

    Attributes:
        collection: Collection it belongs to.
        index: Index within the collection; (root seed, index) decide every byte.
        env: Gymnasium id of the world.
        policy: Name of the policy that acted, or the run id of a learned one.
        policy_params: Values the policy drew for this episode (thresholds m, goals m).
        noise: Standard deviation of the action noise, in action units.
        seed: Seed given to ``env.reset``.
        task: Predicate that the reward of the world judges.
        goal: Predicate that the policy tries to reach, judged on the last observation.
    """

    collection: str
    index: int
    env: str
    policy: str
    policy_params: Mapping[str, float]
    noise: float
    seed: int
    task: str
    goal: str

    def __post_init__(self) -> None:
        """Refuse names that could not become a folder, a WebDataset key or a predicate column."""
        if not NAME_PATTERN.fullmatch(self.collection):
            raise ValueError(f"collection {self.collection!r} must match {NAME_PATTERN.pattern}")
        if self.index < 0:
            raise ValueError(f"index is {self.index}, must be >= 0")
        for name in (self.task, self.goal):
            if name not in PREDICATES:
                raise ValueError(f"predicate {name!r} is not one of {', '.join(PREDICATES)}")

    @property
    def episode_id(self) -> str:
        """The episode's name in every table."""
        return episode_id(self.collection, self.index)

    def to_json(self) -> str:
        """Return the canonical JSON text (sorted keys, no spaces)."""
        return json.dumps(asdict(self) | {"policy_params": dict(self.policy_params)}, sort_keys=True,
                          separators=(",", ":"))  # fmt: skip


@dataclass(frozen=True)
class Episode:
    """T actions and T+1 observations, aligned as :mod:`cogdata.schema` draws it.

    Attributes:
        meta: Where it comes from.
        image: uint8 (T+1, H, W, 3), RGB.
        robot: float32 (T+1, 10).
        scene: float32 (T+1, S).
        action: float32 (T, 8).
        reward: float32 (T,).
        terminated: bool (T,).
        truncated: bool (T,).
        predicates: name → bool (T+1,); only those that the scene has. False where it was not judged.
        phase: T names: what the policy was doing when it chose each action.
        scene_fields: S names.
        unjudged: name → bool (T+1,), True where the predicate was not judged; only those that were not
            judged somewhere.
    """

    meta: EpisodeMeta
    image: UInt8
    robot: Float32
    scene: Float32
    action: Float32
    reward: Float32
    terminated: Bool
    truncated: Bool
    predicates: Mapping[str, Bool]
    phase: tuple[str, ...]
    scene_fields: tuple[str, ...]
    unjudged: Mapping[str, Bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check every shape, dtype and range; say the number found and the number needed."""
        steps = len(self.action)
        if steps < 1:
            raise ValueError("an episode needs at least one action, found 0")
        if self.image.ndim != 4 or self.image.shape[-1] != 3:
            raise ValueError(f"image has shape {self.image.shape}, must be (T+1, H, W, 3)")
        expected: dict[str, tuple[NDArray[Any], tuple[int, ...], str]] = {
            "image": (self.image, (steps + 1, *self.image.shape[1:]), "uint8"),
            "robot": (self.robot, (steps + 1, ROBOT_DIM), "float32"),
            "scene": (self.scene, (steps + 1, len(self.scene_fields)), "float32"),
            "action": (self.action, (steps, ACTION_DIM), "float32"),
            "reward": (self.reward, (steps,), "float32"),
            "terminated": (self.terminated, (steps,), "bool"),
            "truncated": (self.truncated, (steps,), "bool"),
        }
        for name, values in self.predicates.items():
            if name not in PREDICATES:
                raise ValueError(f"predicate {name!r} is not one of {', '.join(PREDICATES)}")
            expected[name] = (values, (steps + 1,), "bool")
        for name, (values, shape, dtype) in expected.items():
            if values.shape != shape:
                raise ValueError(f"{name} has shape {values.shape}, must be {shape} for {steps} actions")
            if values.dtype != np.dtype(dtype):
                raise ValueError(f"{name} is {values.dtype}, must be {dtype}")
            if dtype == "float32" and not np.isfinite(values).all():
                raise ValueError(f"{name} holds a value that is not finite")
        if len(self.phase) != steps:
            raise ValueError(f"phase has {len(self.phase)} names, must be {steps}")
        if np.abs(self.action).max() > 1:
            raise ValueError(f"action reaches {np.abs(self.action).max():.3f}, must be within [-1, 1]")
        for name in (self.meta.task, self.meta.goal):
            if name not in self.predicates:
                raise ValueError(f"predicate {name!r} is judged nowhere in this scene")
        self._check_unjudged()

    def _check_unjudged(self) -> None:
        for name, mask in self.unjudged.items():
            values = self.predicates.get(name)
            if values is None or mask.shape != values.shape or mask.dtype != np.dtype(bool):
                raise ValueError(
                    f"unjudged {name!r} is {mask.dtype} {mask.shape}, must be as its predicate is"
                )
            if not mask.any():
                raise ValueError(f"predicate {name!r} was judged everywhere: leave it out of unjudged")
            if (values & mask).any():
                raise ValueError(f"predicate {name!r} holds where it was not judged")

    def check_ends(self) -> None:
        """Refuse an end in the midst of an episode; what older versions stored is read as it is.

        Raises:
            ValueError: ``terminated`` or ``truncated`` is true before the last action.
        """
        for name, values in (("terminated", self.terminated), ("truncated", self.truncated)):
            if values[:-1].any():
                raise ValueError(
                    f"{name} is true at action {int(np.argmax(values))} of {self.steps}, may be true at the "
                    f"last one only: {self.meta.episode_id} is more than one episode"
                )

    @property
    def steps(self) -> int:
        """T, the number of actions."""
        return len(self.action)

    @property
    def success(self) -> bool | None:
        """Whether the policy's own goal holds on the last observation; None: not judged."""
        return self.holds(self.meta.goal, -1)

    @property
    def solved(self) -> bool:
        """Whether the world's task was rewarded at any step."""
        return bool(self.reward.max() > 0)

    def holds(self, predicate: str, t: int) -> bool | None:
        """Return whether a predicate holds on observation t; None: it was not judged there."""
        if predicate in self.unjudged and self.unjudged[predicate][t]:
            return None
        return bool(self.predicates[predicate][t])

    def digest(self) -> str:
        """Return the sha256 (hex) of everything in the episode, independent of how it is stored."""
        sha = hashlib.sha256(self.meta.to_json().encode())
        sha.update("\x1f".join((*self.scene_fields, "|", *self.phase)).encode())
        arrays: list[NDArray[Any]] = [
            self.image,
            self.robot,
            self.scene,
            self.action,
            self.reward,
            self.terminated,
            self.truncated,
        ]
        arrays += [self.predicates[name] for name in sorted(self.predicates)]
        for values in arrays:
            sha.update(f"{values.dtype.str}{values.shape}".encode())
            sha.update(np.ascontiguousarray(values).data)
        for name in sorted(self.unjudged):  # nothing where all was judged, as before there was a choice
            sha.update(f"\x1funjudged {name}{self.unjudged[name].shape}".encode())
            sha.update(np.ascontiguousarray(self.unjudged[name]).data)
        return sha.hexdigest()
