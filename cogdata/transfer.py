"""From one store to another: mixtures go to where there is an accelerator, runs to where there are worlds.

What is copied is whole: parts with all their files, so that the other store can be verified, queried and
trained from like any other. What is there already is left as it is; a copy that was cut off goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cogdata.errors import CogError
from cogdata.manifest import mixture_folder, read_manifest
from cogdata.parts import COMMIT, read_commit
from cogdata.runs import ancestry, is_training, read_run, read_state
from cogdata.store import Store

OnProgress = Callable[[int, int], None]
"""Told (parts there, parts in all)."""


@dataclass
class Copied:
    """What was copied.

    Attributes:
        files: Written.
        size: Bytes of them.
        there: Files that the other store had.
    """

    files: int = 0
    size: int = 0
    there: int = 0

    def put(self, target: Store, path: str, data: bytes) -> None:
        """Write a file and count it."""
        target.write_bytes(path, data)
        self.files += 1
        self.size += len(data)


def copy_mixture(
    source: Store, target: Store, ref: str, on_progress: OnProgress = lambda done, total: None
) -> Copied:
    """Copy a mixture version and every part that one of its episodes is in.

    Args:
        source: Where from.
        target: Where to.
        ref: ``name`` (newest version) or ``name@version``.
        on_progress: Called after every part.

    Raises:
        CogError: No such mixture, a part is damaged, or the other store has something else of a name.
    """
    _check_two(source, target)
    manifest, copied = read_manifest(source, ref), Copied()
    folder = mixture_folder(manifest.info.name, manifest.info.version)
    _check_same(source, target, f"{folder}/mixture.json", f"mixture {manifest.info.ref}")
    parts = sorted({shard.rpartition("/")[0] for shard in manifest.episodes["shard"].to_pylist()})
    for collection in sorted({part.rpartition("/")[0] for part in parts}):
        head = f"{collection}/collection.json"
        _check_same(source, target, head, f"collection {collection.rpartition('/')[2]!r}")
        _copy_missing(source, target, head, copied)
    for done, part in enumerate(parts, start=1):
        _copy_part(source, target, part, copied)
        on_progress(done, len(parts))
    names = source.list_files(folder)
    for name in sorted(names, key=lambda name: name == "mixture.json"):  # which says that all is there: last
        _copy_missing(source, target, f"{folder}/{name}", copied)
    return copied


def copy_run(source: Store, target: Store, run: str) -> Copied:
    """Copy a run with its checkpoints and judgements, and the runs it descends from.

    A run that both stores have keeps what is further: nothing is lost that either of them did.

    Args:
        source: Where from.
        target: Where to.
        run: Run id.

    Raises:
        CogError: No such run, or it is being trained.
    """
    _check_two(source, target)
    copied = Copied()
    for info in reversed(ancestry(source, run)):
        for store in (source, target):
            if is_training(store, info.run):
                raise CogError(f"run {info.run!r} is being trained in {store.url}: wait for it, or stop it")
        base = f"runs/{info.run}"
        for kind in ("checkpoints", "tensorboard", "evaluations"):
            _copy_below(source, target, f"{base}/{kind}", copied)
        further = _updates(source, info.run) > _updates(target, info.run)
        for name in (
            "metrics.jsonl",
            "best.json",
            "state.json",
            "run.json",
        ):  # without the last there is no run
            if source.exists(f"{base}/{name}"):
                _copy_missing(source, target, f"{base}/{name}", copied, anew=further)
    return copied


def _updates(store: Store, run: str) -> int:
    """Gradient steps of a run in a store; -1: it is not there."""
    if not store.exists(f"runs/{run}/run.json"):
        return -1
    read_run(store, run)
    state = read_state(store, run)
    return 0 if state is None else state.updates_done


def _check_two(source: Store, target: Store) -> None:
    if source.url == target.url:
        raise CogError(f"{target.url} is the store itself: name another one with --to")


def _check_same(source: Store, target: Store, path: str, what: str) -> None:
    """Refuse a name that stands for something else there."""
    if target.exists(path) and target.read_bytes(path) != source.read_bytes(path):
        raise CogError(f"{what} is another one in {target.url}: copy to a store that has none of this name")


def _copy_missing(source: Store, target: Store, path: str, copied: Copied, *, anew: bool = False) -> None:
    if not anew and target.exists(path):
        copied.there += 1
    else:
        copied.put(target, path, source.read_bytes(path))


def _copy_part(source: Store, target: Store, part: str, copied: Copied) -> None:
    """Copy a part's files, each with the sha256 that its commit names, the commit last."""
    path = f"{part}/{COMMIT}"
    if target.exists(path):
        copied.there += 1
        return
    _, collection, name = part.split("/")
    files: dict[str, dict[str, Any]] = read_commit(source, collection, name).files
    for file, said in files.items():
        data = source.read_bytes(f"{part}/{file}")
        if hashlib.sha256(data).hexdigest() != said["sha256"]:
            raise CogError(f"{source.path(f'{part}/{file}')} is damaged: run `cog data verify`")
        copied.put(target, f"{part}/{file}", data)
    copied.put(target, path, source.read_bytes(path))


def _copy_below(source: Store, target: Store, folder: str, copied: Copied) -> None:
    """Copy a folder's files and what is below; ``checkpoint.json``, which says that one is whole, last."""
    for name in source.list_folders(folder):
        _copy_below(source, target, f"{folder}/{name}", copied)
    for name in sorted(source.list_files(folder), key=lambda name: name == "checkpoint.json"):
        if not name.endswith(".tmp"):
            _copy_missing(source, target, f"{folder}/{name}", copied)
