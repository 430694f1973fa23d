"""What a policy does: how an action is scaled for a learner, and back for a world.

Learners have actions in units: each entry of a Box action within [-1, 1], each of a Discrete one an index
from 0 on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from cogdata.errors import CogError
from cogdata.features import Command, Feature
from cogdata.layout1 import ACTION

MOST_CHOICES: Final = 2**16
"""Most choices of all entries of a Discrete action; a network has an output for each."""

SPREAD: Final = 3.0
"""An entry of an action without a bound ends so many standard deviations from its mean."""

STD_FLOOR: Final = 1e-6
"""Lower bound of a standard deviation that an action is scaled by."""

Numbers = tuple[float, ...]


@dataclass(frozen=True)
class ActionSpec:
    """Specification of a policy's action, with what scales it.

    Attributes:
        feature: The declared action.
        mean: Mean of each entry in the data; () if every entry has bounds.
        std: Standard deviation of each entry in the data; () if every entry has bounds.
        apart: Embodiment → mean and std in its data alone; {} if every entry has bounds.
        relative_to: Observation that the action is a difference from, at the same step; "": it is absolute.
    """

    feature: Feature
    mean: Numbers = ()
    std: Numbers = ()
    apart: Mapping[str, tuple[Numbers, Numbers]] = field(default_factory=dict)
    relative_to: str = ""

    def __post_init__(self) -> None:
        """Raise on entries without bounds and statistics, and on more choices than can be weighed."""
        if self.dim > MOST_CHOICES and self.discrete:
            raise CogError(
                f"action is {self.feature.describe()}, {self.dim:,} choices, of which a network weighs at "
                f"most {MOST_CHOICES:,}: choose episodes of an environment that declares fewer, or a Box"
            )
        if not self.bounded and (len(self.mean), len(self.std)) != (self.entries, self.entries):
            raise CogError(
                f"action is {self.feature.describe()}, without bounds on every entry, and the mixture has "
                f"statistics of {len(self.mean)} of its {self.entries} entries: freeze it again"
            )

    @classmethod
    def of(
        cls,
        feature: Feature,
        mean: Numbers,
        std: Numbers,
        apart: Mapping[str, tuple[Numbers, Numbers]] = MappingProxyType({}),
        relative_to: str = "",
    ) -> ActionSpec:
        """Return the specification of an action; it keeps the statistics only where a bound is missing."""
        scaled = cls(feature) if _is_bounded(feature) else cls(feature, mean, std, dict(apart))
        return replace(scaled, relative_to=relative_to)

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
            {robot: (count * mean, count * std) for robot, (mean, std) in self.apart.items()},
            self.relative_to,
        )

    @cached_property
    def _bounds(self) -> tuple[Tensor, Tensor]:
        """Where [-1, 1] ends, float64 (E+1, A) each: a row per embodiment, the last one for all together."""
        rows = [*(self.apart[robot] for robot in sorted(self.apart)), (self.mean, self.std)]
        bounds = []
        for declared, sign in ((self.feature.low, -1.0), (self.feature.high, 1.0)):
            found = np.full(self.entries, sign * np.inf) if declared is None else np.asarray(declared, float)
            table = np.repeat(found[None].astype(np.float64), len(rows), axis=0)
            for row, (mean, std) in zip(table, rows, strict=True):
                if not self.bounded:
                    spread = sign * SPREAD * np.maximum(np.asarray(std), STD_FLOOR)
                    row[:] = np.where(np.isfinite(row), row, np.asarray(mean) + spread)
            bounds.append(torch.from_numpy(table))
        return bounds[0], bounds[1]

    @cached_property
    def _is_unit(self) -> bool:
        low, high = self._bounds
        plain = self.feature.dtype == "float32" and len(self.feature.shape) == 1
        return plain and bool((low == -1).all() and (high == 1).all())

    @cached_property
    def _scale(self) -> tuple[Tensor, Tensor]:
        """Middle and half width of each entry, (E+1, A) each; a half width of 0 counts as 1."""
        low, high = self._bounds
        half = (high - low) / 2
        return (high + low) / 2, torch.where(half > 0, half, 1.0)

    def _scale_of(self, numbers: Tensor, embodiment: Tensor | None) -> tuple[Tensor, Tensor]:
        """Middle and half width for each row of actions (..., A), on their device."""
        rows = [one.to(numbers.device, _wide(numbers)) for one in self._scale]
        if embodiment is None or not self.apart:
            return rows[0][-1], rows[1][-1]
        found = [one[embodiment] for one in rows]  # -1: unknown, the row for all together
        middle, half = (one if numbers.ndim == 2 else one.unsqueeze(1) for one in found)
        return middle, half

    def to_unit(self, action: Tensor, embodiment: Tensor | None = None) -> Tensor:
        """Scale a Box action from its bounds to [-1, 1], or count a discrete one from 0.

        Entries without bounds are scaled by the data's mean ± 3 standard deviations. What lies beyond is
        clipped.

        Args:
            action: (..., *shape of the action), as data and worlds have it.
            embodiment: Index of each row's robot, int64 (B,), -1: unknown; None: of all rows.

        Returns:
            float32 (..., A) in [-1, 1]: the same object if the action is that already. int64 of the same
            shape for a discrete action.
        """
        if self.discrete:
            return action.long() - self._lowest(action.device)
        if self._is_unit:
            return action
        numbers = action if self.feature.shape else action.unsqueeze(-1)
        middle, half = self._scale_of(numbers, embodiment)
        return ((numbers.to(_wide(numbers)) - middle) / half).clamp(-1, 1).float()

    def from_unit(self, unit: Tensor, embodiment: Tensor | None = None) -> Tensor:
        """Scale an action in units back: the inverse of :meth:`to_unit`.

        Args:
            unit: (..., A) in [-1, 1], or indices of a discrete action.
            embodiment: As :meth:`to_unit` takes it.

        Returns:
            (..., *shape of the action), of its type, within its bounds: the same object if nothing changes.
        """
        if self.discrete:
            return unit + self._lowest(unit.device)
        if self._is_unit:
            return unit
        middle, half = self._scale_of(unit, embodiment)
        found = unit.to(_wide(unit)) * half + middle
        if self.feature.numpy_dtype.kind != "f":
            found = found.round()
        found = found.to(_TORCH[self.feature.dtype])
        low, high = (one.to(unit.device) for one in self._inner)
        found = torch.minimum(torch.maximum(found, low), high)
        return found if self.feature.shape else found.squeeze(-1)

    def levels_in_unit(self, command: Command) -> list[float]:
        """Return the levels of a command of a Box action in [-1, 1]."""
        middle, half = (float(one[-1, command.dim]) for one in self._scale)
        return [min(max((level - middle) / half, -1.0), 1.0) for level in command.levels]

    @cached_property
    def _inner(self) -> tuple[Tensor, Tensor]:
        """Outermost values of the action's type within the declared bounds; inf where there is none."""
        kind = self.feature.numpy_dtype
        if kind.kind != "f":
            low, high = (one[-1] for one in self._bounds)
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
        apart = {robot: [list(mean), list(std)] for robot, (mean, std) in self.apart.items()}
        return {
            "feature": self.feature.to_data(),
            "mean": list(self.mean),
            "std": list(self.std),
            "apart": apart,
        } | ({"relative_to": self.relative_to} if self.relative_to else {})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ActionSpec:
        """Read what :meth:`to_dict` returned; nothing: the action of version 0.1.

        Raises:
            ValueError: It is something else.
        """
        if not data:
            return cls(ACTION)
        try:
            given = data.get("apart", {})
            apart = {robot: (tuple(mean), tuple(std)) for robot, (mean, std) in given.items()}
            return cls(
                Feature.from_data(data["feature"]),
                tuple(data["mean"]),
                tuple(data["std"]),
                apart,
                str(data.get("relative_to", "")),
            )
        except (KeyError, TypeError):
            raise ValueError("it specifies no action") from None


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
