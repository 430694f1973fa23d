from __future__ import annotations

import math

import pytest
import torch

from tests.trainers.toy import seeded, small_learner, tensors
from trainers.algos.cql import Cql
from trainers.algos.sac import Sac


def test_the_policy_loss_by_hand() -> None:
    learner = small_learner("sac", "state", "temperature=2.0")
    assert isinstance(learner, Sac)
    # absorbing: a scale of .01, so α = .02; log π = -1 and 3; min Q = .1 and .4
    values = torch.tensor([[0.1, 0.9], [0.5, 0.4]])
    loss = learner.policy_loss(torch.tensor([-1.0, 3.0]), values)
    # ((.02 · -1 - .1) + (.02 · 3 - .4)) / 2 = (-.12 - .34) / 2
    assert loss.item() == pytest.approx(-0.23)


def test_the_backup_holds_the_entropy_only_if_asked() -> None:
    plain, soft = small_learner("sac"), small_learner("sac", "state", "entropy_backup=true")
    assert isinstance(plain, Sac)
    assert isinstance(soft, Sac)
    batch = tensors("state", 32)
    _, log_density = plain.policy.sample(batch.next_obs, seeded(3))
    bonus = -0.01 * log_density[0] * 0.95  # γ · α · -log π(a'|s'), where nothing is rewarded
    expected = torch.where(batch.reward > 0, 0.0, bonus)
    difference = soft.target(batch, seeded(3)) - plain.target(batch, seeded(3))
    torch.testing.assert_close(difference, expected, atol=1e-6, rtol=1e-5)


def test_range_of_values_with_and_without_entropy() -> None:
    assert small_learner("sac").value_range == (0.0, 1.0)
    soft = small_learner("sac", "state", "entropy_backup=true", "discount=0.9")
    # α = .01 in these units; a policy's entropy is at most that of the uniform one, 8 log 2 = 5.545, and
    # 1/(1 - .9) = 10 steps of it are .5545
    assert soft.value_range is not None
    assert soft.value_range[1] == pytest.approx(1 + 0.01 * 8 * math.log(2) * 10)


SAME = (
    "penalty_weight=0", "warm_start=0", "layer_norm=false", "target_rate=0.02", "critic_learning_rate=3e-4",
    "policy_learning_rate=1e-4", "target_entropy=-8",
)  # fmt: skip
"""Settings of cql that leave nothing but sac."""


def test_it_is_cql_without_the_penalty() -> None:
    """The same weights and one sample each: the Qs move as those of CQL with a penalty of weight 0."""
    sac, cql = small_learner("sac"), small_learner("cql", "state", *SAME)
    assert isinstance(sac, Sac)
    assert isinstance(cql, Cql)
    assert set(cql.start_from(sac)) == {"policy", "critics", "targets", "log_temperature"}
    batch = tensors("state", 16)
    batch.terminated[:] = True  # the target is the reward, whatever is drawn at s'
    sac.update(batch, seeded(0))
    cql.update(batch, seeded(0))
    for one, two in zip(sac.critics.parameters(), cql.critics.parameters(), strict=True):
        torch.testing.assert_close(one, two)
    for one, two in zip(sac.policy.parameters(), cql.policy.parameters(), strict=True):
        torch.testing.assert_close(one, two)  # both drew the first noise for π(s)


def test_exploring_samples_and_judging_takes_the_mode() -> None:
    learner = small_learner("sac")
    assert isinstance(learner, Sac)
    obs = tensors("state", 4).obs
    assert (learner.noise_shape, learner.explore_noise_shape) == ((0,), (8,))
    mode = learner.act(obs, torch.zeros(4, 0))
    torch.testing.assert_close(learner.explore(obs, torch.zeros(4, 8)), mode)
    mean, log_std = learner.policy(obs)
    noise = torch.randn(4, 8, generator=seeded(0))
    expected = torch.tanh(mean + log_std.exp() * noise)
    torch.testing.assert_close(learner.explore(obs, noise), expected)
    sampler = small_learner("sac", "state", "stochastic=true")
    assert sampler.noise_shape == (8,)
    torch.testing.assert_close(sampler.act(obs, noise), expected)
