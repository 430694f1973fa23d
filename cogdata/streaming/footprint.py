"""How much memory a stream will take, said before it is taken."""

from __future__ import annotations

from typing import Final

from cogdata.errors import CogError
from cogdata.storage.manifest import Manifest
from cogdata.streaming.pool import Pool
from cogdata.streaming.stream import StreamOptions
from cogdata.system.machine import free_memory

_BATCHES: Final = 4
"""That are there at once: one in use, two ready, one in the making."""


def footprint(manifest: Manifest, options: StreamOptions) -> tuple[int, int]:
    """Return the bytes of a stream's pool, and of the batches that are there at once.

    Args:
        manifest: What is read.
        options: How.
    """
    info = manifest.info
    per_frame = Pool.frame_bytes(options.columns, info.image_size, len(info.scene_fields))
    frames = sum(steps + 1 for steps in manifest.episodes.column("steps").to_pylist())
    batches = _BATCHES * 2 * options.batch_size * per_frame  # a transition is two frames
    return min(frames * per_frame, options.budget), batches


def check_memory(manifest: Manifest, options: StreamOptions, copies: int = 1) -> None:
    """Refuse a stream that cannot fit, before the system kills what reads it.

    Networks and their gradients come on top, so passing is no promise.

    Args:
        manifest: What is read.
        options: How.
        copies: So many processes are to read it at once.

    Raises:
        CogError: Pool and batches are larger than what is free.
    """
    pool, batches = (copies * size for size in footprint(manifest, options))
    free = free_memory()
    if free is not None and pool + batches > free:
        raise CogError(
            f"a pool of {pool / 1e9:.1f} GB and batches of {batches / 1e9:.1f} GB do not fit the "
            f"{free / 1e9:.1f} GB that are free: give --memory or a smaller batch (--set batch_size=…), or "
            f"stop something else"
        )
