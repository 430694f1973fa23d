"""What a learner may look at, by name; apart from the tensors, so that naming it needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from cogdata.errors import CogError, unknown
from cogdata.features import FEATURE_NAME, EpisodeSpec, Feature

if TYPE_CHECKING:
    from cogdata.storage.manifest import MixtureInfo

OBS_KINDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"image": ("image",), "image+robot": ("image", "robot"), "state": ("robot", "scene")}
)
"""What a learner may look at → the features of an observation of the built-in worlds that this needs."""


def select(obs: str, spec: EpisodeSpec) -> tuple[Feature, ...]:
    """Return the features that a learner looks at, in the order of the declaration.

    Args:
        obs: "image": every image; "state": every vector; "image+robot": images and vectors that are not
            privileged. Else names of observations, separated by commas: "camera_wrist,joints". A comma at the
            end of a single name says that it is no kind: "state,".
        spec: Declaration of the episodes.

    Raises:
        CogError: A name is not declared, or is text, or there is nothing of the kind.
    """
    numeric = [one for one in spec.observations if not one.is_text]
    kinds = {
        "image": [one for one in numeric if one.is_image],
        "state": [one for one in numeric if not one.is_image],
        "image+robot": [one for one in numeric if not one.privileged],
    }
    if obs not in kinds:
        return _named(obs, spec, numeric)
    if not any(one.size for one in kinds[obs]):
        raise CogError(f"--obs {obs} finds no feature in these data: {_advice(numeric)}")
    return tuple(kinds[obs])


def select_from(obs: str, info: MixtureInfo) -> tuple[Feature, ...]:
    """Return the features of a mixture that a learner looks at, as :func:`select` does.

    Raises:
        CogError: As of :func:`select`; of a feature that the mixture left out it says why.
    """
    for name in () if obs in OBS_KINDS else _names(obs):
        info.require_feature(name)
    return select(obs, info.spec)


def _named(obs: str, spec: EpisodeSpec, numeric: list[Feature]) -> tuple[Feature, ...]:
    known = [one.name for one in numeric]
    names = _names(obs)
    for name in names:
        if names.count(name) > 1:
            raise CogError(f"--obs names {name!r} twice: say it once")
        if name in spec and spec[name].is_text:
            raise CogError(f"--obs {name} is text, which no encoder here reads: {_advice(numeric)}")
        if name in spec and not spec[name].size:
            raise CogError(f"--obs {name} has no entries: {_advice(numeric)}")
        if name not in known:
            raise unknown("observation", name, {*OBS_KINDS, *known})
    return tuple(one for one in numeric if one.name in names)


def _advice(numeric: list[Feature]) -> str:
    """What to type instead."""
    known = [one.name for one in numeric if one.size]
    return f"name some of {', '.join(known)}" if known else "none are numbers, freeze a mixture of others"


def _names(obs: str) -> list[str]:
    """Split names; a comma at the end says that one name is meant, and no kind: ``--obs state,``."""
    return [name.strip() for name in obs.removesuffix(",").split(",")]


def check_obs(obs: str) -> None:
    """Refuse what no declaration could have, before there is one to look at.

    Raises:
        CogError: It is neither a kind nor names separated by commas.
    """
    if obs not in OBS_KINDS and not all(FEATURE_NAME.fullmatch(name) for name in _names(obs)):
        raise unknown("observation", obs, OBS_KINDS)
