"""Several robots in one mixture: each is normalised by its own data, and the policy is told which one it is."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch

from cogdata.errors import CogError
from cogdata.features import EpisodeSpec, Feature, Per
from cogdata.storage.statistics import Stats
from tests.trainers.toy import make_manifest, seeded
from trainers.algorithm import ActionSpec, Algorithm, ObsSpec, Spec, TensorBatch, TensorObs
from trainers.algos import build, configure
from trainers.evaluation.acting import Actor
from trainers.evaluation.evaluate import Policy
from trainers.evaluation.export import export_policy
from trainers.training.batches import for_learner, in_units, spec_of

DECLARED = EpisodeSpec(
    (Feature("place", "float32", (1,)),), Feature("action", "float32", (1,), per=Per.TRANSITION)
)
SMALL, LARGE = (
    Stats({"place": [0.0], "action": [0.0]}, {"place": [1.0], "action": [1.0]}),
    Stats({"place": [100.0], "action": [50.0]}, {"place": [10.0], "action": [10.0]}),
)
"""Places and actions of a small robot lie about 0, of a large one about 100 and 50."""
WHOLE = Stats(
    {"place": [50.0], "action": [25.0]}, {"place": [50.0], "action": [25.0]},
    embodiments={"large": LARGE, "small": SMALL},
)  # fmt: skip


def spec() -> Spec:
    manifest = make_manifest()
    return spec_of("place", replace(manifest, info=replace(manifest.info, declared=DECLARED), stats=WHOLE))


def batch_of(seed: int, count: int = 64) -> TensorBatch:
    """Both robots go in the direction of their place, which lies as far in their own units."""
    generator = seeded(seed)
    robot, step = torch.arange(count) % 2, torch.randn(count, 1, generator=generator)
    large = (robot == 0).unsqueeze(1)
    obs = TensorObs({"place": torch.where(large, 100 + 10 * step, step)})
    action = torch.where(large, 50 + 10 * step.sign(), -step.sign())  # the small one goes the other way
    flags = torch.zeros(count, dtype=torch.bool)
    return TensorBatch(
        obs, action, torch.zeros(count), obs, flags, flags.short(), embodiment=robot.to(torch.int16)
    )


def learner() -> Algorithm:
    settings = ("widths=32,32", "batch_size=64", "stochastic=false", "learning_rate=3e-3")
    return build("bc", configure("bc", "fast", settings), spec(), 0)


def test_statistics_of_each_robot_are_part_of_the_specification() -> None:
    found = spec()
    assert found.obs.embodiments == ("large", "small")
    assert found.obs.inputs == ("place", "embodiment")
    assert found.obs.apart["large"] == {"place": ((100.0,), (10.0,))}
    assert found.action.apart == {"large": ((50.0,), (10.0,)), "small": ((0.0,), (1.0,))}
    again = Spec.from_dicts(*json.loads(json.dumps([found.obs.to_dict(), found.action.to_dict()])))
    assert again == found


def test_actions_are_scaled_by_the_robot_s_own_data() -> None:
    """Mean ± 3 standard deviations; an unknown robot is scaled as all together: 25 ± 75."""
    action = spec().action
    robot = torch.tensor([0, 1, -1])
    done = torch.tensor([[65.0], [1.5], [62.5]])
    unit = action.to_unit(done, robot)
    assert unit.tolist() == [[0.5], [0.5], [0.5]]
    assert torch.equal(action.from_unit(unit, robot), done)
    chunk = torch.tensor([[[65.0], [50.0]], [[1.5], [0.0]]])
    assert action.to_unit(chunk, robot[:2]).flatten(1).tolist() == [[0.5, 0.0], [0.5, 0.0]]
    batch = batch_of(0, 4)
    assert in_units(batch, action).action.abs().flatten().tolist() == pytest.approx([1 / 3] * 4)


def test_a_policy_is_told_which_robot_it_is() -> None:
    cloned = learner()
    for update in range(200):
        cloned.update(for_learner(batch_of(update), cloned), seeded(update))
    for robot, place, right in (("large", 110.0, 60.0), ("small", 1.0, -1.0)):
        action = Actor(cloned, embodiment=robot)([{"place": np.array([place], np.float32)}], [seeded(0)])[
            0, 0
        ]
        assert action == pytest.approx(right, rel=0.15)
    with pytest.raises(
        CogError, match="tells the robots large, small apart, and the environment's is not said"
    ):
        Actor(cloned)
    with pytest.raises(CogError, match="the environment's is 'tiny': name it"):
        Actor(cloned, embodiment="tiny")


def test_an_exported_policy_takes_the_robot_as_an_input() -> None:
    cloned = learner()
    exported = export_policy(Policy(cloned, "run", seed=3, update=7, digest="d" * 64), "onnx")
    assert [row["name"] for row in exported.about["inputs"]] == ["place", "embodiment"]
    assert exported.about["embodiments"] == ["large", "small"]
    inputs = {"place": np.array([[105.0], [0.5]], np.float32), "embodiment": np.array([0, 1])}
    (found,) = onnxruntime.InferenceSession(exported.data).run(None, inputs)
    for row, robot in enumerate(("large", "small")):
        expected = Actor(cloned, embodiment=robot)([{"place": inputs["place"][row]}], [seeded(0)])[0]
        np.testing.assert_allclose(found[row], expected, atol=1e-4)


def test_bounds_of_an_action_need_no_statistics() -> None:
    bounded = replace(DECLARED.action, low=(-1.0,), high=(1.0,))
    assert ActionSpec.of(bounded, (0.0,), (1.0,), {"small": ((0.0,), (1.0,))}).apart == {}
    alone = ObsSpec((DECLARED.observations[0],), {"place": (0.0,)}, {"place": (1.0,)})
    assert alone.inputs == ("place",)
