from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load
from torch import Tensor

import cli
from cogdata.errors import CogError
from cogdata.storage.runs import read_state
from cogdata.storage.store import Store
from cogdata.streaming.stream import Stream, StreamOptions
from cogdata.streaming.transitions import Batch, Observation
from tests.running import Run
from tests.synthetic import make_manifest as synthetic_manifest
from tests.synthetic import write_episodes
from tests.trainers.toy import ToyStream, make_manifest
from tests.trainers.training.test_train import make_request
from trainers.algos import ALGORITHMS, build
from trainers.checkpoint import list_checkpoints
from trainers.training.ranks import Ranks, device_of_rank, device_to_resume_on, ranks_here, ranks_of_torchrun
from trainers.training.runlog import read_metrics
from trainers.training.train import train


class Together:
    """So many ranks as threads of this process."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.barrier = threading.Barrier(count, timeout=30)
        self.given: dict[int, Tensor] = {}

    def rank(self, index: int) -> Ranks:
        def total(tensor: Tensor) -> None:
            self.given[index] = tensor.clone()
            self.barrier.wait()
            found = torch.stack([self.given[i] for i in range(self.count)]).sum(0)
            self.barrier.wait()
            tensor.copy_(found)

        return Ranks(index, self.count, total)

    def run(self, work: Callable[[Ranks], Any]) -> list[Any]:
        def one(index: int) -> Any:
            try:
                return work(self.rank(index))
            except BaseException:
                self.barrier.abort()
                raise

        with ThreadPoolExecutor(self.count) as pool:
            futures = [pool.submit(one, index) for index in range(self.count)]
        return [future.result() for future in futures]


class SharedToy(ToyStream):
    """The toy stream, of which a rank takes its rows."""

    def batch(self, position: int) -> Batch:
        whole = super().batch(position)
        first, every = self.options.share

        def rows(obs: Observation) -> Observation:
            return Observation({name: part[first::every] for name, part in obs.parts.items()})

        return Batch(
            obs=rows(whole.obs),
            action=whole.action[first::every],
            reward=whole.reward[first::every],
            next_obs=rows(whole.next_obs),
            terminated=whole.terminated[first::every],
            source=whole.source[first::every],
        )


@pytest.fixture(autouse=True)
def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh weights are drawn from torch's global generator, which threads share and processes do not."""
    lock = threading.Lock()

    def locked(*args: Any) -> Any:
        with lock:
            return build(*args)

    monkeypatch.setattr("trainers.training.start.build", locked)


def tensors_of(store: Store, run: str, update: int) -> dict[str, Tensor]:
    base = f"runs/{run}/checkpoints/{update:08d}"
    return load(store.read_bytes(f"{base}/weights.safetensors")) | {
        f"training/{name}": value
        for name, value in load(store.read_bytes(f"{base}/training.safetensors")).items()
    }


@pytest.mark.parametrize("kind", ["state", "image+robot"])
@pytest.mark.parametrize("algo", [*ALGORITHMS, "bc head=mixture", "bc head=flow hybrid=true"])
def test_two_ranks_learn_what_one_learns_from_the_same_batch(tmp_path: Path, algo: str, kind: str) -> None:
    """Crops and every other draw included. Sums are of other order, in float32 (2^-24 = 6e-8 relative), and
    Adam's first steps turn the sign of a gradient into a step of the learning rate, so a gradient that is 0 but for
    rounding moves its weight by up to the learning rate, 1e-3, per update: few weights, of no consequence. So nearly
    all weights must agree to 1e-5, and the metrics of all six updates to 1e-4 of their size.
    """
    name, *overrides = algo.split()
    if name == "bfn":
        overrides.append("half_proposals=false")  # bfloat16 has 8 bits: other rows, other rounding
    if name == "cql":
        overrides += ["critic_learning_rate=3e-4", "layer_norm=false"]  # both enlarge what rounding does
    request = make_request(name, "batch_size=12", *overrides, obs=kind, log_every=1, checkpoint_every=6)
    alone, shared = Store(str(tmp_path / "alone")), Store(str(tmp_path / "shared"))
    info, _ = train(alone, make_manifest(), request, open_stream=SharedToy)

    def work(ranks: Ranks) -> Any:
        return train(shared, make_manifest(), request, open_stream=SharedToy, ranks=ranks)

    states = [state.status for _, state in Together(2).run(work)]
    assert states == ["finished", "finished"]
    one, two = tensors_of(alone, info.run, 6), tensors_of(shared, info.run, 6)
    assert one.keys() == two.keys()
    gaps = torch.cat([(one[name] - two[name]).abs().flatten() for name in one])
    assert gaps.quantile(0.99) <= 1e-5
    assert gaps.max() <= 6e-3
    for mine, theirs in zip(read_metrics(alone, info.run), read_metrics(shared, info.run), strict=True):
        names = mine.keys() - {"updates_per_s", "loader_wait"}
        assert {name: theirs[name] for name in names} == pytest.approx(
            {name: mine[name] for name in names}, rel=1e-4, abs=1e-4
        )


def test_only_the_first_rank_writes_and_all_stop_together(tmp_path: Path) -> None:
    """The second rank alone is asked to stop, after its third batch: both end after the same update."""
    store = Store(str(tmp_path))
    asked = threading.Event()
    ended: list[int] = []

    class Asking(SharedToy):
        def batch(self, position: int) -> Batch:
            if self.options.share[0] == 1 and position == 2:
                asked.set()
            return super().batch(position)

    def work(ranks: Ranks) -> Any:
        agree = ranks.agree

        class Stopping(Ranks):
            def agree(self, anyone: bool) -> bool:
                return agree(anyone or (self.index == 1 and asked.is_set()))

        mine = Stopping(ranks.index, ranks.count, ranks.total)
        _, state = train(store, make_manifest(), make_request("bc"), open_stream=Asking, ranks=mine)
        ended.append(state.updates_done)
        return state.status

    assert Together(2).run(work) == ["stopped", "stopped"]
    assert ended == [3, 3]
    (run,) = store.list_folders("runs")
    assert list_checkpoints(store, run) == [2, 3]
    state = read_state(store, run)
    assert state is not None
    assert (state.status, state.updates_done) == ("stopped", 3)


def test_metrics_are_joined_by_their_names() -> None:
    """Ranks report 1 and 3: the mean is 2, the largest 3, the smallest 1."""

    def work(ranks: Ranks) -> dict[str, float]:
        value = torch.tensor(1.0 + 2 * ranks.index)
        joined = ranks.join({"loss": value, "q_max": value, "q_min": value})
        return {name: float(number) for name, number in joined.items()}

    assert Together(2).run(work) == [{"loss": 2.0, "q_max": 3.0, "q_min": 1.0}] * 2


def test_draws_are_rows_of_one_draw() -> None:
    def draws(ranks: Ranks, rows: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(3)
        with ranks.own_rows(6):
            return [
                torch.randn((4, rows, 8), generator=generator),
                torch.rand(rows, 5, generator=generator),
                torch.randint(9, (2, rows), generator=generator),
                torch.randint(-2, 9, (rows,), generator=generator),
            ]

    whole, parts = draws(Ranks(), 6), [draws(Ranks(index, 2), 3) for index in (0, 1)]
    for index, rows in ((0, [0, 2, 4]), (1, [1, 3, 5])):
        assert torch.equal(parts[index][0], whole[0][:, rows])
        assert torch.equal(parts[index][1], whole[1][rows])
        assert torch.equal(parts[index][2], whole[2][:, rows])
        assert torch.equal(parts[index][3], whole[3][rows])


def test_draws_that_cannot_be_cut_are_refused() -> None:
    generator = torch.Generator()
    with Ranks(0, 2).own_rows(16):
        with pytest.raises(
            CogError, match=r"8 rows per rank .* a draw of \(8, 8\): choose another batch_size"
        ):
            torch.randn((8, 8), generator=generator)
        with pytest.raises(CogError, match="8 rows per rank are not to be told"):
            torch.randn((3, 5), generator=generator)
        with pytest.raises(CogError, match="an update draws with torch's randperm"):
            torch.randperm(8, generator=generator)
        assert torch.randn(3, 5).shape == (3, 5)  # not of the run's generator
    with pytest.raises(
        CogError, match="a batch of 5 cannot be split evenly among 2 ranks: choose a multiple of 2"
    ):
        Ranks(0, 2).check(5)


@pytest.mark.parametrize("weights", [{}, {"prior": 0.5, "task": 0.5}])
def test_shares_of_a_batch_are_the_batch(tmp_path: Path, weights: dict[str, float]) -> None:
    store = Store(str(tmp_path))
    rows = write_episodes(store, "synthetic", 6)
    manifest = synthetic_manifest(rows, ["prior"] * 3 + ["task"] * 3, weights=weights)
    whole, *parts = (
        Stream(store, manifest, StreamOptions(6, seed=2, share=share)).batch(3)
        for share in ((0, 1), (0, 2), (1, 2))
    )
    for index, part in enumerate(parts):
        assert np.array_equal(part.action, whole.action[index::2])
        assert np.array_equal(part.obs["image"], whole.obs["image"][index::2])
        assert np.array_equal(part.source, whole.source[index::2])


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with ranks_of_torchrun("cpu") as ranks:
        assert (ranks.index, ranks.count, ranks.first) == (0, 1, True)
    assert (ranks_here(), device_of_rank("cuda")) == (1, "cuda")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert (ranks_here(), device_of_rank("cuda"), device_of_rank("cpu")) == (4, "cuda:3", "cpu")
    assert (device_to_resume_on("cuda:0"), device_to_resume_on("cpu")) == ("cuda:3", "cpu")


def test_torchrun_trains_one_run_on_two_processes(run: Run, root: Path) -> None:
    """As a user starts it; the tolerance is that of the test above."""
    same = ("train", "--mixture", "all", "--algo", "bfn", "--obs", "state", "--updates", "6", "--threads", "1",
            "--set", "half_proposals=false", "--set", "batch_size=12", "--set", "flow_widths=32",
            "--set", "critic_widths=32", "--seed", "4")  # fmt: skip
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, cli.__file__, *same, "--root", str(root)], capture_output=True, text=True, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    name = line.split(":")[0]
    assert line.startswith(f"{name}: 6 updates in ")
    assert done.stderr.count(f"run {name} on all@1") == 1
    store = Store(str(root))
    two = tensors_of(store, name, 6)
    assert run("runs", "rm", name).code == 0
    assert run(*same).code == 0
    one = tensors_of(store, name, 6)
    gaps = torch.cat([(one[key] - two[key]).abs().flatten() for key in one])
    assert gaps.quantile(0.99) <= 1e-5
    assert gaps.max() <= 6e-3
