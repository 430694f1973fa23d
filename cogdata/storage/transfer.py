"""From one store to another: mixtures go to where there is an accelerator, runs to where there are worlds.

What is copied is whole and held against its digests, and the file that says so is written last. What is there
already is compared and left; what is there and is something else is refused. A copy that was cut off goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from cogdata.errors import CogError
from cogdata.storage.collections import read_collection
from cogdata.storage.layers import commits as layer_commits
from cogdata.storage.layers.heads import HEAD, LayerInfo, parse_head, read_layer
from cogdata.storage.manifest import LOCATION, Manifest, mixture_folder, read_info, read_manifest
from cogdata.storage.parts import COMMIT, list_parts, part_folder, read_commit
from cogdata.storage.runs import RunInfo, ancestry, only_one, read_run, read_state
from cogdata.storage.samples import Member, Sample
from cogdata.storage.store import Store

OnProgress = Callable[[int, int], None]
"""Told (parts there, parts in all)."""

_SEALS: Final = ("mixture.json", "checkpoint.json")
"""Files that say that their folder is whole."""

_PART_FILE: Final = re.compile(r"collections/[^/]+/part-[^/]+/[^/]+")


@dataclass
class Copied:
    """What was copied.

    Attributes:
        files: Written.
        size: Bytes of them.
        there: Parts, checkpoints and other files that the other store had.
    """

    files: int = 0
    size: int = 0
    there: int = 0

    def put(self, target: Store, path: str, data: bytes) -> None:
        """Write a file and count it."""
        target.write_bytes(path, data)
        self._count(data)

    def seal(self, target: Store, path: str, data: bytes) -> bool:
        """Write the file that says that all is there, unless somebody just did; return whether it is ours."""
        ours = target.create_text(path, data.decode())
        if ours:
            self._count(data)
        return ours

    def _count(self, data: bytes) -> None:
        self.files += 1
        self.size += len(data)


# --- mixtures ------------------------------------------------------------------------------------------


def copy_mixture(
    source: Store, target: Store, ref: str, on_progress: OnProgress = lambda done, total: None
) -> Copied:
    """Copy a mixture version, every part that one of its episodes is in, what members point to, and layers.

    Args:
        source: Where from.
        target: Where to; nobody else should freeze mixtures there meanwhile.
        ref: ``name`` (newest version) or ``name@version``.
        on_progress: Called after every part.

    Raises:
        CogError: No such mixture, a part is damaged, or the other store has something else of a name.
    """
    _check_two(source, target)
    manifest, copied = read_manifest(source, ref), Copied()
    info = manifest.info
    folder = mixture_folder(info.name, info.version)
    there = target.exists(f"{folder}/mixture.json")
    if there and read_info(target, info.ref).digest != info.digest:
        raise _other(f"mixture {info.ref}", target)
    parts, linked = _needed(manifest)
    for collection in sorted({part.split("/")[1] for part in parts}):
        _copy_head(source, target, collection, copied)
    for done, part in enumerate(parts, start=1):
        _copy_part(source, target, part, copied)
        on_progress(done, len(parts))
    for file, members in linked.items():
        _copy_linked(source, target, file, members, copied)
    for name, use in info.layers.items():
        _copy_layer(source, target, read_layer(source, name, use.version), copied)
    if there:
        copied.there += 1
    else:
        target.remove(folder)  # of a copy or a freeze that was cut off
        _copy_folder(source, target, folder, copied)
    return copied


def _needed(manifest: Manifest) -> tuple[list[str], dict[str, list[Member]]]:
    """Folders of the parts that a mixture reads, sorted; other files → what it reads of them."""
    parts: set[str] = set()
    linked: dict[str, list[Member]] = {}
    for row in manifest.episodes.select(list(LOCATION)).to_pylist():
        sample = Sample.of(row)
        for member in (sample.steps, *sample.members.values()):
            if _PART_FILE.fullmatch(member.file):
                parts.add(member.file.rpartition("/")[0])
            else:
                linked.setdefault(member.file, []).append(member)
    return sorted(parts), dict(sorted(linked.items()))


def _copy_linked(source: Store, target: Store, file: str, members: list[Member], copied: Copied) -> None:
    """Copy a file that no part commits to, each range with the checksum that the mixture names."""
    if not target.exists(file):
        data = source.read_bytes(file)
        if not _whole(data, members):
            raise CogError(f"{source.path(file)} is damaged: run `cog data verify`")
        copied.put(target, file, data)
    elif _whole(target.read_bytes(file), members):
        copied.there += 1
    else:
        raise _other(file, target)


def _whole(data: bytes, members: list[Member]) -> bool:
    return all(zlib.crc32(data[one.offset : one.offset + one.size]) == one.crc32 for one in members)


def _copy_layer(source: Store, target: Store, info: LayerInfo, copied: Copied) -> None:
    """Copy a version of a layer, each commit after its files."""
    path = f"{info.folder}/{HEAD}"
    if target.exists(path):
        if not parse_head(target, path).agrees(info):
            raise _other(f"layer {info.ref}", target)
        copied.there += 1
    elif not copied.seal(target, path, source.read_bytes(path)):
        raise _other(f"layer {info.ref}", target)
    for commit in (
        layer_commits.read_commit(source, path) for path in layer_commits.list_commits(source, info)
    ):
        if not target.exists(commit.path):
            for file, said in commit.files.items():
                data = source.read_bytes(f"{commit.folder}/{file}")
                _check_digest(source, f"{commit.folder}/{file}", data, said["sha256"])
                copied.put(target, f"{commit.folder}/{file}", data)
            if copied.seal(target, commit.path, source.read_bytes(commit.path)):
                continue
        if layer_commits.read_commit(target, commit.path).files != commit.files:
            raise _other(f"{commit.path}", target)
        copied.there += 1


def _copy_head(source: Store, target: Store, collection: str, copied: Copied) -> None:
    path = f"collections/{collection}/collection.json"
    if _copy_missing(source, target, path, copied):
        return
    ours, theirs = (
        {
            **info.settings(),
            "part_size": info.part_size,
            "schema_version": info.schema_version,
            "spec": None if info.spec is None else info.spec.identity(),
        }
        for info in (read_collection(store, collection) for store in (source, target))
    )
    if ours != theirs:
        raise _other(f"collection {collection!r}", target)


def _copy_part(source: Store, target: Store, part: str, copied: Copied) -> None:
    """Copy a part's files, each with the sha256 that its commit names, the commit last."""
    _, collection, name = part.split("/")
    path = f"{part}/{COMMIT}"
    files: dict[str, dict[str, Any]] = read_commit(source, collection, name).files
    if not target.exists(path):
        for file, said in files.items():
            data = source.read_bytes(f"{part}/{file}")
            _check_digest(source, f"{part}/{file}", data, said["sha256"])
            copied.put(target, f"{part}/{file}", data)
        if copied.seal(target, path, source.read_bytes(path)):
            return
    if read_commit(target, collection, name).files != files:
        raise _other(f"part {collection}/{name}", target)
    copied.there += 1


# --- runs ----------------------------------------------------------------------------------------------


def copy_run(source: Store, target: Store, run: str) -> Copied:
    """Copy a run with its checkpoints, evaluations and own episodes, and the runs it descends from.

    A run that both stores have keeps what is further, and the checkpoints and evaluations of both.

    Args:
        source: Where from.
        target: Where to.
        run: Run id.

    Raises:
        CogError: No such run, it is being trained in one of the stores, a file is damaged, or the other store
            trained it too and came to other weights.
    """
    _check_two(source, target)
    chain, copied = list(reversed(ancestry(source, run))), Copied()
    with ExitStack() as held:
        for info in chain:
            for store in (source, target):
                if store is target or os.access(source.path(f"runs/{info.run}"), os.W_OK):
                    held.enter_context(only_one(store, info.run))
        for info in chain:
            _check_checkpoints(source, target, info.run)
        for info in chain:
            _copy_run(source, target, info, copied)
    return copied


def _copy_run(source: Store, target: Store, info: RunInfo, copied: Copied) -> None:
    base = f"runs/{info.run}"
    if info.online is not None and source.exists(f"collections/{info.run}/collection.json"):
        _copy_head(source, target, info.run, copied)
        for part in list_parts(source, info.run):
            _copy_part(source, target, part_folder(info.run, part), copied)
    for update in source.list_folders(f"{base}/checkpoints"):
        folder = f"{base}/checkpoints/{update}"
        if target.exists(f"{folder}/checkpoint.json"):
            copied.there += 1
        elif source.exists(f"{folder}/checkpoint.json"):
            said = json.loads(source.read_bytes(f"{folder}/checkpoint.json"))
            digests = {f"{kind}.safetensors": said[f"{kind}_digest"] for kind in ("weights", "training")}
            _copy_folder(source, target, folder, copied, digests)
    for kind in ("evaluations", "tensorboard"):
        for name in _finished(source.list_files(f"{base}/{kind}")):
            _copy_missing(source, target, f"{base}/{kind}/{name}", copied)
    if _progress(source, info.run) > _progress(target, info.run):
        for name in ("metrics.jsonl", "best.json", "run.json", "state.json"):
            if source.exists(f"{base}/{name}"):
                copied.put(target, f"{base}/{name}", source.read_bytes(f"{base}/{name}"))


def _progress(store: Store, run: str) -> tuple[int, str]:
    """How far a run is in a store: updates done, and when that was; (-1, "") if it is not there."""
    if not store.exists(f"runs/{run}/run.json"):
        return (-1, "")
    state = read_state(store, run)
    return (-1, read_run(store, run).created_at) if state is None else (state.updates_done, state.updated_at)


def _check_checkpoints(source: Store, target: Store, run: str) -> None:
    """Refuse a run that both stores trained, on processors that round differently."""
    for update in target.list_folders(f"runs/{run}/checkpoints"):
        path = f"runs/{run}/checkpoints/{update}/checkpoint.json"
        if not (source.exists(path) and target.exists(path)):
            continue
        ours, theirs = (json.loads(store.read_bytes(path))["weights_digest"] for store in (source, target))
        if ours != theirs:
            raise CogError(
                f"run {run!r} was trained in both stores, its checkpoint {int(update)} is another one in "
                f"{target.url}: remove one of them with `cog runs rm {run} --root STORE`"
            )


# --- both ----------------------------------------------------------------------------------------------


def _copy_missing(source: Store, target: Store, path: str, copied: Copied) -> bool:
    """Copy a file unless the other store has one; return whether it had none."""
    if target.exists(path):
        copied.there += 1
        return False
    copied.put(target, path, source.read_bytes(path))
    return True


def _copy_folder(
    source: Store,
    target: Store,
    folder: str,
    copied: Copied,
    digests: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Copy a folder's files, the one that says that they are all there last.

    Args:
        source: Where from.
        target: Where to.
        folder: Which one.
        copied: Counts.
        digests: File name → its sha256, where it is known.
    """
    for name in _finished(source.list_files(folder)):
        path = f"{folder}/{name}"
        data = source.read_bytes(path)
        if name in digests:
            _check_digest(source, path, data, digests[name])
        copied.put(target, path, data)


def _finished(names: Sequence[str]) -> list[str]:
    """Names of files in the order of copying: no half ones, no claims, and what seals a folder at the end."""
    whole = [name for name in names if not name.endswith(".tmp") and name != "CLAIMED"]
    return sorted(whole, key=lambda name: (name in _SEALS, name))


def _check_digest(source: Store, path: str, data: bytes, sha256: str) -> None:
    if hashlib.sha256(data).hexdigest() != sha256:
        raise CogError(f"{source.path(path)} is damaged: run `cog data verify`")


def _check_two(source: Store, target: Store) -> None:
    if source.url == target.url:
        raise CogError(f"{target.url} is the store itself: name another one with --to")


def _other(what: str, target: Store) -> CogError:
    return CogError(f"{what} is another one in {target.url}: copy to a store that has none of this name")
