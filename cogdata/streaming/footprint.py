"""The memory that a stream will take, and a check of it before anything is read."""

from __future__ import annotations

from typing import Final

from cogdata.errors import CogError
from cogdata.storage.manifest import Manifest
from cogdata.streaming.pool import Pool
from cogdata.streaming.stream import StreamOptions
from cogdata.system.machine import free_memory

_BATCHES: Final = 4
"""Batches in memory at once: one in use, two ready, one being built."""


def footprint(manifest: Manifest, options: StreamOptions) -> tuple[int, int]:
    """Return the bytes of a stream's replay pool, and of its batches in memory at once.

    Args:
        manifest: Frozen mixture to read.
        options: Settings of the stream.
    """
    info = manifest.info
    per_observation = Pool.observation_bytes(options.features(info.spec), info.spec.action)
    observations = sum(steps + 1 for steps in manifest.episodes.column("steps").to_pylist())
    batches = _BATCHES * 2 * options.batch_size * per_observation  # a transition has two observations
    return min(observations * per_observation, options.budget), batches


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
