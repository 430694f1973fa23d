"""A frozen mixture as files: what to read, with which rewards, in which shares. Needs no database.

``mixtures/<name>/v<n>/`` holds ``mixture.json`` (:class:`MixtureInfo`), ``episodes.parquet``
(:data:`EPISODES`), ``rewards.parquet`` (:data:`REWARDS`, only for mixtures frozen step by step) and
``stats.json`` (:class:`Stats`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import pyarrow as pa

from cogdata.errors import CogError, unknown
from cogdata.schema import NAME_PATTERN
from cogdata.storage.columns import conform
from cogdata.storage.layers.reading import LayerUse
from cogdata.storage.mixture_info import MixtureInfo as MixtureInfo
from cogdata.storage.mixture_info import SourceCounts as SourceCounts
from cogdata.storage.samples import MEMBERS
from cogdata.storage.selection import Selection
from cogdata.storage.statistics import Stats as Stats
from cogdata.storage.store import Store
from cogdata.storage.versions import read_json, refusal, with_unknown

EPISODES: Final = pa.schema(
    [
        ("episode_id", pa.string()),
        ("source", pa.string()),
        ("reward", pa.float32()),  # for every step of the episode; null: as collected, or see rewards
        ("weight", pa.float64()),  # relative, of each of its transitions within the source
        ("t_start", pa.int32()),  # transitions t_start <= t < t_end take part
        ("t_end", pa.int32()),
        ("steps", pa.int32()),  # T of the whole episode
        ("digest", pa.string()),
        ("shard", pa.string()),  # path within the store
        ("frames_offset", pa.int64()),  # byte ranges of the sample's members within the shard
        ("frames_size", pa.int64()),
        ("steps_offset", pa.int64()),
        ("steps_size", pa.int64()),
        ("frames_crc32", pa.int64()),  # of the members' bytes, so that a reader refuses a damaged shard
        ("steps_crc32", pa.int64()),
        ("members", MEMBERS),  # where its features with a codec lie; null: in the columns above, layout 1
        ("observations", pa.int32()),  # N; null: steps + 1
        ("embodiment", pa.string()),  # which of the statistics are its own; null: those of the mixture
    ]
)
LOCATION: Final = (
    "shard", "frames_offset", "frames_size", "steps_offset", "steps_size", "frames_crc32", "steps_crc32",
    "members",
)  # fmt: skip
"""Columns of :data:`EPISODES` that say where an episode's bytes are; not part of the digest."""

DIGESTED: Final = ("episode_id", "digest", "source", "reward", "weight", "t_start", "t_end")
"""Columns of :data:`EPISODES` that the digest is made of, in its order."""

_NEEDED: Final = (*DIGESTED, *(name for name in LOCATION if name != "members"), "steps")
"""Columns of :data:`EPISODES` that every version wrote; one that was added since is null where it lacks."""

REWARDS: Final = pa.schema(
    [("episode_id", pa.string()), ("t", pa.list_(pa.int32())), ("reward", pa.list_(pa.float32()))]
)


@dataclass(frozen=True)
class Manifest:
    """One mixture version, ready to be streamed.

    Attributes:
        info: Head.
        episodes: Table of :data:`EPISODES`, sorted by (source, episode_id).
        rewards: Table of :data:`REWARDS`, or None for the episode shape.
        stats: For normalising inputs.
    """

    info: MixtureInfo
    episodes: pa.Table
    rewards: pa.Table | None
    stats: Stats = field(repr=False)

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources, sorted; a batch's ``source`` indexes them."""
        return tuple(sorted(self.info.counts))


def mixture_digest(
    episodes: pa.Table,
    rewards: pa.Table | None,
    weights: dict[str, float],
    selection: Selection | None = None,
    layers: Mapping[str, LayerUse] = MappingProxyType({}),
) -> str:
    """Return the sha256 (hex) of a mixture's content: episodes by digest, rewards, ranges, shares, features.

    Args:
        episodes: Table of :data:`EPISODES`.
        rewards: Table of :data:`REWARDS` or None.
        weights: Source → share.
        selection: What is taken of the episodes; None or the default: what they share.
        layers: Layer → what is taken of it.

    Returns:
        The same for the same content, whatever SQL said it and wherever it is stored.
    """
    sha = hashlib.sha256()
    order = [("source", "ascending"), ("episode_id", "ascending")]
    for row in episodes.select(DIGESTED).sort_by(order).to_pylist():
        sha.update(json.dumps([row[name] for name in DIGESTED]).encode())
    if rewards is not None:
        for row in rewards.sort_by("episode_id").to_pylist():
            sha.update(json.dumps([row["episode_id"], row["t"], row["reward"]]).encode())
    sha.update(json.dumps(sorted(weights.items())).encode())
    if selection is not None and not selection.is_default:
        sha.update(json.dumps(selection.identity(), sort_keys=True).encode())
    if layers:  # by content: the same values are the same mixture, whatever version holds them
        taken = [[name, one.features, one.digest] for name, one in sorted(layers.items())]
        sha.update(json.dumps(taken).encode())
    return sha.hexdigest()


def mixture_folder(name: str, version: int) -> str:
    """Return the path of a mixture version within the store."""
    return f"mixtures/{name}/v{version}"


def list_versions(store: Store, name: str) -> list[int]:
    """Return the versions of a mixture that are in the store, ascending.

    Args:
        store: Where to look.
        name: Mixture name.
    """
    versions = [
        int(entry[1:])
        for entry in store.list_folders(f"mixtures/{name}")
        if entry[:1] == "v"
        and entry[1:].isdecimal()
        and store.exists(f"mixtures/{name}/{entry}/mixture.json")
    ]
    return sorted(versions)


def parse_ref(ref: str) -> tuple[str, int | None]:
    """Split ``name``, ``name@3`` or ``name@v3``.

    Args:
        ref: What the user typed.

    Returns:
        The name, and the version or None for the newest.

    Raises:
        CogError: It is none of these.
    """
    name, _, version = ref.partition("@")
    digits = version.removeprefix("v")
    if not NAME_PATTERN.fullmatch(name) or ("@" in ref and not digits.isdecimal()):
        raise CogError(f"mixture {ref!r} must be NAME or NAME@VERSION, for example place_in_tray@1")
    return name, int(digits) if digits else None


def write_manifest(store: Store, manifest: Manifest) -> str:
    """Write a version; ``mixture.json`` last, so that a crash leaves no version behind.

    Args:
        store: Where to.
        manifest: What.

    Returns:
        The folder within the store.
    """
    folder = mixture_folder(manifest.info.name, manifest.info.version)
    store.write_table(f"{folder}/episodes.parquet", manifest.episodes)
    if manifest.rewards is not None:
        store.write_table(f"{folder}/rewards.parquet", manifest.rewards)
    store.write_text(f"{folder}/stats.json", manifest.stats.to_json())
    write_info(store, manifest.info)
    return folder


def write_info(store: Store, info: MixtureInfo) -> None:
    """Write the head of a version, whole or not at all.

    Args:
        store: Where to.
        info: What; of a version that is there only what is not part of its digest may be another.
    """
    path = f"{mixture_folder(info.name, info.version)}/mixture.json"
    data = with_unknown(store, path, MixtureInfo, info.to_data())
    store.write_text(path, json.dumps(data, indent=2, sort_keys=True))


def read_info(store: Store, ref: str) -> MixtureInfo:
    """Read the head of a mixture version.

    Args:
        store: Where from.
        ref: ``name`` (newest version) or ``name@version``.

    Raises:
        CogError: There is no such mixture or version, or its head is damaged.
    """
    name, version = parse_ref(ref)
    versions = list_versions(store, name)
    if not versions:
        names = [entry for entry in store.list_folders("mixtures") if list_versions(store, entry)]
        raise unknown("mixture", name, names)
    if version is not None and version not in versions:
        raise CogError(f"mixture {name!r} has no version {version}: there are {versions}")
    chosen = version or versions[-1]
    path = f"{mixture_folder(name, chosen)}/mixture.json"
    try:
        return MixtureInfo.from_json(store.read_text(path), store.path(path))
    except (ValueError, IsADirectoryError) as error:  # UnicodeDecodeError is a ValueError
        raise refusal(error, str(_damaged(store, path))) from None


def _damaged(store: Store, path: str) -> CogError:
    folder = path.rpartition("/")[0]
    return CogError(
        f"{store.path(path)} is damaged: restore it, or remove {folder} and freeze the query again"
    )


def newest_digest(store: Store, name: str) -> str | None:
    """Say which content the newest version of a mixture has; None: none is frozen.

    Args:
        store: Where from.
        name: Mixture name.

    Raises:
        CogError: Its head is damaged.
    """
    return read_info(store, name).digest if list_versions(store, name) else None


def read_manifest(store: Store, ref: str) -> Manifest:
    """Read a mixture version and check that its content still has its digest.

    Args:
        store: Where from.
        ref: ``name`` (newest version) or ``name@version``.

    Raises:
        CogError: No such mixture, or its files were changed.
    """
    info = read_info(store, ref)
    folder = mixture_folder(info.name, info.version)
    episodes = _read_table(store, f"{folder}/episodes.parquet", EPISODES, _NEEDED)
    path = f"{folder}/rewards.parquet"
    rewards = _read_table(store, path, REWARDS, REWARDS.names) if store.exists(path) else None
    if mixture_digest(episodes, rewards, info.weights, info.selection, info.layers) != info.digest:
        raise CogError(
            f"mixture {info.ref} in {store.url}/{folder} was changed after freezing: freeze it again"
        )
    return Manifest(info, episodes, rewards, _read_stats(store, f"{folder}/stats.json"))


def _read_table(store: Store, path: str, schema: pa.Schema, needed: Sequence[str]) -> pa.Table:
    try:
        table = store.read_table(path)
        if set(needed) <= set(table.column_names):
            return conform(table, schema)
    except (pa.ArrowException, OSError):
        pass
    raise _damaged(store, path)


def _read_stats(store: Store, path: str) -> Stats:
    try:
        return Stats.from_data(read_json(store, path))
    except (TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError, IsADirectoryError):
        raise _damaged(store, path) from None
