from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from cogdata.errors import CogError
from cogdata.storage.runs import EVALUATIONS
from cogdata.storage.store import Store
from tests.trainers.toy import (
    PLACES,
    TOY_SPEC,
    BrokenEnv,
    ToyEnv,
    ToyStream,
    make_manifest,
    small_config,
    small_learner,
)
from trainers.algorithm import Algorithm, TensorObs
from trainers.evaluation.evaluate import EvalEnv, Policy, evaluate, open_policy, write_evaluation
from trainers.evaluation.worlds import WORLDS, LocalGroup
from trainers.training.request import TrainRequest
from trainers.training.train import train

TOY = EvalEnv("toy/Chain-v0", ToyEnv, TOY_SPEC)


def policy_of(learner: Algorithm, run: str = "toy-run") -> Policy:
    return Policy(learner, run, seed=3, update=0, digest="d" * 64)


def constant(action: float) -> Algorithm:
    """A clone whose every action is the given number."""
    learner = small_learner("bc", "state", "stochastic=false")
    policy = learner.get_submodule("policy")
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.zero_()
        head = policy.get_submodule("head")
        assert isinstance(head, torch.nn.Linear)
        head.bias[:8] = np.arctanh(action)
    return learner


def test_rows_by_hand() -> None:
    """Always right in the chain 0 … 6 with 8 steps: from seed % 3 = 0, 1, 2 the end is reached after 6, 5, 4."""
    evaluation = evaluate(policy_of(constant(0.5)), TOY, [0, 4, 8])
    assert evaluation.rows.schema == EVALUATIONS
    columns = evaluation.rows.to_pydict()
    assert columns["seed"] == [0, 4, 8]
    assert columns["success"] == columns["solved"] == columns["placed"] == [True] * 3
    assert columns["grasped"] == [False] * 3
    assert columns["drawer_open"] == [None] * 3
    assert columns["first_reward_t"] == [5, 4, 3]
    assert columns["total_reward"] == [3, 4, 5]
    assert columns["steps"] == [8, 8, 8]
    assert columns["stochastic"] == [False] * 3
    assert set(columns["run"]) == {"toy-run"}
    assert evaluation.successes == 3


def test_of_one_robot_only_one_is_asked_for() -> None:
    made: list[ToyEnv] = []

    def only() -> ToyEnv:
        made.append(ToyEnv())
        return made[-1]

    world = EvalEnv("mylab.arm:OurArm", only, TOY_SPEC, together=1)
    evaluation = evaluate(policy_of(constant(0.5)), world, [0, 4, 8], record=2)
    assert len(made) == 1
    assert evaluation.rows.column("first_reward_t").to_pylist() == [5, 4, 3]
    assert evaluation.frames.keys() == {0, 4}
    assert evaluation.name.startswith("mylab-arm-ourarm-00000000-")


def test_a_failure_has_no_first_reward() -> None:
    columns = evaluate(policy_of(constant(-0.5)), TOY, [2]).rows.to_pydict()
    assert (columns["success"], columns["solved"], columns["first_reward_t"]) == ([False], [False], [None])


def test_success_is_evaluated_on_the_last_observation() -> None:
    class ThereAndBack(ToyEnv):
        def step(self, action: object) -> tuple[object, float, bool, bool, dict[str, object]]:
            return super().step(np.full(8, 1.0 if self.time < PLACES - 1 else -1.0))

    columns = evaluate(policy_of(constant(0.5)), EvalEnv("toy", ThereAndBack, TOY_SPEC), [0]).rows.to_pydict()
    assert (columns["solved"], columns["success"]) == ([True], [False])


@pytest.mark.parametrize("algo", ["bc", "bfn"])
def test_the_number_of_workers_changes_nothing(algo: str) -> None:
    seeds = list(range(WORLDS + 5))
    policy = policy_of(small_learner(algo, "image+robot"))
    world = EvalEnv("toy", partial(ToyEnv, horizon=5), TOY_SPEC)
    progress: list[tuple[int, int, int]] = []
    alone = evaluate(policy, world, seeds, on_progress=lambda *numbers: progress.append(numbers))
    shared = evaluate(policy, world, seeds, workers=2)
    drop = ["created_at"]
    assert alone.rows.drop_columns(drop).equals(shared.rows.drop_columns(drop))
    assert alone.name == shared.name
    assert [numbers[:2] for numbers in progress] == [(WORLDS, WORLDS + 5), (WORLDS + 5, WORLDS + 5)]
    assert progress[-1][2] == alone.successes


def test_an_episode_is_the_same_whatever_is_evaluated_beside_it() -> None:
    policy = policy_of(small_learner("bfn"))
    many = evaluate(policy, TOY, [5, 6, 7, 8], record=4)
    few = evaluate(policy, TOY, [8, 6], record=2)
    for seed in (8, 6):
        assert np.array_equal(many.frames[seed], few.frames[seed])
    again = evaluate(
        Policy(policy.learner, "toy-run", seed=4, update=0, digest=""), TOY, list(range(12)), record=12
    )
    same = evaluate(policy, TOY, list(range(12)), record=12)
    assert any(not np.array_equal(again.frames[seed], same.frames[seed]) for seed in range(12))


def test_the_policy_sees_what_the_world_shows_and_nothing_is_cropped(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = small_learner("bc", "image+robot")
    seen: list[TensorObs] = []
    act = learner.act

    def watched(obs: TensorObs, noise: torch.Tensor) -> torch.Tensor:
        seen.append(obs)
        return act(obs, noise)

    monkeypatch.setattr(learner, "act", watched)
    frames = evaluate(
        policy_of(learner), EvalEnv("toy", partial(ToyEnv, horizon=3), TOY_SPEC), [1], record=1
    ).frames[1]
    assert frames.shape == (4, 16, 16, 3)
    assert len(seen) == 3
    for t, obs in enumerate(seen):
        assert list(obs.parts) == ["image", "robot"]
        assert obs["image"].shape == (WORLDS, 16, 16, 3)
        assert np.array_equal(obs["image"][0].numpy(), frames[t])


def test_only_the_first_episodes_are_recorded() -> None:
    evaluation = evaluate(policy_of(constant(0.5)), TOY, [3, 1, 2], record=2)
    assert list(evaluation.frames) == [3, 1]


def test_a_world_that_does_not_fit_is_refused() -> None:
    policy = policy_of(small_learner("bc", "image"))
    blind = EvalEnv(
        "toy/Blind-v0", partial(ToyEnv, parts=("robot", "scene")), TOY_SPEC.taking(("robot", "scene"))
    )
    with pytest.raises(CogError, match="^toy/Blind-v0 does not fit the policy: image is missing$"):
        evaluate(policy, blind, [0])
    with pytest.raises(CogError, match="^toy/Blind-v0 has no camera with colours: leave --record out$"):
        evaluate(policy_of(constant(0.5)), blind, [0], record=1)
    with pytest.raises(CogError, match="at least one seed and each only once, found 2"):
        evaluate(policy, TOY, [1, 1])


@pytest.mark.parametrize("workers", [2, 3])
def test_a_failure_in_a_worker_is_one_line(workers: int) -> None:
    with pytest.raises(CogError, match="an environment failed: RuntimeError: broken at 1"):
        evaluate(policy_of(constant(0.5)), EvalEnv("toy", BrokenEnv, TOY_SPEC), [0, 1, 2], workers=workers)


def test_a_trained_run_is_evaluated_and_its_rows_are_kept(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    request = TrainRequest("bfn", small_config("bfn", "updates=4"), threads=1, tensorboard=False)
    info, _ = train(store, make_manifest(), request, open_stream=ToyStream)
    policy = open_policy(store, info.run)
    assert (policy.update, policy.seed) == (4, 0)
    evaluation = evaluate(policy, TOY, [0, 1])
    path = write_evaluation(store, evaluation)
    assert path == f"runs/{info.run}/evaluations/{evaluation.name}.parquet"
    assert evaluation.name.startswith("chain-v0-00000004-")
    rows = store.read_table(path)
    assert isinstance(rows, pa.Table)
    assert rows.equals(evaluation.rows)
    assert set(rows.column("checkpoint_digest").to_pylist()) == {policy.digest}
    assert set(rows.column("stochastic").to_pylist()) == {True}
    with pytest.raises(CogError, match="unknown run 'nobody'"):
        open_policy(store, "nobody")


def test_worlds_that_were_opened_are_closed_when_a_later_one_fails() -> None:
    opened: list[ToyEnv] = []
    closed: list[ToyEnv] = []

    class Watched(ToyEnv):
        def close(self) -> None:
            closed.append(self)

    def third_fails() -> ToyEnv:
        if len(opened) == 2:
            raise OSError("the port is in use")
        opened.append(Watched())
        return opened[-1]

    with pytest.raises(OSError, match="in use"):
        LocalGroup(third_fails, 3)
    assert closed == opened
