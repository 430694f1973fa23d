"""What a policy looks at and does, held against what a world or a mixture has."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cogdata.errors import CogError
from cogdata.features import EpisodeSpec, Feature
from cogdata.storage.selection import Selection, difference_problem, resized


@dataclass(frozen=True)
class Binding:
    """A policy in a world.

    Attributes:
        features: The world's name of each feature that the policy looks at → how the policy knows it.
        found: The same features as the world declares them.
        action: How the policy knows the action.
        taken: How the world declares it.
        base: The world's name of the observation that the policy's action is a difference from; "": of none.
    """

    features: Mapping[str, Feature]
    found: Mapping[str, Feature]
    action: Feature
    taken: Feature
    base: str = ""

    @property
    def is_plain(self) -> bool:
        """Whether the policy knows everything as the world has it: name, type and size, and no difference."""
        alike = all(
            (name, one.dtype, one.shape) == (one.name, self.found[name].dtype, self.found[name].shape)
            for name, one in self.features.items()
        )
        return (
            alike
            and not self.base
            and (self.action.dtype, self.action.shape) == (self.taken.dtype, self.taken.shape)
        )

    def observe(self, obs: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Return what the policy looks at.

        Args:
            obs: What the world shows; more is left out.

        Returns:
            Feature of the policy → array: resized, cast and padded with zeros as in its data.
        """
        return {one.name: _as_known(np.asarray(obs[name]), one) for name, one in self.features.items()}

    def act(self, action: NDArray[Any], obs: Mapping[str, Any] | None = None) -> NDArray[Any]:
        """Return an action as the world takes it.

        Args:
            action: In the units and of the shape of the policy's data.
            obs: What the world shows at the step at which the action is done, also where the action was
                chosen earlier, in a chunk; only an action that is a difference needs it.

        Returns:
            Of the world's type and shape: entries that only padded the data are cut. An action that was cut,
            is of another type or was a difference is brought within the world's bounds; others are within
            them as declared.
        """
        if not self.base and (action.shape, action.dtype) == (self.taken.shape, self.taken.numpy_dtype):
            return action
        cast = action[: self.taken.size] if action.shape != self.taken.shape else action
        if self.base:
            if obs is None:
                raise ValueError(f"the action is a difference from {self.base}: give the observation")
            cast = cast.astype(np.float64) + np.asarray(obs[self.base])
        cast = cast.astype(self.taken.numpy_dtype)
        if self.taken.low is None and self.taken.high is None:
            return cast
        low = -np.inf if self.taken.low is None else np.reshape(self.taken.low, self.taken.shape)
        high = np.inf if self.taken.high is None else np.reshape(self.taken.high, self.taken.shape)
        clipped: NDArray[Any] = np.clip(cast, low, high).astype(self.taken.numpy_dtype)
        return clipped


def bind(
    features: Sequence[Feature],
    action: Feature,
    world: EpisodeSpec,
    where: str,
    selection: Selection | None = None,
    *,
    exact: bool = False,
    relative_to: str = "",
) -> Binding:
    """Hold a policy against a world.

    Args:
        features: What it looks at.
        action: What it does.
        world: What the world shows and takes.
        where: Its name, for the error.
        selection: What the mixture that it learned from took of its episodes: renamed, resized, padded.
        exact: Whether types, names and bounds must be the same, because the policy learns there; else what it
            looks at may be cast, and what the world takes may be more than it does.
        relative_to: Observation that its action is a difference from, as it knows it; "": of none.

    Raises:
        CogError: Features are missing or differ; one line names each of them, what was found and needed.
    """
    chosen = Selection() if selection is None else selection
    known, found, wrong = {}, {}, []
    for feature in features:
        there = chosen.origin(feature.name, world)
        if there is None or there not in world.observations:
            wrong.append(f"{' or '.join(chosen.origins(feature.name))} is missing")
            continue
        known[there.name], found[there.name] = feature, there
        other = exact and feature.identity() != there.identity()
        if problem := _observed(feature, there, chosen, other=other):
            wrong.append(problem)
    other = exact and action.identity() != world.action.identity()
    if problem := _acted(action, world.action, chosen, other=other, difference=relative_to != ""):
        wrong.append(problem)
    base = chosen.origin(relative_to, world) if relative_to else None
    if relative_to and (base is None or base not in world.observations):
        wrong.append(f"{' or '.join(chosen.origins(relative_to))} is missing, which actions are relative to")
    elif base is not None and (problem := difference_problem(world.action, base)):
        wrong.append(problem)
    if wrong:
        raise CogError(f"{where} does not fit the policy: {'; '.join(wrong)}")
    return Binding(known, found, action, world.action, "" if base is None else base.name)


def differences(before: EpisodeSpec, now: EpisodeSpec) -> list[str]:
    """Say in which ways one declaration is another than it was, a few words each.

    Args:
        before: The one.
        now: The other.
    """
    old, new = ({one.name: one for one in (*spec.features, spec.action)} for spec in (before, now))
    found = [f"{name} is gone" for name in old if name not in new]
    found += [f"{name} is new" for name in new if name not in old]
    for name in old.keys() & new.keys():
        if old[name].identity() != new[name].identity():
            found.append(f"{name} is {new[name].describe()}, was {old[name].describe()}")
    if set(before.predicates) != set(now.predicates):
        found.append(
            f"predicates are {', '.join(now.predicates) or 'none'}, were "
            f"{', '.join(before.predicates) or 'none'}"
        )
    if before.reward != now.reward:
        found.append(f"reward is {now.reward}, was {before.reward}")
    return sorted(found) or ["its features have another order"]


def _observed(needed: Feature, found: Feature, chosen: Selection, *, other: bool) -> str:
    """What is wrong with an observation; "": nothing."""
    shape = found.shape
    if found.is_image and needed.name in chosen.resize:
        shape = (*chosen.resize[needed.name], *shape[2:])
    if needed.name in chosen.pad and len(shape) == 1:
        shape = (max(shape[0], chosen.pad[needed.name]),)
    numeric = found.is_text == needed.is_text and found.is_image == needed.is_image
    kind = numeric and np.can_cast(found.numpy_dtype, needed.numpy_dtype, "same_kind")
    named = needed.names == found.names or not (needed.names and found.names) or shape != found.shape
    if kind and named and shape == needed.shape and not other:
        return ""
    return f"{found.name} is {_told(found, needed)}, needed is {_told(needed, found)}"


def _acted(needed: Feature, found: Feature, chosen: Selection, *, other: bool, difference: bool) -> str:
    """What is wrong with the action; "": nothing. Bounds hold neither what is cut nor a difference."""
    cut = "action" in chosen.pad and len(found.shape) == 1
    shape = (max(found.size, chosen.pad["action"]),) if cut else found.shape
    alike = needed.is_discrete == found.is_discrete and shape == needed.shape
    named = needed.names == found.names or not (needed.names and found.names) or shape != found.shape
    if alike and named and (cut or difference or _within(needed, found)) and not other:
        return ""
    return f"action is {_told(found, needed)}, the policy's is {_told(needed, found)}"


def _within(needed: Feature, found: Feature) -> bool:
    """Whether all that a policy may do is within the bounds of a world; of choices, the same ones."""
    if needed.is_discrete:
        return (needed.low, needed.high) == (found.low, found.high)
    low, high = (
        ([-math.inf] * needed.size if one.low is None else one.low for one in (found, needed)),
        ([math.inf] * needed.size if one.high is None else one.high for one in (found, needed)),
    )
    (world_low, own_low), (world_high, own_high) = low, high
    return all(a <= b for a, b in zip(world_low, own_low, strict=True)) and all(
        a >= b for a, b in zip(world_high, own_high, strict=True)
    )


def _told(one: Feature, other: Feature) -> str:
    """A feature in a few words; with all of its entries where they alone differ."""
    if one.names and (one.dtype, one.shape) == (other.dtype, other.shape) and one.names != other.names:
        return f"{one.dtype} {one.shape} of {', '.join(one.names)}"
    return one.describe()


def _as_known(value: NDArray[Any], feature: Feature) -> NDArray[Any]:
    """A value of a world as the data of a policy have it."""
    if feature.is_image and value.shape[:2] != feature.shape[:2]:
        value = resized(value[None], (feature.shape[0], feature.shape[1]))[0]
    if value.shape != feature.shape:
        padded = np.zeros(feature.shape, value.dtype)
        padded[: value.size] = value
        value = padded
    return value if value.dtype == feature.numpy_dtype else value.astype(feature.numpy_dtype)
