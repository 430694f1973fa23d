"""What every algorithm promises, for every kind of observation."""

from __future__ import annotations

import json

import pytest
import torch

from cogdata.errors import CogError
from tests.trainers.toy import KINDS, make_spec, seeded, small_config, small_learner, tensors
from trainers.algorithm import Algorithm, TensorObs
from trainers.algos import ALGORITHMS, build, config_from_dict, configure
from trainers.checkpoint import split_state

CASES = [(algo, kind) for algo in ALGORITHMS for kind in KINDS]


def state_of(learner: Algorithm) -> dict[str, torch.Tensor]:
    weights, training = split_state(learner)
    return {name: value.clone() for name, value in (weights | training).items()}


@pytest.mark.parametrize(("algo", "kind"), CASES)
def test_an_update_moves_weights_and_reports_finite_scalars(algo: str, kind: str) -> None:
    learner = small_learner(algo, kind)
    before = state_of(learner)
    metrics = learner.update(tensors(kind, 16), seeded(0))
    after = state_of(learner)
    assert learner.updates_done == 1
    assert all(value.ndim == 0 and value.isfinite() and not value.requires_grad for value in metrics.values())
    assert any(
        not torch.equal(before[name], after[name]) for name in before if name.split(".")[0] in learner.acting
    )
    if learner.value_range is not None:
        assert {"q_mean", "q_max", "q_min"} <= metrics.keys()


@pytest.mark.parametrize(("algo", "kind"), CASES)
def test_updates_are_a_function_of_seed_batch_and_generator(algo: str, kind: str) -> None:
    one, two = small_learner(algo, kind), small_learner(algo, kind)
    for update in range(3):  # cql's warm start ends after two
        batch = tensors(kind, 16, position=update)
        for learner in (one, two):
            learner.update(batch, seeded(update))
    other = small_learner(algo, kind, seed=1)
    assert all(torch.equal(value, state_of(two)[name]) for name, value in state_of(one).items())
    assert any(not torch.equal(value, state_of(other)[name]) for name, value in state_of(one).items())


@pytest.mark.parametrize(("algo", "kind"), CASES)
def test_actions_are_within_bounds_and_each_row_is_its_own(algo: str, kind: str) -> None:
    learner = small_learner(algo, kind)
    obs = tensors(kind, 12).obs
    noise = torch.randn(12, *learner.noise_shape, generator=seeded(1))
    actions = learner.act(obs, noise)
    assert actions.shape == (12, 8)
    assert actions.abs().max() <= 1
    assert not actions.requires_grad
    assert torch.equal(actions, learner.act(obs, noise))
    order = torch.arange(11, -1, -1)
    turned = {name: part[order] if part is not None else None for name, part in vars(obs).items()}
    torch.testing.assert_close(learner.act(TensorObs(**turned), noise[order]), actions[order])
    if learner.stochastic:
        assert not torch.equal(actions, learner.act(obs, torch.randn_like(noise)))


@pytest.mark.parametrize(("algo", "kind"), CASES)
def test_acting_needs_no_more_than_the_acting_weights(algo: str, kind: str) -> None:
    learner, other = small_learner(algo, kind), small_learner(algo, kind, seed=1)
    learner.update(tensors(kind, 16), seeded(0))
    weights, _ = split_state(learner)
    mine, _ = split_state(other)
    with torch.no_grad():
        for name, value in mine.items():
            value.copy_(weights[name])
    obs = tensors(kind, 5).obs
    noise = torch.randn(5, *learner.noise_shape)
    assert torch.equal(learner.act(obs, noise), other.act(obs, noise))


@pytest.mark.parametrize(("algo", "kind"), CASES)
def test_only_the_named_parts_are_looked_at(algo: str, kind: str) -> None:
    learner = small_learner(algo, kind)
    obs = tensors(kind, 4).obs
    noise = torch.zeros(4, *learner.noise_shape)
    extra = {
        "image": torch.zeros(4, 16, 16, 3, dtype=torch.uint8),
        "robot": torch.ones(4, 10),
        "scene": torch.ones(4, 2),
    }
    more = {name: part if part is not None else extra[name] for name, part in vars(obs).items()}
    assert torch.equal(learner.act(obs, noise), learner.act(TensorObs(**more), noise))


@pytest.mark.parametrize("algo", ALGORITHMS)
@pytest.mark.parametrize("preset", ["fast", "paper"])
def test_presets_survive_json_and_build(algo: str, preset: str) -> None:
    config = configure(algo, preset)
    assert config_from_dict(algo, json.loads(json.dumps(config.to_dict()))) == config
    assert build(algo, config, make_spec("image+robot"), 0).name == algo


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_the_global_generator_is_left_alone(algo: str) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    learner = build(algo, small_config(algo), make_spec("state"), 0)
    learner.update(tensors("state", 8), seeded(0))
    assert torch.equal(before, torch.random.get_rng_state())


def test_an_unknown_algorithm_is_named_with_the_known_ones() -> None:
    with pytest.raises(
        CogError, match=r"unknown algorithm 'bfm': did you mean 'bfn'\? known: bc, bfn, cql, iql, sac"
    ):
        configure("bfm")
    with pytest.raises(CogError, match="unknown preset 'quick'.*known: fast, paper"):
        configure("bc", "quick")
