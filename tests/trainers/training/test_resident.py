from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cogdata.errors import CogError
from cogdata.storage.manifest import Manifest
from cogdata.storage.store import Store
from cogdata.streaming.stream import Stream, StreamOptions
from tests.synthetic import make_manifest, write_episodes
from tests.trainers.training.test_train import make_request, weights_of
from trainers.algorithm import TensorObs
from trainers.obs_kinds import OBS_KINDS
from trainers.training.batches import tensor_batch
from trainers.training.resident import ResidentStream
from trainers.training.train import train

CPU = torch.device("cpu")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


@pytest.fixture
def manifest(store: Store) -> Manifest:
    rows = write_episodes(store, "synthetic", 6, size=16)
    return make_manifest(rows, ["prior"] * 3 + ["task"] * 3, weights={"prior": 0.5, "task": 0.5})


def parts_of(value: Any) -> dict[str, Any]:
    return {
        name: dict(part.parts) if isinstance(part, TensorObs) else part for name, part in vars(value).items()
    }


def assert_equal(one: dict[str, Any], two: dict[str, Any]) -> None:
    assert one.keys() == two.keys()
    for name, value in one.items():
        if isinstance(value, dict):
            assert_equal(value, two[name])
        elif value is None:
            assert two[name] is None
        else:
            assert value.dtype == two[name].dtype
            assert torch.equal(value, two[name]), name


@pytest.mark.parametrize("kind", OBS_KINDS)
def test_batches_are_those_of_the_stream(store: Store, manifest: Manifest, kind: str) -> None:
    options = StreamOptions(6, seed=3, columns=OBS_KINDS[kind])
    plain = Stream(store, manifest, options)
    resident = ResidentStream(Stream(store, manifest, options), "cpu")
    batches = resident.batches(2)
    for position in (2, 3, 4):
        expected = tensor_batch(plain.batch(position), OBS_KINDS[kind], CPU)
        assert_equal(parts_of(next(batches)), parts_of(expected))
    assert_equal(parts_of(resident.batch(0)), parts_of(tensor_batch(plain.batch(0), OBS_KINDS[kind], CPU)))


def test_windows_and_returns_are_those_of_the_stream(store: Store, manifest: Manifest) -> None:
    options = StreamOptions(
        6, columns=("image", "robot"), windows={"image": (-1, 0), "action": (0, 2)}, n_step=3, discount=0.5
    )
    plain = Stream(store, manifest, options)
    resident = ResidentStream(Stream(store, manifest, options), "cpu")
    for position in (3, 0):
        batch = resident.batch(position)
        assert batch.obs["image"].shape == (6, 2, 16, 16, 3)
        assert batch.action.shape == (6, 3, 8)
        assert batch.valid["action"].shape == (6, 3)
        assert_equal(parts_of(batch), parts_of(tensor_batch(plain.batch(position), ("image", "robot"), CPU)))


def test_a_run_is_the_same_wherever_its_pool_is(tmp_path: Path, store: Store, manifest: Manifest) -> None:
    elsewhere = Store(str(tmp_path / "elsewhere"))
    request = make_request(obs="image+robot")
    info, _ = train(store, manifest, request, open_stream=lambda options: Stream(store, manifest, options))
    train(
        elsewhere, manifest, request,
        open_stream=lambda options: ResidentStream(Stream(store, manifest, options), "cpu"),
    )  # fmt: skip
    assert weights_of(store, info.run, 6) == weights_of(elsewhere, info.run, 6)


def test_frames_are_held_once_and_as_they_were_stored(store: Store, manifest: Manifest) -> None:
    """6 episodes of 5 frames of 16 px; on the CPU the pool is the stream's own memory."""
    stream = Stream(store, manifest, StreamOptions(6))
    pool = stream.take_pool()
    assert (pool["image"].dtype, pool["image"].shape) == ("uint8", (30, 16, 16, 3))
    assert stream.indices(0).max() < 30


def test_a_mixture_larger_than_the_budget_stays_with_the_host(store: Store, manifest: Manifest) -> None:
    """A frame takes 16·16·3 + 4 · (10 + 2 + 8 + 1) + 1 + 2 = 855 bytes; 30 of them are 25,650."""
    assert not Stream(store, manifest, StreamOptions(6, memory_bytes=25_650)).moves
    small = Stream(store, manifest, StreamOptions(6, memory_bytes=25_649))
    with pytest.raises(
        CogError, match="synthetic@1 does not fit into a pool of 25,649 bytes, so it cannot stay on a"
    ):
        ResidentStream(small, "cpu")
    with pytest.raises(CogError, match="unknown place of the pool 'devise': did you mean 'device'"):
        make_request(pool="devise")
