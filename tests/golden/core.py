"""What a store holds, read by what every installation has: no torch, no DuckDB, no PyBullet.

Also a program for other Pythons: ``python core.py ROOT`` prints it as JSON.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np

from cogdata.storage.collections import list_collections
from cogdata.storage.manifest import read_manifest
from cogdata.storage.parts import list_parts, part_folder
from cogdata.storage.samples import read_episode
from cogdata.storage.store import Store
from cogdata.streaming.stream import Stream, StreamOptions

BATCHES: Final = 3


def _sha(array: np.ndarray[Any, Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _episodes(store: Store) -> dict[str, str]:
    """Episode → digest of what is read back."""
    found: dict[str, str] = {}
    for collection in list_collections(store):
        for part in list_parts(store, collection):
            table = store.read_table(f"{part_folder(collection, part)}/episodes.parquet")
            found |= {row["episode_id"]: read_episode(store, row).digest() for row in table.to_pylist()}
    return found


def _batches(store: Store, mixture: str) -> list[dict[str, str]]:
    """The first batches of seed 7, an array of each by its digest."""
    stream = Stream(store, read_manifest(store, mixture), StreamOptions(4, 7, memory_bytes=2**24))
    found = []
    batches = stream.batches()
    for _ in range(BATCHES):
        batch = next(batches)
        arrays = {f"obs.{name}": value for name, value in batch.obs.parts.items()}
        arrays |= {f"next_obs.{name}": value for name, value in batch.next_obs.parts.items()}
        arrays |= {name: getattr(batch, name) for name in ("action", "reward", "terminated", "source")}
        found.append({name: _sha(value) for name, value in arrays.items()})
    return found


def files_read(root: Path) -> dict[str, Any]:
    """Episodes, mixtures and batches of a store, as JSON."""
    store = Store(str(root))
    mixtures = [f"{name}@1" for name in store.list_folders("mixtures")]
    return {
        "digests": _episodes(store),
        "mixtures": {name: read_manifest(store, name).info.digest for name in mixtures},
        "batches": {name: _batches(store, name) for name in mixtures},
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(files_read(Path(sys.argv[1]))))
