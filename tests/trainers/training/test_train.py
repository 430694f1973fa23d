from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import filelock
import pytest
import torch
from torch import Tensor

from cogdata.errors import CogError
from cogdata.storage.runs import (
    RunState,
    is_training,
    list_runs,
    read_run,
    read_state,
    write_run,
    write_state,
)
from cogdata.storage.store import Store
from cogdata.streaming.stream import Stream, StreamOptions
from cogdata.streaming.transitions import Batch
from tests.synthetic import make_manifest as synthetic_manifest
from tests.synthetic import write_episodes
from tests.trainers.toy import KINDS, ToyStream, make_manifest, small_config
from trainers.algos import ALGORITHMS
from trainers.algos.bc import Bc
from trainers.algos.bfn import Bfn
from trainers.checkpoint import list_checkpoints
from trainers.training.request import TrainRequest, register, resume_request, run_id
from trainers.training.runlog import read_metrics
from trainers.training.train import Progress, train


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def make_request(algo: str = "bfn", *overrides: str, **fields: Any) -> TrainRequest:
    config = small_config(algo, "updates=6", *overrides)
    small: dict[str, Any] = {"threads": 1, "checkpoint_every": 2, "log_every": 2, "tensorboard": False}
    return TrainRequest(algo, config, **(small | fields))


def weights_of(store: Store, run: str, update: int) -> tuple[bytes, bytes]:
    base = f"runs/{run}/checkpoints/{update:08d}"
    return store.read_bytes(f"{base}/weights.safetensors"), store.read_bytes(f"{base}/training.safetensors")


def test_a_run_leaves_everything_that_says_what_it_was(store: Store) -> None:
    seen: list[Progress] = []
    info, state = train(
        store, make_manifest(), make_request(), open_stream=ToyStream, on_progress=seen.append
    )
    assert (state.status, state.updates_done) == ("finished", 6)
    assert read_run(store, info.run) == info
    assert (info.algo, info.mixture, info.seed, info.updates, info.batch_size) == ("bfn", "toy", 0, 6, 16)
    assert info.config["flow_widths"] == [32, 32]
    assert info.run.startswith("bfn-toy-s0-")
    assert len(info.run) == len("bfn-toy-s0-") + 8
    assert list_checkpoints(store, info.run) == [2, 4, 6]
    metrics = read_metrics(store, info.run)
    assert [line["update"] for line in metrics] == [2, 4, 6]
    assert {"q_mean", "flow_loss", "updates_per_s", "loader_wait", "out_of_range"} <= metrics[0].keys()
    last = seen[-1]
    assert (last.run, last.update, last.updates, last.seconds_left) == (info.run, 6, 6, 0)
    assert 0 <= last.loader_wait < 1
    assert last.metrics["q_mean"] == metrics[-1]["q_mean"]


def test_a_run_names_the_accelerator_it_began_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    request, manifest = make_request(), make_manifest()
    run = run_id(manifest, request)
    assert register(store, run, manifest, request).accelerator is None
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"the card of {device}")
    object.__setattr__(request, "device", "cuda:0")
    assert register(store, run, manifest, request).accelerator == "the card of cuda:0"
    assert read_run(store, run).accelerator == "the card of cuda:0"


def test_a_run_of_another_machine_goes_on_here_when_its_command_is_given_again(store: Store) -> None:
    request = make_request(checkpoint_every=3)
    info, _ = train(
        store,
        make_manifest(),
        replace(request, config=replace(request.config, updates=3)),
        open_stream=ToyStream,
    )
    write_run(store, replace(read_run(store, info.run), device="cuda:99", accelerator="a card"))
    with pytest.raises(
        CogError, match=r"was begun on 'cuda:99', this machine has cpu.*again that began it, with --device"
    ):
        resume_request(store, info.run)
    again, state = train(store, make_manifest(), request, open_stream=ToyStream)
    assert (again.run, state.updates_done, again.accelerator) == (info.run, 6, "a card")


@pytest.mark.parametrize("algo", ALGORITHMS)
@pytest.mark.parametrize("kind", KINDS)
def test_two_halves_equal_one_whole_bit_for_bit(tmp_path: Path, algo: str, kind: str) -> None:
    whole, halves = Store(str(tmp_path / "whole")), Store(str(tmp_path / "halves"))
    request = make_request(algo, obs=kind)
    info, _ = train(whole, make_manifest(), request, open_stream=ToyStream)
    first = replace(request, config=replace(request.config, updates=3))
    _, state = train(halves, make_manifest(), first, open_stream=ToyStream)
    assert state.updates_done == 3
    torch.manual_seed(123)  # whatever happened to the global generator in between
    _, state = train(halves, make_manifest(), resume_like(halves, info.run, request), open_stream=ToyStream)
    assert (state.status, state.updates_done) == ("finished", 6)
    assert weights_of(whole, info.run, 6) == weights_of(halves, info.run, 6)


def resume_like(store: Store, run: str, request: TrainRequest) -> TrainRequest:
    """What ``cog train --resume RUN --updates N`` asks for, with this test's intervals."""
    again = resume_request(store, run, updates=request.config.updates)
    return replace(again, threads=1, checkpoint_every=2, log_every=2, tensorboard=False)


def test_training_the_same_again_does_nothing(store: Store) -> None:
    info, first = train(store, make_manifest(), make_request(), open_stream=ToyStream)

    def refuse(options: StreamOptions) -> ToyStream:
        raise AssertionError("nothing is left to train")

    again, state = train(store, make_manifest(), make_request(), open_stream=refuse)
    assert (again, state) == (info, first)
    assert list_runs(store) == [info.run]


def test_more_updates_lengthen_the_run(store: Store) -> None:
    info, _ = train(store, make_manifest(), make_request(), open_stream=ToyStream)
    longer, state = train(store, make_manifest(), make_request("bfn", "updates=8"), open_stream=ToyStream)
    assert (longer.run, longer.updates, state.updates_done) == (info.run, 8, 8)
    assert read_run(store, info.run).config["updates"] == 8
    assert longer.created_at == info.created_at


def test_where_learning_rates_fall_another_length_is_another_run(store: Store) -> None:
    falling = make_request("bfn", "decay=0.5")
    info, _ = train(store, make_manifest(), falling, open_stream=ToyStream)
    longer = make_request("bfn", "decay=0.5", "updates=8")
    other, state = train(store, make_manifest(), longer, open_stream=ToyStream)
    assert other.run != info.run
    assert (read_run(store, info.run).updates, state.updates_done) == (6, 8)
    assert weights_of(store, info.run, 6) != weights_of(store, other.run, 6)
    assert run_id(make_manifest(), resume_request(store, info.run, updates=6)) == info.run
    with pytest.raises(CogError, match=r"fall over its 6 updates.*with --updates 8"):
        resume_request(store, info.run, updates=8)


def test_a_last_checkpoint_that_was_removed_is_made_again(store: Store) -> None:
    info, _ = train(store, make_manifest(), make_request(), open_stream=ToyStream)
    before = weights_of(store, info.run, 6)
    store.remove(f"runs/{info.run}/checkpoints/00000006")
    _, state = train(store, make_manifest(), make_request(), open_stream=ToyStream)
    assert (state.status, state.updates_done) == ("finished", 6)
    assert weights_of(store, info.run, 6) == before


def test_a_run_is_named_by_what_decides_it() -> None:
    base = run_id(make_manifest(), make_request())
    assert run_id(make_manifest(), make_request("bfn", "updates=9")) == base
    assert run_id(make_manifest(), make_request(threads=2)) == base
    others = [
        run_id(make_manifest(), make_request("bfn", "discount=0.5")),
        run_id(make_manifest(), make_request(obs="image")),
        run_id(make_manifest(), make_request(seed=1)),
        run_id(make_manifest(digest="1" * 64), make_request()),
        run_id(make_manifest(), make_request("bc")),
    ]
    assert len({base, *others}) == 6
    assert len(run_id(make_manifest(name="m" * 64), make_request())) == 64


def test_batches_start_where_the_run_stands(store: Store) -> None:
    opened: list[ToyStream] = []

    def open_stream(options: StreamOptions) -> ToyStream:
        opened.append(ToyStream(options))
        return opened[-1]

    train(store, make_manifest(), make_request("bc", seed=7), open_stream=open_stream)
    train(store, make_manifest(), make_request("bc", "updates=8", seed=7), open_stream=open_stream)
    assert [stream.positions for stream in opened] == [[0, 1, 2, 3, 4, 5], [6, 7]]
    options = opened[0].options
    assert (options.batch_size, options.seed, options.columns) == (16, 7, ("robot", "scene"))


class Interrupting(ToyStream):
    """Sends this process a signal while it prepares batch 3."""

    number = signal.SIGINT

    def batch(self, position: int) -> Batch:
        if position == 3:
            os.kill(os.getpid(), self.number)
        return super().batch(position)


class Terminating(Interrupting):
    number = signal.SIGTERM


@pytest.mark.parametrize("open_stream", [Interrupting, Terminating])
def test_a_signal_stops_between_updates_with_a_checkpoint(
    store: Store, open_stream: Callable[..., Any]
) -> None:
    before = signal.getsignal(signal.SIGINT)
    info, state = train(store, make_manifest(), make_request(), open_stream=open_stream)
    assert (state.status, state.updates_done) == ("stopped", 4)
    assert signal.getsignal(signal.SIGINT) is before
    assert list_checkpoints(store, info.run) == [2, 4]
    again = resume_request(store, info.run)
    assert (again.config.updates, again.seed, again.obs) == (6, 0, "state")
    _, state = train(store, make_manifest(), again, open_stream=ToyStream)
    assert (state.status, state.updates_done) == ("finished", 6)


def test_metrics_after_the_checkpoint_are_dropped_on_resume(store: Store) -> None:
    info, _ = train(store, make_manifest(), make_request(), open_stream=ToyStream)
    path = f"runs/{info.run}/metrics.jsonl"
    store.write_text(path, store.read_text(path) + json.dumps({"update": 7, "loss": 1.0}) + "\n")
    train(store, make_manifest(), make_request("bfn", "updates=8"), open_stream=ToyStream)
    assert [line["update"] for line in read_metrics(store, info.run)] == [2, 4, 6, 8]


def test_half_a_line_of_metrics_is_named(store: Store) -> None:
    info, _ = train(store, make_manifest(), make_request(), open_stream=ToyStream)
    path = f"runs/{info.run}/metrics.jsonl"
    store.write_text(path, store.read_text(path) + '{"update": 7, "lo')
    with pytest.raises(CogError, match=r"metrics\.jsonl, line 4, is damaged: remove that line"):
        read_metrics(store, info.run)


def test_a_run_without_a_checkpoint_takes_what_is_asked_for_now(store: Store) -> None:
    def refuse(options: StreamOptions) -> ToyStream:
        raise CogError("too small")

    with pytest.raises(CogError, match="too small"):
        train(store, make_manifest(), make_request(memory_bytes=1000), open_stream=refuse)
    info, _ = train(store, make_manifest(), make_request(memory_bytes=2000), open_stream=ToyStream)
    assert info.memory_bytes == read_run(store, info.run).memory_bytes == 2000
    again, _ = train(
        store, make_manifest(), make_request("bfn", "updates=8", memory_bytes=3000), open_stream=ToyStream
    )
    assert again.memory_bytes == 2000


def test_a_number_that_is_not_finite_stops_the_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    update = Bc.update

    def poisoned(self: Bc, *args: Any) -> dict[str, Tensor]:
        metrics = update(self, *args)
        return metrics | ({"loss": torch.tensor(float("nan"))} if self.updates_done == 5 else {})

    monkeypatch.setattr(Bc, "update", poisoned)
    with pytest.raises(CogError, match="diverged: loss is nan at update 5; last good checkpoint: 4"):
        train(store, make_manifest(), make_request("bc"), open_stream=ToyStream)
    (run,) = list_runs(store)
    state = read_state(store, run)
    assert state is not None
    assert (state.status, state.updates_done) == ("diverged", 4)
    assert list_checkpoints(store, run) == [2, 4]


def test_weights_that_are_not_finite_are_never_saved(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    update = Bc.update

    def poisoned(self: Bc, *args: Any) -> dict[str, Tensor]:
        metrics = update(self, *args)
        if self.updates_done == 6:
            next(self.parameters()).data.view(-1)[0] = float("inf")
        return metrics

    monkeypatch.setattr(Bc, "update", poisoned)
    with pytest.raises(
        CogError, match="diverged: largest_weight is inf at update 6; last good checkpoint: 4"
    ):
        train(store, make_manifest(), make_request("bc"), open_stream=ToyStream)
    (run,) = list_runs(store)
    assert list_checkpoints(store, run) == [2, 4]


@pytest.mark.parametrize(("shift", "raised"), [(0.0, False), (3.0, True), (-3.0, True)])
def test_values_out_of_range_raise_the_alarm_once(
    store: Store, monkeypatch: pytest.MonkeyPatch, shift: float, raised: bool
) -> None:
    update = Bfn.update

    def shifted(self: Bfn, *args: Any) -> dict[str, Tensor]:
        metrics = update(self, *args)
        return metrics | {name: metrics[name] + shift for name in ("q_mean", "q_max", "q_min")}

    monkeypatch.setattr(Bfn, "update", shifted)
    seen: list[Progress] = []
    train(store, make_manifest(), make_request(), open_stream=ToyStream, on_progress=seen.append)
    warnings = [progress.warning for progress in seen if progress.warning]
    assert len(warnings) == raised
    if raised:
        assert warnings[0].startswith("values leave the possible range [0, 1] at update 2: mean ")
    (run,) = list_runs(store)
    assert [line["out_of_range"] for line in read_metrics(store, run)] == [float(raised)] * 3


def test_two_processes_do_not_train_one_run(store: Store) -> None:
    info, _ = train(store, make_manifest(), make_request(), open_stream=ToyStream)
    with (
        filelock.FileLock(store.path(f"runs/{info.run}/.lock")),
        pytest.raises(CogError, match="is being trained by another process"),
    ):
        train(store, make_manifest(), make_request("bfn", "updates=8"), open_stream=ToyStream)


def test_the_stream_is_closed_and_its_error_passes(store: Store) -> None:
    closed: list[bool] = []

    class Failing(ToyStream):
        def batches(self, start: int = 0) -> Iterator[Batch]:
            try:
                yield self.batch(start)
                raise CogError("shard is gone")
            finally:
                closed.append(True)

    with pytest.raises(CogError, match="shard is gone"):
        train(store, make_manifest(), make_request(), open_stream=Failing)
    assert closed == [True]


def test_tensorboard_files_appear_when_asked_for(store: Store) -> None:
    info, _ = train(store, make_manifest(), make_request("bc", tensorboard=True), open_stream=ToyStream)
    assert any(name.startswith("events.out") for name in store.list_files(f"runs/{info.run}/tensorboard"))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"threads": 0}, "threads is 0, must be at least 1"),
        ({"threads": 99_999_999_999}, "threads is 99999999999, must be at most 1024"),
        ({"memory_bytes": 2**63}, "memory_bytes is 9223372036854775808, must be at most 9223372036854775807"),
        ({"device": "abacus"}, "device 'abacus' cannot be used"),
        ({"device": "meta"}, "device 'meta' cannot be used"),
        ({"device": "cuda:99"}, "device 'cuda:99' cannot be used"),
    ],
)
def test_a_bad_request_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(CogError, match=said):
        make_request(**fields)
    with pytest.raises(CogError, match="algorithm 'bc' takes a BcConfig, found BfnConfig"):
        TrainRequest("bc", small_config("bfn"))


@pytest.mark.parametrize("obs", KINDS)
def test_a_run_learns_from_a_real_stream(store: Store, obs: str) -> None:
    """Episodes in shards, a mixture in memory, the prefetching stream: what ``cog train`` puts together."""
    rows = write_episodes(store, "synthetic", 6, size=16)
    manifest = synthetic_manifest(rows, ["prior"] * 3 + ["task"] * 3, weights={"prior": 0.5, "task": 0.5})
    request = make_request(obs=obs)

    def open_stream(options: StreamOptions) -> Stream:
        return Stream(store, manifest, options)

    info, state = train(store, manifest, request, open_stream=open_stream)
    assert (state.status, state.updates_done, info.mixture) == ("finished", 6, "synthetic")
    again, _ = train(store, manifest, replace(request, seed=1), open_stream=open_stream)
    first, second = (read_metrics(store, run)[-1]["q_mean"] for run in (info.run, again.run))
    assert first != second


class Breaking(ToyStream):
    """Has two batches, then something happens."""

    error: BaseException = RuntimeError("no memory")

    def batch(self, position: int) -> Batch:
        if position == 2:
            raise self.error
        return super().batch(position)


class Interrupted(Breaking):
    error = KeyboardInterrupt()


@pytest.mark.parametrize(("stream", "status"), [(Breaking, "failed"), (Interrupted, "stopped")])
def test_an_error_leaves_no_run_running(store: Store, stream: type[Breaking], status: str) -> None:
    """A checkpoint every update pair: the error comes after update 2. The same command goes on from there."""
    request, manifest = make_request(), make_manifest()
    with pytest.raises(type(stream.error)):
        train(store, manifest, request, open_stream=stream)
    run = run_id(manifest, request)
    state = read_state(store, run)
    assert state is not None
    assert (state.status, state.updates_done) == (status, 2)
    assert not is_training(store, run)
    _, state = train(store, manifest, request, open_stream=ToyStream)
    assert (state.status, state.updates_done) == ("finished", 6)


def test_a_disk_that_takes_no_status_hides_no_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(store: Store, run: str, state: RunState) -> None:
        if state.status == "failed":
            raise CogError("cannot write")
        write_state(store, run, state)

    monkeypatch.setattr("trainers.training.train.write_state", full)
    with pytest.raises(RuntimeError, match="^no memory$"):
        train(store, make_manifest(), make_request(), open_stream=Breaking)
