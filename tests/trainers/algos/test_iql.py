from __future__ import annotations

import math

import pytest
import torch

from tests.trainers.chain import learn, walk
from tests.trainers.toy import seeded, small_learner, tensors
from trainers.algos.iql import Iql, expectile_loss
from trainers.networks.modules import tanh_normal_log_density


def test_expectile_loss_by_hand() -> None:
    # u = 2 weighs .9 · 4 = 3.6, u = -1 weighs .1 · 1: their mean is 1.85
    assert expectile_loss(torch.tensor([2.0, -1.0]), 0.9).item() == pytest.approx(1.85)


@pytest.mark.parametrize(("expectile", "expected"), [(0.5, 0.5), (0.9, 0.9)])
def test_the_minimum_is_the_expectile(expectile: float, expected: float) -> None:
    """Of a fair coin 0 or 1: .5 · τ (1 - m) = .5 · (1 - τ) m, so m = τ."""
    m = torch.tensor(0.0, requires_grad=True)
    for _ in range(400):
        (gradient,) = torch.autograd.grad(expectile_loss(torch.tensor([0.0, 1.0]) - m, expectile), m)
        m.data -= 0.5 * gradient
    assert m.item() == pytest.approx(expected, abs=1e-3)


def test_the_value_follows_the_smaller_target_q() -> None:
    learner = small_learner("iql", "state", "expectile=0.7")
    assert isinstance(learner, Iql)
    target_values = torch.tensor([[0.5, 0.2], [0.3, 0.9]])
    # min - V = .3 - .1 and .2 - .4: (.7 · .04 + .3 · .04) / 2
    loss = learner.value_loss(target_values, torch.tensor([0.1, 0.4]))
    assert loss.item() == pytest.approx(0.02)


def test_the_policy_clones_with_the_weight_of_the_advantage() -> None:
    learner = small_learner("iql", "state", "inverse_temperature=2.0")
    assert isinstance(learner, Iql)
    batch = tensors("state", 3)
    mean, log_std = learner.policy(batch.obs)
    log_density = tanh_normal_log_density(mean, log_std, batch.action)
    # a scale of .01: exp(2 · 100 · A) is e for A = .005, 1/e for -.005, and e^200, cut at 100, for 1
    loss, weight = learner.policy_loss(batch, torch.tensor([0.005, -0.005, 1.0]))
    weights = torch.tensor([math.e, 1 / math.e, 100.0])
    torch.testing.assert_close(loss, -(weights * log_density).mean())
    assert weight.item() == pytest.approx(float(weights.mean()))


def test_the_qs_learn_r_plus_the_discounted_value() -> None:
    learner = small_learner("iql", "state", "discount=0.5")
    assert isinstance(learner, Iql)
    with torch.no_grad():
        learner.value.out.bias.fill_(0.4)
    batch = tensors("state", 32)
    metrics = learner.update(batch, seeded(0))
    # the last layers start at 0: V = .4 everywhere, so the targets are 1 where rewarded, else .5 · .4
    rewarded = float((batch.reward > 0).float().mean())
    assert metrics["target_mean"].item() == pytest.approx(rewarded + 0.2 * (1 - rewarded))
    assert metrics["q_mean"].item() == 0


def test_the_advantage_is_of_the_smaller_target_q() -> None:
    learner = small_learner("iql", "state", "inverse_temperature=0.1")
    assert isinstance(learner, Iql)
    with torch.no_grad():
        bias = learner.targets.critics.out.bias
        assert bias is not None
        bias[0], bias[1] = 0.3, 0.1
        learner.value.out.bias.fill_(0.05)
    metrics = learner.update(tensors("state", 8), seeded(0))
    # A = min(.3, .1) - .05 = .05 everywhere; exp(.1 · 100 · .05) = exp(½), where .3 would give exp(2.5)
    assert metrics["advantage_weight"].item() == pytest.approx(math.exp(0.5), rel=1e-4)


def test_every_weight_is_one_at_the_start() -> None:
    learner = small_learner("iql", "image")
    assert learner.update(tensors("image", 8), seeded(0))["advantage_weight"].item() == 1


def test_it_joins_prior_and_task_data() -> None:
    """From 0 to 6 through the one state that both have, though no action outside the data was ever valued."""
    learner = small_learner(
        "iql", "state", "batch_size=64", "discount=0.8", "target_rate=0.1", "policy_learning_rate=0.003",
        "critic_learning_rate=0.003",
    )  # fmt: skip
    learn(learner, "both", 800)
    assert walk(learner)[-1] == 6
