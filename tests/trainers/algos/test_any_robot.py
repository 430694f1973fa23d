"""Every algorithm learns, acts, is stored and exported for every declaration, or says in one line that it cannot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cogdata.errors import CogError
from cogdata.storage.store import Store
from tests.trainers.robots import ROBOTS, batch_of, observe, spec_of_robot
from tests.trainers.toy import SMALL, seeded
from trainers.algorithm import Algorithm
from trainers.algos import ALGORITHMS, build, configure
from trainers.checkpoint import load_policy, save_checkpoint
from trainers.evaluation.acting import Actor
from trainers.evaluation.evaluate import Policy
from trainers.evaluation.export import export_policy
from trainers.training.batches import in_units

LOOKS_AT = {"built_in": "image+robot", "arm": "image+robot", "game": "state", "knobs": "state"}
REFUSED = {
    ("bfn", "game"): "bfn needs a Box action, found a Discrete one .* choose bc, cql or iql",
    ("sac", "game"): "sac needs a Box action, found a Discrete one .* choose bc, cql or iql",
    ("bfn", "knobs"): "bfn needs a Box action",
    ("sac", "knobs"): "sac needs a Box action",
    ("cql", "knobs"): "cql learns Box and Discrete actions, found a MultiDiscrete one .* choose bc or iql",
}
CASES = [(algo, robot) for algo in ALGORITHMS for robot in ROBOTS]


def learner_of(algo: str, robot: str, *overrides: str, seed: int = 0) -> Algorithm:
    small = [pair for pair in SMALL[algo] if robot != "game" or algo != "cql" or pair.startswith("critic")]
    config = configure(algo, "fast", (*small, "batch_size=8", *overrides))
    return build(algo, config, spec_of_robot(ROBOTS[robot], LOOKS_AT[robot]), seed)


@pytest.mark.parametrize(("algo", "robot"), CASES)
def test_every_algorithm_takes_every_declaration(algo: str, robot: str, tmp_path: Path) -> None:
    if (algo, robot) in REFUSED:
        with pytest.raises(CogError, match=REFUSED[algo, robot]):
            learner_of(algo, robot)
        return
    declared, learner = ROBOTS[robot], learner_of(algo, robot)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    for update in range(2):
        batch = in_units(batch_of(declared, 8, update), learner.spec.action)
        metrics = learner.update(batch, seeded(update))
        assert all(value.isfinite() for value in metrics.values())
    assert any(not torch.equal(value, before[name]) for name, value in learner.state_dict().items())

    obs = observe(declared, 5, 9)
    shown = [{name: part[row].numpy() for name, part in obs.parts.items()} for row in range(5)]
    for exploring in (False, True):
        actions = Actor(learner, exploring=exploring)(shown, [seeded(row) for row in range(5)])
        assert actions.dtype == declared.action.numpy_dtype
        declared.action.check(actions[:5], 5)

    save_checkpoint(Store(str(tmp_path)), "run", learner, 1.0)
    loaded, _ = load_policy(Store(str(tmp_path)), "run")
    assert loaded.spec == learner.spec
    noise = torch.randn(5, *learner.noise_shape, generator=seeded(1))
    assert torch.equal(loaded.act(obs, noise), learner.act(obs, noise))


@pytest.mark.parametrize(
    ("algo", "robot"),
    [
        ("bc", "arm"),
        pytest.param("cql", "arm", marks=pytest.mark.slow),
        ("iql", "game"),
        ("cql", "game"),
        ("bc", "knobs"),
    ],
)
def test_an_exported_policy_acts_within_the_bounds_of_the_robot(algo: str, robot: str) -> None:
    declared, learner = ROBOTS[robot], learner_of(algo, robot)
    exported = export_policy(Policy(learner, "run", seed=3, update=7, digest="d" * 64), "onnx")
    assert exported.error <= 1e-5
    names = [row["name"] for row in exported.about["inputs"] if row["name"] != "noise"]
    assert names == [one.name for one in declared.observations]
    (action,) = exported.about["outputs"]
    assert (action["dtype"], action["shape"]) == (declared.action.dtype, ["batch", *declared.action.shape])
    import onnxruntime

    obs = observe(declared, 6, 2)
    inputs = {name: obs[name].numpy() for name in names}
    if learner.stochastic:
        inputs["noise"] = np.zeros((6, *learner.noise_shape), np.float32)
    (found,) = onnxruntime.InferenceSession(exported.data).run(None, inputs)
    declared.action.check(found, 6)
    expected = learner.spec.action.from_unit(learner.act(obs, torch.zeros(6, *learner.noise_shape)))
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_settings_of_box_actions_are_refused_for_choices() -> None:
    with pytest.raises(
        CogError, match=r"head=flow is for Box actions, .*: leave it out, the head is categorical"
    ):
        learner_of("bc", "game", "head=flow")
    with pytest.raises(
        CogError, match=r"warm_start=3 is for Box actions, the action is int64 within \[1, 4\]"
    ):
        learner_of("cql", "game", "warm_start=3")


def test_hybrid_needs_declared_commands() -> None:
    with pytest.raises(CogError, match="hybrid=true needs an action that declares commands"):
        learner_of("bc", "arm", "hybrid=true")


@pytest.mark.parametrize("algo", ["bfn", "iql", "cql"])
def test_values_lie_in_the_range_of_the_rewards(algo: str) -> None:
    """Rewards from -16 to 2 with γ = 0.9 add up to -160 … 20; without a range to 0 … 10."""
    settings = [*SMALL[algo], "batch_size=8", "success=continuing", "discount=0.9"]
    config, spec = configure(algo, "fast", settings), spec_of_robot(ROBOTS["arm"], "state")
    assert build(algo, config, replace(spec, rewards=(-16.0, 2.0)), 0).value_range == pytest.approx(
        (-160, 20)
    )
    assert build(algo, config, spec, 0).value_range == pytest.approx((0, 10))
