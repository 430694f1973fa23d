"""What the theory of the learners says, in numbers: fixed points, bounds, densities, and a naive step."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cogdata.errors import CogError
from cogdata.storage.runs import list_runs, read_state
from cogdata.storage.store import Store
from tests.trainers.chain import learn, open_stream, walk
from tests.trainers.toy import make_manifest, seeded, small_config, small_learner, tensors
from trainers.algorithm import TensorBatch
from trainers.algos.cql import Cql, log_integral_exp
from trainers.algos.sac import Sac
from trainers.networks.modules import LOG_HALF, tanh_normal, tanh_normal_log_density
from trainers.training.divergence import DivergenceGuard
from trainers.training.request import TrainRequest
from trainers.training.train import Progress, train

REWARD = np.array([1.0, 0.5, 0.0, 0.2])
BEHAVIOUR = np.array([0.1, 0.4, 0.3, 0.2])
"""π_β of a bandit with four actions, each of which is in the data: 1, 4, 3 and 2 times in ten."""
COUNTS = (1, 4, 3, 2)


def tabular(*overrides: str) -> Cql:
    """CQL whose logsumexp is over all actions, on values up to 100: a ``value_scale`` of 1."""
    learner = small_learner(
        "cql", "state", "success=continuing", "discount=0.99", "importance=false", *overrides
    )
    assert isinstance(learner, Cql)
    assert learner.value_scale == pytest.approx(1)
    return learner


def bandit_loss(learner: Cql, q: Tensor) -> Tensor:
    """The learner's loss of a table q (K,) on ten transitions."""
    taken = torch.repeat_interleave(torch.arange(len(q)), torch.tensor(COUNTS))
    target = torch.as_tensor(REWARD)[taken]
    data = q[taken].unsqueeze(0)  # (1, B)
    values = q.view(1, -1, 1).expand(1, -1, len(taken))
    return learner.critic_loss(data, target, learner.penalty(values, torch.zeros(()), data))


def softmax(x: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = np.exp(x - x.max())
    return np.asarray(weights / weights.sum())


@pytest.mark.parametrize("bellman_scale", [1.0, 0.5])
@pytest.mark.parametrize("alpha", [0.1, 0.5, 2.0])
def test_fixed_point_of_cql_on_a_bandit(alpha: float, bellman_scale: float) -> None:
    """Where Q stays: Q(a) = r(a) - α' (μ(a) / π_β(a) - 1), μ = softmax Q.

    The loss is c Σ π_β (Q - r)² + α (log Σ exp Q - Σ π_β Q); its derivative by Q(a) is
    2 c π_β(a) (Q(a) - r(a)) + α (μ(a) - π_β(a)), so α' = α / 2c: with the papers' c = ½ it is α, with the code's
    c = 1 half of it.
    """
    learner = tabular(f"penalty_weight={alpha}", f"bellman_scale={bellman_scale}")
    q = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([q], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-14)

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = bandit_loss(learner, q)
        loss.backward()
        return loss

    optimiser.step(closure)
    found = q.detach().numpy()
    strength = alpha / (2 * bellman_scale)
    np.testing.assert_allclose(found, REWARD - strength * (softmax(found) / BEHAVIOUR - 1), atol=1e-6)
    # what the data rarely hold is valued less than it is worth, what they often hold more
    over = softmax(found) > BEHAVIOUR
    assert ((found < REWARD) == over).all()
    # the data's own value is kept: Σ π_β (Q - r) = -α' Σ (μ - π_β) = 0
    assert BEHAVIOUR @ found == pytest.approx(BEHAVIOUR @ REWARD, abs=1e-6)


def test_cql_values_of_its_own_policy_are_a_lower_bound() -> None:
    """Kumar et al., theorem 3.3, with its gap, on a chain of three places and the actions left and right.

    At the fixed point, of π = softmax Q: Q = r + γ P V̂ - α' (π/π_β - 1) with V̂ = E_π Q. So
    V̂ = V^π - α' (I - γ P^π)⁻¹ D with D(s) = Σ_a π (π/π_β - 1) ≥ 0, a χ² distance to the behaviour.
    """
    discount, alpha = 0.5, 0.4
    learner = small_learner(
        "cql", "state", "success=continuing", f"discount={discount}", "importance=false",
        "penalty_temperature=50", f"penalty_weight={50 * alpha}",
    )  # fmt: skip
    assert isinstance(learner, Cql)
    assert learner.value_scale * 50 == pytest.approx(1)  # largest return 2: a scale of .02
    behaviour = np.array([0.75, 0.25])  # left three times as often
    after = np.array([[0, 1], [0, 2], [1, 2]])
    reward = np.array([[0.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    place = torch.arange(3).repeat_interleave(4)
    action = torch.tensor([0, 0, 0, 1]).repeat(3)
    q = torch.zeros(3, 2, dtype=torch.float64, requires_grad=True)
    for _ in range(400):
        with torch.no_grad():
            value = (torch.softmax(q, 1) * q).sum(1)
            arrived = torch.as_tensor(after)[place, action]
            target = torch.as_tensor(reward)[place, action] + discount * value[arrived]
        data = q[place, action].unsqueeze(0)
        values = q[place].T.unsqueeze(0)  # (1, 2, B)
        loss = learner.critic_loss(data, target, learner.penalty(values, torch.zeros(()), data))
        (gradient,) = torch.autograd.grad(loss, q)
        q.data -= 1.5 * gradient
    found = q.detach().numpy()
    policy = np.apply_along_axis(softmax, 1, found)
    inverse = np.linalg.inv(np.eye(3) - discount * _transitions(policy, after))
    truth = inverse @ (policy * reward).sum(1)
    distance = (policy * (policy / behaviour - 1)).sum(1)
    assert (distance > 0.01).all()
    np.testing.assert_allclose((policy * found).sum(1), truth - alpha / 2 * inverse @ distance, atol=1e-4)
    assert ((policy * found).sum(1) < truth).all()


def _transitions(policy: NDArray[np.float64], after: NDArray[np.int64]) -> NDArray[np.float64]:
    matrix = np.zeros((len(after), len(after)))
    for place, row in enumerate(after):
        for action, arrived in enumerate(row):
            matrix[place, arrived] += policy[place, action]
    return matrix


def test_logsumexp_over_all_three_proposals_is_the_integral_over_the_cube() -> None:
    """∫ exp(w·a) da over [-1, 1]^8 = Π 2 sinh(w_i) / w_i, by N each of uniform and two policies."""
    w = torch.tensor([1.0, -0.7, 0.4, 0.2, -0.1, 0.9, -1.3, 0.6], dtype=torch.float64)
    expected = float(torch.log(2 * torch.sinh(w) / w).sum())
    n, generator = 20_000, seeded(0)
    actions, densities = (
        [torch.rand((n, 1, 8), generator=generator, dtype=torch.float64) * 2 - 1],
        [torch.full((n, 1), 8 * LOG_HALF, dtype=torch.float64)],
    )
    for mean, log_std in ((0.1, 0.0), (-0.2, 0.1)):
        noise = torch.randn((n, 1, 8), generator=generator, dtype=torch.float64)
        full = torch.full_like(noise, mean), torch.full_like(noise, log_std)
        action, density = tanh_normal(*full, noise)
        actions.append(action)
        densities.append(density)
    estimate = log_integral_exp(torch.cat(actions) @ w, torch.cat(densities), 1.0)
    assert estimate.item() == pytest.approx(expected, abs=0.02)
    # log of the cube's volume, and Σ log(sinh w / w) = Σ w²/6 - w⁴/180 + w⁶/2835 = .760 - .027 + .002
    assert expected == pytest.approx(8 * math.log(2) + 0.735, abs=2e-3)


@pytest.mark.parametrize(
    "overrides", [(), ("importance=false",), ("importance=false", "data_in_logsumexp=true")]
)
def test_gradient_of_the_penalty_moves_value_and_makes_none(overrides: tuple[str, ...]) -> None:
    """What it takes from sampled actions it gives to the data's: Σ softmax - 1 = 0, in each row of the batch."""
    learner = small_learner("cql", "state", "success=continuing", "discount=0.99", *overrides)
    assert isinstance(learner, Cql)
    values, data = torch.randn(2, 6, 5, requires_grad=True), torch.randn(2, 5, requires_grad=True)
    penalty = learner.penalty(values, torch.randn(6, 5), data).sum()
    by_values, by_data = torch.autograd.grad(penalty, (values, data))
    torch.testing.assert_close(by_values.sum(1) + by_data, torch.zeros(2, 5), atol=1e-6, rtol=0)
    assert (by_values > 0).all()
    assert (by_data < 0).all()


@pytest.mark.parametrize("edge", [0.999999, -0.999999])
def test_density_at_the_edge_is_that_of_the_change_of_variables(edge: float) -> None:
    """In float64: log N(artanh a) - log(1 - a²); the published log(1 - a² + 1e-6) is off by log 1.5 there."""
    mean, log_std = torch.tensor([0.3], dtype=torch.float64), torch.tensor([-0.5], dtype=torch.float64)
    action = torch.tensor([edge], dtype=torch.float64)
    u = torch.atanh(action)
    normal = torch.distributions.Normal(mean, log_std.exp()).log_prob(u)
    exact = normal - torch.log1p(-action.square())
    ours = tanh_normal_log_density(mean, log_std, action)
    assert ours.isfinite()
    assert ours.item() == pytest.approx(exact.item(), rel=1e-9)
    published = normal - torch.log(1 - action.square() + 1e-6)
    assert (exact - published).item() == pytest.approx(math.log(1.5), abs=1e-4)  # 1 - a² = 2e-6


@pytest.mark.parametrize("target", [-8.0, 0.0])
def test_the_temperature_steers_the_entropy_to_its_target(target: float) -> None:
    """Critics that care about actions and do not learn: the policy is as random as it is told to be."""
    learner = small_learner(
        "sac", "state", "critic_learning_rate=0", "policy_learning_rate=0.02", f"target_entropy={target}"
    )
    assert isinstance(learner, Sac)
    with torch.no_grad():
        learner.critics.critics.from_action.weight.mul_(30)
    entropy = []
    batch = tensors("state", 32)
    for update in range(500):
        entropy.append(learner.update(batch, seeded(update))["entropy"])
    assert torch.stack(entropy[-100:]).mean().item() == pytest.approx(target, abs=1.5)


@pytest.mark.parametrize("algo", ["cql", "sac", "iql"])
def test_a_time_limit_bootstraps_and_an_absorbing_success_does_not(algo: str) -> None:
    """V(s') = .4 everywhere, γ = .5: .2 where nothing ended, 1 at a success, 0 where the world ended."""
    value = torch.full((3,), 0.4)
    batch = tensors("state", 3)
    batch.reward.copy_(torch.tensor([0.0, 1.0, 0.0]))
    batch.terminated.copy_(torch.tensor([False, False, True]))  # a time limit is False: the first row
    learner = small_learner(algo, "state", "discount=0.5")
    assert isinstance(learner, Cql | Sac) or algo == "iql"
    target = learner.bellman_target(batch, value)  # type: ignore[operator]
    torch.testing.assert_close(target, torch.tensor([0.2, 1.0, 0.0]))
    paper = small_learner(algo, "state", "discount=0.5", "success=continuing")
    again = paper.bellman_target(batch, value)  # type: ignore[operator]
    torch.testing.assert_close(again, torch.tensor([0.2, 1.2, 0.0]))


class NaiveCritic(nn.Module):
    """A critic as the paper draws it: its own encoder, features and action joined, one row per action."""

    def __init__(self, learner: Cql, e: int) -> None:
        super().__init__()
        self.inputs = copy.deepcopy(learner.critics.inputs[e])
        stacked = learner.critics.critics
        first = torch.cat([stacked.from_features.weight[e], stacked.from_action.weight[e]])
        assert stacked.from_features.bias is not None
        pairs = [(first, stacked.from_features.bias[e])]
        for layer in (*stacked.hidden, stacked.out):
            weight, bias = layer.weight, layer.bias
            assert isinstance(weight, Tensor)
            assert isinstance(bias, Tensor)
            pairs.append((weight[e], bias[e]))
        self.weights = nn.ParameterList(weight.detach().clone() for weight, _ in pairs)
        self.biases = nn.ParameterList(bias.detach().clone() for _, bias in pairs)

    def forward(self, batch: TensorBatch, action: Tensor, *, next_obs: bool = False) -> Tensor:
        x = torch.cat([self.inputs(batch.next_obs if next_obs else batch.obs), action], dim=1)
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = x @ weight + bias
            x = torch.relu(x) if number < len(self.weights) - 1 else x
        return x[:, 0]


@pytest.mark.parametrize("kind", ["image", "state"])
def test_a_step_is_the_naive_step(kind: str) -> None:
    """Shared encoders and split layers change nothing: the same losses and gradients as one pass per term."""
    learner = small_learner(
        "cql", kind, "warm_start=0", "crop_px=0", "half_gradients=false", "penalty_weight=3.0",
        "critic_learning_rate=0", "policy_learning_rate=0", "layer_norm=false",
    )  # fmt: skip
    assert isinstance(learner, Cql)
    if kind == "state":
        learner.critics.inputs.append(
            learner.critics.inputs[0]
        )  # both look through the same, without weights
    batch = tensors(kind, 16)
    critics = [NaiveCritic(learner, e) for e in range(2)]
    policy = copy.deepcopy(learner.policy)
    if kind == "state":
        del learner.critics.inputs[1]
    metrics = learner.update(batch, seeded(0))

    generator = seeded(0)
    noise = torch.randn((1, 16, 8), generator=generator)[0]
    uniform = torch.rand((1, 16, 8), generator=generator)[0] * 2 - 1
    next_noise = torch.randn((1, 16, 8), generator=generator)[0]
    (mean, log_std), (next_mean, next_log_std) = policy(batch.obs), policy(batch.next_obs)
    own, own_density = tanh_normal(mean, log_std, noise)
    other, other_density = tanh_normal(next_mean, next_log_std, next_noise)
    q_own = torch.stack([critic(batch, own) for critic in critics])
    policy_loss = (0.01 * own_density - q_own.min(0).values).mean()  # α = 1 in units of .01
    policy_gradients = torch.autograd.grad(policy_loss, list(policy.parameters()), retain_graph=True)

    next_value = torch.stack([critic(batch, other, next_obs=True) for critic in critics]).min(0).values
    target = torch.where(batch.reward > 0, batch.reward, 0.95 * next_value).detach()
    critic_loss = torch.zeros(())
    for critic in critics:
        data = critic(batch, batch.action)
        weighted = [
            critic(batch, uniform) / 0.01 - 8 * math.log(0.5),
            critic(batch, own.detach()) / 0.01 - own_density.detach(),
            critic(batch, other.detach()) / 0.01 - other_density.detach(),
        ]
        penalty = 0.01 * (torch.logsumexp(torch.stack(weighted), 0) - math.log(3)) - data
        critic_loss = critic_loss + (data - target).square().mean() + 3 * 0.01 * penalty.mean()

    torch.testing.assert_close(metrics["policy_loss"], policy_loss.detach(), atol=1e-5, rtol=1e-5)
    for mine, naive in zip(learner.policy.parameters(), policy_gradients, strict=True):
        torch.testing.assert_close(mine.grad, naive, atol=1e-5, rtol=1e-4)
    critic_loss.backward()
    stacked = learner.critics.critics
    for e, critic in enumerate(critics):
        joined = critic.weights[0].grad
        assert isinstance(joined, Tensor)
        for part, naive in (
            (stacked.from_features.weight, joined[:-8]),
            (stacked.from_action.weight, joined[-8:]),
            (stacked.hidden[0].weight, critic.weights[1].grad),
            (stacked.out.weight, critic.weights[2].grad),
        ):
            assert isinstance(part, Tensor)
            assert part.grad is not None
            torch.testing.assert_close(part.grad[e], naive, atol=1e-5, rtol=1e-4)
        if kind == "image":
            pairs = zip(learner.critics.inputs[e].parameters(), critic.inputs.parameters(), strict=True)
            for mine, theirs in pairs:
                torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-5, rtol=1e-4)


CQL = (
    "batch_size=32", "warm_start=50", "discount=0.8", "target_rate=0.1", "policy_learning_rate=0.003",
    "critic_learning_rate=0.003", "temperature=0.1",
)  # fmt: skip


@pytest.mark.parametrize(("data", "end"), [("both", 6), ("prior", 0), ("task", 0), ("gap", 0)])
def test_prior_and_task_data_are_joined_and_neither_alone_is_enough(data: str, end: int) -> None:
    """CQL walks from 0 to 6 if the prior arrives where the task begins; else it stays among what it knows."""
    learner = small_learner("cql", "state", *CQL)
    learn(learner, data, 300)
    assert walk(learner)[-1] == end


def test_cloning_what_the_prior_mostly_does_does_not_solve_the_task() -> None:
    learner = small_learner("bc", "state", "batch_size=32", "stochastic=false", "learning_rate=0.003")
    learn(learner, "both", 200)
    assert walk(learner) == [0] * 9


SAC = ("discount=0.95", "target_rate=0.1", "policy_learning_rate=0.003", "critic_learning_rate=0.003")


def test_without_the_penalty_values_leave_the_possible_range_and_the_alarm_stops_the_run(
    tmp_path: Path,
) -> None:
    """SAC values actions that nobody took, and bootstraps from them: more than the 1 that there is to get."""
    config = small_config("sac", "batch_size=64", "updates=1000", "temperature=0.1", *SAC)
    request = TrainRequest(
        "sac",
        config,
        threads=1,
        log_every=10,
        tensorboard=False,
        guard=DivergenceGuard(patience=5),
        checkpoint_every=10_000,
    )
    said: list[str] = []

    def listen(progress: Progress) -> None:
        if progress.warning:
            said.append(progress.warning)

    store = Store(str(tmp_path))
    with pytest.raises(CogError, match="values are outside the possible"):
        train(store, make_manifest(), request, open_stream=open_stream, on_progress=listen)
    assert len(said) == 1
    assert "[0, 1]" in said[0]
    state = read_state(store, list_runs(store)[0])
    assert state is not None
    assert state.status == "diverged"


def test_with_the_penalty_the_same_settings_stay_in_range() -> None:
    learner = small_learner("cql", "state", "batch_size=64", "temperature=0.1", "warm_start=0", *SAC)
    metrics = learn(learner, "both", 400)
    assert metrics["q_mean"] < 1
    assert metrics["q_max"] < 1.1
