"""The head of a collection (``collection.json``), and what its episodes declare."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from cogdata.errors import CogError, unknown
from cogdata.features import EpisodeSpec
from cogdata.layout1 import layout1_spec
from cogdata.schema import LAYOUT_1_VERSION, PREDICATES, SCHEMA_VERSION
from cogdata.storage.parts import EPISODES, PART_EPISODES_2, list_parts, part_folder
from cogdata.storage.store import Store
from cogdata.storage.versions import known, read_json, refusal, with_unknown

_LATER: Final[dict[str, Any]] = {"env_options": "", "instruction": None}
"""Settings of a collection that are written only where they are given, as if there were no others."""


@dataclass(frozen=True)
class CollectionInfo:
    """The head of a collection (``collection.json``), written once by its first command.

    Attributes:
        name: Folder name; derived from everything that decides the episodes' bytes.
        command: What was typed.
        policy: Policy name.
        env: Gymnasium id.
        noise: Action noise, standard deviation.
        root_seed: Episode i is a function of (root_seed, i).
        image_size: px, square; None: the world says how large its cameras are.
        horizon: Most actions per episode; None: unknown.
        success_range: Success rate that the policy documents for its own environment, (low, high); else 0, 1.
        part_size: Episodes per whole part.
        created_at: ISO time, UTC.
        cogdata_version: Version that collected.
        code: Git revision of the code, or "".
        libraries: Versions of the libraries that decide bytes.
        host: Machine that started it.
        localize: Who said where movable things are: "simulator" or "camera".
        spec: Declaration of its episodes; None: that of the worlds that are built in.
        env_options: Keyword arguments that the world was made with, as canonical JSON; "": none.
        instruction: What each episode was asked to do; None: nothing is recorded.
    """

    name: str
    command: str
    policy: str
    env: str
    noise: float
    root_seed: int
    image_size: int | None
    horizon: int | None
    success_range: tuple[float, float]
    part_size: int
    created_at: str
    cogdata_version: str
    code: str
    libraries: dict[str, str]
    host: str
    schema_version: int = LAYOUT_1_VERSION
    localize: str = "simulator"
    spec: EpisodeSpec | None = None
    env_options: str = ""
    instruction: str | None = None

    def settings(self) -> dict[str, Any]:
        """Return what the name was derived from: the request, by the names that it has there."""
        names = ("policy", "env", "noise", "root_seed", "image_size", "horizon", "localize")
        return {name: getattr(self, name) for name in (*names, *_LATER)}

    def to_data(self) -> dict[str, Any]:
        """Return plain JSON values; without a declaration those of version 1."""
        data = {
            name: value
            for name, value in vars(self).items()
            if name != "spec" and not (name in _LATER and value == _LATER[name])
        }
        if self.spec is None:
            return data
        return data | {"spec": self.spec.to_data(), "schema_version": SCHEMA_VERSION}

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> CollectionInfo:
        """Read what :meth:`to_data` returned.

        Raises:
            TypeError, KeyError, ValueError: It is no head of a collection.
        """
        spec = data.get("spec")
        declared = None if spec is None else EpisodeSpec.from_data(spec)
        return cls(**(data | {"success_range": tuple(data["success_range"]), "spec": declared}))


def list_collections(store: Store) -> list[str]:
    """Return the names of all collections, sorted."""
    return [
        name
        for name in store.list_folders("collections")
        if store.exists(f"collections/{name}/collection.json")
    ]


def read_collection(store: Store, name: str) -> CollectionInfo:
    """Read a collection's head.

    Raises:
        CogError: No such collection, or its head is damaged or of a newer version.
    """
    path = f"collections/{name}/collection.json"
    if not store.exists(path):
        raise unknown("collection", name, list_collections(store))
    try:
        return CollectionInfo.from_data(known(CollectionInfo, read_json(store, path)))
    except (TypeError, KeyError, ValueError) as error:
        said = f"{store.path(path)} is damaged: run the same `cog collect` again"
        raise refusal(error, said) from None


def write_collection(store: Store, info: CollectionInfo) -> None:
    """Write a collection's head; of one that is there, what this version does not know stays.

    Raises:
        CogError: It declares an annotation per episode that is called as a column of ``episodes``.
    """
    annotations = info.spec.per_episode if info.spec else ()
    if taken := [one.name for one in annotations if one.name in PART_EPISODES_2.names]:
        raise CogError(
            f"annotation {taken[0]!r} is a column of episodes already: call it otherwise, for example "
            f"{taken[0]}_name"
        )
    path = f"collections/{info.name}/collection.json"
    data = with_unknown(store, path, CollectionInfo, info.to_data())
    store.write_text(path, json.dumps(data, indent=2, sort_keys=True))


def declared(store: Store, name: str) -> EpisodeSpec:
    """Return the declaration of a collection's episodes.

    Args:
        store: Where from.
        name: Collection.

    Raises:
        CogError: There is no such collection, it has no episode that would say it, or it is damaged.
    """
    spec = read_collection(store, name).spec
    if spec is not None:
        return spec
    for part in list_parts(store, name):
        path = f"{part_folder(name, part)}/{EPISODES}"
        try:
            table = store.read_table(path).select(["image_height", "image_width", "scene_fields"])
            row = table.slice(0, 1).to_pylist()[0]
        except (pa.ArrowException, OSError, KeyError, IndexError):
            raise CogError(f"{store.path(path)} cannot be read: run `cog data verify`") from None
        return layout1_spec((row["image_height"], row["image_width"]), row["scene_fields"], PREDICATES)
    raise CogError(f"collection {name} has no episode yet")
