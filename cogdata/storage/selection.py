"""What a mixture takes of its episodes: which features, under which names, in which sizes.

A selection is part of what a mixture is: it is kept in ``mixture.json`` and, unless it is the default, in the
digest. The default takes every feature that all episodes declare alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cogdata.errors import CogError, unknown
from cogdata.features import FEATURE_NAME, EpisodeSpec, Feature

_ALIKE: Final = ("shape", "per", "names")
"""What a feature must share with its namesakes, beside its type; an action also bounds and choices."""

_FLOATS: Final = ("float16", "float32", "float64")
"""Types of columns that join to the widest of them."""

_DELTA: Final = "delta:"
"""Begins the transform of an action that becomes a difference from an observation."""


@dataclass(frozen=True)
class Selection:
    """What a mixture takes of its episodes.

    Attributes:
        take: Names of the features, after renaming; None: all that every episode declares alike.
        rename: Name in the episodes → name in the mixture.
        resize: Camera → (H, W) px that its images are brought to by area averaging.
        pad: Vector or action → number of entries that shorter ones are padded to with zeros.
        stats_by: Column of ``episodes``, or "source", that tells embodiments apart: each of its values has
            statistics of its own. "": there is one embodiment.
        transforms: "action" → "delta:OBSERVATION": the action minus that observation of the same step, entry
            by entry. "absolute", the action as it is, is the default and is not kept.
    """

    take: tuple[str, ...] | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    resize: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    pad: Mapping[str, int] = field(default_factory=dict)
    stats_by: str = ""
    transforms: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse names, sizes and transforms that nothing can have."""
        for old, new in self.rename.items():
            if old == "action":
                raise CogError("--rename action: the action of every mixture is called action, leave it out")
            if not FEATURE_NAME.fullmatch(new):
                raise CogError(f"--rename {old}={new}: a feature name is lower case letters, digits and _")
        for name, (height, width) in self.resize.items():
            if not (1 <= height <= 4096 and 1 <= width <= 4096):
                raise CogError(f"--resize {name}={height}x{width} must be from 1x1 to 4096x4096 px")
        for name, size in self.pad.items():
            if not 1 <= size <= 4096:
                raise CogError(f"--pad {name}={size} must be from 1 to 4096 entries")
        for name, how in self.transforms.items():
            if name != "action":
                raise CogError(f"--transform {name}={how}: only the action can be transformed")
            if how != "absolute" and not _is_delta(how):
                raise CogError(
                    f"--transform {name}={how} must be action=absolute or action=delta:OBSERVATION, for "
                    f"example action=delta:joints_rad"
                )
        kept = {name: how for name, how in self.transforms.items() if how != "absolute"}
        object.__setattr__(self, "transforms", kept)

    @property
    def relative_to(self) -> str:
        """Name, in the mixture, of the observation that its action is a difference from; "": of none."""
        return self.transforms.get("action", "").removeprefix(_DELTA)

    @property
    def is_default(self) -> bool:
        """Whether nothing was asked for."""
        return self == Selection()

    def origins(self, name: str) -> tuple[str, ...]:
        """Return the names that a feature of the mixture may have in episodes; each has one of them."""
        return (*(old for old, new in self.rename.items() if new == name), *({name} - self.rename.keys()))

    def origin(self, name: str, spec: EpisodeSpec) -> Feature | None:
        """Return the feature of an episode that is one of the mixture; None: it has none.

        Args:
            name: Its name in the mixture.
            spec: Declaration of the episode.
        """
        return next((spec[old] for old in self.origins(name) if old in spec), None)

    def told(self) -> tuple[str, ...]:
        """Return what was asked for, in a few words each; () of the default."""
        sizes = {name: f"{height}x{width}" for name, (height, width) in self.resize.items()}
        parts = {
            "renamed": _listed(self.rename),
            "resized": _listed(sizes),
            "padded": _listed(self.pad),
            "statistics by": self.stats_by,
            "transformed": _listed(self.transforms),
        }
        chosen = () if self.take is None else (f"features {', '.join(self.take)}",)
        return (*chosen, *(f"{what} {text}" for what, text in parts.items() if text))

    def to_data(self) -> dict[str, Any]:
        """Return plain JSON values."""
        data = {
            "take": None if self.take is None else list(self.take),
            "rename": dict(self.rename),
            "resize": {name: list(size) for name, size in self.resize.items()},
            "pad": dict(self.pad),
        }
        given = {"stats_by": self.stats_by, "transforms": dict(self.transforms)}
        return data | {name: value for name, value in given.items() if value}

    def identity(self) -> dict[str, Any]:
        """Return what a digest is made of: the order of the names asked for changes nothing."""
        taken = None if self.take is None else sorted(set(self.take))
        return self.to_data() | {"take": taken}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Selection:
        """Read what :meth:`to_data` returned.

        Raises:
            ValueError: It is no selection.
        """
        try:
            take = data.get("take")
            sizes = data.get("resize", {})
            return cls(
                None if take is None else tuple(take),
                dict(data.get("rename", {})),
                {name: (int(height), int(width)) for name, (height, width) in sizes.items()},
                {name: int(size) for name, size in data.get("pad", {}).items()},
                str(data.get("stats_by", "")),
                {name: str(how) for name, how in data.get("transforms", {}).items()},
            )
        except (TypeError, AttributeError):
            raise ValueError("it is no selection of features") from None

    # --- what episodes share -----------------------------------------------------------------------------

    def of(self, spec: EpisodeSpec, where: str) -> EpisodeSpec:
        """Return a declaration after renaming, resizing, padding and transforms; what it lacks stays out.

        Args:
            spec: Declaration of some episodes.
            where: One of them, for errors.

        Raises:
            CogError: Two features would get one name, or one cannot be resized, padded or transformed.
        """
        names = [self.rename.get(one.name, one.name) for one in spec.features]
        if double := next((name for name in names if names.count(name) > 1), None):
            raise CogError(
                f"--rename would give {where} two features called {double}: choose another name, or rename "
                f"{double} too"
            )
        return replace(
            spec,
            observations=tuple(self._changed(one, where) for one in spec.observations),
            extras=tuple(self._changed(one, where) for one in spec.extras),
            action=self._transformed(spec, where),
        )

    def _transformed(self, spec: EpisodeSpec, where: str) -> Feature:
        """The action as the mixture has it: a difference has neither its bounds nor its commands."""
        action = self._changed(spec.action, where)
        if not self.relative_to:
            return action
        said = f"--transform action={_DELTA}{self.relative_to}"
        other = self.origin(self.relative_to, spec)
        if other is None or other not in spec.observations:
            known = (self.rename.get(one.name, one.name) for one in spec.observations)
            raise CogError(
                f"{said}: {where} has no observation {self.relative_to}; it has {', '.join(known) or 'none'}"
            )
        if why := difference_problem(spec.action, other):
            raise CogError(f"{said}: {why} in {where}")
        if self.pad.get("action") != self.pad.get(self.relative_to):
            raise CogError(f"{said}: pad both alike, with --pad action=N and --pad {self.relative_to}=N")
        return replace(action, low=None, high=None, commands=())

    def _changed(self, feature: Feature, where: str) -> Feature:
        name = self.rename.get(feature.name, feature.name)
        changed = replace(feature, name=name) if name != feature.name else feature
        if name in self.resize:
            if not feature.is_image:
                raise CogError(f"--resize {name}: it is {feature.describe()} in {where}, which is no image")
            changed = replace(changed, shape=(*self.resize[name], *feature.shape[2:]), names=())
        return self._padded(changed, where) if name in self.pad else changed

    def _padded(self, feature: Feature, where: str) -> Feature:
        size = self.pad[feature.name]
        if len(feature.shape) != 1 or feature.is_discrete:
            raise CogError(f"--pad {feature.name}: it is {feature.describe()} in {where}, which is no vector")
        if feature.shape[0] > size:
            raise CogError(
                f"--pad {feature.name}={size}: it has {feature.shape[0]} entries in {where}, so pad it to "
                f"{feature.shape[0]} or more"
            )
        low, high = (
            None if bounds is None else (*bounds, *(0.0,) * (size - len(bounds)))
            for bounds in (feature.low, feature.high)
        )
        return replace(feature, shape=(size,), names=(), low=low, high=high, commands=())


def _is_delta(how: str) -> bool:
    return how.startswith(_DELTA) and FEATURE_NAME.fullmatch(how.removeprefix(_DELTA)) is not None


def difference_problem(action: Feature, observation: Feature) -> str:
    """Say why an action cannot be a difference from an observation; "": it can.

    Args:
        action: As it is declared.
        observation: Likewise.
    """
    numbers = action.dtype in _FLOATS and observation.dtype in _FLOATS and not observation.is_member
    if numbers and action.shape == observation.shape:
        return ""
    need = "both must be floats" if not numbers else "both must have the same shape"
    return f"action is {action.describe()} and {observation.name} is {observation.describe()}, {need}"


def _listed(pairs: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(pairs.items()))


@dataclass(frozen=True)
class Shared:
    """What the episodes of a mixture share.

    Attributes:
        spec: Declaration of what batches deliver.
        left_out: Feature → why it is left out.
    """

    spec: EpisodeSpec
    left_out: Mapping[str, str]


def common(specs: Mapping[str, EpisodeSpec], selection: Selection) -> Shared:
    """Work out what episodes share after a selection.

    Args:
        specs: An episode of each declaration, by name → the declaration.
        selection: What is asked for.

    Raises:
        CogError: A feature that is asked for, or the action, differs or is missing; it names two episodes.
    """
    changed = {where: selection.of(spec, where) for where, spec in specs.items()}
    first = next(iter(changed.values()))
    _check_asked(specs, changed, selection)
    names = dict.fromkeys(one.name for spec in changed.values() for one in spec.features)
    left_out: dict[str, str] = {}
    for name in names:
        if why := _difference(name, changed, selection):
            left_out[name] = why
        elif selection.take is not None and name not in selection.take:
            left_out[name] = "is not among --features"
    if selection.take is not None:
        for name in selection.take:
            if name in left_out:
                raise CogError(
                    f"feature {name} {left_out[name]}: leave it out of --features{_hint(name, changed)}"
                )
    if why := _difference("action", changed, selection):
        raise CogError(f"the action {why}: choose one robot by env{_hint('action', changed)}")
    rates = {spec.rate_hz for spec in changed.values()}
    taken = first.taking(name for name in names if name not in left_out)
    spec = replace(
        taken,
        observations=tuple(replace(one, dtype=_widest(one.name, changed)) for one in taken.observations),
        extras=tuple(replace(one, dtype=_widest(one.name, changed)) for one in taken.extras),
    )
    action = _joined_bounds([one.action for one in changed.values()])
    action = replace(action, dtype=_widest("action", changed))
    rate = rates.pop() if len(rates) == 1 else None
    return Shared(replace(spec, action=action, predicates=(), reward="float32", rate_hz=rate), left_out)


def _check_asked(
    specs: Mapping[str, EpisodeSpec], changed: Mapping[str, EpisodeSpec], selection: Selection
) -> None:
    """Refuse names that no episode has."""
    known = {one.name for spec in changed.values() for one in spec.features}
    stored = {one.name for spec in specs.values() for one in spec.features}
    for name in selection.take or ():
        if name not in known:
            raise unknown("feature", name, known)
    for name in (*selection.resize, *selection.pad):
        if name not in known and name != "action":
            raise unknown("feature", name, known)
    for old in selection.rename:
        if old not in stored:
            raise unknown("feature", old, stored)


def _difference(name: str, specs: Mapping[str, EpisodeSpec], selection: Selection) -> str:
    """Say how a feature differs between episodes; "": it does not."""
    alike = (*_ALIKE, "values") if name == "action" else _ALIKE
    if name == "action" and name not in selection.pad:
        alike = (*alike, "low", "high")
    found: tuple[str, Feature] | None = None
    for where, spec in specs.items():
        if name not in spec:
            holder = next(other for other, one in specs.items() if name in one)
            return f"is in {holder} and not in {where}"
        feature = spec[name]
        if found is None:
            found = where, feature
        elif _kind(feature) != _kind(found[1]) or any(
            getattr(feature, one) != getattr(found[1], one) for one in alike
        ):
            return f"differs between {found[0]} ({_told(found[1])}) and {where} ({_told(feature)})"
    return ""


def _kind(feature: Feature) -> str:
    """The type, one word for all that join."""
    return "float" if feature.dtype in _FLOATS and not feature.is_member else feature.dtype


def _widest(name: str, specs: Mapping[str, EpisodeSpec]) -> str:
    """The type that holds the feature of all episodes."""
    found = {spec[name].dtype for spec in specs.values()}
    return max(found, key=_FLOATS.index) if len(found) > 1 else found.pop()


def _told(feature: Feature) -> str:
    return feature.describe()


def _hint(name: str, specs: Mapping[str, EpisodeSpec]) -> str:
    """What else to type where vectors have different lengths."""
    shapes = {spec[name].shape for spec in specs.values() if name in spec}
    if len(shapes) > 1 and all(len(shape) == 1 for shape in shapes):
        return f", or pad it with --pad {name}={max(math.prod(shape) for shape in shapes)}"
    return ""


def _joined_bounds(actions: Sequence[Feature]) -> Feature:
    """The first action with bounds that hold those of all, entry by entry."""
    first = actions[0]
    if any(one.low is None or one.high is None for one in actions):
        return replace(first, low=None, high=None) if len(actions) > 1 else first
    low = tuple(min(entries) for entries in zip(*(one.low or () for one in actions), strict=True))
    high = tuple(max(entries) for entries in zip(*(one.high or () for one in actions), strict=True))
    return replace(first, low=low, high=high)


def resized(images: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Bring images to another size by area averaging.

    Args:
        images: (N, H, W) or (N, H, W, C), uint8 or uint16.
        size: (H, W) px.

    Returns:
        (N, *size) or (N, *size, C), the same in any process.
    """
    import cv2

    if images.shape[1:3] == size:
        return images
    height, width = size
    out = np.empty((len(images), height, width, *images.shape[3:]), images.dtype)
    for number, image in enumerate(images):
        made = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        out[number] = made.reshape(out.shape[1:])
    return out
