"""A toy world, its data and its stream: small enough that learners can be tested on it in seconds.

The world is a chain of places 0 … 6: an action with a[0] > 0 goes right, any other left. The block is "placed"
at 6. The robot's x is the place, the image shows it as a bright column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from cogdata.layout1 import layout1_spec
from cogdata.rng import generator
from cogdata.storage.manifest import Manifest, MixtureInfo, SourceCounts, Stats
from cogdata.streaming.stream import StreamOptions
from cogdata.streaming.transitions import Batch, Observation
from trainers.algorithm import Algorithm, Config, ObsSpec, Spec, TensorBatch
from trainers.algos import build, configure
from trainers.training.batches import spec_of, tensor_batch

KINDS = ("image", "image+robot", "state")
SIZE = 16
PLACES = 7
SMALL = {
    "bc": ("widths=32,32",),
    "bfn": ("flow_widths=32,32", "critic_widths=32,32"),
    "cql": ("critic_widths=32,32", "policy_widths=32,32", "warm_start=2"),
    "iql": ("critic_widths=32,32", "policy_widths=32,32"),
    "sac": ("critic_widths=32,32", "policy_widths=32,32"),
}
"""Settings that make each algorithm small."""

Sample = Callable[
    [np.random.Generator, int], tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int16]]
]


def observe(place: NDArray[np.int64]) -> Observation:
    """Show places (B,)."""
    count = len(place)
    image = np.zeros((count, SIZE, SIZE, 3), np.uint8)
    for row, where in enumerate(place):
        image[row, :, 2 * where + 1] = 255
    robot = np.zeros((count, 10), np.float32)
    robot[:, 0] = place
    robot[:, 6] = 1
    scene = np.stack([place, np.ones(count)], axis=1).astype(np.float32)
    return Observation({"image": image, "robot": robot, "scene": scene})


def move(place: NDArray[np.int64], action: NDArray[np.float32]) -> NDArray[np.int64]:
    """Where actions lead."""
    return np.clip(place + np.where(action[:, 0] > 0, 1, -1), 0, PLACES - 1)


def anything(
    rng: np.random.Generator, count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int16]]:
    """Any place, any action."""
    action = rng.uniform(-0.9, 0.9, (count, 8)).astype(np.float32)
    return rng.integers(0, PLACES, count), action, rng.integers(0, 2, count).astype(np.int16)


def stitching(
    rng: np.random.Generator, count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int16]]:
    """Prior: left or right at random between 0 and 3. Task: right, from 3 on. Nobody ever went from 0 to 6."""
    source = (np.arange(count) % 2).astype(np.int16)
    place = np.where(source == 0, rng.integers(0, 4, count), rng.integers(3, PLACES, count))
    right = (source == 1) | (rng.random(count) < 0.5)
    action = rng.normal(0, 0.1, (count, 8)).astype(np.float32)
    action[:, 0] += np.where(right, 0.7, -0.7)
    return place, action.clip(-0.9, 0.9), source


def make_batch(sample: Sample, count: int, seed: int, position: int) -> Batch:
    """Batch number ``position``; only task transitions are rewarded."""
    place, action, source = sample(generator(seed, "toy", position), count)
    after = move(place, action)
    reward = ((after == PLACES - 1) & (source == 1)).astype(np.float32)
    return Batch(observe(place), action, reward, observe(after), np.zeros(count, bool), source)


class ToyStream:
    """The stream protocol over :func:`make_batch`."""

    sources = ("prior", "task")
    image_size = (SIZE, SIZE)
    scene_fields = ("place", "one")

    def __init__(self, options: StreamOptions, sample: Sample = anything) -> None:
        self.options = options
        self.sample = sample
        self.positions: list[int] = []

    def batch(self, position: int) -> Batch:
        self.positions.append(position)
        whole = make_batch(self.sample, self.options.batch_size, self.options.seed, position)
        return replace(whole, obs=self._parts(whole.obs), next_obs=self._parts(whole.next_obs))

    def batches(self, start: int = 0) -> Iterator[Batch]:
        position = start
        while True:
            yield self.batch(position)
            position += 1

    def _parts(self, obs: Observation) -> Observation:
        columns = self.options.columns
        return Observation(
            {name: part for name, part in obs.parts.items() if columns is None or name in columns}
        )


def make_manifest(name: str = "toy", digest: str = "0" * 64) -> Manifest:
    """A manifest without episodes: the toy stream makes its own."""
    counts = {source: SourceCounts(1, 1, 0, 0) for source in ToyStream.sources}
    info = MixtureInfo(
        name, 1, digest, "", "episode", {}, counts, (SIZE, SIZE), ToyStream.scene_fields, "", "0"
    )
    mean = {"robot": [3.0] + [0.0] * 9, "scene": [3.0, 1.0], "action": [0.0] * 8}
    std = {"robot": [2.0] + [1.0] * 9, "scene": [2.0, 0.0], "action": [1.0] * 8}
    return Manifest(info, None, None, Stats(mean, std))


def make_spec(kind: str) -> Spec:
    return spec_of(kind, make_manifest())


def version1(
    kind: str,
    image_size: tuple[int, int],
    scene_fields: tuple[str, ...],
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> ObsSpec:
    """What version 0.1 wrote into a checkpoint."""
    return ObsSpec.from_dict(
        {"kind": kind, "image_size": image_size, "scene_fields": scene_fields, "mean": mean, "std": std}
    )


def small_config(algo: str, *overrides: str) -> Config:
    return configure(algo, "fast", (*SMALL[algo], "batch_size=16", *overrides))


def small_learner(algo: str, kind: str = "state", *overrides: str, seed: int = 0) -> Algorithm:
    return build(algo, small_config(algo, *overrides), make_spec(kind), seed)


def tensors(kind: str, count: int, position: int = 0, sample: Sample = anything) -> TensorBatch:
    return tensor_batch(
        make_batch(sample, count, 0, position), make_spec(kind).obs.names, torch.device("cpu")
    )


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class ToyEnv(gymnasium.Env[Any, Any]):
    """The chain as an environment: 8 actions, from place ``seed % 3``."""

    def __init__(self, horizon: int = 8, parts: tuple[str, ...] = ("image", "robot", "scene")) -> None:
        self.horizon = horizon
        self.parts = parts
        self.place = np.zeros(1, np.int64)
        self.time = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = np.array([(seed or 0) % 3])
        self.time = 0
        return self._obs(), self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if seed_of_failure := getattr(self, "fail_at", None):
            raise RuntimeError(f"broken at {seed_of_failure}")
        self.place = move(self.place, np.asarray(action)[None])
        self.time += 1
        info = self._info()
        return self._obs(), float(info["success"]), False, self.time >= self.horizon, info

    def _obs(self) -> dict[str, NDArray[Any]]:
        shown = observe(self.place)
        return {name: shown[name][0] for name in self.parts}

    def _info(self) -> dict[str, Any]:
        placed = bool(self.place[0] == PLACES - 1)
        return {"predicates": {"placed": placed, "grasped": not placed}, "success": placed}


TOY_SPEC = layout1_spec((SIZE, SIZE), ToyStream.scene_fields, ("placed", "grasped"))


class BrokenEnv(ToyEnv):
    """Fails on its first step."""

    fail_at = 1
