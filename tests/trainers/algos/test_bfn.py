from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cogdata.errors import CogError
from tests.trainers.toy import PLACES, make_spec, move, observe, seeded, small_learner, stitching, tensors
from trainers.algos.bc import Bc
from trainers.algos.bfn import Bfn
from trainers.networks.targets import absorbing_target, continuing_target
from trainers.training.batches import tensor_obs


def test_absorbing_target_by_hand() -> None:
    reward = torch.tensor([0.0, 1.0, 0.0, 1.0])
    terminated = torch.tensor([False, False, True, True])
    value = torch.tensor([0.5, 0.9, 0.7, 0.9])
    # bootstrapped: 0 + .8·.5; success: exactly its reward; the world's end: nothing more
    torch.testing.assert_close(
        absorbing_target(reward, terminated, value, 0.8), torch.tensor([0.4, 1.0, 0.0, 1.0])
    )


def test_continuing_target_by_hand() -> None:
    reward = torch.tensor([0.0, 1.0, 1.0])
    terminated = torch.tensor([False, False, True])
    value = torch.tensor([0.5, 5.0, 5.0])
    torch.testing.assert_close(
        continuing_target(reward, terminated, value, 0.8), torch.tensor([0.4, 5.0, 1.0])
    )


def test_a_time_limit_bootstraps() -> None:
    """A truncated step reaches the learner as terminated = False: its value is that of s', not 0."""
    learner = small_learner("bfn", "state", "discount=0.5")
    assert isinstance(learner, Bfn)
    batch = tensors("state", 8)
    assert not batch.terminated.any()
    value = learner.next_value(batch.next_obs, seeded(0))
    target = absorbing_target(batch.reward, batch.terminated, value, 0.5)
    torch.testing.assert_close(target[batch.reward == 0], 0.5 * value[batch.reward == 0])


def test_the_learning_rate_falls_in_the_last_part_of_the_updates() -> None:
    learner = small_learner("bfn", "state", "updates=10", "decay=0.4", "learning_rate=0.01")
    assert isinstance(learner, Bfn)
    group, seen = learner.optimisers["model"].param_groups[0], []
    for update in range(10):
        learner.update(tensors("state", 8, position=update), seeded(update))
        seen.append(group["lr"])
    assert seen == pytest.approx([0.01] * 7 + [0.0075, 0.005, 0.0025])
    assert learner.learning_rate() == 0
    steady = small_learner("bfn", "state", "updates=10")
    assert isinstance(steady, Bfn)
    steady.updates_done = 9
    assert steady.learning_rate() == steady.config.learning_rate


def test_next_value_is_the_best_proposal_by_the_smallest_critic() -> None:
    learner = small_learner("bfn", "state", "backup_samples=3", "half_proposals=false")
    assert isinstance(learner, Bfn)
    obs = tensors("state", 5).next_obs
    for update in range(3):  # targets and average move apart
        learner.update(tensors("state", 16, position=update), seeded(update))
    noise = torch.randn((3, 5, 8), generator=seeded(4))
    features = learner.target_inputs(obs)
    actions = learner.average.flow.sample(features, noise, learner.config.flow_steps)
    expected = torch.full((5,), -float("inf"))
    for n in range(3):
        values = learner.target_critics(features, actions[n : n + 1])[:, 0]
        expected = torch.maximum(expected, torch.minimum(values[0], values[1]))
    torch.testing.assert_close(learner.next_value(obs, seeded(4)), expected)


def test_acting_takes_the_proposal_that_the_critics_like_best() -> None:
    learner = small_learner("bfn", "state", "acting_samples=6")
    assert isinstance(learner, Bfn)
    obs = tensors("state", 4).obs
    noise = torch.randn(4, 6, 8, generator=seeded(0))
    chosen = learner.act(obs, noise)
    features = learner.average.inputs(obs)
    actions = learner.average.flow.sample(features, noise.transpose(0, 1), learner.config.flow_steps)
    values = learner.average.critics(features, actions).mean(0)
    for row in range(4):
        torch.testing.assert_close(chosen[row], actions[values[:, row].argmax(), row])


def test_value_range_follows_the_meaning_of_success() -> None:
    assert small_learner("bfn", "state", "discount=0.9").value_range == (0, 1)
    continuing = small_learner("bfn", "state", "discount=0.9", "success=continuing").value_range
    assert continuing == pytest.approx((0, 10))


def test_flow_recovers_a_distribution_with_two_modes() -> None:
    """One observation, a[0] = +.6 three times of four, else -.6: a Gaussian would sit in between."""
    learner = small_learner("bfn", "state", "flow_widths=128,128,128")
    assert isinstance(learner, Bfn)
    obs = tensor_obs(observe(np.full(256, 2)), make_spec("state").obs.names, torch.device("cpu"))
    optimiser = torch.optim.Adam(learner.model.flow.parameters(), lr=4e-3)
    with torch.no_grad():
        features = learner.model.inputs(obs)
    for update in range(500):
        if update == 350:
            optimiser.param_groups[0]["lr"] = 4e-4
        generator = seeded(update)
        action = 0.05 * torch.randn(256, 8, generator=generator)
        action[:, 0] += torch.where(torch.rand(256, generator=generator) < 0.75, 0.6, -0.6)
        loss = learner.flow_loss(features, action, generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        samples = learner.model.flow.sample(features, torch.randn(8, 256, 8, generator=seeded(1)), 20)[..., 0]
    assert ((samples.abs() - 0.6).abs() < 0.2).float().mean() > 0.85
    assert (samples > 0).float().mean().item() == pytest.approx(0.75, abs=0.05)


def walk(learner: Bfn | Bc, episodes: int, horizon: int) -> float:
    """Share of walks from place 0 that end at the last place."""
    place = np.zeros(episodes, np.int64)
    generator = seeded(9)
    for _ in range(horizon):
        obs = tensor_obs(observe(place), learner.spec.obs.names, torch.device("cpu"))
        noise = torch.randn((episodes, *learner.noise_shape), generator=generator)
        place = move(place, learner.act(obs, noise).numpy())
    return float((place == PLACES - 1).mean())


def test_critics_of_probabilities() -> None:
    """They start from next to nothing, err by cross-entropy, and value by its probability."""
    learner = small_learner("bfn", "state", "critic_loss=cross_entropy")
    assert isinstance(learner, Bfn)
    batch = tensors("state", 4)
    features = learner.model.inputs(batch.obs)
    outputs = learner.model.critics(features, batch.action.unsqueeze(0)).squeeze(1)
    torch.testing.assert_close(outputs, torch.full((2, 4), -5.0))
    target = torch.tensor([0.0, 1.0, 0.25, 0.0])
    loss, metrics = learner.critic_loss(features, batch, target)
    # log(1 + e^5) where it is 1, log(1 + e^-5) where it is 0; twice, for two critics
    ends = [math.log1p(math.exp(sign * 5)) for sign in (1, -1)]
    assert loss.item() == pytest.approx(2 * (1.25 * ends[0] + 2.75 * ends[1]) / 4, rel=1e-5)
    assert metrics["q_mean"].item() == pytest.approx(1 / (1 + math.exp(5)), rel=1e-4)
    with pytest.raises(CogError, match="^critic_loss=cross_entropy needs success=absorbing"):
        small_learner("bfn", "state", "critic_loss=cross_entropy", "success=continuing")


@pytest.mark.parametrize("critic_loss", ["squared", "cross_entropy"])
def test_best_of_n_stitches_what_cloning_cannot(critic_loss: str) -> None:
    """Prior: a random walk on 0 … 3; task: from 3 to 6. From 0 in 8 steps, cloning mostly walks at random."""
    best = small_learner(
        "bfn", "state", "learning_rate=0.001", "flow_widths=64,64", "critic_widths=64,64",
        f"critic_loss={critic_loss}",
    )  # fmt: skip
    clone = small_learner("bc", "state", "learning_rate=0.001")
    assert isinstance(best, Bfn)
    assert isinstance(clone, Bc)
    for update in range(700):
        batch = tensors("state", 128, position=update, sample=stitching)
        best.update(batch, seeded(update))
        clone.update(batch, seeded(update))
    assert walk(best, 200, 8) > 0.9
    assert walk(clone, 200, 8) < 0.4
    value = best.next_value(
        tensor_obs(observe(np.arange(PLACES)), best.spec.obs.names, torch.device("cpu")), seeded(0)
    )
    expected = torch.tensor([0.95 ** (5 - place) for place in range(6)])  # n steps to go are worth γ^(n - 1)
    torch.testing.assert_close(value[:6], expected, atol=0.12, rtol=0)


def test_the_average_starts_as_a_mean_and_then_forgets_at_its_rate() -> None:
    learner = small_learner("bfn", "state", "average_rate=0.5")
    assert isinstance(learner, Bfn)
    expected = None
    for update in range(4):
        learner.update(tensors("state", 16, position=update), seeded(update))
        now = learner.model.flow.out.weight.detach()
        rate = max(0.5, 1 / (update + 1))
        expected = now.clone() if expected is None else (1 - rate) * expected + rate * now
        torch.testing.assert_close(learner.average.flow.out.weight, expected)


def test_proposals_in_half_precision_are_nearly_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainers.algos.bfn.has_bfloat16", lambda device: True)  # emulated, if need be
    full = small_learner("bfn", "state", "half_proposals=false")
    half = small_learner("bfn", "state")
    assert isinstance(full, Bfn)
    assert isinstance(half, Bfn)
    for learner in (full, half):
        # they start at 0, where actions do not matter
        for parameter in learner.target_critics.out.parameters():
            torch.nn.init.normal_(parameter, generator=seeded(1))
    obs = tensors("state", 64).next_obs
    values = full.next_value(obs, seeded(0))
    rounded = half.next_value(obs, seeded(0))
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, values)
    # with 8 bits of precision an action is off by about 2⁻⁸; values spread by about 1 (found: .005 at most)
    torch.testing.assert_close(rounded, values, atol=0.02, rtol=0)


def test_the_critics_say_more_to_the_common_encoder_with_their_weight() -> None:
    """With f from the flow and c from the critics an encoder's gradient is f + w c: linear in w."""
    found = []
    for weight in (1.0, 2.0, 4.0):
        learner = small_learner("bfn", "image", f"critic_weight={weight}")
        assert isinstance(learner, Bfn)
        for parameter in learner.model.critics.out.parameters():
            torch.nn.init.normal_(parameter, generator=seeded(1))  # at 0 they say nothing yet
        learner.update(tensors("image", 16), seeded(0))
        gradients = [parameter.grad for parameter in learner.model.inputs.parameters()]
        found.append(torch.cat([gradient.flatten() for gradient in gradients if gradient is not None]))
    one, two, four = found
    assert (two - one).norm() > 0.01 * one.norm()
    error = (four - two) - 2 * (two - one)  # a small difference of sums of hundreds of products
    assert error.norm() < 1e-4 * (four - two).norm()
