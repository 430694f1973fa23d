"""Every option of CQL does what it says, in numbers."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from cogdata.errors import CogError
from tests.trainers.toy import seeded, small_learner, tensors
from trainers.algos.cql import Cql
from trainers.networks.encoders import Inputs

HALF_LOG = torch.full((2, 1), math.log(0.5))
VALUES = torch.tensor(
    [[[0.0], [0.01 * math.log(3)]]]
)  # (E=1, N=2, B=1), in units of value_scale: 0 and log 3
DATA = torch.tensor([[0.02]])  # 2 of these units


def cql(*overrides: str, kind: str = "state") -> Cql:
    learner = small_learner("cql", kind, *overrides)
    assert isinstance(learner, Cql)
    return learner


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        # log of the mean of (1 / ½, 3 / ½) = log 4
        ((), math.log(4) - 2),
        # log of the mean of (1, 3) = log 2
        (("importance=false",), math.log(2) - 2),
        # log of the mean of (1, 3, e²)
        (("importance=false", "data_in_logsumexp=true"), math.log((4 + math.e**2) / 3) - 2),
        # ½ · log of the mean of (1, 9) = ½ log 5
        (("importance=false", "penalty_temperature=0.5"), 0.5 * math.log(5) - 2),
    ],
)
def test_the_logsumexp_by_hand(overrides: tuple[str, ...], expected: float) -> None:
    penalty = cql(*overrides).penalty(VALUES, HALF_LOG, DATA)
    assert penalty.item() == pytest.approx(0.01 * expected, rel=1e-5)


def test_a_cold_logsumexp_is_the_largest_value() -> None:
    penalty = cql("importance=false", "penalty_temperature=0.001").penalty(VALUES, HALF_LOG, DATA)
    assert penalty.item() == pytest.approx(0.01 * (math.log(3) - 2), abs=1e-5)


def test_the_density_of_the_datas_action_is_not_known() -> None:
    with pytest.raises(CogError, match=r"data_in_logsumexp=true needs importance=false"):
        cql("data_in_logsumexp=true")


@pytest.mark.parametrize("samples", [1, 3])
def test_samples_of_the_penalty(samples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """N each from uniform, π(s) and π(s'), with the values and densities of the same actions side by side."""
    learner = cql(f"penalty_samples={samples}", "critics=3")
    seen: list[tuple[Tensor, Tensor, Tensor]] = []
    inner = learner.penalty

    def spy(values: Tensor, log_density: Tensor, data: Tensor) -> Tensor:
        seen.append((values, log_density, data))
        return inner(values, log_density, data)

    monkeypatch.setattr(learner, "penalty", spy)
    learner.update(tensors("state", 5), seeded(0))
    values, log_density, data = seen[0]
    assert values.shape == (3, 3 * samples, 5)
    assert log_density.shape == (3 * samples, 5)
    assert data.shape == (3, 5)
    uniform = log_density[samples : 2 * samples]
    torch.testing.assert_close(uniform, torch.full_like(uniform, 8 * math.log(0.5)))
    assert len(torch.unique(log_density)) == 2 * samples * 5 + 1


@pytest.mark.parametrize(("penalty", "grows"), [(0.09, True), (0.01, False)])
def test_a_learned_weight_rises_above_its_threshold_and_falls_below(penalty: float, grows: bool) -> None:
    learner = cql("lagrange=true", "penalty_threshold=5.0", "penalty_weight=3.0")
    found = torch.tensor([penalty, penalty])  # 9 or 1 in units of .01
    loss = learner.penalty_weight_loss(found)
    # -weight · (penalty - threshold)
    assert loss.item() == pytest.approx(-3 * (100 * penalty - 5), rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, learner.log_penalty_weight)
    assert (gradient.item() < 0) == grows


def test_the_learned_weight_is_the_one_that_is_used_and_stepped() -> None:
    learner = cql(
        "lagrange=true", "penalty_weight=3.0", "penalty_threshold=-1000", "critic_learning_rate=3e-4"
    )
    fixed = cql("penalty_weight=3.0")
    data, target, penalty = torch.tensor([[0.3]]), torch.tensor([0.1]), torch.tensor([0.2])
    # .2² + 3 · .01 · .2
    for one in (learner, fixed):
        assert one.critic_loss(data, target, penalty).item() == pytest.approx(0.046)
    metrics = learner.update(tensors("state", 8), seeded(0))
    # Adam's first step is its learning rate, 3e-4, upward: any penalty is above -1000
    assert metrics["penalty_weight"].item() == pytest.approx(3 * math.exp(3e-4), rel=1e-5)


def test_max_backup_takes_the_best_action_of_each_q_then_the_smaller_q() -> None:
    learner = cql("backup_actions=4", "discount=0.5")
    batch = tensors("state", 6)
    actions = torch.rand((4, 6, 8), generator=seeded(0)) * 2 - 1
    values = learner.targets(learner.targets.encode(batch.next_obs), actions)  # (E, N, B)
    best = torch.minimum(values[0].max(0).values, values[1].max(0).values)
    torch.testing.assert_close(
        learner.target(batch, actions), torch.where(batch.reward > 0, batch.reward, 0.5 * best)
    )
    _, _, backup = learner.proposals(batch, seeded(0))
    assert backup.shape == (4, 6, 8)
    single = learner.target(batch, actions[:1])
    assert (learner.target(batch, actions) >= single).all()


class Valued(nn.Module):
    """Target Qs that have the same values (E, N, B) everywhere."""

    def __init__(self, values: list[list[list[float]]]) -> None:
        super().__init__()
        self.values = torch.tensor(values)

    def encode(self, obs: object) -> object:
        return obs

    def forward(self, encoded: object, actions: Tensor) -> Tensor:
        return self.values


def test_the_backup_by_hand() -> None:
    learner = cql("backup_actions=2", "discount=0.5")
    batch = tensors("state", 1)
    batch = replace(batch, reward=torch.zeros(1), terminated=torch.zeros(1, dtype=torch.bool))
    learner.targets = Valued([[[0.0], [0.8]], [[0.6], [0.1]]])  # type: ignore[assignment]
    # the best of each Q: .8 and .6; the smaller: .6. The other way round: max(min(0, .6), min(.8, .1)) = .1
    assert learner.target(batch, torch.zeros(2, 1, 8)).item() == pytest.approx(0.5 * 0.6)


def test_the_loss_of_the_warm_start_by_hand() -> None:
    learner = cql("temperature=0.5")
    batch = replace(tensors("state", 2), action=torch.zeros(2, 8))
    flat = torch.zeros(2, 8)  # mean 0, log of the standard deviation 0
    loss = learner.cloning_loss(batch, flat, flat, torch.tensor([3.0, -1.0]))
    # .5 · (3 - 1) / 2, and minus 8 · log(1 / √(2π)): tanh has slope 1 at 0
    assert loss.item() == pytest.approx(0.5 + 4 * math.log(2 * math.pi), rel=1e-5)


def test_half_on_the_bellman_term_is_the_papers_alpha_half() -> None:
    """½ Bellman + ½ penalty is half of the code's Bellman + 1 penalty: the same minimum."""
    data, target, penalty = torch.tensor([[0.3, 0.5]]), torch.tensor([0.1, 0.1]), torch.tensor([0.2])
    code = cql().critic_loss(data, target, penalty)
    paper = cql("bellman_scale=0.5", "penalty_weight=0.5").critic_loss(data, target, penalty)
    # Bellman: (.04 + .16) / 2 = .1; penalty: .01 · .2
    assert code.item() == pytest.approx(0.102)
    assert paper.item() == pytest.approx(0.051)


def test_layer_norm_makes_the_first_layers_scale_irrelevant() -> None:
    obs, actions = tensors("state", 4).obs, torch.zeros(1, 4, 8)
    for norm in (True, False):
        learner = cql(f"layer_norm={norm}")
        before = learner.critics(learner.critics.encode(obs), actions)
        with torch.no_grad():
            for parameter in learner.critics.critics.from_features.parameters():
                parameter.mul_(3)
            learner.critics.critics.from_action.weight.mul_(3)
        after = learner.critics(learner.critics.encode(obs), actions)
        assert torch.allclose(before, after, atol=1e-4) == norm


@pytest.mark.parametrize("kind", ["image", "state"])
def test_number_of_critics(kind: str) -> None:
    learner = cql("critics=4", kind=kind)
    batch = tensors(kind, 3)
    values = learner.critics(learner.critics.encode(batch.obs), batch.action[None])
    assert values.shape == (4, 1, 3)
    assert len(torch.unique(values[:, 0, 0])) == 4


def test_judged_by_the_mode_or_by_samples() -> None:
    obs = tensors("state", 4).obs
    mode, sampler = cql("acting_samples=1"), cql("acting_samples=1", "stochastic=true")
    assert (mode.noise_shape, sampler.noise_shape) == ((0,), (8,))
    torch.testing.assert_close(sampler.act(obs, torch.zeros(4, 8)), mode.act(obs, torch.zeros(4, 0)))
    assert not torch.equal(sampler.act(obs, torch.ones(4, 8)), mode.act(obs, torch.zeros(4, 0)))


def test_the_best_of_samples_is_taken_by_the_smallest_q() -> None:
    """Of two samples the one whose smallest Q is larger; exploring compares them too."""
    obs, learner = tensors("state", 6).obs, cql("acting_samples=2", "critics=3")
    assert (learner.noise_shape, learner.explore_noise_shape) == ((2, 8), (2, 8))
    assert learner.stochastic
    noise = torch.randn((6, 2, 8), generator=seeded(1))
    chosen = learner.act(obs, noise)
    mean, log_std = learner.policy(obs)
    both = torch.tanh(mean + noise.transpose(0, 1) * log_std.exp())  # (2, B, 8)
    values = learner.critics(learner.critics.encode(obs), both).amin(0)  # (2, B)
    assert 0 < values.argmax(0).sum() < 6, "both samples are to be the better one somewhere"
    for row in range(6):
        torch.testing.assert_close(chosen[row], both[values[:, row].argmax(), row])
    torch.testing.assert_close(learner.explore(obs, noise), chosen)


def test_what_acts_is_what_is_kept() -> None:
    assert cql("acting_samples=1", "average_rate=1").acting == ("policy",)
    assert cql("acting_samples=2", "average_rate=1").acting == ("policy", "critics")
    assert cql("acting_samples=1").acting == ("average_policy",)
    assert cql("acting_samples=2").acting == ("average_policy", "average_critics")


def weight(network: torch.nn.Module) -> torch.Tensor:
    """A copy of one weight of a policy's last layer."""
    return network.get_parameter("head.weight").detach().clone()


def test_averages_follow_and_act() -> None:
    """The mean of the first weights, then steps of the rate; what acts is the average, not the network."""
    learner = cql("average_rate=0.4", "acting_samples=1")
    average = learner.get_submodule("average_policy")
    expected = torch.zeros(())
    for number in range(1, 6):
        learner.update(tensors("state", 8, 8 * number), seeded(number))
        expected = expected + max(0.4, 1 / number) * (weight(learner.policy) - expected)
        torch.testing.assert_close(weight(average), expected)
    assert not torch.equal(expected, weight(learner.policy))
    obs = tensors("state", 4).obs
    mean, _ = average(obs)
    torch.testing.assert_close(learner.act(obs, torch.zeros(4, 0)), torch.tanh(mean))


def test_averages_start_where_the_networks_that_are_taken_over_are() -> None:
    clone = small_learner("bc", "state")
    learner = cql()
    assert learner.start_from(clone) == ("policy",)
    assert torch.equal(weight(learner.get_submodule("average_policy")), weight(learner.policy))
    other = cql()
    assert {"policy", "average_policy", "average_critics"} <= set(other.start_from(learner))


def test_a_shared_encoder_is_one_and_learns_from_the_qs_alone() -> None:
    """The policy looks through the Qs' encoder; with Qs that do not learn it stays, and the policy learns on."""
    alone, shared = cql(kind="image+robot"), cql("shared_encoder=true", kind="image+robot")
    encoders = [module for module in shared.modules() if isinstance(module, Inputs)]
    # of what learns, of the targets, of each of the two averages; without sharing policy and each of two Qs have one
    assert len(encoders) == 4
    assert len([module for module in alone.modules() if isinstance(module, Inputs)]) == 8
    still = cql("shared_encoder=true", "critic_learning_rate=0", "warm_start=0", kind="image+robot")
    before = {name: value.clone() for name, value in still.state_dict().items()}
    for learner in (shared, still):
        for number in range(3):
            learner.update(tensors("image+robot", 8, 8 * number), seeded(number))
        assert learner.policy.inputs is learner.critics.inputs[0]
    moved = {name for name, value in still.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.split(".")[0] for name in moved} == {"policy", "average_policy", "log_temperature"}
    assert {name.split(".")[1] for name in moved if "." in name} == {"trunk", "head"}
    moved = {name for name, value in shared.state_dict().items() if not torch.equal(value, before[name])}
    assert any(name.startswith("policy.inputs.encoder") for name in moved)


@pytest.mark.parametrize("samples", [1, 2])
def test_a_shared_encoder_acts_as_two_of_the_same_weights(samples: int) -> None:
    obs = tensors("image+robot", 6).obs
    settings = (f"acting_samples={samples}", "average_rate=1")
    shared = cql("shared_encoder=true", *settings, kind="image+robot")
    for number in range(3):
        shared.update(tensors("image+robot", 8, 8 * number), seeded(number))
    noise = torch.randn((6, *shared.noise_shape), generator=seeded(1))
    acts = shared.act(obs, noise)
    apart = copy.deepcopy(shared)
    apart.policy.inputs = copy.deepcopy(shared.policy.inputs)
    apart.shared_encoder = False
    torch.testing.assert_close(acts, apart.act(obs, noise))


def test_a_state_has_no_encoder_to_share() -> None:
    one, other = cql(), cql("shared_encoder=true")
    assert "average_critics" not in cql("shared_encoder=true", "acting_samples=1").acting
    for learner in (one, other):
        learner.update(tensors("state", 8), seeded(0))
    for mine, others in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, others)


def test_a_clones_encoder_becomes_the_shared_one() -> None:
    clone, learner = small_learner("bc", "image+robot"), cql("shared_encoder=true", kind="image+robot")
    assert learner.start_from(clone) == ("policy",)
    taken = dict(learner.critics.inputs[0].named_parameters())
    for name, value in clone.get_submodule("policy.inputs").named_parameters():
        assert torch.equal(value, taken[name]), name
    for value, expected in zip(
        learner.get_submodule("average_critics").parameters(), learner.critics.parameters(), strict=True
    ):
        assert torch.equal(value, expected)


def test_the_learning_rates_fall_in_the_last_part_of_the_updates() -> None:
    settings = ("updates=10", "critic_learning_rate=0.01", "policy_learning_rate=0.001", "lagrange=true")
    learner, seen = cql(*settings, "decay=0.4"), []
    for number in range(10):
        learner.update(tensors("state", 8, 8 * number), seeded(number))
        seen.append({name: one.param_groups[0]["lr"] for name, one in learner.optimisers.items()})
    rest = [1.0] * 7 + [0.75, 0.5, 0.25]
    for name, rate in (("policy", 0.001), ("temperature", 0.001), ("critics", 0.01), ("penalty", 0.01)):
        assert [one[name] for one in seen] == pytest.approx([rate * part for part in rest])
    assert learner.learning_rate("critics") == 0
    steady = cql(*settings)
    steady.updates_done = 9
    assert steady.learning_rate("critics") == 0.01


def test_the_papers_preset_says_what_the_paper_and_its_code_say() -> None:
    config = small_learner("cql").presets["paper"].to_dict()
    expected = {
        "encoder": "paper", "crop_px": 4, "batch_size": 256, "critic_widths": [1024, 512, 256],
        "policy_widths": [1024, 512, 256, 256, 256, 256], "critics": 2, "layer_norm": False,
        "discount": 0.99, "target_rate": 0.005, "critic_learning_rate": 3e-4, "policy_learning_rate": 1e-4,
        "temperature": 1.0, "target_entropy": -8.0, "warm_start": 10_000, "penalty_weight": 1.0,
        "penalty_samples": 1, "penalty_temperature": 1.0, "importance": True, "lagrange": False,
        "backup_actions": 1, "bellman_scale": 1.0, "stochastic": False, "success": "continuing",
        "acting_samples": 1, "average_rate": 1.0, "shared_encoder": False, "decay": 0.0,
    }  # fmt: skip
    assert {name: config[name] for name in expected} == expected
