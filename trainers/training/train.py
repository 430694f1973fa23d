"""One training run: manifest, algorithm, configuration, seed → metrics, checkpoints, a status.

A run is named by what it is, so training the same thing again goes on where it stopped. Update number u draws
its batch from (seed, u) and its noise from (seed, "update", u): nothing random has to be saved, and an
interrupted run that is resumed equals one that was not, bit for bit on a CPU with the same number of threads.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Final, NoReturn, Protocol

import torch
from torch import Tensor

from cogdata.rng import derive_seed
from cogdata.storage.manifest import Manifest
from cogdata.storage.runs import (
    Best,
    RunInfo,
    RunState,
    only_one,
    read_best,
    read_run,
    read_state,
    write_state,
)
from cogdata.storage.store import Store
from cogdata.streaming.stream import StreamOptions
from cogdata.streaming.transitions import Batch
from trainers.algorithm import Algorithm, TensorBatch
from trainers.checkpoint import largest_weight, list_checkpoints, read_info, save_checkpoint
from trainers.evaluation.during_training import EvalSchedule, evaluate_checkpoint, evaluated_before
from trainers.evaluation.evaluate import Policy
from trainers.training.batches import for_learner, stream_options, tensor_batch
from trainers.training.divergence import GuardState
from trainers.training.ending import DivergedError, status_on_error
from trainers.training.ranks import Ranks
from trainers.training.request import TrainRequest, now, register, run_id
from trainers.training.runlog import RunLog
from trainers.training.start import open_learner

PROGRESS_S: Final = 0.5
"""Shortest time between two calls of the progress callback."""


class BatchSource(Protocol):
    """What training needs of :class:`cogdata.streaming.stream.Stream`."""

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """Yield batches from number ``start`` on, for ever."""
        ...


class TensorSource(Protocol):
    """Batches that are on the learner's device: :class:`trainers.training.resident.ResidentStream`."""

    def batches(self, start: int = 0) -> Iterator[TensorBatch]:
        """Yield batches from number ``start`` on, for ever."""
        ...


OpenStream = Callable[[StreamOptions], BatchSource]
OpenTensors = Callable[[StreamOptions], TensorSource]

ALONE: Final = Ranks()
"""A run of one process."""


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
        evaluated: Result of evaluating the checkpoint at ``update``; set once for each.
    """

    run: str
    update: int
    updates: int
    updates_per_s: float
    seconds_left: float
    loader_wait: float
    metrics: Mapping[str, float]
    warning: str | None = None
    evaluated: Best | None = None


OnProgress = Callable[[Progress], None]


def train(
    store: Store,
    manifest: Manifest,
    request: TrainRequest,
    *,
    open_stream: OpenStream | OpenTensors,
    on_progress: OnProgress = lambda progress: None,
    schedule: EvalSchedule | None = None,
    ranks: Ranks = ALONE,
) -> tuple[RunInfo, RunState]:
    """Train, or go on training, the run that the request names.

    A run keeps the threads and the memory of its first checkpoint, so that going on changes no bit of it.

    Args:
        store: Where the run is kept.
        manifest: What it learns from.
        request: What to train.
        open_stream: Opens the manifest's batches; called only if there is something to do.
        on_progress: Called a few times per second.
        schedule: How to evaluate the run while it trains, which changes no bit of it.
        ranks: The processes that train it together, this one among them; only the first one writes.

    Returns:
        The run and its state: "finished", or "stopped" by SIGINT or SIGTERM after a checkpoint.

    Raises:
        CogError: A number was not finite or values were out of range for long (the state says "diverged"), or
            another process trains this run.
    """
    ranks.check(request.config.batch_size)
    run = run_id(manifest, request)
    with only_one(store, run) if ranks.first else nullcontext():
        state = read_state(store, run)
        if (
            state is not None
            and schedule is None
            and (list_checkpoints(store, run) or [0])[-1] >= request.config.updates
        ):
            return register(store, run, manifest, request), replace(state, status="finished")
        learner, seconds = open_learner(store, run, manifest, request)
        if ranks.first:
            register(store, run, manifest, request)
        ranks.wait()
        info = read_run(store, run)
        torch.set_num_threads(info.threads)
        options = stream_options(
            learner,
            request.config.batch_size,
            request.seed,
            info.memory_bytes,
            share=(ranks.index, ranks.count),
        )
        ranks.average_gradients(learner)
        session = _Session(store, info, request, learner, on_progress, schedule, ranks, seconds)
        with closing(session.log), status_on_error(session.end):
            return info, session.go(open_stream(options).batches(learner.updates_done))


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
    on_progress: OnProgress
    schedule: EvalSchedule | None
    ranks: Ranks
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
        self.log = RunLog(
            self.store,
            self.info.run,
            start=self.learner.updates_done,
            tensorboard=self.request.tensorboard,
            trackers=self.request.trackers,
            config=vars(self.info),
            writes=self.ranks.first,
        )
        self.watch = GuardState(self.request.guard, self.learner.value_range, self.log.lines)

    def go(self, batches: Iterator[Batch | TensorBatch]) -> RunState:
        """Update until the end or a signal."""
        learner, target = self.learner, self.request.config.updates
        self._write_state("running")
        with _stop_signals() as stop, _closing(batches):
            self._evaluate_if_due(stop)
            while learner.updates_done < target and not self.ranks.agree(stop.is_set()):
                self._step(batches)
                done = learner.updates_done
                if done == target or done % self.request.checkpoint_every == 0 or self._evaluation_due():
                    self._save("running")
                    self._evaluate_if_due(stop)
        if learner.updates_done < target:
            return self._save("stopped")
        return self._write_state("finished")

    def end(self, status: str) -> None:
        """Say how the run ended before its time, at the last checkpoint."""
        self._write_state(status, updates_done=self.saved)

    def _step(self, batches: Iterator[Batch | TensorBatch]) -> None:
        learner, request = self.learner, self.request
        began = time.perf_counter()
        batch = next(batches)
        self.waited += time.perf_counter() - began
        self.generator.manual_seed(derive_seed(request.seed, "update", learner.updates_done))
        if not isinstance(batch, TensorBatch):
            batch = tensor_batch(batch, learner.spec.obs.names, torch.device(request.device))
        batch = for_learner(batch, learner)
        with self.ranks.own_rows(request.config.batch_size):
            metrics = learner.update(batch, self.generator)
        self.done += 1
        last = learner.updates_done == request.config.updates
        due = last or learner.updates_done % request.log_every == 0
        # on an accelerator looking at a number waits for it: look only when it is due
        if due or request.device == "cpu" or learner.updates_done % request.checkpoint_every == 0:
            metrics = self.ranks.join(metrics)
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
        self._diverged(
            f"{bad} is {float(metrics[bad])} at update {update}", update, "a smaller learning rate with --set"
        )

    def _diverged(self, what: str, since: int, remedy: str) -> NoReturn:
        """Stop the run; ``since`` is the first update that was bad."""
        self._write_state("diverged", updates_done=self.saved)
        good = [update for update in list_checkpoints(self.store, self.info.run) if update < since]
        where = f"last good checkpoint: {good[-1]}" if good else "no checkpoint before it"
        raise DivergedError(f"run {self.info.run!r} diverged: {what}; {where}; try {remedy}")

    def _log(self, metrics: Mapping[str, Tensor]) -> None:
        values = {name: float(value) for name, value in metrics.items()}
        update = self.learner.updates_done
        outside = self.watch.look(update, values)
        if self.learner.value_range is not None:
            values["out_of_range"] = float(outside is not None)
        session = self.seconds - self.start_seconds
        values |= {"updates_per_s": self.done / session, "loader_wait": self.waited / session}
        self.metrics = values
        self.log.write(update, values)
        if outside is not None and not self.warned:
            self.warned = True
            self._tell(force=True, warning=f"values leave the possible {outside}; the run may be diverging")
        if self.watch.exhausted:
            self._diverged(
                f"values are outside the possible {outside}; they have been since update {self.watch.since}, "
                f"for {self.watch.lines} lines of metrics",
                self.watch.since,
                "other settings with --set, or going on with --guard off",
            )

    def _evaluation_due(self) -> bool:
        return self.schedule is not None and self.schedule.due(
            self.learner.updates_done, self.request.config.updates
        )

    def _evaluate_if_due(self, stop: threading.Event) -> None:
        """Evaluate the checkpoint just written, or the first of a session, unless its rows are there."""
        if self.schedule is None or not self._evaluation_due() or not self.ranks.first:
            return
        update = self.learner.updates_done
        head = read_info(self.store, self.info.run, update)
        policy = Policy(
            self.learner, self.info.run, self.info.seed, update, head.weights_digest, self.request.device
        )
        before = evaluated_before(self.store, policy, self.schedule)
        found = before or evaluate_checkpoint(self.store, policy, self.schedule, stop.is_set)
        if found is None:
            return
        if not any(line["update"] == update and "success" in line for line in self.log.lines):
            self.log.write(update, {"success": found.rate})
            self.log.flush()
        if before is None:
            self._tell(force=True, evaluated=found)

    def _tell(self, *, force: bool, warning: str | None = None, evaluated: Best | None = None) -> None:
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
                left / rate if rate else (math.inf if left else 0.0),
                self.waited / session,
                self.metrics,
                warning,
                evaluated,
            )
        )

    def _save(self, status: str) -> RunState:
        if self.saved != self.learner.updates_done:
            self._check_finite({"largest_weight": largest_weight(self.learner)})
            if self.ranks.first:
                best = read_best(self.store, self.info.run)
                keep = () if best is None else (best.update,)
                save_checkpoint(self.store, self.info.run, self.learner, self.seconds, keep=keep)
            self.saved = self.learner.updates_done
        self.log.flush()
        return self._write_state(status)

    def _write_state(self, status: str, updates_done: int | None = None) -> RunState:
        done = self.learner.updates_done if updates_done is None else updates_done
        state = RunState(status, done, self.seconds, now())
        if self.ranks.first:
            write_state(self.store, self.info.run, state)
        return state


@contextmanager
def _closing(batches: Iterator[Batch | TensorBatch]) -> Iterator[None]:
    """Stop a generator's prefetching thread at the end."""
    try:
        yield
    finally:
        close = getattr(batches, "close", None)
        if close is not None:
            close()
