"""What a policy looks at and what it does, with the numbers that scale both: all that a network is sized by.

A specification is stored in every checkpoint, so that a policy needs neither its mixture nor its world.
How actions are scaled says :mod:`trainers.action`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from cogdata.errors import CogError
from cogdata.features import Feature
from cogdata.layout1 import layout1_spec
from trainers.action import ActionSpec, Numbers
from trainers.obs_kinds import select

SMALLEST_IMAGE_PX: Final = 8
"""Least height and width of an image that a convolutional encoder takes."""

EMBODIMENT: Final = "embodiment"
"""Name under which observations of several robots say whose they are: an index, int64 (B,), -1: unknown."""


@dataclass(frozen=True)
class ObsSpec:
    """Specification of a policy's observations, with the statistics that normalise them.

    Attributes:
        features: What it looks at, in the order of the declaration.
        mean: Name of each vector → mean of each of its entries, flattened.
        std: Name of each vector → standard deviation of each of its entries.
        stack: K, number of newest observations that it looks at together. With 1 a feature is (B, *shape),
            with more (B, K, *shape), oldest first.
        apart: Embodiment → vector → mean and std of its transitions alone; {}: they are not told apart.
    """

    features: tuple[Feature, ...]
    mean: Mapping[str, Numbers]
    std: Mapping[str, Numbers]
    stack: int = 1
    apart: Mapping[str, Mapping[str, tuple[Numbers, Numbers]]] = field(default_factory=dict)

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
                    f"{SMALLEST_IMAGE_PX}×{SMALLEST_IMAGE_PX}: leave it out of --obs, or freeze the mixture "
                    f"with --resize {one.name}=32x32"
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
    def embodiments(self) -> tuple[str, ...]:
        """Names of the robots that observations are told apart by, as a stream sorts them."""
        return tuple(sorted(self.apart))

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of all that a policy is shown: the features, and of several robots which one it is."""
        return (*self.names, EMBODIMENT) if self.apart else self.names

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
            "apart": {
                robot: {name: [list(mean), list(std)] for name, (mean, std) in vectors.items()}
                for robot, vectors in self.apart.items()
            },
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
        apart = {
            robot: {name: (tuple(one), tuple(two)) for name, (one, two) in vectors.items()}
            for robot, vectors in data.get("apart", {}).items()
        }
        return cls(features, mean, std, data.get("stack", 1), apart)


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
class Spec:
    """What a policy looks at and what it does.

    Attributes:
        obs: Its observations.
        action: Its action.
        rewards: Smallest and largest reward that it learns from.
    """

    obs: ObsSpec
    action: ActionSpec
    rewards: tuple[float, float] = (0.0, 1.0)

    @property
    def shown(self) -> tuple[str, ...]:
        """Names of the observations that a world must show: what is looked at, and what actions add to."""
        base = self.action.relative_to
        return self.obs.names if not base or base in self.obs.names else (*self.obs.names, base)

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
