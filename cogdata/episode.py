"""One episode as a value: its arrays, its metadata, its digest. Checked at birth, frozen afterwards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cogdata.features import FEATURE_NAME, EpisodeSpec, Feature, Per
from cogdata.layout1 import layout_of
from cogdata.schema import NAME_PATTERN

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
        task: Predicate of the world's task; None: it states no success.
        goal: Predicate that the policy tries to reach, judged on the last observation; None: none is stated.
    """

    collection: str
    index: int
    env: str
    policy: str
    policy_params: Mapping[str, float]
    noise: float
    seed: int
    task: str | None
    goal: str | None

    def __post_init__(self) -> None:
        """Refuse names that could not become a folder, a WebDataset key or a predicate column."""
        if not NAME_PATTERN.fullmatch(self.collection):
            raise ValueError(f"collection {self.collection!r} must match {NAME_PATTERN.pattern}")
        if self.index < 0:
            raise ValueError(f"index is {self.index}, must be >= 0")
        for name in (self.task, self.goal):
            if name is not None and not FEATURE_NAME.fullmatch(name):
                raise ValueError(f"predicate {name!r} must be lower case letters, digits and _")

    @property
    def episode_id(self) -> str:
        """The episode's name in every table."""
        return episode_id(self.collection, self.index)

    def to_json(self) -> str:
        """Return the canonical JSON text (sorted keys, no spaces)."""
        return json.dumps(asdict(self) | {"policy_params": dict(self.policy_params)}, sort_keys=True,
                          separators=(",", ":"))  # fmt: skip


@dataclass(frozen=True)
class Encoded:
    """Pictures of an episode as the bytes of a lossy or linked codec; the bytes are what is stored.

    Attributes:
        codec: Key of a codec.
        data: Encoded bytes.
        shape: (N, H, W, C) of the pictures.
        dtype: Their type.
        first: Pictures in ``data`` before the first of the episode.
    """

    codec: str
    data: bytes
    shape: tuple[int, ...]
    dtype: str
    first: int = 0

    def __len__(self) -> int:
        """N."""
        return self.shape[0]


Recorded = NDArray[Any] | Encoded
"""The rows of a feature."""


@dataclass(frozen=True)
class Episode:
    """T actions and N observations, aligned as :mod:`cogdata.schema` draws it.

    N is T+1, or T where the final observation is unknown, as in other people's data.

    Attributes:
        meta: Where it comes from.
        spec: Declaration of everything below.
        observations: Feature → rows (N, *shape).
        action: (T, *shape).
        reward: float32 or float64 (T,), as collected; None: unknown.
        terminated: bool (T,); None: unknown.
        truncated: bool (T,); None: unknown.
        predicates: name → bool (N,); only those that the scene has. False where it was not judged.
        phase: T names: what the policy was doing when it chose each action.
        unjudged: name → bool (N,), True where the predicate was not judged; only those that were not
            judged somewhere.
        extras: Annotation → rows: N, T or 1, as its feature says; texts are objects, null where unknown.
    """

    meta: EpisodeMeta
    spec: EpisodeSpec
    observations: Mapping[str, Recorded]
    action: NDArray[Any]
    reward: NDArray[Any] | None
    terminated: Bool | None
    truncated: Bool | None
    predicates: Mapping[str, Bool]
    phase: tuple[str, ...]
    unjudged: Mapping[str, Bool] = field(default_factory=dict)
    extras: Mapping[str, Recorded] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check every shape, dtype and range; say the number found and the number needed."""
        if self.steps < 1:
            raise ValueError("an episode needs at least one action, found 0")
        self._check_features("observation", self.spec.observations, self.observations)
        if self.length not in (self.steps, self.steps + 1):
            raise ValueError(
                f"{self.length} observations for {self.steps} actions, must be {self.steps + 1}, or "
                f"{self.steps} where the final one is unknown"
            )
        self._check_features("annotation", self.spec.extras, self.extras)
        self.spec.action.check(self.action, self.steps)
        self._check_steps()
        if self.predicates.keys() != set(self.spec.predicates):
            named, declared = ", ".join(self.predicates), ", ".join(self.spec.predicates)
            raise ValueError(f"predicates {named} are judged, {declared} declared")
        for name, values in self.predicates.items():
            _check_array(name, values, (self.length,), "bool")
        for stated in (self.meta.task, self.meta.goal):
            if stated is not None and stated not in self.predicates:
                raise ValueError(f"predicate {stated!r} is judged nowhere in this scene")
        self._check_unjudged()

    def _check_features(
        self, kind: str, declared: tuple[Feature, ...], found: Mapping[str, Recorded]
    ) -> None:
        names = [feature.name for feature in declared]
        if more := sorted(found.keys() - set(names)):
            raise ValueError(f"{kind} {', '.join(more)} is not declared; declared: {', '.join(names)}")
        for feature in declared:
            if feature.name not in found:
                raise ValueError(f"{kind} {feature.name} is declared, and the episode has none")
            values = found[feature.name]
            rows = self.rows_of(feature)
            if isinstance(values, Encoded):
                if (values.shape, values.dtype) != ((rows, *feature.shape), feature.dtype):
                    raise ValueError(
                        f"{feature.name} holds {values.dtype} {values.shape}, must be {feature.dtype} "
                        f"{(rows, *feature.shape)}"
                    )
            else:
                feature.check(values, rows)

    def _check_steps(self) -> None:
        if self.reward is not None:
            _check_array("reward", self.reward, (self.steps,), self.spec.reward)
            if not np.isfinite(self.reward).all():
                raise ValueError("reward holds a value that is not finite")
        for name, flags in (("terminated", self.terminated), ("truncated", self.truncated)):
            if flags is not None:
                _check_array(name, flags, (self.steps,), "bool")
        known = self.final_observation and None not in (self.meta.task, self.meta.goal)
        if layout_of(self.spec) == 1 and (
            not known or any(one is None for one in (self.reward, self.terminated, self.truncated))
        ):
            raise ValueError(
                "an episode declared as those of the built-in worlds must know its rewards, ends, final "
                "observation, task and goal: declare it otherwise, for example with rate_hz"
            )
        if len(self.phase) != self.steps:
            raise ValueError(f"phase has {len(self.phase)} names, must be {self.steps}")

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
            if values is not None and values[:-1].any():
                raise ValueError(
                    f"{name} is true at action {int(np.argmax(values))} of {self.steps}, may be true at the "
                    f"last one only: {self.meta.episode_id} is more than one episode"
                )

    # --- sizes -----------------------------------------------------------------------------------------

    @property
    def steps(self) -> int:
        """T, the number of actions."""
        return len(self.action)

    @property
    def length(self) -> int:
        """N, the number of observations."""
        first = next(iter(self.observations.values()), None)
        if first is not None:
            return len(first)
        return len(next(iter(self.predicates.values()))) if self.predicates else self.steps + 1

    @property
    def final_observation(self) -> bool:
        """Whether the observation that the last action led to is known."""
        return self.length == self.steps + 1

    def rows_of(self, feature: Feature) -> int:
        """Return how many rows this episode has of a feature."""
        return {Per.OBSERVATION: self.length, Per.TRANSITION: self.steps, Per.EPISODE: 1}[feature.per]

    def array(self, name: str) -> NDArray[Any]:
        """Return the rows of a feature that is not held as encoded bytes.

        Raises:
            KeyError: There is none of that name.
            ValueError: It is held as encoded bytes: see `cogdata.storage.samples.decoded`.
        """
        values = self.observations[name] if name in self.observations else self.extras[name]
        if isinstance(values, Encoded):
            raise ValueError(f"{name} is held as {values.codec}, not as an array")
        return values

    # --- the three observations of layout 1 --------------------------------------------------------------

    @property
    def image(self) -> UInt8:
        """Layout 1: uint8 (T+1, H, W, 3), RGB."""
        return self.array("image")

    @property
    def robot(self) -> Float32:
        """Layout 1: float32 (T+1, 10)."""
        return self.array("robot")

    @property
    def scene(self) -> Float32:
        """Layout 1: float32 (T+1, S)."""
        return self.array("scene")

    @property
    def scene_fields(self) -> tuple[str, ...]:
        """Layout 1: S names."""
        return self.spec["scene"].names

    # --- outcome ---------------------------------------------------------------------------------------

    @property
    def success(self) -> bool | None:
        """Whether the policy's goal holds on the last observation; None: not judged, or none is stated."""
        return None if self.meta.goal is None else self.holds(self.meta.goal, -1)

    @property
    def solved(self) -> bool | None:
        """Whether the world's task held after any action; None: it was never judged, or none is stated."""
        if layout_of(self.spec) == 1 and self.reward is not None:
            return bool(self.reward.max() > 0)
        if self.meta.task is None:
            return None
        held = self.predicates[self.meta.task][1:]
        open_ = self.unjudged.get(self.meta.task)
        return True if held.any() else None if open_ is not None and open_[1:].all() else False

    def holds(self, predicate: str, t: int) -> bool | None:
        """Return whether a predicate holds on observation t; None: it was not judged there."""
        if predicate in self.unjudged and self.unjudged[predicate][t]:
            return None
        return bool(self.predicates[predicate][t])

    def digest(self) -> str:
        """Return the sha256 (hex) of everything in the episode, independent of how it is stored.

        Of pictures that a lossy codec holds it is made of the encoded bytes.
        """
        return _digest_1(self) if layout_of(self.spec) == 1 else _digest_2(self)


def _check_array(name: str, values: NDArray[Any], shape: tuple[int, ...], dtype: str) -> None:
    if values.shape != shape:
        raise ValueError(f"{name} has shape {values.shape}, must be {shape}")
    if values.dtype != np.dtype(dtype):
        raise ValueError(f"{name} is {values.dtype}, must be {dtype}")


def _digest_1(episode: Episode) -> str:
    sha = hashlib.sha256(episode.meta.to_json().encode())
    sha.update("\x1f".join((*episode.scene_fields, "|", *episode.phase)).encode())
    arrays: list[NDArray[Any] | None] = [
        episode.image,
        episode.robot,
        episode.scene,
        episode.action,
        episode.reward,
        episode.terminated,
        episode.truncated,
    ]
    arrays += [episode.predicates[name] for name in sorted(episode.predicates)]
    for values in arrays:
        assert values is not None  # layout 1 knows all of them
        sha.update(f"{values.dtype.str}{values.shape}".encode())
        sha.update(np.ascontiguousarray(values).data)
    for name in sorted(episode.unjudged):  # nothing where all was judged, as before there was a choice
        sha.update(f"\x1funjudged {name}{episode.unjudged[name].shape}".encode())
        sha.update(np.ascontiguousarray(episode.unjudged[name]).data)
    return sha.hexdigest()


def _digest_2(episode: Episode) -> str:
    sha = hashlib.sha256(b"2\0" + episode.meta.to_json().encode() + b"\0" + episode.spec.identity().encode())
    named: list[tuple[str, Recorded | None]] = [
        *((one.name, episode.observations[one.name]) for one in episode.spec.observations),
        *((one.name, episode.extras[one.name]) for one in episode.spec.extras),
        *((name, getattr(episode, name)) for name in ("action", "reward", "terminated", "truncated")),
        *((name, episode.predicates[name]) for name in sorted(episode.predicates)),
        *((f"unjudged {name}", episode.unjudged[name]) for name in sorted(episode.unjudged)),
        ("phase", np.array(episode.phase, object)),
    ]
    for name, values in named:
        sha.update(f"\0{name}\0".encode())
        if values is None:
            sha.update(b"null")
        elif isinstance(values, Encoded):
            sha.update(f"encoded {values.dtype}{values.shape} from {values.first}\0".encode())
            sha.update(values.data)
        elif values.dtype == object:
            sha.update(json.dumps(values.tolist(), ensure_ascii=True).encode())
        else:
            sha.update(f"{values.dtype.str}{values.shape}\0".encode())
            sha.update(np.ascontiguousarray(values).data)
    return sha.hexdigest()
