"""What every algorithm promises, as functions: the registered ones keep it, and so must one that is added."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cogdata.storage.store import Store
from tests.trainers.toy import SMALL, make_spec, seeded, tensors
from trainers.algorithm import Algorithm, TensorObs
from trainers.algos import build, config_from_dict, configure
from trainers.checkpoint import load_policy, load_training, save_checkpoint, split_state


@dataclass(frozen=True)
class Subject:
    """A learner to be tried: algorithm, what it sees, preset, settings."""

    algo: str
    kind: str = "state"
    preset: str = "fast"
    overrides: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "-".join([self.algo, self.kind, self.preset, *self.overrides])

    @property
    def small(self) -> Subject:
        """The same with networks that take no time."""
        return Subject(self.algo, self.kind, self.preset, (*SMALL.get(self.algo, ()), *self.overrides))

    def build(self, seed: int = 0) -> Algorithm:
        return build(self.algo, configure(self.algo, self.preset, self.overrides), make_spec(self.kind), seed)


def state_of(learner: Algorithm) -> dict[str, Tensor]:
    weights, training = split_state(learner)
    return {name: value.clone() for name, value in (weights | training).items()}


def same(one: Algorithm, two: Algorithm) -> bool:
    ours, theirs = state_of(one), state_of(two)
    return ours.keys() == theirs.keys() and all(
        torch.equal(value, theirs[name]) for name, value in ours.items()
    )


def updated(learner: Algorithm, kind: str, first: int, last: int) -> Algorithm:
    """Do updates number first … last - 1."""
    for update in range(first, last):
        learner.update(tensors(kind, 8, position=update), seeded(update))
    return learner


def an_update_moves_weights_and_reports_finite_scalars(subject: Subject, folder: Path) -> None:
    learner = subject.build()
    before = state_of(learner)
    metrics = learner.update(tensors(subject.kind, 4), seeded(0))
    after = state_of(learner)
    assert learner.updates_done == 1
    assert all(value.ndim == 0 and value.isfinite() and not value.requires_grad for value in metrics.values())
    acting = [name for name in before if name.split(".")[0] in learner.acting]
    assert any(not torch.equal(before[name], after[name]) for name in acting)
    assert all(value.isfinite().all() for value in after.values())
    if learner.value_range is not None:
        assert {"q_mean", "q_max", "q_min"} <= metrics.keys()


def updates_are_a_function_of_seed_batch_and_generator(subject: Subject, folder: Path) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one = updated(subject.build(), subject.kind, 0, 3)
    assert torch.equal(before, torch.random.get_rng_state()), "the global generator was used"
    torch.manual_seed(6)
    assert same(one, updated(subject.build(), subject.kind, 0, 3))
    assert not same(one, updated(subject.build(seed=1), subject.kind, 0, 3))


def weights_are_a_function_of_the_seed(subject: Subject, folder: Path) -> None:
    assert same(subject.build(), subject.build())
    assert not same(subject.build(), subject.build(seed=1))


def a_resumed_run_is_the_same_run(subject: Subject, folder: Path) -> None:
    """Two updates, a checkpoint, a fresh learner that loads it, two more: bit for bit four updates."""
    store = Store(str(folder))
    save_checkpoint(store, "run", updated(subject.build(), subject.kind, 0, 2), 1.0)
    resumed = subject.build(seed=1)
    load_training(store, "run", resumed)
    assert resumed.updates_done == 2
    assert same(updated(resumed, subject.kind, 2, 4), updated(subject.build(), subject.kind, 0, 4))


def a_checkpoint_acts_as_the_learner_did(subject: Subject, folder: Path) -> None:
    learner = updated(subject.build(), subject.kind, 0, 1)
    save_checkpoint(Store(str(folder)), "run", learner, 1.0)
    loaded, _ = load_policy(Store(str(folder)), "run")
    obs = tensors(subject.kind, 5).obs
    noise = torch.randn(5, *learner.noise_shape, generator=seeded(1))
    assert torch.equal(learner.act(obs, noise), loaded.act(obs, noise))
    noise = torch.randn(5, *learner.explore_noise_shape, generator=seeded(1))
    assert torch.equal(learner.explore(obs, noise), loaded.explore(obs, noise))


def actions_are_within_bounds_and_each_row_is_its_own(subject: Subject, folder: Path) -> None:
    learner = subject.build()
    obs = tensors(subject.kind, 12).obs
    order = torch.arange(11, -1, -1)
    turned = TensorObs({name: part[order] for name, part in obs.parts.items()})
    for act, shape in ((learner.act, learner.noise_shape), (learner.explore, learner.explore_noise_shape)):
        noise = torch.randn(12, *shape, generator=seeded(1))
        actions = act(obs, noise)
        assert actions.shape == (12, 8)
        assert actions.abs().max() <= 1
        assert not actions.requires_grad
        assert torch.equal(actions, act(obs, noise))
        torch.testing.assert_close(act(turned, noise[order]), actions[order])
        if 0 not in shape:
            assert not torch.equal(actions, act(obs, torch.randn(12, *shape, generator=seeded(2))))
    assert learner.stochastic == (0 not in learner.noise_shape)


def only_the_named_parts_are_looked_at(subject: Subject, folder: Path) -> None:
    learner = subject.build()
    obs = tensors(subject.kind, 4).obs
    noise = torch.zeros(4, *learner.noise_shape)
    extra = {
        "image": torch.zeros(4, 16, 16, 3, dtype=torch.uint8),
        "robot": torch.ones(4, 10),
        "scene": torch.ones(4, 2),
    }
    assert torch.equal(learner.act(obs, noise), learner.act(TensorObs({**extra, **obs.parts}), noise))


def a_configuration_survives_json(subject: Subject, folder: Path) -> None:
    config = configure(subject.algo, subject.preset, subject.overrides)
    assert config_from_dict(subject.algo, json.loads(json.dumps(config.to_dict()))) == config


PROMISES: tuple[Callable[[Subject, Path], None], ...] = (
    an_update_moves_weights_and_reports_finite_scalars,
    updates_are_a_function_of_seed_batch_and_generator,
    weights_are_a_function_of_the_seed,
    a_resumed_run_is_the_same_run,
    a_checkpoint_acts_as_the_learner_did,
    actions_are_within_bounds_and_each_row_is_its_own,
    only_the_named_parts_are_looked_at,
    a_configuration_survives_json,
)
"""Each takes a subject and an empty folder."""
