"""One training run: manifest, algorithm, configuration, seed → metrics, checkpoints, a status.

A run is named by what it is, so training the same thing again goes on where it stopped. Update number u draws
its batch from (seed, u) and its noise from (seed, "update", u): nothing random has to be saved, and an
interrupted run that is resumed equals one that was not, bit for bit on a CPU with the same number of threads.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Final, Protocol

import torch
from torch import Tensor

from cogdata.errors import CogError
from cogdata.manifest import Manifest
from cogdata.rng import derive_seed
from cogdata.runs import RunInfo, RunState, read_state, write_state
from cogdata.store import Store
from cogdata.stream import StreamOptions
from cogdata.transitions import Batch
from trainers.algorithm import Algorithm
from trainers.batches import tensor_batch
from trainers.checkpoint import save_checkpoint
from trainers.request import TrainRequest, now, only_one, register, run_id
from trainers.runlog import RunLog
from trainers.start import open_learner

PROGRESS_S: Final = 0.5
"""Shortest time between two calls of the progress callback."""

MEAN_MARGIN: Final = 0.1
"""Share of the possible range by which the mean value may exceed it before the alarm."""


class BatchSource(Protocol):
    """What training needs of :class:`cogdata.stream.Stream`."""

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """Yield batches from number ``start`` on, for ever."""
        ...


OpenStream = Callable[[StreamOptions], BatchSource]


@dataclass(frozen=True)
class Progress:
    """Where a run is.

    Attributes:
        run: Run id.
        update: Updates done.
        updates: Updates asked for.
        updates_per_s: Of this session.
        seconds_left: At that rate.
        loader_wait: Share of this session's time spent waiting for batches.
        metrics: The latest logged ones.
        warning: Set once, when something looks wrong.
    """

    run: str
    update: int
    updates: int
    updates_per_s: float
    seconds_left: float
    loader_wait: float
    metrics: Mapping[str, float]
    warning: str | None = None


OnProgress = Callable[[Progress], None]


def train(
    store: Store,
    manifest: Manifest,
    request: TrainRequest,
    *,
    open_stream: OpenStream,
    on_progress: OnProgress = lambda progress: None,
) -> tuple[RunInfo, RunState]:
    """Train, or go on training, the run that the request names.

    A run keeps the threads and the memory that it was begun with, so that going on changes no bit of it.

    Args:
        store: Where the run is kept.
        manifest: What it learns from.
        request: What to train.
        open_stream: Opens the manifest's batches; called only if there is something to do.
        on_progress: Called a few times per second.

    Returns:
        The run and its state: "finished", or "stopped" by SIGINT or SIGTERM after a checkpoint.

    Raises:
        CogError: A number was not finite (the state says "diverged"), or another process trains this run.
    """
    run = run_id(manifest, request)
    with only_one(store, run):
        state = read_state(store, run)
        if state is not None and state.updates_done >= request.config.updates:
            return register(store, run, manifest, request), replace(state, status="finished")
        learner, seconds = open_learner(store, run, manifest, request)
        info = register(store, run, manifest, request)
        torch.set_num_threads(info.threads)
        options = StreamOptions(
            request.config.batch_size, request.seed, learner.spec.parts, info.memory_bytes
        )
        log = RunLog(store, run, start=learner.updates_done, tensorboard=request.tensorboard)
        session = _Session(store, info, request, learner, log, on_progress, seconds)
        try:
            return info, session.go(open_stream(options).batches(learner.updates_done))
        finally:
            log.close()


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Turn the first SIGINT or SIGTERM into an event, so that no update is cut in half; not the second."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handler(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)] or signal.SIG_DFL)

    for number in before:
        signal.signal(number, handler)
    try:
        yield stop
    finally:
        for number, old in before.items():
            signal.signal(number, old or signal.SIG_DFL)


@dataclass
class _Session:
    """One stretch of a run within one process.

    Attributes:
        seconds: Wall time spent in updates, earlier sessions included.
        waited: Of this session, waiting for batches.
        done: Updates of this session.
    """

    store: Store
    info: RunInfo
    request: TrainRequest
    learner: Algorithm
    log: RunLog
    on_progress: OnProgress
    seconds: float
    waited: float = 0.0
    done: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    warned: bool = False
    told_at: float = 0.0
    saved: int = -1

    def __post_init__(self) -> None:
        """Remember where this session began."""
        self.start_seconds = self.seconds
        self.saved = self.learner.updates_done
        self.generator = torch.Generator(self.request.device)

    def go(self, batches: Iterator[Batch]) -> RunState:
        """Update until the end or a signal."""
        learner, target = self.learner, self.request.config.updates
        self._write_state("running")
        with _stop_signals() as stop, _closing(batches):
            while learner.updates_done < target and not stop.is_set():
                self._step(batches)
                if (
                    learner.updates_done % self.request.checkpoint_every == 0
                    or learner.updates_done == target
                ):
                    self._save("finished" if learner.updates_done == target else "running")
        if learner.updates_done < target:
            return self._save("stopped")
        return self._write_state("finished")

    def _step(self, batches: Iterator[Batch]) -> None:
        learner, request = self.learner, self.request
        began = time.perf_counter()
        batch = next(batches)
        self.waited += time.perf_counter() - began
        self.generator.manual_seed(derive_seed(request.seed, "update", learner.updates_done))
        tensors = tensor_batch(batch, learner.spec.parts, torch.device(request.device))
        metrics = learner.update(tensors, self.generator)
        self.done += 1
        last = learner.updates_done == request.config.updates
        due = last or learner.updates_done % request.log_every == 0
        # on an accelerator looking at a number waits for it: look only when it is due
        if due or request.device == "cpu" or learner.updates_done % request.checkpoint_every == 0:
            self._check_finite(metrics)
        self.seconds += time.perf_counter() - began
        if due:
            self._log(metrics)
        self._tell(force=last)

    def _check_finite(self, metrics: Mapping[str, Tensor]) -> None:
        if torch.stack(list(metrics.values())).isfinite().all():
            return
        bad = next(name for name, value in metrics.items() if not value.isfinite())
        update = self.learner.updates_done
        self._write_state("diverged", updates_done=self.saved)
        good = f"last good checkpoint: {self.saved}" if self.saved else "no checkpoint before it"
        raise CogError(
            f"run {self.info.run!r} diverged: {bad} is {float(metrics[bad])} at update {update}; "
            f"{good}; try a smaller learning rate with --set"
        )

    def _log(self, metrics: Mapping[str, Tensor]) -> None:
        values = {name: float(value) for name, value in metrics.items()}
        outside = self._outside(values)
        if self.learner.value_range is not None:
            values["out_of_range"] = float(outside is not None)
        session = self.seconds - self.start_seconds
        values |= {"updates_per_s": self.done / session, "loader_wait": self.waited / session}
        self.metrics = values
        self.log.write(self.learner.updates_done, values)
        if outside is not None and not self.warned:
            self.warned = True
            self._tell(force=True, warning=outside)

    def _outside(self, metrics: Mapping[str, float]) -> str | None:
        """Say so if values are none that a policy could have; a conservative learner may go below."""
        if self.learner.value_range is None:
            return None
        low, high = self.learner.value_range
        span, mean, largest = high - low, metrics["q_mean"], metrics["q_max"]
        if mean <= high + MEAN_MARGIN * span and mean >= low - span and largest <= high + span:
            return None
        return (
            f"values leave the possible range [{low:g}, {high:g}] at update {self.learner.updates_done}: "
            f"mean {mean:.3g}, max {largest:.3g}; the run may be diverging"
        )

    def _tell(self, *, force: bool, warning: str | None = None) -> None:
        now = time.monotonic()
        if not force and now - self.told_at < PROGRESS_S:
            return
        self.told_at = now
        session = max(self.seconds - self.start_seconds, 1e-9)
        left = self.request.config.updates - self.learner.updates_done
        rate = self.done / session
        self.on_progress(
            Progress(
                self.info.run,
                self.learner.updates_done,
                self.request.config.updates,
                rate,
                left / rate,
                self.waited / session,
                self.metrics,
                warning,
            )
        )

    def _save(self, status: str) -> RunState:
        if self.saved != self.learner.updates_done:
            largest = [parameter.detach().abs().max() for parameter in self.learner.parameters()]
            self._check_finite({"largest_weight": torch.stack(largest).max()})
            save_checkpoint(self.store, self.info.run, self.learner, self.seconds)
            self.saved = self.learner.updates_done
        self.log.flush()
        return self._write_state(status)

    def _write_state(self, status: str, updates_done: int | None = None) -> RunState:
        done = self.learner.updates_done if updates_done is None else updates_done
        state = RunState(status, done, self.seconds, now())
        write_state(self.store, self.info.run, state)
        return state


@contextmanager
def _closing(batches: Iterator[Batch]) -> Iterator[None]:
    """Stop a generator's prefetching thread at the end."""
    try:
        yield
    finally:
        close = getattr(batches, "close", None)
        if close is not None:
            close()
