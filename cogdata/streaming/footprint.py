"""The memory that a stream will take, and a check of it before anything is read."""

from __future__ import annotations

from typing import Final

from cogdata.errors import CogError
from cogdata.storage.manifest import Manifest
from cogdata.streaming.options import StreamOptions
from cogdata.streaming.pool import Pool
from cogdata.streaming.reading import marks_of, observation_counts
from cogdata.system.machine import free_memory

_BATCHES: Final = 4
"""Batches in memory at once: one in use, two ready, one being built."""


def footprint(manifest: Manifest, options: StreamOptions) -> tuple[int, int]:
    """Return the bytes of a stream's replay pool, and of its batches in memory at once.

    Args:
        manifest: Frozen mixture to read.
        options: Settings of the stream.
    """
    spec, features = manifest.info.spec, options.features(manifest.info.spec)
    marks = marks_of(manifest, features)
    per_observation = Pool.observation_bytes(features, spec.action, marks)
    per_transition = 2 * per_observation  # it has two observations
    named = {one.name: one for one in (*features, spec.action)}
    for name, (first, last) in options.windows.items():
        per_transition += 2 * (last - first) * named[name].row_bytes
    observations = int(observation_counts(manifest).sum())
    return min(observations * per_observation, options.budget), _BATCHES * options.batch_size * per_transition


def check_memory(manifest: Manifest, options: StreamOptions, copies: int = 1) -> None:
    """Raise if a stream cannot fit into free memory, instead of being killed by the system later.

    Networks and their gradients take memory too, so a stream that passes may still not fit.

    Args:
        manifest: Frozen mixture to read.
        options: Settings of the stream.
        copies: Number of processes that will read it at once.

    Raises:
        CogError: Pool and batches are larger than the free memory.
    """
    pool, batches = (copies * size for size in footprint(manifest, options))
    free = free_memory()
    if free is not None and pool + batches > free:
        raise CogError(
            f"a pool of {pool / 1e9:.1f} GB and batches of {batches / 1e9:.1f} GB do not fit the "
            f"{free / 1e9:.1f} GB that are free: give --memory or a smaller batch (--set batch_size=…), or "
            f"stop something else"
        )
