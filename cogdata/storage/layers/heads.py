"""Heads of layers: what a version of a layer holds, and which function derives it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cogdata.errors import CogError, unknown
from cogdata.features import RESERVED, Feature, Per
from cogdata.schema import NAME_PATTERN, SCHEMA_VERSION
from cogdata.storage.store import Store
from cogdata.storage.versions import known, parse, refusal

HEAD: Final = "layer.json"

KEYS: Final = ("episode_id", "episode_digest", "digest", "observations", "actions")
"""Columns of the file of episodes beside the features: whose values they are, their digest, N and T."""

_SUM: Final = "sha256"
"""Key of a JSON file that holds the sha256 of all its other entries."""


@dataclass(frozen=True)
class LayerInfo:
    """The head of a version of a layer (``layer.json``), written once by the first command that derives it.

    Attributes:
        name: Name of the layer.
        version: From 1.
        function: ``module:function`` that derives it.
        source: sha256 (hex) of the source of that module.
        features: What it gives each episode.
        command: What was typed.
        created_at: ISO time, UTC.
        cogdata_version: Version that began it.
    """

    name: str
    version: int
    function: str
    source: str
    features: tuple[Feature, ...]
    command: str
    created_at: str
    cogdata_version: str
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        """Refuse what could not be columns of their own.

        Raises:
            CogError: As it says.
        """
        check_name(self.name)
        if not self.features:
            raise CogError(f"layer {self.name} declares no feature")
        seen: set[str] = set()
        for feature in self.features:
            if feature.name in RESERVED or feature.name in KEYS:
                raise CogError(f"{feature.name!r} is a name that every episode uses itself: choose another")
            if feature.name in seen:
                raise CogError(f"{feature.name!r} is declared twice")
            if feature.is_member:
                raise CogError(
                    f"{feature.name} has codec {feature.codec}: a layer holds columns, leave it out"
                )
            seen.add(feature.name)

    @property
    def ref(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"

    @property
    def folder(self) -> str:
        """Path within the store."""
        return f"layers/{self.name}/v{self.version}"

    @property
    def per_episode(self) -> tuple[Feature, ...]:
        """Features of which an episode has one value."""
        return tuple(one for one in self.features if one.per is Per.EPISODE)

    @property
    def per_step(self) -> tuple[Feature, ...]:
        """Features per observation or action."""
        return tuple(one for one in self.features if one.per is not Per.EPISODE)

    def agrees(self, other: LayerInfo) -> bool:
        """Whether the same function derives both, giving the same features."""
        mine, theirs = ((one.function, one.source, _identities(one.features)) for one in (self, other))
        return mine == theirs

    def to_data(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return vars(self) | {"features": [one.to_data() for one in self.features]}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> LayerInfo:
        """Read what :meth:`to_data` returned.

        Raises:
            TypeError, KeyError, ValueError: It is no head of a layer.
        """
        features = tuple(Feature.from_data(one) for one in data["features"])
        info = cls(**known(cls, data) | {"features": features})
        texts = (info.function, info.source, info.command, info.created_at, info.cogdata_version)
        if not all(isinstance(text, str) for text in texts) or not isinstance(info.version, int):
            raise TypeError("a text is missing, or the version")
        return info


def _identities(features: Sequence[Feature]) -> list[dict[str, Any]]:
    return [feature.identity() for feature in features]


def check_name(name: str) -> None:
    """Refuse what cannot be the name of a layer.

    Raises:
        CogError: It cannot.
    """
    if not NAME_PATTERN.fullmatch(name):
        raise CogError(f"layer {name!r} must be lower case letters, digits, _ and -, for example caption")


# --- heads ---------------------------------------------------------------------------------------------


def list_layers(store: Store) -> list[str]:
    """Return the names of all layers, sorted."""
    return [name for name in store.list_folders("layers") if list_versions(store, name)]


def list_versions(store: Store, name: str) -> list[int]:
    """Return the versions of a layer that are in the store, ascending."""
    folders = store.list_folders_with(f"layers/{name}", HEAD)
    return sorted(int(one[1:]) for one in folders if is_version(one))


def is_version(folder: str) -> bool:
    """Whether a folder is a version of a layer by its name."""
    return re.fullmatch(r"v[1-9]\d{0,8}", folder) is not None


def read_layer(store: Store, name: str, version: int | None = None) -> LayerInfo:
    """Read the head of a version of a layer.

    Args:
        store: Where from.
        name: Name of the layer.
        version: None: the newest.

    Raises:
        CogError: There is no such layer or version, or its head is damaged or of a newer version.
    """
    versions = list_versions(store, name)
    if not versions:
        raise unknown("layer", name, list_layers(store))
    if version is not None and version not in versions:
        raise CogError(f"layer {name!r} has no version {version}: there are {versions}")
    return parse_head(store, f"layers/{name}/v{version or versions[-1]}/{HEAD}")


def parse_head(store: Store, path: str) -> LayerInfo:
    """Read the head of a layer.

    Args:
        store: Where from.
        path: Within the store.

    Raises:
        CogError: It is damaged, or of a newer version.
    """
    try:
        info = LayerInfo.from_data(read_sealed(store, path))
        if f"{info.folder}/{HEAD}" != path:
            raise ValueError(f"it is the head of {info.ref}")
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise refusal(
            error, f"{store.path(path)} is damaged: restore it, or remove its folder and derive it again"
        ) from None
    return info


def create_layer(store: Store, info: LayerInfo) -> LayerInfo:
    """Write the head of a new version, unless another process just did.

    Returns:
        The head that is there.

    Raises:
        CogError: The other process derives something else.
    """
    path = f"{info.folder}/{HEAD}"
    if store.create_text(path, sealed(info.to_data())):
        return info
    theirs = parse_head(store, path)
    if not theirs.agrees(info):
        raise CogError(f"another command has just begun {info.ref}, by {theirs.function}: type this again")
    return theirs


# --- JSON files that hold their own sha256 ---------------------------------------------------------------


def sealed(data: Mapping[str, Any]) -> str:
    """Return JSON text that holds its own sha256."""
    return _text({**data, _SUM: _sum(data)})


def _text(data: Mapping[str, Any]) -> str:
    return json.dumps(data, indent=1, sort_keys=True)


def _sum(data: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in data.items() if name != _SUM}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_sealed(store: Store, path: str) -> dict[str, Any]:
    """Read a JSON file, every byte of which is as it was written.

    Raises:
        NewerError: A newer version wrote it.
        ValueError, TypeError: It is something else.
    """
    text = store.read_text(path)
    data = parse(text, store.path(path))
    if data.get(_SUM) != _sum(data) or text != _text(data):
        raise ValueError("its sha256 is wrong")
    return data
