"""Worlds that are not built in, from collecting to evaluation, on the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cogdata.errors import CogError
from commands.evaluate import _robot
from tests.running import Run

HERE = __name__
DOF = "tests.arms:SevenDof"


def lean(obs: dict[str, Any]) -> int:
    """Push the cart to the side where the pole leans."""
    return int(obs["observation"][2] > 0)


def wave(obs: dict[str, Any], rng: np.random.Generator) -> Any:
    return rng.uniform(0, 0.5, 7)


def _rows(run: Run, sql: str) -> list[dict[str, Any]]:
    done = run("query", sql, "--format", "json")
    assert done.code == 0, done.err
    return list(json.loads(done.out))


def _trained(run: Run, env: str, *options: str) -> str:
    assert run("query", f"select episode_id from episodes where env = '{env}'", "--as", "own").code == 0
    done = run("train", "--mixture", "own", "--algo", "bc", "--updates", "2", "--threads", "1", *options)
    assert done.code == 0, done.err
    return str(_rows(run, "select run from runs order by created_at desc limit 1")[0]["run"])


@pytest.fixture(autouse=True)
def _root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COG_ROOT", str(tmp_path))


def test_cart_pole_is_learned_from_and_evaluated_by_its_return(run: Run, tmp_path: Path) -> None:
    collect = ("collect", "--policy", f"{HERE}:lean", "--env", "CartPole-v1", "--horizon", "20")
    done = run(*collect, "--episodes", "6", "--workers", "1")
    assert done.code == 0, done.err
    trained = _trained(run, "CartPole-v1", "--obs", "observation", "--set", "widths=8,8")
    silent = run("eval", trained, "--env", "CartPole-v1", "--episodes", "2", "--workers", "1")
    assert re.search(
        r"CartPole-v1: mean return \d+\.?\d* of 2 episodes; no success is stated, see --succ", silent.out
    )
    sql = "select success, solved, total_reward, steps from evaluations order by seed"
    assert [row["success"] for row in _rows(run, sql)] == [None, None]
    assert run("eval", trained, "--env", "CartPole-v1", "--episodes", "2", "--success-return", "1").code == 0
    rows = _rows(run, sql)
    assert [(row["success"], row["solved"]) for row in rows] == [(True, None)] * 2
    assert all(row["total_reward"] == row["steps"] for row in rows)
    refused = run("eval", trained, "--env", "Pendulum-v1", "--episodes", "1").error
    assert refused == (
        "Pendulum-v1 does not fit the policy: observation is float32 (3,), needed is float32 (4,); action is "
        "float32 (1,) within [-2, 2], the policy's is int64 within [0, 1]"
    )
    assert run("eval", trained, "--env", "CartPole-v1", "--episodes", "1", "--record", "1").error == (
        "CartPole-v1 has no camera with colours: leave --record out"
    )
    assert run("eval", trained, "--env", "CartPole-v1", "--episodes", "1", "--embodiment", "left").error == (
        "--embodiment is for a policy that tells several robots apart: leave it out"
    )


def test_the_robot_of_a_policy_of_several_is_the_environment_or_is_named() -> None:
    robots = ("CartPole-v1", "arm")
    assert [_robot(robots, "CartPole-v1", said) for said in (None, "arm")] == ["CartPole-v1", "arm"]
    assert _robot((), "CartPole-v1", None) is None
    with pytest.raises(
        CogError, match="tells the robots CartPole-v1, arm apart: say which one lab:Arm has with"
    ):
        _robot(robots, "lab:Arm", None)


def test_the_best_checkpoint_needs_a_success(run: Run, tmp_path: Path) -> None:
    collect = ("collect", "--policy", f"{HERE}:lean", "--env", "CartPole-v1", "--horizon", "20")
    assert run(*collect, "--episodes", "6", "--workers", "1").code == 0
    assert run("query", "select episode_id from episodes", "--as", "own").code == 0
    train = (
        "train", "--mixture", "own", "--algo", "bc", "--updates", "2", "--threads", "1", "--obs", "observation",
        "--set", "widths=8,8", "--eval-env", "CartPole-v1", "--eval-episodes", "2", "--eval-every", "1",
    )  # fmt: skip
    assert run(*train).error == (
        "--eval-env CartPole-v1 states no success, and the best checkpoint is sought: add --success-return"
    )
    done = run(*train, "--success-return", "2")
    assert done.code == 0, done.err
    rows = _rows(run, "select purpose, success from evaluations")
    assert rows == [{"purpose": "selection", "success": True}] * 4


def test_an_arm_of_seven_joints_is_recorded_and_judged_by_its_own_predicate(run: Run, tmp_path: Path) -> None:
    option = ("--env-option", "shelf_m=-9")
    collect = ("collect", "--policy", f"{HERE}:wave", "--env", DOF, "--image-size", "16", *option)
    assert run(*collect, "--episodes", "4").code == 0
    trained = _trained(run, DOF, "--obs", "camera,joints_rad")
    done = run("eval", trained, "--env", DOF, *option, "--episodes", "2", "--record", "1")
    assert done.code == 0, done.err
    assert f"{DOF}: 2/2 = 1.000" in done.out
    assert len(list(tmp_path.glob("runs/*/evaluations/*-seed0.webp"))) == 1
    rows = _rows(run, "select success, solved, predicates, first_reward_t from evaluations")
    assert [row["success"] for row in rows] == [True, True]
    assert [row["first_reward_t"] for row in rows] == [0, 0]
