"""Policies whose actions are differences from an observation: evaluated, kept in a checkpoint."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict

from cogdata.features import EpisodeSpec, Feature, Per
from cogdata.storage.selection import Selection
from trainers.action import ActionSpec
from trainers.algorithm import Algorithm
from trainers.algos import build, configure
from trainers.evaluation.evaluate import EvalEnv, Policy, evaluate
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
