"""Metrics of a run: ``metrics.jsonl`` in the store, TensorBoard files beside it, trackers if asked for."""

from __future__ import annotations

import importlib
import importlib.util
import json
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from cogdata.errors import CogError, unknown
from cogdata.storage.store import Store

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FLUSH_S: Final = 5.0
"""Longest time that a metric waits in memory; the file is replaced whole, so no reader sees half a line."""

TRACKERS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"wandb": ("id", "name"), "trackio": ("name",)}
)
"""Library of an experiment tracker → arguments of its ``init`` that take the run's id, by which it goes on.

Both are called alike otherwise: ``init(project=, config=, resume="allow")``, ``log(metrics, step=)`` and
``finish()``.
"""

PROJECT: Final = "cogdata"
"""What our runs are filed under there."""


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that are unknown or not installed.

    Raises:
        CogError: One of them.
    """
    for name in names:
        if name not in TRACKERS:
            raise unknown("tracker", name, TRACKERS)
        try:
            found = importlib.util.find_spec(name)
        except ValueError:  # a module that was put there by hand has no specification
            continue
        if found is None:
            raise CogError(f"--log {name} needs a library that is not installed: pip install {name}")


class RunLog:
    """Append metrics of a run, from a given update on.

    Args:
        store: Where to.
        run: Run id.
        start: Gradient steps behind the checkpoint that the run goes on from; lines after it are dropped.
        tensorboard: Whether to write event files too (only into a store that is a local folder).
        trackers: Keys of :data:`TRACKERS` that get the metrics too.
        config: What the run is, for the trackers.
        writes: Whether this process keeps the log; others only count along.
    """

    def __init__(
        self,
        store: Store,
        run: str,
        *,
        start: int = 0,
        tensorboard: bool = True,
        trackers: Sequence[str] = (),
        config: Mapping[str, Any] = MappingProxyType({}),
        writes: bool = True,
    ) -> None:
        self._store = store
        self._path = f"runs/{run}/metrics.jsonl"
        self._lines = [json.dumps(line) for line in _read(store, self._path) if line["update"] <= start]
        self._flushed_at = time.monotonic()
        self._writer: SummaryWriter | None = None
        self._writes = writes
        if writes and tensorboard and store.is_local:
            from torch.utils.tensorboard import SummaryWriter  # half a second to import

            self._writer = SummaryWriter(store.path(f"runs/{run}/tensorboard"), purge_step=start + 1)
        self._trackers = [_begin(name, run, config) for name in trackers if writes]

    @property
    def lines(self) -> list[dict[str, float]]:
        """What has been logged so far."""
        return [json.loads(line) for line in self._lines]

    def write(self, update: int, metrics: Mapping[str, float]) -> None:
        """Log metrics of one update."""
        self._lines.append(json.dumps({"update": update, **metrics}))
        if self._writer is not None:
            for name, value in metrics.items():
                self._writer.add_scalar(name, value, update)
        for tracker in self._trackers:
            tracker.log(dict(metrics), step=update)
        if time.monotonic() - self._flushed_at > FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Write what is in memory."""
        if not self._writes:
            return
        self._store.write_text(self._path, "".join(f"{line}\n" for line in self._lines))
        self._flushed_at = time.monotonic()
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        if self._writer is not None:
            self._writer.close()
        for tracker in self._trackers:
            tracker.finish()


def _begin(name: str, run: str, config: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a run of a library
    library = importlib.import_module(name)
    return library.init(
        project=PROJECT, config=dict(config), resume="allow", **dict.fromkeys(TRACKERS[name], run)
    )


def read_metrics(store: Store, run: str) -> list[dict[str, float]]:
    """Return the logged metrics of a run, each with its "update"; [] before the first."""
    return _read(store, f"runs/{run}/metrics.jsonl")


def _read(store: Store, path: str) -> list[dict[str, float]]:
    found = []
    for number, line in enumerate(store.read_text(path).splitlines() if store.exists(path) else [], 1):
        try:
            one = json.loads(line)
        except ValueError:
            one = None
        if not isinstance(one, dict) or "update" not in one:
            raise CogError(f"{store.path(path)}, line {number}, is damaged: remove that line")
        found.append(one)
    return found
