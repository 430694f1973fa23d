"""What a policy looks at and what it does, with the numbers that scale both: all that a network is sized by.

A specification is stored in every checkpoint, so that a policy needs neither its mixture nor its world.
Learners have actions in units: each entry of a Box action within [-1, 1], each of a Discrete one an index
from 0 on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from cogdata.errors import CogError
from cogdata.features import Command, Feature
from cogdata.layout1 import ACTION, layout1_spec
from trainers.obs_kinds import select

SMALLEST_IMAGE_PX: Final = 8
"""Least height and width of an image that a convolutional encoder takes."""

SPREAD: Final = 3.0
"""An entry of an action without a bound ends so many standard deviations from its mean."""

STD_FLOOR: Final = 1e-6
"""Lower bound of a standard deviation that an action is scaled by."""

Numbers = tuple[float, ...]


@dataclass(frozen=True)
class ObsSpec:
    """Specification of a policy's observations, with the statistics that normalise them.

    Attributes:
        features: What it looks at, in the order of the declaration.
        mean: Name of each vector → mean of each of its entries, flattened.
        std: Name of each vector → standard deviation of each of its entries.
        stack: K, number of newest observations that it looks at together. With 1 a feature is (B, *shape),
            with more (B, K, *shape), oldest first.
    """

    features: tuple[Feature, ...]
    mean: Mapping[str, Numbers]
    std: Mapping[str, Numbers]
    stack: int = 1

    def __post_init__(self) -> None:
        """Raise on no features, texts, small images and statistics of another length."""
        if not self.features:
            raise CogError("a policy must look at one feature at least")
        for one in self.features:
            if one.is_text:
                raise CogError(f"{one.name} is text, which no encoder here reads: leave it out of --obs")
            if one.is_image and min(one.shape[:2]) < SMALLEST_IMAGE_PX:
                raise CogError(
                    f"{one.name} is {one.shape[:2]} px, a convolutional encoder needs at least "
                    f"{SMALLEST_IMAGE_PX}×{SMALLEST_IMAGE_PX}"
                )
        for one in self.vectors:
            found = len(self.mean[one.name]), len(self.std[one.name])
            if found != (one.size, one.size):
                raise ValueError(
                    f"mean and std of {one.name} have {found[0]} and {found[1]} numbers, must be {one.size}"
                )

    @property
    def names(self) -> tuple[str, ...]:
        """Observation features that a stream or an environment must deliver."""
        return tuple(one.name for one in self.features)

    @property
    def windows(self) -> dict[str, tuple[int, int]]:
        """Feature → first and last step of its stack; none without one."""
        return dict.fromkeys(self.names, (1 - self.stack, 0)) if self.stack > 1 else {}

    @property
    def images(self) -> tuple[Feature, ...]:
        """Features that an image encoder reads."""
        return tuple(one for one in self.features if one.is_image)

    @property
    def vectors(self) -> tuple[Feature, ...]:
        """Features that are numbers without an encoder of images."""
        return tuple(one for one in self.features if not one.is_image)

    @property
    def has_image(self) -> bool:
        """Whether images are among the features."""
        return bool(self.images)

    @property
    def vector_dim(self) -> int:
        """Number of entries V of all vectors."""
        return sum(one.size for one in self.vectors)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "features": [one.to_data() for one in self.features],
            "mean": {name: list(numbers) for name, numbers in self.mean.items()},
            "std": {name: list(numbers) for name, numbers in self.std.items()},
            "stack": self.stack,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ObsSpec:
        """Read what :meth:`to_dict` returned, or version 0.1: ``kind, image_size, scene_fields, mean, std``.

        Raises:
            ValueError: It is neither.
        """
        if "kind" in data:
            return _version1(data)
        try:
            features = tuple(Feature.from_data(one) for one in data["features"])
            mean, std = ({k: tuple(v) for k, v in data[key].items()} for key in ("mean", "std"))
        except (KeyError, TypeError, AttributeError):
            raise ValueError("it specifies no observations") from None
        return cls(features, mean, std, data.get("stack", 1))


def _version1(data: Mapping[str, Any]) -> ObsSpec:
    features = select(data["kind"], layout1_spec(data["image_size"], data["scene_fields"], ()))
    mean: dict[str, Numbers] = {}
    std: dict[str, Numbers] = {}
    start = 0
    for one in features:
        if one.is_image:
            continue
        mean[one.name] = tuple(data["mean"][start : start + one.size])
        std[one.name] = tuple(data["std"][start : start + one.size])
        start += one.size
    if (len(data["mean"]), len(data["std"])) != (start, start):
        raise ValueError(
            f"mean and std have {len(data['mean'])} and {len(data['std'])} numbers, must be {start}"
        )
    return ObsSpec(features, mean, std)


@dataclass(frozen=True)
class ActionSpec:
    """Specification of a policy's action, with what scales it.

    Attributes:
        feature: The declared action.
        mean: Mean of each entry in the data; () if every entry has bounds.
        std: Standard deviation of each entry in the data; () if every entry has bounds.
    """

    feature: Feature
    mean: Numbers = ()
    std: Numbers = ()

    def __post_init__(self) -> None:
        """Raise on an entry that has neither bounds nor statistics."""
        if not self.bounded and (len(self.mean), len(self.std)) != (self.entries, self.entries):
            raise CogError(
                f"action is {self.feature.describe()}, without bounds on every entry, and the mixture has "
                f"statistics of {len(self.mean)} of its {self.entries} entries: freeze it again"
            )

    @classmethod
    def of(cls, feature: Feature, mean: Numbers, std: Numbers) -> ActionSpec:
        """Return the specification of an action; it keeps the statistics only where a bound is missing."""
        return cls(feature) if _is_bounded(feature) else cls(feature, mean, std)

    @property
    def bounded(self) -> bool:
        """Whether every entry has finite bounds."""
        return _is_bounded(self.feature)

    @property
    def entries(self) -> int:
        """Number of entries of an action: A, or 1 for one of shape ()."""
        return self.feature.size

    @property
    def discrete(self) -> bool:
        """Whether an action is a choice, or several, and not numbers."""
        return self.feature.is_discrete

    @property
    def categories(self) -> tuple[int, ...]:
        """Number of choices of each entry of a discrete action; () for a Box."""
        return self.feature.categories if self.discrete else ()

    @property
    def dim(self) -> int:
        """Width of what a network says of an action: A numbers, or one for each choice of each entry."""
        return sum(self.categories) if self.discrete else self.entries

    def repeated(self, count: int) -> ActionSpec:
        """Return the specification of so many actions, one after another, as one: of a chunk.

        Args:
            count: K; the entries are those of the first action, then of the second, … (K · A).
        """
        feature, size = self.feature, self.entries
        if count == 1:
            return self
        commands = [replace(one, dim=one.dim + t * size) for t in range(count) for one in feature.commands]
        return ActionSpec(
            replace(
                feature,
                shape=(count * size,),
                names=(),
                low=None if feature.low is None else count * feature.low,
                high=None if feature.high is None else count * feature.high,
                commands=tuple(commands),
            ),
            count * self.mean,
            count * self.std,
        )

    @cached_property
    def _bounds(self) -> tuple[Tensor, Tensor]:
        """Where [-1, 1] ends, float64 (A,) each."""
        bounds = []
        for declared, sign in ((self.feature.low, -1.0), (self.feature.high, 1.0)):
            found = np.full(self.entries, sign * np.inf) if declared is None else np.asarray(declared, float)
            if not np.isfinite(found).all():
                spread = SPREAD * np.maximum(np.asarray(self.std, float), STD_FLOOR)
                found = np.where(np.isfinite(found), found, np.asarray(self.mean, float) + sign * spread)
            bounds.append(torch.from_numpy(found.astype(np.float64)))
        return bounds[0], bounds[1]

    @cached_property
    def _is_unit(self) -> bool:
        low, high = self._bounds
        plain = self.feature.dtype == "float32" and len(self.feature.shape) == 1
        return plain and bool((low == -1).all() and (high == 1).all())

    @cached_property
    def _scale(self) -> tuple[Tensor, Tensor]:
        """Middle and half width of each entry; a half width of 0 counts as 1."""
        low, high = self._bounds
        half = (high - low) / 2
        return (high + low) / 2, torch.where(half > 0, half, 1.0)

    def to_unit(self, action: Tensor) -> Tensor:
        """Scale a Box action from its bounds to [-1, 1], or count a discrete one from 0.

        Entries without bounds are scaled by the data's mean ± 3 standard deviations. What lies beyond is
        clipped.

        Args:
            action: (..., *shape of the action), as data and worlds have it.

        Returns:
            float32 (..., A) in [-1, 1]: the same object if the action is that already. int64 of the same
            shape for a discrete action.
        """
        if self.discrete:
            return action.long() - self._lowest(action.device)
        if self._is_unit:
            return action
        numbers = action if self.feature.shape else action.unsqueeze(-1)
        middle, half = (one.to(numbers.device, _wide(numbers)) for one in self._scale)
        return ((numbers.to(_wide(numbers)) - middle) / half).clamp(-1, 1).float()

    def from_unit(self, unit: Tensor) -> Tensor:
        """Scale an action in units back: the inverse of :meth:`to_unit`.

        Args:
            unit: (..., A) in [-1, 1], or indices of a discrete action.

        Returns:
            (..., *shape of the action), of its type, within its bounds: the same object if nothing changes.
        """
        if self.discrete:
            return unit + self._lowest(unit.device)
        if self._is_unit:
            return unit
        middle, half = (one.to(unit.device, _wide(unit)) for one in self._scale)
        found = unit.to(_wide(unit)) * half + middle
        if self.feature.numpy_dtype.kind != "f":
            found = found.round()
        found = found.to(_TORCH[self.feature.dtype])
        low, high = (one.to(unit.device) for one in self._inner)
        found = torch.minimum(torch.maximum(found, low), high)
        return found if self.feature.shape else found.squeeze(-1)

    def levels_in_unit(self, command: Command) -> list[float]:
        """Return the levels of a command of a Box action in [-1, 1]."""
        middle, half = (float(one[command.dim]) for one in self._scale)
        return [min(max((level - middle) / half, -1.0), 1.0) for level in command.levels]

    @cached_property
    def _inner(self) -> tuple[Tensor, Tensor]:
        """Outermost values of the action's type within the declared bounds; inf where there is none."""
        kind = self.feature.numpy_dtype
        if kind.kind != "f":
            low, high = self._bounds
            return low.ceil().to(_TORCH[self.feature.dtype]), high.floor().to(_TORCH[self.feature.dtype])
        found = []
        for declared, none in ((self.feature.low, -math.inf), (self.feature.high, math.inf)):
            exact = np.full(self.entries, none) if declared is None else np.asarray(declared, np.float64)
            cast = exact.astype(kind)
            outside = cast.astype(np.float64) < exact if none < 0 else cast.astype(np.float64) > exact
            found.append(torch.from_numpy(np.where(outside, np.nextafter(cast, kind.type(-none)), cast)))
        return found[0], found[1]

    def _lowest(self, device: torch.device) -> Tensor:
        low = torch.tensor(self.feature.low, dtype=torch.int64, device=device)
        return low if self.feature.shape else low[0]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"feature": self.feature.to_data(), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ActionSpec:
        """Read what :meth:`to_dict` returned; nothing: the action of version 0.1.

        Raises:
            ValueError: It is something else.
        """
        if not data:
            return cls(ACTION)
        try:
            return cls(Feature.from_data(data["feature"]), tuple(data["mean"]), tuple(data["std"]))
        except (KeyError, TypeError):
            raise ValueError("it specifies no action") from None


@dataclass(frozen=True)
class Spec:
    """What a policy looks at and what it does.

    Attributes:
        obs: Its observations.
        action: Its action.
    """

    obs: ObsSpec
    action: ActionSpec

    def stacked(self, count: int) -> Spec:
        """Return the same, looking at so many observations together."""
        return self if self.obs.stack == count else replace(self, obs=replace(self.obs, stack=count))

    @classmethod
    def from_dicts(cls, obs: Mapping[str, Any], action: Mapping[str, Any]) -> Spec:
        """Read the two halves of a checkpoint's head.

        Raises:
            ValueError: They are something else.
        """
        return cls(ObsSpec.from_dict(obs), ActionSpec.from_dict(action))


def _wide(tensor: Tensor) -> torch.dtype:
    """Type that bounds are computed in; Apple's accelerator has no float64."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def _is_bounded(feature: Feature) -> bool:
    bounds = (*(feature.low or ()), *(feature.high or ()))
    return len(bounds) == 2 * feature.size and all(map(math.isfinite, bounds))


_TORCH: Final[Mapping[str, torch.dtype]] = {
    "uint8": torch.uint8, "uint16": torch.uint16, "int32": torch.int32, "int64": torch.int64,
    "float16": torch.float16, "float32": torch.float32, "float64": torch.float64, "bool": torch.bool,
}  # fmt: skip
"""NumPy's name of a type → torch's."""
