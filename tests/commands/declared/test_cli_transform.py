"""Delta actions from the command line: a mixture, a policy that learned from it, and where it acts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict

from cogdata.storage.store import Store
from tests.catalog.mixtures.robots import collect_arms
from tests.running import Run

ALL = "select episode_id from episodes"
FOLLOWER, BIMANUAL = "tests.commands.declared.test_cli_transform:Follower", "tests.arms:Bimanual"
DELTA = ("--transform", "action=delta:joints")
TINY_BC = ("--algo", "bc", "--updates", "2", "--set", "batch_size=4", "--set", "widths=8,8", "--threads", "1")


class Follower(gymnasium.Env[Any, Any]):
    """Two joints that go where they are told, from 100; the reward is where the first one is then."""

    predicates = ("far",)
    task_predicate = "far"
    horizon = 3
    action_space = Box(-np.inf, np.inf, (2,), np.float32)
    observation_space = Dict(joints=Box(-np.inf, np.inf, (2,), np.float64))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.joints = np.full(2, 100.0)
        return {"joints": self.joints}, {"predicates": {"far": False}}

    def step(self, action: Any) -> Any:
        self.joints = action.astype(np.float64)
        told = {"predicates": {"far": bool(self.joints[0] > 101.25)}}
        return {"joints": self.joints}, float(self.joints[0]), False, False, told


gymnasium.register("Follower-v0", FOLLOWER, max_episode_steps=3)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Arms at 0 1 2 3 and 10 11 12 13 that are told to go 0.5 further; only mixtures and runs are added."""
    root = tmp_path_factory.mktemp("follow")
    collect_arms(Store(str(root)), "arm", 2, joints=2, motors=2)
    return root


@pytest.fixture
def arms(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COG_ROOT", str(made))
    return made


def trained(run: Run, mixture: str, *options: str) -> str:
    said = run("train", "--mixture", mixture, *TINY_BC, *options)
    assert said.code == 0, said
    named = [word for word in (said.out + said.err).split() if word.startswith(f"bc-{mixture}-")]
    return named[0].rstrip(":")


def rewards(run: Run, name: str) -> list[float]:
    sql = f"select total_reward from evaluations where run = '{name}' order by seed"
    return [
        json.loads(line)["total_reward"] for line in run("query", sql, "--format", "jsonl").out.splitlines()
    ]


def test_a_transform_is_printed_kept_and_compared(run: Run, arms: Path) -> None:
    assert run("query", ALL, "--as", "told").code == 0
    lines = run("query", ALL, "--as", "told", *DELTA).out.splitlines()
    assert lines[0].startswith("told@2 frozen · digest ")
    assert lines[1] == "  transformed action=delta:joints"
    head = json.loads(run("mix", "show", "told").out)
    assert head["selection"]["transforms"] == {"action": "delta:joints"}
    compared = run("mix", "diff", "told@1", "told@2").out.splitlines()
    assert compared[-1] == "  asked for: the default in told@1, transformed action=delta:joints in told@2"
    again = run("query", ALL, "--as", "told", "--transform", "action=absolute").out.splitlines()
    assert again[0].startswith("told@1 has this content already")


def test_a_policy_of_differences_goes_on_where_the_data_never_were(run: Run, arms: Path) -> None:
    """From 100 half a step at a time: 100.5 + 101 + 101.5. Absolute targets of the data end at 13.5."""
    assert run("query", ALL, "--as", "delta", *DELTA).code == 0
    name = trained(run, "delta", "--obs", "joints", "--eval-env", "Follower-v0", "--eval-episodes", "1")
    assert run("eval", name, "--env", FOLLOWER, "--seeds", "0:2", "--workers", "1").code == 0
    found = rewards(run, name)
    assert len(found) == 3  # one of them while training
    assert found == pytest.approx([303.0] * 3, abs=1e-3)
    out = run("eval", name, "--env", FOLLOWER, "--seeds", "5:6", "--workers", "1").out
    assert "1/1 = 1.000" in out
    assert run("mix", "rm", "delta", "--force").code == 0  # the checkpoint knows what to add
    assert run("eval", name, "--env", FOLLOWER, "--seeds", "7:8", "--workers", "1").code == 0
    assert rewards(run, name)[-2:] == pytest.approx([303.0] * 2, abs=1e-3)


def test_what_a_policy_of_differences_cannot_do_is_one_line(run: Run, arms: Path, tmp_path: Path) -> None:
    assert run("query", ALL, "--as", "mixed", *DELTA).code == 0
    name = trained(run, "mixed", "--obs", "joints")
    tuned = run("finetune", name, "--env", FOLLOWER, "--episodes", "1", "--algo", "sac", "--workers", "1")
    assert tuned.error == (
        "the policy's actions are relative to joints, and fine-tuning learns from absolute ones, as its own "
        "episodes have them: train on a mixture without --transform first"
    )
    assert run("query", ALL, "--as", "plain").code == 0
    other = run("train", "--mixture", "plain", "--from", name, *TINY_BC, "--obs", "joints")
    assert other.error == (
        f"run {name!r} learned actions relative to joints, mixture plain@1 has absolute actions: freeze it with "
        f"the same --transform"
    )
    file = tmp_path / "policy.onnx"
    said = run("export-policy", name, "--out", str(file)).out
    assert (
        "  the action is joints plus what the policy says, and is not clipped to the bounds of a robot"
        in said
    )
    assert file.exists()


def test_the_world_shows_what_a_policy_does_not_look_at(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COG_ROOT", str(tmp_path))
    collect = ("collect", "--policy", "random", "--env", BIMANUAL, "--episodes", "2", "--workers", "1")
    assert run(*collect).code == 0
    delta = ("--transform", "action=delta:joint_position_rad")
    assert run("query", ALL, "--as", "arms", "--features", "images_wrist", *delta).code == 0
    chosen = ("--obs", "images_wrist", "--set", "chunk=2")
    name = trained(run, "arms", *chosen)
    assert run("eval", name, "--env", BIMANUAL, "--seeds", "0:2", "--workers", "1").code == 0
    assert len(rewards(run, name)) == 2
    assert run("export-policy", name, "--format", "torch").error.startswith(
        "each action of a chunk is relative to joint_position_rad at its own step, "
    )


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--transform", "action"), "--transform 'action' must be NAME=VALUE, for example --transform "
         "action=delta:joints_rad"),
        (("--transform", "action=relative"), "--transform action=relative must be action=absolute or "
         "action=delta:OBSERVATION, for example action=delta:joints_rad"),
        (("--transform", "joints=delta:action"), "--transform joints=delta:action: only the action can be "
         "transformed"),
        (("--transform", "action=delta:camera"), "--transform action=delta:camera: action is float32 (2,) and "
         "camera is uint8 (2, 2, 1), both must be floats in arm/0000000"),
        ((*DELTA, *DELTA), "--transform names 'action' twice: say it once"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(run: Run, arms: Path, options: tuple[str, ...], line: str) -> None:
    assert run("query", ALL, "--as", "wrong", *options).error == line
    unnamed = run("query", ALL, *DELTA).error
    assert unnamed.endswith("--stats-by and --transform say how to freeze a mixture: add --as NAME")
