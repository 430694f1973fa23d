from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.trainers.toy import make_spec, observe, seeded, small_learner, tensors
from trainers.algorithm import TensorBatch, TensorObs
from trainers.algos.bc import Bc
from trainers.networks.draws import choose
from trainers.networks.heads import FlowCloner, HybridCloner, MixtureCloner
from trainers.networks.modules import tanh_normal_log_density
from trainers.training.batches import tensor_obs

HEADS = ("gaussian", "mixture", "flow")


def everywhere(count: int) -> TensorObs:
    return tensor_obs(observe(np.arange(count) % 7), make_spec("state").obs.names, torch.device("cpu"))


def train(learner: Bc, updates: int, action_of: object) -> None:
    assert callable(action_of)
    obs, nothing = everywhere(256), torch.zeros(256)
    for update in range(updates):
        action = action_of(update)
        learner.update(TensorBatch(obs, action, nothing, obs, nothing.bool(), nothing.long()), seeded(update))


def two_modes(update: int) -> torch.Tensor:
    """Left or right, -.6 or .6, three times as often right."""
    generator = seeded(update)
    side = torch.where(torch.rand(256, 1, generator=generator) < 0.75, 0.6, -0.6)
    return (side + 0.05 * torch.randn(256, 8, generator=generator)).clamp(-0.95, 0.95)


def test_choosing_by_hand() -> None:
    # probabilities .25, .25, .5: edges at .25 and .5, that is at -.674 and 0 of a standard normal
    log_probability = torch.tensor([[0.25, 0.25, 0.5]]).log().expand(4, 3)
    assert choose(log_probability, torch.tensor([-0.68, -0.67, -0.01, 0.01])).tolist() == [0, 1, 1, 2]


def test_mixture_density_by_hand() -> None:
    """Two components of equal weight: the density is the mean of theirs."""
    policy = MixtureCloner(make_spec("state"), "fast", (8,), 2)
    with torch.no_grad():
        for parameter in (*policy.head.parameters(), *policy.weights.parameters()):
            parameter.zero_()
        policy.head.bias[:8] = 0.5  # mean of the first component; log_std stays 0
    features, action = policy.encode(everywhere(3)), torch.full((3, 8), 0.2)
    zero = torch.zeros(3, 8)
    densities = [tanh_normal_log_density(zero + mean, zero, action).exp() for mean in (0.5, 0.0)]
    expected = -(0.5 * (densities[0] + densities[1])).log()
    torch.testing.assert_close(policy.loss(features, action, seeded(0)), expected)


@pytest.mark.parametrize("head", ["mixture", "flow"])
def test_two_modes_are_both_kept(head: str) -> None:
    """A Gaussian would act in between, where no data are; these act at ±.6, three times as often at .6."""
    learner = small_learner("bc", "state", f"head={head}", "learning_rate=0.01")
    assert isinstance(learner, Bc)
    train(learner, 300, two_modes)
    noise = torch.randn(1000, *learner.noise_shape, generator=seeded(1))
    x = learner.act(everywhere(1000), noise)[:, 0]
    near = (x.abs() - 0.6).abs() < 0.2
    assert near.float().mean() > 0.8  # of a Gaussian with that mean and spread: .4
    assert (x > 0).float().mean().item() == pytest.approx(0.75, abs=0.1)


def test_a_gaussian_acts_between_two_modes() -> None:
    learner = small_learner("bc", "state", "learning_rate=0.01", "stochastic=false")
    assert isinstance(learner, Bc)
    train(learner, 100, two_modes)
    assert (learner.act(everywhere(7), torch.zeros(7, 0)).abs() < 0.5).all()


def test_the_mode_of_a_mixture_is_that_of_its_heaviest_component() -> None:
    learner = small_learner("bc", "state", "head=mixture", "learning_rate=0.01", "stochastic=false")
    assert isinstance(learner, Bc)
    train(learner, 300, two_modes)
    torch.testing.assert_close(
        learner.act(everywhere(7), torch.zeros(7, 0)), torch.full((7, 8), 0.6), atol=0.1, rtol=0
    )


def test_loss_of_the_flow_is_the_error_of_its_velocity() -> None:
    policy = FlowCloner(make_spec("state"), "fast", (8, 8))
    with torch.no_grad():
        for parameter in policy.flow.out.parameters():
            parameter.zero_()
    action = torch.full((2, 8), 0.3)
    noise = torch.randn(2, 8, generator=seeded(0))  # the first that the loss draws
    expected = (0.3 - noise).square().mean(1)  # velocity 0 against a - x_0
    torch.testing.assert_close(policy.loss(policy.encode(everywhere(2)), action, seeded(0)), expected)


def test_commands_by_hand() -> None:
    """Uniform logits: log 3 for the gripper, log 2 for neutral; the motion's loss is that of six numbers."""
    learner = small_learner("bc", "state", "hybrid=true")
    assert isinstance(learner, Bc)
    policy = learner.policy
    assert isinstance(policy, HybridCloner)
    last = policy.commands[-1]
    assert isinstance(last, torch.nn.Linear)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.zero_()
    features, action = policy.encode(everywhere(4)), torch.zeros(4, 8)
    motion = policy.motion.loss(features, action[:, :6], seeded(0))
    torch.testing.assert_close(policy.loss(features, action, seeded(0)), motion + math.log(3) + math.log(2))
    with torch.no_grad():
        last.bias.copy_(torch.tensor([9.0, 0, 0, 0, 9.0]))
    commands = learner.policy.mode(features)[:, 6:]
    assert commands.tolist() == [[-1.0, 1.0]] * 4


@pytest.mark.parametrize(("gripper", "neutral", "meant"), [
    (0.51, 0.0, [1.0, 0.0]), (0.5, 0.5, [0.0, 0.0]), (-0.5, -0.9, [0.0, 0.0]), (-0.9, 0.7, [-1.0, 1.0]),
])  # fmt: skip
def test_commands_are_learned_as_the_robot_reads_them(
    gripper: float, neutral: float, meant: list[float]
) -> None:
    learner = small_learner("bc", "state", "hybrid=true", "learning_rate=0.01", "stochastic=false")
    assert isinstance(learner, Bc)
    action = torch.zeros(256, 8)
    action[:, 6], action[:, 7] = gripper, neutral
    train(learner, 20, lambda update: action)
    assert learner.act(everywhere(1), torch.zeros(1, 0))[0, 6:].tolist() == meant


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("hybrid", ["true", "false"])
def test_every_head_learns_samples_and_has_a_mode(head: str, hybrid: str) -> None:
    learner = small_learner("bc", "image+robot", f"head={head}", f"hybrid={hybrid}")
    assert isinstance(learner, Bc)
    batch = tensors("image+robot", 16)
    metrics = learner.update(batch, seeded(0))
    assert all(value.isfinite() for value in metrics.values())
    assert all(parameter.grad is not None for parameter in learner.policy.parameters())
    extra = {"gaussian": 8, "mixture": 9, "flow": 8}[head] + (2 if hybrid == "true" else 0)
    assert learner.noise_shape == learner.explore_noise_shape == (extra,)
    noise = torch.randn(16, extra, generator=seeded(1))
    actions = learner.act(batch.obs, noise)
    assert actions.shape == (16, 8)
    assert actions.abs().max() <= 1
    assert torch.equal(actions, learner.explore(batch.obs, noise))
    if hybrid == "true":
        assert set(actions[:, 6].tolist()) <= {-1.0, 0.0, 1.0}
        assert set(actions[:, 7].tolist()) <= {0.0, 1.0}
