"""Metrics of a run: ``metrics.jsonl`` in the store, TensorBoard event files beside it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from cogdata.store import Store

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FLUSH_S: Final = 5.0
"""Longest time that a metric waits in memory; the file is replaced whole, so no reader sees half a line."""


class RunLog:
    """Append metrics of a run, from a given update on.

    Args:
        store: Where to.
        run: Run id.
        start: Gradient steps behind the checkpoint that the run goes on from; lines after it are dropped.
        tensorboard: Whether to write event files too (only into a store that is a local folder).
    """

    def __init__(self, store: Store, run: str, *, start: int = 0, tensorboard: bool = True) -> None:
        self._store = store
        self._path = f"runs/{run}/metrics.jsonl"
        self._lines = [line for line in _lines(store, self._path) if json.loads(line)["update"] <= start]
        self._flushed_at = time.monotonic()
        self._writer: SummaryWriter | None = None
        if tensorboard and store.is_local:
            from torch.utils.tensorboard import SummaryWriter  # half a second to import

            self._writer = SummaryWriter(store.path(f"runs/{run}/tensorboard"), purge_step=start + 1)

    def write(self, update: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of one update."""
        self._lines.append(json.dumps({"update": update, **metrics}))
        if self._writer is not None:
            for name, value in metrics.items():
                self._writer.add_scalar(name, value, update)
        if time.monotonic() - self._flushed_at > FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Write what is in memory."""
        self._store.write_text(self._path, "".join(f"{line}\n" for line in self._lines))
        self._flushed_at = time.monotonic()
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        if self._writer is not None:
            self._writer.close()


def read_metrics(store: Store, run: str) -> list[dict[str, float]]:
    """Return the logged metrics of a run, each with its "update"; [] before the first."""
    return [json.loads(line) for line in _lines(store, f"runs/{run}/metrics.jsonl")]


def _lines(store: Store, path: str) -> list[str]:
    return store.read_text(path).splitlines() if store.exists(path) else []
