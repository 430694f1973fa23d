"""Stacks of observations, chunks of actions and returns of n steps: what learners do with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cogdata.errors import CogError
from cogdata.features import EpisodeSpec, Feature
from cogdata.storage.manifest import Stats
from cogdata.storage.store import Store
from cogdata.streaming.stream import open_stream
from tests.cogdata.streaming.foreign import arm_episode, arm_manifest, write_arm
from tests.trainers.robots import ROBOTS, action_of, batch_of, observe, spec_of_robot
from tests.trainers.toy import SMALL, make_spec, seeded, small_learner, tensors
from trainers.algorithm import Algorithm, TensorBatch, TensorObs
from trainers.algos import build, configure
from trainers.algos.actor_critic import QLearner
from trainers.algos.bc import Bc
from trainers.checkpoint import load_policy
from trainers.evaluation.acting import Actor
from trainers.evaluation.evaluate import Policy
from trainers.evaluation.export import export_policy
from trainers.training.batches import for_learner, in_units, stream_options
from trainers.training.request import TrainRequest
from trainers.training.train import train

HEADS = (
    ("head=gaussian",),
    ("head=mixture",),
    ("head=flow",),
    ("hybrid=true",),
    ("head=mixture", "hybrid=true"),
)


def cloner(robot: str, *overrides: str) -> Bc:
    config = configure("bc", "fast", (*SMALL["bc"], "batch_size=4", *overrides))
    obs = "image+robot" if robot in ("arm", "built_in") else "state"
    learner = build("bc", config, spec_of_robot(ROBOTS[robot], obs), 0)
    assert isinstance(learner, Bc)
    return learner


def chunks(robot: str, count: int, chunk: int) -> TensorBatch:
    """Chunks of which row i is valid up to its action number i."""
    parts = [batch_of(ROBOTS[robot], count, 10 + t).action for t in range(chunk)]
    valid = torch.arange(chunk) <= torch.arange(count).unsqueeze(1)
    return replace(batch_of(ROBOTS[robot], count, 0), action=torch.stack(parts, 1), valid={"action": valid})


@pytest.mark.parametrize(
    ("robot", "overrides"), [*(("built_in", head) for head in HEADS), ("game", ()), ("knobs", ())]
)
def test_the_loss_leaves_out_what_lies_beyond_an_episode(robot: str, overrides: tuple[str, ...]) -> None:
    learner = cloner(robot, "chunk=3", *overrides)
    batch = in_units(chunks(robot, 4, 3), learner.spec.action)
    other, valid = batch.action.flip(0), batch.valid["action"]
    shape = (4, 3, *[1] * (batch.action.ndim - 2))
    beyond = replace(batch, action=torch.where(valid.view(shape), batch.action, other))
    within = replace(batch, action=torch.where(valid.view(shape), other, batch.action))
    assert not torch.equal(beyond.action, batch.action)
    loss = learner.loss(batch, seeded(0))
    assert torch.equal(learner.loss(beyond, seeded(0)), loss)
    assert not torch.equal(learner.loss(within, seeded(0)), loss)


def test_a_loss_over_all_of_a_chunk_is_the_plain_mean() -> None:
    learner = cloner("built_in", "chunk=3")
    batch = in_units(chunks("built_in", 4, 3), learner.spec.action)
    whole = replace(batch, valid={"action": torch.ones(4, 3, dtype=torch.bool)})
    torch.testing.assert_close(
        learner.loss(whole, seeded(0)), learner.loss(replace(batch, valid={}), seeded(0)), rtol=1e-5, atol=0
    )


def test_padding_of_several_robots_is_left_out_or_refused() -> None:
    learner = cloner("built_in")
    batch = tensors("state", 4)
    batch = replace(batch, obs=observe(ROBOTS["built_in"], 4, 0))
    mask = torch.arange(8).expand(4, 8) < 6
    padded = replace(batch, mask={"action": mask})
    zeros = replace(padded, action=batch.action * mask)
    assert torch.equal(learner.loss(padded, seeded(0)), learner.loss(zeros, seeded(0)))
    assert not torch.equal(learner.loss(padded, seeded(0)), learner.loss(batch, seeded(0)))
    assert for_learner(padded, learner) is padded
    with pytest.raises(
        CogError, match="cql would learn the padding too: choose bc, or a mixture of one robot"
    ):
        for_learner(padded, small_learner("cql"))


@pytest.mark.parametrize("robot", ["arm", "game", "knobs"])
def test_a_chunk_is_done_before_the_next_is_chosen(robot: str) -> None:
    declared, learner = ROBOTS[robot], cloner(robot, "chunk=4", "execute=3")
    obs = [observe(declared, 1, seed) for seed in range(4)]
    actor, noise, done = Actor(learner), seeded(1), []
    for one in obs:
        shown = {name: part[0].numpy() for name, part in one.parts.items()}
        done.append(actor([shown], [noise])[:1])
        declared.action.check(done[-1], 1)
    generator = seeded(1)
    draws = [torch.randn(learner.noise_shape, generator=generator) for _ in range(2)]
    first, second = (
        learner.spec.action.from_unit(learner.act(obs[at], draws[number].unsqueeze(0)))
        for number, at in enumerate((0, 3))
    )
    assert first.shape == (1, 4, *declared.action.shape)
    for t in range(3):
        np.testing.assert_allclose(done[t], first[:, t].numpy(), atol=1e-6)
    np.testing.assert_allclose(done[3], second[:, 0].numpy(), atol=1e-6)


def test_numbers_of_chunks_are_checked() -> None:
    with pytest.raises(CogError, match=r"execute is 5, must be within \[0, 4\]"):
        cloner("arm", "chunk=4", "execute=5")
    assert cloner("arm", "chunk=4").execute == 4
    assert cloner("arm").execute == 1


MOVING = EpisodeSpec((Feature("place", "float32", (1,)),), action_of("float32", (1,), -1.0, 1.0))
"""The action is to go on in the direction of the last step, which one observation does not tell."""


def test_a_stack_shows_the_direction_that_one_observation_hides() -> None:
    spec = spec_of_robot(MOVING, "state")
    settings = ("widths=32,32", "batch_size=64", "stochastic=false", "stack=2", "learning_rate=3e-3")
    learner = build("bc", configure("bc", "fast", settings), spec, 0)
    assert (learner.spec.obs.stack, learner.spec.obs.windows) == (2, {"place": (-1, 0)})
    for update in range(300):
        rng = np.random.default_rng(update)
        place, step = rng.normal(size=64), rng.choice([-0.5, 0.5], 64)
        seen = torch.from_numpy(np.stack([place - step, place], 1)).float().unsqueeze(2)
        done = torch.from_numpy(np.sign(step) * 0.5).float().unsqueeze(1)
        reward, flags = torch.zeros(64), torch.zeros(64, dtype=torch.bool)
        obs = TensorObs({"place": seen})
        learner.update(TensorBatch(obs, done, reward, obs, flags, flags.short()), seeded(update))
    for way in (-0.5, 0.5):
        actor = Actor(learner)
        for at in (0.0, way):
            actions = actor([{"place": np.array([at], np.float32)}], [seeded(0)])
        assert actions[0, 0] == pytest.approx(way, abs=0.2)


def test_stacked_images_are_channels_and_the_first_is_repeated() -> None:
    learner = cloner("arm", "stack=3", "crop_px=2")
    declared = ROBOTS["arm"]
    frames = [observe(declared, 4, seed) for seed in range(3)]
    stacked = TensorObs(
        {one.name: torch.stack([frame[one.name] for frame in frames], 1) for one in declared.observations}
    )
    batch = in_units(replace(batch_of(declared, 4, 0), obs=stacked, next_obs=stacked), learner.spec.action)
    assert learner.update(batch, seeded(0))["loss"].isfinite()
    whole = learner.policy.inputs(stacked)
    moved = learner.policy.inputs(stacked.having("wrist", stacked["wrist"].flip(1)))
    assert not torch.equal(whole, moved)

    shown = [{name: part[0].numpy() for name, part in frame.parts.items()} for frame in frames]
    actor = Actor(learner)
    for number, one in enumerate(shown):
        found = actor([one], [seeded(number)])[0]
        at = [max(0, number - 2 + k) for k in range(3)]
        history = {name: np.stack([shown[t][name] for t in at])[None] for name in one}
        noise = torch.randn(1, *learner.noise_shape, generator=seeded(number))
        seen = TensorObs({name: torch.from_numpy(part) for name, part in history.items()})
        unit = learner.explore(seen, noise)
        np.testing.assert_allclose(found, learner.spec.action.from_unit(unit)[0].numpy(), atol=1e-5)


def test_a_policy_of_stacks_and_chunks_is_exported() -> None:
    learner = cloner("arm", "stack=2", "chunk=3")
    about = export_policy(Policy(learner, "run", seed=3, update=7, digest="d" * 64), "onnx").about
    assert [row["shape"] for row in about["inputs"]] == [
        ["batch", 2, 16, 24, 3], ["batch", 2, 8, 8], ["batch", 2, 7], ["batch", 21],
    ]  # fmt: skip
    assert about["outputs"] == [{"name": "action", "dtype": "float64", "shape": ["batch", 3, 7]}]


@pytest.mark.parametrize("algo", ["cql", "iql", "sac"])
def test_a_return_of_n_steps_has_the_discount_of_its_steps(algo: str) -> None:
    """Rewards 0 in three steps, then a value of .5: γ³ · .5; a return that is rewarded ends."""
    learner = small_learner(algo, "state", "n_step=3", "discount=0.9")
    assert isinstance(learner, QLearner)
    options = stream_options(learner, 8, 3, 10**6)
    assert (options.n_step, options.discount, options.success_ends) == (3, 0.9, True)
    plain = stream_options(small_learner(algo), 8, 3, 10**6)
    assert (plain.n_step, plain.discount, dict(plain.windows)) == (1, None, {})
    batch = replace(
        tensors("state", 3),
        reward=torch.tensor([0.0, 0.81, 0.0]),
        discount=torch.tensor([0.729, 0.0, 0.9]),
        terminated=torch.tensor([False, True, False]),
    )
    found = learner.bellman_target(batch, torch.full((3,), 0.5))
    assert found.tolist() == pytest.approx([0.3645, 0.81, 0.45])


def test_a_run_of_stacks_and_chunks_from_a_store(tmp_path: object) -> None:
    """From shards to a policy: 3 joints positions and 2 actions at a time, and the statistics of the mixture."""
    store = Store(str(tmp_path))
    manifest = arm_manifest(write_arm(store, [arm_episode(0), arm_episode(1)]))
    manifest = replace(
        manifest,
        stats=Stats({"joints": [5.0, 5.0], "action": [5.5]}, {"joints": [4.0, 4.0], "action": [4.0]}),
    )
    config = configure("bc", "fast", (*SMALL["bc"], "batch_size=8", "updates=3", "stack=3", "chunk=2"))
    request = TrainRequest("bc", config, obs="joints", threads=1, memory_bytes=10**6, tensorboard=False)
    info, state = train(
        store, manifest, request, open_stream=lambda options: open_stream(store, manifest, options)
    )
    assert (state.status, state.updates_done) == ("finished", 3)
    learner, _ = load_policy(store, info.run)
    assert (learner.spec.obs.stack, learner.chunk) == (3, 2)
    assert learner.spec.action.mean == (5.5,)
    stream = open_stream(store, manifest, stream_options(learner, 8, 0, 10**6))
    assert stream.batch(0).obs["joints"].shape == (8, 3, 2)
    acted = Actor(learner)([{"joints": np.array([3.0, 3.0])}], [seeded(0)])
    assert acted.shape == (16, 1)
    assert acted.dtype == np.float32


def test_a_learner_of_one_observation_starts_from_none_of_stacks() -> None:
    plain: Algorithm = build("bc", configure("bc", "fast", SMALL["bc"]), make_spec("state"), 0)
    stacked = build("bc", configure("bc", "fast", (*SMALL["bc"], "stack=2")), make_spec("state"), 0)
    with pytest.raises(CogError, match="differs in size; give bc stack=1 with --set"):
        plain.start_from(stacked)
