from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.trainers.toy import make_spec, observe, seeded, small_learner
from trainers.algorithm import TensorBatch
from trainers.algos.bc import Bc
from trainers.networks.heads import GaussianCloner
from trainers.training.batches import tensor_obs


def test_cloning_finds_mean_and_spread_of_the_data() -> None:
    """Actions tanh(u), u ~ N(.4, .3²), at every place: the clone's mean is .4, its standard deviation .3."""
    learner = small_learner("bc", "state", "learning_rate=0.01")
    assert isinstance(learner, Bc)
    assert isinstance(learner.policy, GaussianCloner)
    obs = tensor_obs(observe(np.arange(512) % 7), make_spec("state").obs.names, torch.device("cpu"))
    nothing = torch.zeros(512)
    for update in range(250):
        action = torch.tanh(0.4 + 0.3 * torch.randn(512, 8, generator=seeded(update)))
        learner.update(TensorBatch(obs, action, nothing, obs, nothing.bool(), nothing.long()), seeded(0))
    mean, log_std = learner.policy.at(learner.policy.encode(obs))
    torch.testing.assert_close(mean, torch.full_like(mean, 0.4), atol=0.08, rtol=0)
    torch.testing.assert_close(log_std.exp(), torch.full_like(mean, 0.3), atol=0.06, rtol=0)


def test_judged_by_samples_or_by_the_mode() -> None:
    obs = tensor_obs(observe(np.array([2])), make_spec("state").obs.names, torch.device("cpu"))
    sampler = small_learner("bc", "state")
    assert sampler.stochastic
    mode = small_learner("bc", "state", "stochastic=false")
    assert not mode.stochastic
    assert isinstance(mode, Bc)
    assert isinstance(mode.policy, GaussianCloner)
    assert torch.equal(mode.act(obs, torch.zeros(1, 0)), torch.tanh(mode.policy(obs)[0]))
    assert torch.equal(sampler.act(obs, torch.zeros(1, 8)), mode.act(obs, torch.zeros(1, 0)))


def test_loss_is_the_negative_log_density_of_the_data() -> None:
    learner = small_learner("bc", "state")
    assert isinstance(learner, Bc)
    assert isinstance(learner.policy, GaussianCloner)
    with torch.no_grad():
        learner.policy.head.weight.zero_()
        learner.policy.head.bias.zero_()
    obs = tensor_obs(observe(np.array([2])), make_spec("state").obs.names, torch.device("cpu"))
    batch = TensorBatch(
        obs, torch.zeros(1, 8), torch.zeros(1), obs, torch.zeros(1).bool(), torch.zeros(1).long()
    )
    loss = learner.loss(batch, seeded(0))
    assert loss.item() == pytest.approx(8 * 0.9189385)  # ½ log 2π per dimension at the mode of a unit normal
