"""Rewards for data that have none: a classifier learns from the task data what success looks like.

It is trained to tell, by the observation that a transition results in, the rewarded transitions of the task's
source from all the rest of the mixture, and then says it of every transition of the other sources. That these
count as failures in training is wrong for the few that solved the task, but outvoted by the task's successes;
without them a classifier knows nothing of places where no task episode ever was, and finds success there. So
that it cannot know them by heart, every other episode is labelled by a classifier that did not see it.

COG needs no such thing where nothing in the prior solves the task: there every reward is 0, exactly (arXiv
2010.14500, §4). Where the prior solves it now and then, zeros are wrong.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from cogdata.episode import Float32
from cogdata.errors import CogError
from cogdata.rng import derive_seed
from cogdata.storage.manifest import Manifest
from cogdata.storage.samples import Sample, column_values, read_member, read_steps
from cogdata.storage.store import Store
from cogdata.streaming.stream import StreamOptions, open_stream
from cogdata.streaming.transitions import Batch, Observation
from trainers.algorithm import ObsSpec, TensorObs, init_seeded
from trainers.networks.encoders import Inputs
from trainers.networks.modules import mlp
from trainers.training.batches import spec_of, tensor_batch, tensor_obs

Int32 = NDArray[np.int32]

LABELS = pa.schema(
    [("episode_id", pa.string()), ("t", pa.int32()), ("source", pa.string()), ("reward", pa.float32())]
)
"""A row per transition: 1 if what it results in looks like success, else 0."""

LEARNING_RATE = 1e-3
WIDTHS = (256, 256)


@dataclass(frozen=True)
class Inference:
    """What a classifier said of the sources without rewards.

    Attributes:
        labels: Table of :data:`LABELS`.
        found: Transitions that it rewards.
        true: Transitions whose reward as collected is above 0: what a simulator, unlike a user, knows.
        both: Transitions that are both.
    """

    labels: pa.Table
    found: int
    true: int
    both: int

    @property
    def digest(self) -> str:
        """sha256 (hex) of the labels."""
        sha = hashlib.sha256()
        for column in self.labels.combine_chunks().columns:
            for buffer in column.chunk(0).buffers():
                sha.update(b"" if buffer is None else buffer)
        return sha.hexdigest()

    @property
    def precision(self) -> float | None:
        """Share of the rewarded that are true; None: nothing is rewarded."""
        return self.both / self.found if self.found else None

    @property
    def recall(self) -> float | None:
        """Share of the true that are rewarded; None: nothing is true."""
        return self.both / self.true if self.true else None


class SuccessClassifier(nn.Module):
    """Observation → logit of "the task is solved here"."""

    def __init__(self, spec: ObsSpec, encoder: str = "fast") -> None:
        super().__init__()
        self.spec = spec
        self.inputs = Inputs(spec, encoder)
        self.head = mlp([self.inputs.dim, *WIDTHS, 1], final_relu=False)

    def forward(self, obs: TensorObs) -> Tensor:
        """Logits (B,)."""
        logits: Tensor = self.head(self.inputs(obs)).squeeze(1)
        return logits


def train_classifier(
    batches: Iterator[Batch], spec: ObsSpec, *, task: int, updates: int, seed: int
) -> SuccessClassifier:
    """Train a classifier to tell successes of the task data from everything else.

    Args:
        batches: Of the whole mixture.
        spec: What it looks at.
        task: Index of the task's source in the batches; its rewards above 0 are successes.
        updates: Gradient steps.
        seed: Of its first weights.

    Raises:
        CogError: No transition was rewarded, or every one.
    """
    with init_seeded(derive_seed("infer", seed)):
        classifier = SuccessClassifier(spec)
    optimiser = torch.optim.Adam(classifier.parameters(), lr=LEARNING_RATE, fused=True)
    rewarded = seen = 0
    for _ in range(updates):
        batch = tensor_batch(next(batches), spec.names, torch.device("cpu"))
        of_task = batch.source == task
        success = ((batch.reward > 0) & of_task).float()
        loss = F.binary_cross_entropy_with_logits(classifier(batch.next_obs), success)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        rewarded += int(success.sum())
        seen += int(of_task.sum())
    if rewarded in (0, seen):
        raise CogError(
            f"{'every one' if rewarded else 'none'} of {seen:,} transitions of the task data has a reward: a "
            f"classifier needs both"
        )
    return classifier


def infer_rewards(
    store: Store,
    manifest: Manifest,
    *,
    task: str = "task",
    obs: str = "state",
    updates: int = 2000,
    seed: int = 0,
    on_episode: Callable[[int, int], None] = lambda done, total: None,
) -> Inference:
    """Train a classifier and label every transition of the sources without rewards.

    Args:
        store: Where the episodes are.
        manifest: The mixture, frozen by episodes.
        task: Its source with rewards.
        obs: Observation kind that the classifier looks at.
        updates: Number of updates, of 256 transitions each.
        seed: Root of its weights and batches.
        on_episode: Told how many episodes of how many are labelled.

    Raises:
        CogError: The mixture has no such sources, was frozen step by step, or lacks what is looked at; no
            task transition is rewarded, or every one.
    """
    info = manifest.info
    info.require_episodes()
    if task not in info.counts or len(info.counts) < 2:
        raise CogError(
            f"mixture {info.ref} has the sources {', '.join(sorted(info.counts))}: to infer rewards there "
            f"must be {task!r}, and another one"
        )
    spec = replace(spec_of(obs, manifest).obs, apart={})  # one classifier for all robots
    derived = {name for use in info.layers.values() for name in use.features}
    if names := sorted(name for name in spec.names if derived & set(info.selection.origins(name))):
        raise CogError(f"rewards are inferred without layers: freeze {info.name} without {', '.join(names)}")
    rows = [row for row in manifest.episodes.to_pylist() if row["source"] != task]
    halves = [rows[0::2], rows[1::2]]
    if not halves[1]:
        raise CogError(f"mixture {info.ref} has one episode without rewards: two or more are needed")
    parts: list[pa.Table] = []
    found = true = both = 0
    for number, half in enumerate(halves):
        hidden = pc.is_in(manifest.episodes["episode_id"], pa.array([row["episode_id"] for row in half]))
        seen = replace(manifest, episodes=manifest.episodes.filter(pc.invert(hidden)))
        options = StreamOptions(batch_size=256, seed=derive_seed("infer", seed, number), columns=spec.names)
        stream = open_stream(store, seen, options)
        classifier = train_classifier(
            stream.batches(0), spec, task=stream.sources.index(task), updates=updates, seed=seed
        )
        for row in half:
            times = followed(row)
            after, collected = _read(store, manifest, row, spec.names, times)
            reward = label(classifier, after)
            solved = collected > 0
            found += int((reward > 0).sum())
            true += int(solved.sum())
            both += int((solved & (reward > 0)).sum())
            named = [pa.array([row[name]] * len(times)) for name in ("episode_id", "source")]
            parts.append(pa.table([named[0], times, named[1], reward], schema=LABELS))
            on_episode(len(parts), len(rows))
    return Inference(pa.concat_tables(parts), found, true, both)


def followed(row: Mapping[str, Any]) -> Int32:
    """Return the t of an episode's transitions that take part and whose next observation is known.

    Args:
        row: Of `cogdata.storage.manifest.EPISODES`.
    """
    count = row.get("observations")
    last = row["steps"] if count is None else count - 1
    return np.arange(row["t_start"], min(row["t_end"], last), dtype=np.int32)


def _read(
    store: Store, manifest: Manifest, row: Mapping[str, Any], parts: Sequence[str], times: Int32
) -> tuple[Observation, Float32]:
    """What the transitions at ``times`` of an episode result in, and their rewards as collected."""
    sample = Sample.of(row)
    steps = read_steps(store, sample)
    after: dict[str, NDArray[Any]] = {}
    for feature in manifest.info.spec.taking(parts).observations:
        if feature.is_member:
            frames = np.empty((steps.num_rows, *feature.shape), feature.numpy_dtype)
            read_member(store, sample, feature, frames)
            after[feature.name] = frames[times + 1]
        else:
            after[feature.name] = column_values(steps, feature)[times + 1]
    collected = steps.column("reward").to_numpy(zero_copy_only=False)[times]
    return Observation(after), collected.astype(np.float32)


@torch.no_grad()
def label(classifier: SuccessClassifier, after: Observation) -> Float32:
    """Reward (N,) float32 of transitions by what they result in: 1 where success is the likelier, else 0."""
    logits = classifier(tensor_obs(after, classifier.spec.names, torch.device("cpu")))
    found: Float32 = (logits > 0).float().numpy()
    return found
