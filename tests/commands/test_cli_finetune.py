"""`cog finetune` as a user meets it: real worlds, a run and a collection like any other, exact lines."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

import cogdata.system.machine
import collectors.provenance
from cogdata.storage.runs import read_run
from cogdata.storage.store import Store
from commands.finetune import finetuned_config
from tests.running import Run
from trainers.algos import configure
from trainers.evaluation.worlds import LocalGroup

PICK = "cog/PickTray-v0"
SMALL = (
    "--env",
    PICK,
    "--updates-per-step",
    "0.05",
    "--set",
    "batch_size=8",
    "--workers",
    "1",
    "--threads",
    "1",
)


@pytest.fixture
def parent(root: Path) -> str:
    (path,) = root.glob("runs/bc-all-*")
    return path.name


def child_of(root: Path, parent: str) -> str:
    (name,) = {path.parent.name for path in root.glob("runs/*/run.json")} - {parent}
    return name


def test_a_finetuned_run_and_its_episodes_are_like_any_other(run: Run, root: Path, parent: str) -> None:
    """3 episodes of 40 steps, 2 a round: 80 and 40 actions pay for 4 and 2 updates."""
    command = ("finetune", parent, *SMALL, "--episodes", "3", "--round", "2")
    said = run(*command)
    child = child_of(root, parent)
    assert said.out.startswith(f"{child}: 3 episodes, 9 updates in ")
    assert f"run {child} from {parent} @ 3: 3 episodes in {PICK}" in said.err
    assert run(*command).out.startswith(f"{child}: 3 episodes, 9 updates in ")
    fewer = run("finetune", parent, *SMALL, "--episodes", "1", "--round", "2")
    assert fewer.out.startswith(f"{child}: 3 episodes, 9 updates in ")
    rows = run("query", f"select episode_id, policy, env, steps, (policy_params->>'update')::int as update from "
               f"episodes where policy = '{child}' order by all", "--format", "jsonl").out  # fmt: skip
    assert [json.loads(line) for line in rows.splitlines()] == [
        {"episode_id": f"{child}/{index:07d}", "policy": child, "env": PICK, "steps": 40, "update": update}
        for index, update in ((0, 3), (1, 3), (2, 7))
    ]
    assert run("data", "verify").out.strip() == "everything is whole"
    assert f'"command": "cog finetune {parent} ' in run("data", "info", child).out
    listed = json.loads(run("runs", "ls", "--format", "json").out)
    assert {one["online"] for one in listed if one["run"] == child} == {PICK}
    assert {one["online"] for one in listed if one["run"] == parent} == {None}
    shown = run("runs", "show", child).out
    assert f"{child} starts from {parent} @ 3 (bc on all@1)" in shown
    assert '"online_success"' in (root / "runs" / child / "metrics.jsonl").read_text()
    assert run("show", f"{child}/0000002", "--out", str(root / "drawn")).code == 0
    evaluated = run("eval", child, "--env", PICK, "--episodes", "1", "--workers", "1")
    assert f"{child} @ 9 · {PICK}: " in evaluated.out
    sql = f"select episode_id, 'task' as source from episodes where policy = '{child}'"
    assert "task: 3 episodes, 120 transitions" in run("query", sql, "--as", "mine").out
    assert run("train", "--mixture", "mine", "--algo", "bc", "--obs", "state", "--updates", "1").code == 0
    said = run("train", "--resume", child)
    assert said.error == f"run '{child}' learns online: give the `cog finetune` command again that began it"


def test_another_algorithm_takes_the_policy_over(run: Run, root: Path, parent: str) -> None:
    said = run("finetune", parent, *SMALL, "--episodes", "1", "--algo", "sac", "--data", "online")
    child = child_of(root, parent)
    assert said.out.startswith(f"{child}: 1 episodes, 2 updates in ")
    info = json.loads((root / "runs" / child / "run.json").read_text())
    assert (info["algo"], info["config"]["policy_widths"], info["updates"]) == ("sac", [256, 256, 256], 2)
    assert (info["online"]["continues"], info["online"]["data"]) == (False, "online")


def test_ctrl_c_keeps_what_is_done(
    run: Run, root: Path, parent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pressed in the second round, whose 40 steps begin after the first one's 40."""
    before, steps = LocalGroup.ask_step, [0]

    def ask_step(self: LocalGroup, actions: object) -> None:
        steps[0] += 1
        if steps[0] == 50:
            os.kill(os.getpid(), signal.SIGINT)
        before(self, actions)  # type: ignore[arg-type]

    command = ("finetune", parent, *SMALL, "--episodes", "2", "--round", "1")
    with monkeypatch.context() as patch:
        patch.setattr(LocalGroup, "ask_step", ask_step)
        said = run(*command)
    assert said.code == 130
    assert said.err.splitlines()[-1] == "stopped after 5 updates; go on with: the same command"
    child = child_of(root, parent)
    assert [path.parent.name for path in root.glob(f"collections/{child}/*/COMMIT.json")] == [
        "part-00000-00-00"
    ]
    assert run(*command).out.startswith(f"{child}: 2 episodes, 7 updates in ")


def test_learning_rates_that_fell_do_not_fall_online(root: Path, parent: str) -> None:
    config = configure("bfn", "fast", ["decay=0.3", "discount=0.9"])
    theirs = replace(read_run(Store(str(root)), parent), algo="bfn", config=config.to_dict())
    expected = config.override(["decay=0", "batch_size=8"])
    assert finetuned_config(theirs, None, None, ["batch_size=8"]) == ("bfn", theirs.preset, expected)


def test_mistakes_are_one_line(run: Run, root: Path, parent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("finetune", parent, "--env", PICK, "--episodes")
    for extra, said in (
        (("0",), "--episodes is 0, must be from 1 to 1,000,000"),
        (
            ("1", "--env", "cog/PickTray"),
            "unknown environment 'cog/PickTray': did you mean 'cog/PickTray-v0'?",
        ),
        (("1", "--algo", "sak"), "unknown algorithm 'sak': did you mean 'sac'?"),
        (("1", "--algo", "bfn"), "bfn cannot start from bc: they have no network in common"),
        (
            ("1", "--preset", "paper"),
            "--preset is of another algorithm: add --algo, or change single settings",
        ),
        (("1", "--data", "both"), "unknown data 'both': "),
        (
            ("1", "--set", "updates=5"),
            "--set updates is not for `cog finetune`: --episodes and --updates-per-step decide it",
        ),
        (("1", "--set", "decay=0.5"), "--set decay is not for `cog finetune`: learning rates fall over"),
        (("1", "--env", "cog/DrawerOpen-v0"), "cog/DrawerOpen-v0 does not fit the policy: scene is "),
    ):
        assert run(*command, *extra).error.startswith(said)
    with monkeypatch.context() as patch:
        patch.setattr(cogdata.system.machine, "free_memory", lambda: 10**9)
        said = run(*command, "1000000").error
        assert "1,000,000 episodes of 40 steps take up to " in said
        assert said.endswith(
            " GB of memory, 1.0 GB are free: ask for fewer --episodes, or stop something else"
        )
        assert not [path for path in root.glob("runs/*/run.json") if path.parent.name != parent]
        patch.setattr(cogdata.system.machine, "free_memory", lambda: 10**5)
        said = run(*command, "1").error
        assert said.startswith(
            "the mixture's pool and the run's own episodes take 0.0 GB, 0.0 GB are free: give"
        )
    assert run("finetune", "nobody", "--env", PICK, "--episodes", "1").error.startswith(
        "unknown run 'nobody'"
    )
    assert run(*command, "1", *SMALL[2:]).code == 0
    monkeypatch.setattr(collectors.provenance, "version", lambda name: "9.9")
    assert "was begun with other versions (" not in run(*command, "1", *SMALL[2:]).err  # nothing to add
    assert "was begun with other versions (" in run(*command, "2", *SMALL[2:]).err
