"""Policies whose actions are differences from an observation: evaluated, kept in a checkpoint, exported."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any, ClassVar

import gymnasium
import numpy as np
import onnxruntime
import pytest
import torch
from gymnasium.spaces import Box, Dict

from cogdata.errors import CogError
from cogdata.features import EpisodeSpec, Feature, Per
from cogdata.storage.selection import Selection
from trainers.action import ActionSpec
from trainers.algorithm import Algorithm
from trainers.algos import build, configure
from trainers.evaluation.evaluate import EvalEnv, Policy, evaluate
from trainers.evaluation.export import export_policy
from trainers.spec import ObsSpec, Spec

SPEED = Feature("speed", "float32", (1,))
SPEC = EpisodeSpec(
    (Feature("joints", "float64", (2,)), SPEED),
    Feature("action", "float32", (2,), Per.TRANSITION, low=(-9.0, -9.0), high=(9.0, 9.0)),
)
THIRD = (1 / 3, 1 / 3)
ACTION = ActionSpec(
    replace(SPEC.action, low=None, high=None), (0.0, 0.0), THIRD, relative_to="joints"
)  # ± 3 standard deviations: units are differences


class Drifting(gymnasium.Env[Any, Any]):
    """Two joints that end 0.5 beyond where they are told to go; the reward is the first target."""

    episode_spec = SPEC
    targets: ClassVar[list[list[float]]] = []
    observation_space = Dict(
        joints=Box(-np.inf, np.inf, (2,), np.float64), speed=Box(-np.inf, np.inf, (1,), np.float32)
    )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.time, self.joints = 0, np.array([1.0, 2.0])
        return self._shown(), {"predicates": {}}

    def step(self, action: Any) -> Any:
        assert action.dtype == np.float32
        self.targets.append(action.tolist())
        self.time, self.joints = self.time + 1, action.astype(np.float64) + 0.5
        return self._shown(), float(action[0]), self.time == 5, False, {"predicates": {}}

    def _shown(self) -> Any:
        return {"joints": self.joints, "speed": np.zeros(1, np.float32)}


@pytest.fixture
def learner(monkeypatch: pytest.MonkeyPatch) -> Algorithm:
    """A clone that looks at the speed alone; its chunks are always 0.25, 0.5 and 0.75, of which it does two."""
    obs = ObsSpec((SPEED,), {"speed": (0.0,)}, {"speed": (1.0,)})
    config = configure("bc", "fast", ("widths=8,8", "chunk=3", "execute=2"))
    made = build("bc", config, Spec(obs, ACTION), 0)
    chunk = torch.tensor([0.25, 0.5, 0.75]).view(1, 3, 1).expand(16, 3, 2)
    monkeypatch.setattr(made, "act", lambda obs, noise: chunk)
    return made


def test_each_action_of_a_chunk_adds_to_the_observation_of_its_step(learner: Algorithm) -> None:
    Drifting.targets.clear()
    world = EvalEnv("lab:Drifting", Drifting, SPEC)
    found = evaluate(Policy(learner, "run", seed=0, update=0, digest="d" * 64), world, [0])
    # joints are 1 1.75 2.75 3.5 4.5: the next observation, not the one that the chunk was chosen at
    assert [target[0] for target in Drifting.targets] == [1.25, 2.25, 3.0, 4.0, 4.75]
    assert [target[1] for target in Drifting.targets] == [2.25, 3.25, 4.0, 5.0, 5.75]
    assert found.rows.column("total_reward").to_pylist() == [15.25]


def test_a_target_beyond_the_bounds_of_the_world_is_clipped(learner: Algorithm) -> None:
    Drifting.targets.clear()
    action = replace(SPEC.action, low=(-9.0, -9.0), high=(3.5, 4.5))
    world = EvalEnv("lab:Drifting", Drifting, replace(SPEC, action=action))
    evaluate(Policy(learner, "run", seed=0, update=0, digest="d" * 64), world, [0])
    # after the third target joints are at 3.5: 0.5 more is beyond the bound
    assert Drifting.targets == [[1.25, 2.25], [2.25, 3.25], [3.0, 4.0], [3.5, 4.5], [3.5, 4.5]]


def test_a_specification_keeps_what_actions_are_relative_to(learner: Algorithm) -> None:
    spec = learner.spec
    assert spec.shown == ("speed", "joints")
    assert Spec.from_dicts(spec.obs.to_dict(), spec.action.to_dict()) == spec
    absolute = replace(spec, action=replace(ACTION, relative_to=""))
    assert absolute.shown == ("speed",)
    assert "relative_to" not in absolute.action.to_dict()
    assert ACTION.repeated(2).relative_to == "joints"


def test_what_the_mixture_renamed_is_found_in_the_world(learner: Algorithm) -> None:
    Drifting.targets.clear()
    learner.spec = replace(learner.spec, action=replace(ACTION, relative_to="q"))
    world = EvalEnv("lab:Drifting", Drifting, SPEC, selection=Selection(rename={"joints": "q"}))
    evaluate(Policy(learner, "run", seed=0, update=0, digest="d" * 64), world, [0])
    assert Drifting.targets[0] == [1.25, 2.25]


def cloner(*overrides: str) -> Algorithm:
    """A clone that looks at the joints, and whose every action is the mean of the data: 0.25 and 0.5 further."""
    joints = SPEC["joints"]
    obs = ObsSpec((joints,), {"joints": (100.0, 0.0)}, {"joints": (10.0, 1.0)})
    action = replace(ACTION, mean=(0.25, 0.5), std=(0.0, 1.0))  # the first entry is the same throughout
    config = configure("bc", "fast", ("widths=8,8", "stochastic=false", *overrides))
    made = build("bc", config, Spec(obs, action), 0)
    with torch.no_grad():
        for parameter in made.get_submodule("policy").parameters():
            parameter.zero_()
    return made


def exported(learner: Algorithm, format: str) -> tuple[bytes, dict[str, Any]]:
    written = export_policy(Policy(learner, "run", seed=3, update=7, digest="d" * 64), format)
    return written.data, written.about


def test_an_exported_policy_adds_the_newest_observation() -> None:
    data, about = exported(cloner("stack=2"), "onnx")
    assert about["relative_to"] == "joints"
    assert about["outputs"] == [{"name": "action", "dtype": "float32", "shape": ["batch", 2]}]
    joints = np.array([[[9.0, 9.0], [1.0, 2.0]], [[9.0, 9.0], [-3.0, 50.0]]])  # oldest first
    (action,) = onnxruntime.InferenceSession(data).run(None, {"joints": joints})
    assert action.dtype == np.float32
    np.testing.assert_allclose(action, [[1.25, 2.5], [-2.75, 50.5]], atol=1e-5)


def test_a_torch_file_adds_too() -> None:
    data, _ = exported(cloner(), "torch")
    (action,) = torch.export.load(io.BytesIO(data)).module()(torch.tensor([[1.0, 2.0]], dtype=torch.float64))
    assert action.tolist() == pytest.approx([1.25, 2.5], abs=1e-5)


def test_a_file_that_would_not_know_what_to_add_is_refused(learner: Algorithm) -> None:
    with pytest.raises(CogError) as chunked:
        exported(cloner("chunk=4"), "torch")
    assert str(chunked.value) == (
        "each action of a chunk is relative to joints at its own step, which a file that predicts 4 actions cannot "
        "know: train with --set chunk=1, or on a mixture without --transform"
    )
    blind = cloner()
    blind.spec = learner.spec
    with pytest.raises(CogError) as unseen:
        exported(blind, "torch")
    assert str(unseen.value) == (
        "actions are relative to joints, which the policy does not look at, so it is no input of the file: add "
        "joints to --obs, or train on a mixture without --transform"
    )
