"""Interface of the learners: observations and batches as tensors, configurations, the class ``Algorithm``.

An algorithm is a torch module that holds all of its state: networks, averages, optimisers and the number of
updates done. It has no random numbers of its own: ``update`` takes a generator and ``act`` its noise, so that
a run is a function of (data, configuration, seed).
"""

from __future__ import annotations

import dataclasses
import math
import typing
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar, Final, Literal, Self

import torch
from torch import Tensor, nn

from cogdata.errors import CogError, unknown
from trainers.action import ActionSpec
from trainers.identity import before_later, identity_of, later, lists, tuples
from trainers.spec import ObsSpec, Spec

Success = Literal["absorbing", "continuing"]

LARGEST_WIDTH: Final = 2**16
"""Upper bound of the width of a layer."""

LAYERS: Final = ("encoder", "shared_encoder", "head", "hybrid", "layer_norm", "stack", "chunk")
"""Settings that define the layers of the networks, beside their widths."""

IMAGE_LAYERS: Final = ("encoder", "shared_encoder")
"""Those of LAYERS that have no effect without images."""

CRITIC_LAYERS: Final = ("shared_encoder", "layer_norm")
"""Those of LAYERS that have no effect on a policy."""


@dataclass(frozen=True)
class TensorObs:
    """B observations on the learner's device.

    Attributes:
        parts: Feature → (B, *shape). An image is uint8 (B, H, W, C), or the result of
            :func:`trainers.networks.images.scaled`.
    """

    parts: Mapping[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        """Return a feature, (B, *shape)."""
        return self.parts[name]

    def get(self, name: str) -> Tensor | None:
        """Return a feature, (B, *shape); None if it is not there."""
        return self.parts.get(name)

    def having(self, name: str, part: Tensor) -> TensorObs:
        """Return the same observations with another tensor for a feature."""
        return TensorObs({**self.parts, name: part})

    def __len__(self) -> int:
        """B."""
        return len(next(iter(self.parts.values())))


@dataclass(frozen=True)
class TensorBatch:
    """B transitions on the learner's device, each field as of `cogdata.streaming.transitions.Batch`.

    Attributes:
        obs: s.
        action: As :mod:`trainers.action` says: float32 (B, A) in [-1, 1], or int64 indices (B,) or (B, n); of
            a chunk (B, K, A), (B, K) or (B, K, n).
        reward: float32 (B,).
        next_obs: s'.
        terminated: bool (B,); time limits are not terminations.
        source: int16 (B,), index into the stream's ``sources``.
    """

    obs: TensorObs
    action: Tensor
    reward: Tensor
    next_obs: TensorObs
    terminated: Tensor
    source: Tensor
    valid: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)
    next_valid: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)
    mask: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)
    discount: Tensor | None = None
    embodiment: Tensor | None = None

    def __len__(self) -> int:
        """B."""
        return len(self.action)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings that every algorithm has; each algorithm's file defines the defaults.

    Attributes:
        updates: Total number of updates of a run.
        batch_size: Number of transitions per update.
        encoder: Key of :data:`trainers.networks.encoders.ENCODERS`; unused for "state".
        crop_px: Zero padding of the random crop during training; 0: no crop.
        stack: Number of newest observations that are looked at together.
    """

    updates: int
    batch_size: int
    encoder: str
    crop_px: int
    stack: int = later(1)

    def __post_init__(self) -> None:
        """Check ranges; subclasses add theirs with :meth:`require`."""
        self.require("updates", 1, 10**9)
        self.require("batch_size", 1, 2**16)
        self.require("crop_px", 0, 64)
        self.require("stack", 1, 64)
        for name, value in vars(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise CogError(f"{name} is {value}, must be a finite number")
            if isinstance(value, tuple) and (not value or min(value) < 1 or max(value) > LARGEST_WIDTH):
                raise CogError(f"{name} is {value}, must be one or more widths from 1 to {LARGEST_WIDTH:,}")

    def require(self, name: str, low: float, high: float) -> None:
        """Raise unless ``low <= value <= high``."""
        value = getattr(self, name)
        if not low <= value <= high:
            raise CogError(f"{name} is {value}, must be within [{low:g}, {high:g}]")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return lists(asdict(self))

    def identity(self) -> dict[str, Any]:
        """Return the settings that a run is named by, as plain JSON values."""
        return lists(identity_of(self))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Build a configuration from the dictionary of :meth:`to_dict`, of this or an older version."""
        for name in data.keys() - {field.name for field in fields(cls)}:
            raise CogError(
                f"setting {name!r} is unknown to this version: a newer cogdata wrote it, upgrade this one"
            )
        values: dict[str, Any] = {**before_later(cls), **tuples(data)}
        return cls(**values)

    def override(self, pairs: Sequence[str]) -> Self:
        """Return a copy with settings changed by ``key=value`` texts, parsed by the types of the fields.

        Args:
            pairs: Texts typed by the user, for example ("discount=0.97", "widths=256,256").

        Raises:
            CogError: A text without "=", an unknown key, or a value that its field cannot hold.
        """
        hints = typing.get_type_hints(type(self))
        changes: dict[str, Any] = {}
        for pair in pairs:
            name, equals, text = pair.partition("=")
            if not equals:
                raise CogError(f"setting {pair!r} must be key=value; keys: {', '.join(sorted(hints))}")
            if name.strip() not in hints:
                raise unknown("key", name.strip(), hints)
            changes[name.strip()] = _parse(name.strip(), text.strip(), hints[name.strip()])
        return replace(self, **changes)


def _typed(value: object) -> str:
    """Format a value as the user types it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _parse(name: str, text: str, hint: Any) -> object:  # noqa: ANN401
    """Parse a value of the given type, or raise an error that names the expected one."""
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if text not in choices:
            raise unknown(f"value of {name}", text, choices)
        return text
    if typing.get_origin(hint) is tuple:
        return tuple(_parse(name, item.strip(), int) for item in text.split(","))  # widths of layers
    if hint is bool:
        if text.lower() not in ("true", "false"):
            raise CogError(f"{name} must be true or false, found {text!r}")
        return text.lower() == "true"
    if hint is str:
        return text
    try:
        value = hint(text)
    except ValueError:
        kind = "a whole number" if hint is int else "a number"
        raise CogError(f"{name} must be {kind}, found {text!r}") from None
    if value != value:
        raise CogError(f"{name} must be a number, found {text!r}")
    return typing.cast(object, value)


class Algorithm(nn.Module, ABC):
    """A learner, whose state is its modules, its optimisers and ``updates_done``.

    Attributes:
        name: Key in ``ALGORITHMS``.
        presets: Named configurations; each has "fast" and "paper".
        acting: Names of the submodules that ``act`` uses; their weights are kept after training.
        config: Resolved configuration.
        spec: Specification of its observations and its action.
        chunk: K, number of actions that ``act`` chooses at once; 1: (B, A), more: (B, K, A).
        execute: Number of them that are done before the next ones are chosen.
        masks: Whether ``update`` leaves out what a mixture pads actions with.
        optimisers: Name → optimiser; only ``update`` steps them.
        updates_done: Number of updates so far.
    """

    name: ClassVar[str]
    presets: ClassVar[Mapping[str, Config]]
    acting: tuple[str, ...]
    chunk: int = 1
    execute: int = 1
    masks: ClassVar[bool] = False
    config: Config
    spec: Spec
    optimisers: dict[str, torch.optim.Adam]
    updates_done: int

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        self.optimisers = {}
        self.updates_done = 0

    @classmethod
    def learning(cls, action: ActionSpec) -> type[Algorithm]:
        """Return the class that learns this kind of action: this one, if the action is a Box.

        Raises:
            CogError: The algorithm has none.
        """
        if action.discrete:
            raise CogError(
                f"{cls.name} needs a Box action, found a Discrete one ({action.feature.describe()}): choose "
                f"bc, cql or iql"
            )
        return cls

    @property
    @abstractmethod
    def noise_shape(self) -> tuple[int, ...]:
        """Shape of the standard normal noise that one action takes; (0,) for a deterministic policy."""

    @property
    def stochastic(self) -> bool:
        """Whether ``act`` depends on its noise."""
        return 0 not in self.noise_shape

    @property
    def value_range(self) -> tuple[float, float] | None:
        """Smallest and largest possible value with rewards 0 and 1; None: the algorithm learns no values."""
        return None

    def rate_left(self, decay: float) -> float:
        """Factor of the learning rate in the next update; it falls to 0 in the last fraction ``decay``."""
        left = max(1 - self.updates_done / self.config.updates, 0.0)
        return min(1.0, left / decay) if decay else 1.0

    @abstractmethod
    def update(self, batch: TensorBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Take one gradient step.

        Args:
            batch: B transitions.
            generator: Generator of all random numbers of the update, on the learner's device.

        Returns:
            Metric name → scalar, detached; learners of values report "q_mean", "q_max" and "q_min".
        """

    @abstractmethod
    def act(self, obs: TensorObs, noise: Tensor) -> Tensor:
        """Choose actions.

        Args:
            obs: B observations.
            noise: Standard normal (B, *noise_shape); an action depends on no other row.

        Returns:
            Actions in units: (B, A) in [-1, 1], or int64 indices (B,) or (B, n).
        """

    @property
    def explore_noise_shape(self) -> tuple[int, ...]:
        """Shape of the standard normal noise that one exploring action takes."""
        return self.noise_shape

    def explore(self, obs: TensorObs, noise: Tensor) -> Tensor:
        """Choose actions for online data collection; the same as ``act`` by default."""
        return self.act(obs, noise)

    @torch.no_grad()
    def start_from(self, other: Algorithm) -> tuple[str, ...]:
        """Copy the weights of every module and parameter whose name both learners have.

        Args:
            other: Learner of this or another algorithm to copy from.

        Returns:
            Names of the copied modules, for example ("policy",).

        Raises:
            CogError: The learners have no module in common, or one with different shapes.
        """
        mine, theirs = self.state_dict(), other.state_dict()
        shared = {name.split(".")[0] for name in mine} & {name.split(".")[0] for name in theirs}
        for name in sorted(mine.keys() | theirs.keys()):
            if name.split(".")[0] not in shared:
                continue
            both = name in mine and name in theirs
            if not both or mine[name].shape != theirs[name].shape:
                raise CogError(
                    f"{self.name} cannot start from this {other.name}: {name} "
                    f"{'differs in size' if both else 'is in one of them only'}; give {self._alike(other)} "
                    f"with --set"
                )
            mine[name].copy_(theirs[name])
        if not shared:
            raise CogError(f"{self.name} cannot start from {other.name}: they have no network in common")
        return tuple(sorted(shared))

    def _alike(self, other: Algorithm) -> str:
        """Format the settings that give both learners the same layers."""
        said = []
        silent: tuple[str, ...] = () if self.spec.obs.has_image else IMAGE_LAYERS
        if not (hasattr(self, "critics") and hasattr(other, "critics")):
            silent += CRITIC_LAYERS
        for name in LAYERS:
            if name in silent:
                continue
            if not hasattr(self.config, name) and not hasattr(other.config, name):
                continue
            changed, kept = (other, self) if hasattr(other.config, name) else (self, other)
            value = getattr(kept.config, name, getattr(changed.presets["fast"], name))
            if getattr(changed.config, name) != value:
                said.append(f"{changed.name} {name}={_typed(value)}")
        return ", ".join(said) or "both the same widths and components"


def init_seeded(seed: int) -> _Seeded:
    """Return a context in which new layers draw their weights from ``seed``; the global state is restored."""
    return _Seeded(seed)


class _Seeded:
    """Context manager of :func:`init_seeded`; torch layers take no generator."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __enter__(self) -> None:
        self.state = torch.random.get_rng_state()
        torch.manual_seed(self.seed)

    def __exit__(self, *error: object) -> None:
        torch.random.set_rng_state(self.state)


__all__ = [
    "ActionSpec", "Algorithm", "Config", "ObsSpec", "Spec", "Success", "TensorBatch", "TensorObs",
    "init_seeded",
]  # fmt: skip
