"""Removing runs: their files, and with them their rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Final

import pyarrow as pa

from catalog.index.db import require_store
from catalog.index.sync import try_sync
from cogdata.errors import CogError, unknown
from cogdata.storage import runs
from cogdata.storage.store import Store

_EPISODE: Final = ["env", "update", "checkpoint_digest", "seed", "stochastic"]
"""What tells the evaluated episodes of a run apart."""


def remove_runs(store: Store, names: Sequence[str], *, force: bool = False) -> list[tuple[str, int]]:
    """Remove runs with their checkpoints and evaluations; all of them, or none if one may not go.

    Args:
        store: Where they are.
        names: Run ids, also of runs whose removal was cut off.
        force: Even if they were evaluated.

    Returns:
        Each run, and how many evaluated episodes went with it.

    Raises:
        CogError: No such run, or it is being trained; without ``force`` also: it was evaluated, or a run that
            stays started from it.
    """
    require_store(store)
    known, leftovers = set(runs.list_runs(store)), set(runs.list_leftovers(store))
    chosen = list(dict.fromkeys(names))
    for name in chosen:
        if name not in known | leftovers:
            raise unknown("run", name, known)
    with ExitStack() as held:
        for name in chosen:  # until they are gone nobody begins to train them
            held.enter_context(runs.only_one(store, name))
        found = _remove(store, chosen, known, force=force)
    try_sync(store)
    return found


def _remove(store: Store, names: Sequence[str], known: set[str], *, force: bool) -> list[tuple[str, int]]:
    evaluated: dict[str, int] = {}
    for name in names:
        evaluated[name] = _evaluated(store, name)
        if evaluated[name] and name in known and not force:
            raise CogError(
                f"run {name!r} has {evaluated[name]:,} evaluated episodes, which would go with it: "
                f"say --force"
            )
    if not force and (children := _children(store, known, evaluated)):
        child, parent = children[0]
        more = f" (and {len(children) - 1} more)" if len(children) > 1 else ""
        raise CogError(f"run {child!r}{more} started from {parent!r}: remove both, or say --force")
    for name in evaluated:
        store.remove(f"runs/{name}/run.json")  # first: without it the run does not exist
        store.remove(f"runs/{name}")
    return list(evaluated.items())


def _children(store: Store, known: set[str], going: Mapping[str, int]) -> list[tuple[str, str]]:
    """Runs that stay, with their parents that go."""
    found = []
    for run in sorted(known - going.keys()):
        with suppress(CogError):  # damaged, which `cog data verify` says
            parent = runs.read_run(store, run).parent
            if parent is not None and parent in going:
                found.append((run, parent))
    return found


def _evaluated(store: Store, run: str) -> int:
    """Evaluated episodes of a run, one that is in several files once; a damaged file counts as one."""
    folder, damaged, seen = f"runs/{run}/evaluations", 0, set[tuple[object, ...]]()
    for file in store.list_files(folder):
        if file.endswith(".parquet"):
            try:
                rows = store.read_table(f"{folder}/{file}").select(_EPISODE)
                seen.update(tuple(row.values()) for row in rows.to_pylist())
            except (pa.ArrowException, OSError, CogError, KeyError):
                damaged += 1
    return len(seen) + damaged
