"""Discrete actions: the formulas by hand, and a chain of places that every learner of choices walks through."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cogdata.features import EpisodeSpec, Feature
from cogdata.rng import generator
from tests.trainers.robots import ROBOTS, action_of, spec_of_robot
from tests.trainers.toy import seeded
from trainers.algorithm import Algorithm, TensorBatch, TensorObs
from trainers.algos import build, configure
from trainers.algos.cql_discrete import DiscreteCql, choice_penalty
from trainers.networks.categorical import CategoricalPolicy, one_hot
from trainers.training.batches import in_units

PLACES = 5
CHAIN = EpisodeSpec((Feature("place", "float32", (1,)),), action_of("int64", (), 0, 1))
KNOBS = EpisodeSpec((Feature("place", "float32", (1,)),), action_of("int64", (2,), 0, 1))
"""Choice 1 (of the second knob) goes right, 0 left; arriving at place 4 is the task."""


def transitions(count: int, seed: int, *, knobs: bool) -> TensorBatch:
    """Half prior data of places 0 … 2 with random choices, half task data of 2 … 3 that go right."""
    rng = generator("discrete", seed)
    task = np.arange(count) % 2 == 1
    place = np.where(task, rng.integers(2, 4, count), rng.integers(0, 3, count))
    right = np.where(task, 1, rng.integers(0, 2, count))
    after = np.clip(place + 2 * right - 1, 0, PLACES - 1)
    reward = (after == PLACES - 1).astype(np.float32)
    action = np.stack([rng.integers(0, 2, count), right], axis=1) if knobs else right
    return TensorBatch(
        show(place), torch.from_numpy(action), torch.from_numpy(reward), show(after),
        torch.zeros(count, dtype=torch.bool), torch.from_numpy(task.astype(np.int16)),
    )  # fmt: skip


def show(place: np.ndarray) -> TensorObs:
    return TensorObs({"place": torch.from_numpy(place).float().unsqueeze(1)})


def learned(algo: str, updates: int, *overrides: str, knobs: bool = False) -> Algorithm:
    spec = spec_of_robot(KNOBS if knobs else CHAIN, "state")
    learner = build(algo, configure(algo, "fast", ("batch_size=64", *overrides)), spec, 0)
    for update in range(updates):
        learner.update(in_units(transitions(64, update, knobs=knobs), spec.action), seeded(update))
    return learner


def choices(learner: Algorithm) -> list[int]:
    """What the mode does at places 0 … 3; of knobs the second."""
    found = learner.act(show(np.arange(PLACES - 1)), torch.zeros(PLACES - 1, 0))
    return (found if found.ndim == 1 else found[:, 1]).tolist()


def test_conservative_learning_finds_the_way_through_both_halves() -> None:
    """Nobody went from 0 to 4, and the prior went left as often as right."""
    learner = learned("cql", 400, "critic_widths=32,32", "penalty_weight=0.1")
    assert isinstance(learner, DiscreteCql)
    assert choices(learner) == [1, 1, 1, 1]
    values = learner.critics(show(np.arange(PLACES - 1))).amin(0)
    assert (values[:, 1] > values[:, 0]).all()


@pytest.mark.parametrize("knobs", [False, True])
def test_implicit_learning_finds_the_way_too(*, knobs: bool) -> None:
    widths = ("critic_widths=32,32", "policy_widths=32,32")
    rates = ("critic_learning_rate=1e-3", "policy_learning_rate=1e-3")
    assert choices(learned("iql", 600, *widths, *rates, knobs=knobs)) == [1, 1, 1, 1]


def test_cloning_has_the_frequencies_of_the_data() -> None:
    """At place 3 all data go right; at 0 and 1 half of them, whatever it leads to."""
    learner = learned("bc", 400, "widths=32,32", "learning_rate=3e-3")
    policy = learner.policy
    assert isinstance(policy, CategoricalPolicy)
    (log,) = policy.at(policy.inputs(show(np.arange(PLACES - 1))))
    right = log.exp()[:, 1].tolist()
    assert right[:2] == pytest.approx([0.5, 0.5], abs=0.1)
    assert right[2] == pytest.approx((1 / 2 + 1 / 6) / (1 / 2 + 1 / 3), abs=0.1)
    assert right[3] > 0.95


def test_the_penalty_is_exact() -> None:
    """log(e⁰ + e¹) - 1 at one state, log(e² + e²) - 2 at the other; with temperature 2, 2 log(e⁰ + e^½) - 1 …"""
    values = torch.tensor([[[0.0, 1.0], [2.0, 2.0]]])
    data = torch.tensor([[1.0, 2.0]])
    expected = (math.log(1 + math.e) - 1 + math.log(2)) / 2
    assert choice_penalty(values, data, 1.0).tolist() == pytest.approx([expected])
    expected = (2 * math.log(1 + math.exp(0.5)) - 1 + 2 * math.log(2)) / 2
    assert choice_penalty(values, data, 2.0).tolist() == pytest.approx([expected])


def test_the_target_is_that_of_double_q_learning() -> None:
    """The Qs prefer choice 0, which the targets value at .3 and .2: r + γ · .2; a reward ends the return."""
    learner = learned("cql", 0, "critic_widths=8", "discount=0.9")
    assert isinstance(learner, DiscreteCql)
    for critics, rows in (
        (learner.critics, ([0.9, 0.1], [0.8, 0.2])),
        (learner.targets, ([0.3, 0.7], [0.2, 0.6])),
    ):
        with torch.no_grad():
            critics.out.weight.zero_()
            assert critics.out.bias is not None
            critics.out.bias.copy_(torch.tensor(rows).unsqueeze(1))
    place = np.zeros(2, np.int64)
    batch = TensorBatch(
        show(place), torch.zeros(2, dtype=torch.long), torch.tensor([0.0, 1.0]), show(place),
        torch.zeros(2, dtype=torch.bool), torch.zeros(2, dtype=torch.int16),
    )  # fmt: skip
    assert learner.target(batch).tolist() == pytest.approx([0.9 * 0.2, 1.0])


def test_entries_of_several_choices_are_independent() -> None:
    """Log probability: the sum over entries; one-hot: one 1 for each entry."""
    spec = spec_of_robot(ROBOTS["knobs"], "state")
    policy = CategoricalPolicy(spec, "fast", (8,))
    features = policy.inputs(show(np.arange(4)))
    action = torch.tensor([[0, 0], [1, 2], [2, 0], [0, 1]])
    logs = [log.detach() for log in policy.at(features)]
    expected = [
        float(logs[0][row, one] + logs[1][row, two]) for row, (one, two) in enumerate(action.tolist())
    ]
    assert policy.log_density(features, action).tolist() == pytest.approx(expected)
    assert one_hot(action[1:2], spec.action).tolist() == [[0.0, 1.0, 0.0, 0.0, 0.0, 1.0]]
    noise = torch.tensor([[-9.0, 9.0]]).expand(4, 2)  # the first and the last interval
    assert policy.draw(features, noise).tolist() == [[0, 2]] * 4
