from __future__ import annotations

import math

import pytest
import torch

from tests.trainers.toy import seeded, small_learner, tensors
from trainers.algos.cql import Cql, conservative_penalty, log_integral_exp
from trainers.networks.modules import LOG_HALF, tanh_normal


def linear_integral(slope: torch.Tensor, scale: float) -> float:
    """Scale · log ∫ over [-1, 1]^A of exp(k·a / scale) = scale · Σ log(2 sinh(k/scale) / (k/scale))."""
    k = slope / scale
    return scale * float(torch.log(2 * torch.sinh(k) / k).sum())


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_logsumexp_estimates_the_integral_of_a_linear_q(scale: float) -> None:
    slope = torch.tensor([0.5, -0.2, 0.3])
    generator = seeded(0)
    n = 100_000
    uniform = torch.rand((n, 1, 3), generator=generator) * 2 - 1
    mean, log_std = torch.full((n, 1, 3), 0.2), torch.full((n, 1, 3), -0.2)
    gaussian, density = tanh_normal(mean, log_std, torch.randn((n, 1, 3), generator=generator))
    expected = linear_integral(slope, scale)
    for actions, log_density in ((uniform, torch.full((n, 1), 3 * LOG_HALF)), (gaussian, density)):
        estimate = log_integral_exp(actions @ slope, log_density, scale)
        assert estimate.item() == pytest.approx(expected, abs=0.02)


def test_penalty_by_hand() -> None:
    # two uniform actions in one dimension: log density log ½; Q = 0 and log 3; Q of the data = ½
    values = torch.tensor([[[0.0], [math.log(3)]]])  # (E=1, N=2, B=1)
    log_density = torch.full((2, 1), LOG_HALF)
    # log of the mean of (1/½, 3/½) = log 4
    assert conservative_penalty(
        values, log_density, torch.tensor([[0.5]]), 1.0
    ).sum().item() == pytest.approx(math.log(4) - 0.5)


def test_gradient_of_the_penalty_by_hand() -> None:
    values = torch.tensor([[[0.0], [math.log(3)]]], requires_grad=True)
    data = torch.zeros(1, 1, requires_grad=True)
    conservative_penalty(values, torch.full((2, 1), LOG_HALF), data, 1.0).sum().backward()
    assert values.grad is not None
    assert data.grad is not None
    # softmax of the weighted values pushes down: ¼ and ¾; the data's value is pushed up by 1
    torch.testing.assert_close(values.grad, torch.tensor([[[0.25], [0.75]]]))
    torch.testing.assert_close(data.grad, torch.tensor([[-1.0]]))


def test_the_penalty_is_the_published_one_on_smaller_rewards() -> None:
    """Values c·Q at scale c: c times the penalty of Q at scale 1."""
    values, log_density, data = torch.randn(2, 3, 4), torch.randn(3, 4), torch.randn(2, 4)
    one = conservative_penalty(values, log_density, data, 1.0)
    torch.testing.assert_close(
        conservative_penalty(0.01 * values, log_density, 0.01 * data, 0.01), 0.01 * one
    )


def test_scale_of_values() -> None:
    absorbing = small_learner("cql", "state", "discount=0.95")
    published = small_learner("cql", "state", "discount=0.99", "success=continuing")
    assert isinstance(absorbing, Cql)
    assert isinstance(published, Cql)
    assert absorbing.value_scale == pytest.approx(0.01)
    assert published.value_scale == pytest.approx(1.0)


def test_proposals_come_with_their_own_densities() -> None:
    learner = small_learner("cql", "state", "penalty_samples=2", "backup_actions=3")
    assert isinstance(learner, Cql)
    batch = tensors("state", 3)
    actions, density, backup = learner.proposals(batch, seeded(0))
    assert actions.shape == (4, 3, 8)
    assert backup.shape == (3, 3, 8)
    torch.testing.assert_close(density[:2], torch.full((2, 3), 8 * math.log(0.5)))
    assert 8 * math.log(0.5) == pytest.approx(-5.545, abs=1e-3)  # uniform on [-1, 1]^8: 8 log ½
    assert torch.equal(actions[2:], backup[:2])  # one draw of π(s') serves both
    mean, log_std = learner.policy(batch.next_obs)
    u = torch.atanh(actions[2:])
    _, again = tanh_normal(mean, log_std, (u - mean) / log_std.exp())
    torch.testing.assert_close(density[2:], again, atol=1e-3, rtol=1e-3)


def test_the_target_takes_the_smaller_target_q_and_no_entropy() -> None:
    learner = small_learner("cql", "state", "discount=0.5")
    assert isinstance(learner, Cql)
    batch = tensors("state", 6)
    action = torch.zeros(1, 6, 8)
    values = learner.targets(learner.targets.encode(batch.next_obs), action)[:, 0]
    expected = torch.where(batch.reward > 0, batch.reward, 0.5 * torch.minimum(values[0], values[1]))
    torch.testing.assert_close(learner.target(batch, action), expected)


def test_targets_start_as_copies_of_the_qs() -> None:
    learner = small_learner("cql", "image")
    assert isinstance(learner, Cql)
    for target, source in zip(learner.targets.parameters(), learner.critics.parameters(), strict=True):
        assert torch.equal(target, source)
        assert not target.requires_grad


def test_targets_follow_an_encoder_that_came_with_the_policy() -> None:
    learner = small_learner("cql", "image", "shared_encoder=true")
    cloner = small_learner("bc", "image", "encoder=fast")
    assert isinstance(learner, Cql)
    before = [parameter.clone() for parameter in learner.critics.parameters()]
    assert "targets" not in learner.start_from(cloner)
    after = list(learner.critics.parameters())
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
    for target, source in zip(learner.targets.parameters(), after, strict=True):
        assert torch.equal(target, source)


def test_the_warm_start_clones_and_then_q_takes_over() -> None:
    """Qs that care a hundred times more about actions move the policy only after the warm start."""
    batch = tensors("state", 16)

    def moved(warm_start: int) -> torch.Tensor:
        learner = small_learner("cql", "state", f"warm_start={warm_start}", "critic_learning_rate=0")
        assert isinstance(learner, Cql)
        before = learner.policy.head.bias.clone()
        with torch.no_grad():
            learner.critics.critics.from_action.weight[:] *= 100
        learner.update(batch, seeded(0))
        return learner.policy.head.bias - before

    again = small_learner("cql", "state", "warm_start=5", "critic_learning_rate=0")
    assert isinstance(again, Cql)
    before = again.policy.head.bias.clone()
    again.update(batch, seeded(0))
    assert torch.equal(again.policy.head.bias - before, moved(5))  # whatever the Qs say
    assert not torch.equal(moved(0), moved(5))


def test_temperature_falls_while_the_policy_is_too_random() -> None:
    learner = small_learner("cql", "state")
    assert isinstance(learner, Cql)
    target = learner.config.target_entropy
    for entropy, sign in ((torch.tensor([target + 3]), 1), (torch.tensor([target - 3]), -1)):
        gradient = torch.autograd.grad(learner.temperature_loss(-entropy), learner.log_temperature)[0]
        assert torch.sign(gradient) == sign  # a descent step goes the other way


def test_the_actor_does_not_move_the_critics_nor_the_critics_the_actor() -> None:
    learner = small_learner("cql", "image", "policy_learning_rate=0", "warm_start=0")
    assert isinstance(learner, Cql)
    before = [parameter.clone() for parameter in learner.policy.parameters()]
    learner.update(tensors("image", 8), seeded(0))
    assert all(torch.equal(old, new) for old, new in zip(before, learner.policy.parameters(), strict=True))
    frozen = small_learner("cql", "image", "critic_learning_rate=0", "warm_start=0")
    assert isinstance(frozen, Cql)
    held = [parameter.clone() for parameter in frozen.critics.parameters()]
    frozen.update(tensors("image", 8), seeded(0))
    assert all(torch.equal(old, new) for old, new in zip(held, frozen.critics.parameters(), strict=True))
    assert any(not torch.equal(old, new) for old, new in zip(before, frozen.policy.parameters(), strict=True))
