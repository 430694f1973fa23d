"""`cog train` as people expect it: a file of settings, checkpoints evaluated on the way."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

import cli
from commands.shared import INTERRUPTED
from commands.train import Crowd
from tests.running import STOPPING, Run, wait_for
from trainers.algos import configure
from trainers.training.request import TrainRequest

PICK = "cog/PickTray-v0"
SMALL = """
mixture = "all"
algo = "bc"
obs = "state"
updates = 4
threads = 1
[set]
widths = [16]
batch_size = 4
"""


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "my.toml"
    path.write_text(SMALL)
    return path


def runs(root: Path) -> set[str]:
    return {path.name for path in (root / "runs").iterdir()}


def test_a_file_and_the_printed_settings_are_the_same_run(
    run: Run, root: Path, settings: Path, tmp_path: Path
) -> None:
    before = runs(root)
    printed = run(
        "train", "--config", str(settings), "--seed", "5", "--set", "learning_rate=0.001", "--print-config"
    )
    assert printed.code == 0, printed
    assert runs(root) == before
    lines = printed.out.splitlines()
    assert lines[:5] == ['mixture = "all@1"', 'algo = "bc"', 'preset = "fast"', 'obs = "state"', "seed = 5"]
    assert {"threads = 1", 'guard = "20:0.1"', "log = []", "[set]", "updates = 4", "widths = [16]"} <= set(
        lines
    )
    assert "learning_rate = 0.001" in lines
    again = tmp_path / "again.toml"
    again.write_text(printed.out)
    assert run("train", "--config", str(again), "--print-config").out == printed.out
    said = run("train", "--config", str(again))
    assert said.code == 0, said
    (name,) = runs(root) - before
    typed = ("--algo", "bc", "--obs", "state", "--updates", "4", "--seed", "5", "--threads", "1")
    sets = ("--set", "widths=16", "--set", "batch_size=4", "--set", "learning_rate=0.001")
    assert f"{name}: 4 updates" in run("train", "--mixture", "all", *typed, *sets).out
    assert runs(root) - before == {name}


def test_settings_of_a_method_are_printed_by_stage(run: Run, root: Path, tmp_path: Path) -> None:
    method = ("train", "--method", "bc_init", "--mixture", "all", "--obs", "state", "--set", "bc.updates=7")
    printed = run(*method, "--print-config")
    assert printed.code == 0, printed
    lines = printed.out.splitlines()
    assert lines[1] == 'method = "bc_init"'
    assert lines.index("[set.bc]") < lines.index("updates = 7") < lines.index("[set.cql]")
    again = tmp_path / "again.toml"
    again.write_text(printed.out)
    assert run("train", "--config", str(again), "--print-config").out == printed.out
    small = ("--set", "cql.critic_widths=16", "--set", "cql.policy_widths=16", "--set", "batch_size=4")
    assert (
        run("train", "--method", "cog", "--mixture", "all", "--obs", "state", "--updates", "1", *small).code
        == 0
    )
    (stage,) = (name for name in runs(root) if name.startswith("cql-"))
    said = run("train", "--resume", stage, "--print-config")
    assert said.error == f"run '{stage}' is a stage of a method: print the settings of --method cog"


def test_a_method_that_is_asked_for_less_goes_on_from_what_there_is(run: Run, root: Path) -> None:
    sql = "select episode_id, case policy when 'place' then 'task' else 'prior' end as source from episodes"
    assert run("query", sql, "--as", "mine").code == 0
    method = ("train", "--method", "bc_init", "--mixture", "mine", "--obs", "state", "--threads", "1",
              "--set", "widths=16", "--set", "cql.policy_widths=16", "--set", "cql.critic_widths=16",
              "--set", "batch_size=4", "--updates")  # fmt: skip
    longer, fewer = run(*method, "2"), run(*method, "1")
    assert (longer.code, fewer.code) == (0, 0), (longer, fewer)
    names = [[line.split(" in ")[0] for line in said.out.splitlines()] for said in (longer, fewer)]
    assert len(names[0]) == 2
    assert names[0] == names[1]
    cloner, learner = (name.split(":")[0] for name in names[0])
    assert run("train", "--resume", cloner, "--updates", "4").code == 0
    again = run(*method, "2")  # still from where the clone had learned twice
    assert again.out.splitlines()[-1].startswith(names[0][1]), again
    assert json.loads((root / "runs" / learner / "run.json").read_text())["parent_update"] == 2


def test_a_start_that_does_not_fit_and_processes_that_cannot_share_are_one_line(
    run: Run, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (name,) = runs(root)
    assert "say --obs " in run("train", "--mixture", "all", "--from", name, "--obs", "image").error
    assert [path.name for path in (root / "runs").iterdir()] == [name]
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    said = run("finetune", name, "--env", PICK, "--episodes", "1").error
    assert said == "fine-tuning takes one process: type `cog finetune …` without torchrun"


def test_checkpoints_are_evaluated_on_the_way_and_the_best_is_found_again(
    run: Run, root: Path, settings: Path, tmp_path: Path
) -> None:
    before = runs(root)
    evaluated = ("--eval-env", PICK, "--eval-every", "2", "--eval-episodes", "2")
    said = run("train", "--config", str(settings), *evaluated)
    assert said.code == 0, said
    (name,) = runs(root) - before
    lines = said.err.splitlines()
    assert f"evaluated at 2 updates: {PICK} 0/2 = 0.000 [0.000, 0.658]" in lines
    assert f"evaluated at 4 updates: {PICK} 0/2 = 0.000 [0.000, 0.658]" in lines
    assert said.out.splitlines()[1] == f"  best evaluated: update 2, 0/2 = 0.000 [0.000, 0.658] in {PICK}"
    table = run("query", f"select update, count(*) n, min(seed) s from evaluations where run = '{name}' "
                "group by update order by update", "--format", "csv").out  # fmt: skip
    assert table.splitlines()[1:] == ["2,2,1000000", "4,2,1000000"]
    said = run("eval", name, "--env", PICK, "--episodes", "1", "--update", "best", "--workers", "1")
    assert said.out.startswith(f"{name} @ 2 · {PICK}: 0/1")
    shown = run("runs", "show", name).out.splitlines()
    assert f"best evaluated: update 2, 0/2 = 0.000 [0.000, 0.658] in {PICK}" in shown
    assert (
        run("train", "--mixture", "all", "--from", f"{name}@best", "--updates", "1", "--threads", "1").code
        == 0
    )
    (child,) = runs(root) - before - {name}
    assert f"{child} starts from {name} @ 2 (bc on all@1)" in run("runs", "show", child).out
    out = tmp_path / "best.pt2"
    said = run("export-policy", name, "--format", "torch", "--update", "best", "--out", str(out))
    assert said.out.splitlines()[0].endswith(f"update 2 of {name}")
    said = run("train", "--resume", name, "--updates", "6", *evaluated)
    assert f"evaluated at 6 updates: {PICK} 0/2 = 0.000 [0.000, 0.658]" in said.err.splitlines()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("--eval-every", "5"),
            "--eval-every, --eval-episodes and --success-return are of evaluation during training: add --eval-env",
        ),
        (("--eval-env", "cog/Nowhere-v0"), "cog/Nowhere-v0"),
        (
            ("--eval-env", PICK, "--eval-episodes", "0"),
            "--eval-episodes is 0, must be from 1 to 1,000,000",
        ),
        (
            ("--eval-env", PICK, "--eval-episodes", "99999999999"),
            "--eval-episodes is 99999999999, must be from",
        ),
        (
            ("--eval-env", PICK, "--eval-every", "0", "--print-config"),
            "--eval-every is 0, must be at least 1",
        ),
        (
            ("--eval-env", "cog/DrawerOpen-v0"),
            "--eval-env cog/DrawerOpen-v0 does not fit the policy: scene is ",
        ),
        (("--updates", "0"), "--updates is 0, must be from 1 to 1,000,000,000"),
        (("--algo", ""), "unknown algorithm ''"),
        (("--device", "meta"), "device 'meta' cannot be used: this machine has cpu"),
        (("--guard", "soon"), "--guard 'soon' must be off, LINES or LINES:MARGIN, for example 20:0.1"),
        (("--log", "wandb"), "--log wandb needs a library that is not installed: pip install wandb"),
        (("--config", "nowhere.toml"), "cannot read nowhere.toml: No such file or directory"),
    ],
)
def test_mistakes_cost_one_line_and_no_run(run: Run, root: Path, options: tuple[str, ...], said: str) -> None:
    before = runs(root)
    assert (
        said
        in run(
            "train", "--mixture", "all", "--algo", "bc", "--obs", "state", "--updates", "2", *options
        ).error
    )
    assert runs(root) == before


def test_a_run_is_gone_on_with_as_it_was_begun(run: Run, root: Path, settings: Path) -> None:
    (name,) = runs(root)
    assert (
        "--resume goes on with a run as it was begun"
        in run("train", "--resume", name, "--config", str(settings)).error
    )
    said = run("train", "--resume", name, "--set", "batch_size=4")
    assert "--resume goes on with a run as it was begun" in said.error
    (settings.parent / "guard.toml").write_text('guard = "off"\n')
    longer = ("--resume", name, "--config", str(settings.parent / "guard.toml"), "--updates", "77")
    assert "updates = 77" in run("train", *longer, "--print-config").out.splitlines()
    said = run("train", "--resume", name, "--config", str(settings.parent / "guard.toml"), "--print-config")
    assert 'guard = "off"' in said.out.splitlines()
    with_best = run("eval", name, "--env", PICK, "--update", "best")
    assert with_best.error.startswith(
        f"run '{name}' has no best checkpoint: it was not evaluated during training"
    )


def test_seeds_at_once_are_the_runs_they_would_be_alone_and_one_that_fails_is_named(
    run: Run, root: Path, settings: Path
) -> None:
    """Of seeds 6 and 7 the first fails: the lock of its run is held, as if another process trained it."""
    names, files = {}, {}
    for seed in (6, 7):
        names[seed] = run("train", "--config", str(settings), "--seed", str(seed)).out.split(":")[0]
    checkpoint = root / "runs" / names[7] / "checkpoints" / "00000004"
    for part in ("weights", "training"):
        files[part] = (checkpoint / f"{part}.safetensors").read_bytes()
    assert run("runs", "rm", names[7]).code == 0
    with filelock.FileLock(str(root / "runs" / names[6] / ".lock")):
        said = run("train", "--config", str(settings), "--seeds", "6:8", "--updates", "6")
    assert said.code == 1
    lines = said.err.splitlines()
    assert (
        f"seed 6: error: run '{names[6]}' is being trained by another process: wait for it, or stop it"
        in lines
    )
    assert f"seed 7: run {names[7]} on all@1: 6 updates of 4" in lines
    assert lines[-1] == "error: seed 6 failed as said above, the others did not: see `cog runs ls`"
    assert said.out.startswith(f"seed 7: {names[7]}: 6 updates in ")
    assert run("runs", "rm", names[7]).code == 0
    assert run("train", "--config", str(settings), "--seeds", "7:8").code == 0
    for part, data in files.items():
        assert (checkpoint / f"{part}.safetensors").read_bytes() == data


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--seeds", "0:3", "--seed", "1"), "--seeds are several, --seed is one: leave one of them out"),
        (("--seeds", "3"), "--seeds '3' must be START:STOP, the first below the second, for example 0:3"),
        (("--seeds", "0:10000000000"), "--seeds 0:10000000000 are more than 1,000,000: give fewer"),
        (("--seeds", "0:10000"), "--seeds 0:10000 are 10000 runs at once, too many for "),
    ],
)
def test_seeds_that_make_no_sense(
    run: Run, root: Path, settings: Path, options: tuple[str, ...], said: str
) -> None:
    assert said in run("train", "--config", str(settings), *options).error


@pytest.mark.slow
def test_ctrl_c_stops_all_seeds_with_checkpoints(root: Path, settings: Path) -> None:
    command = [sys.executable, cli.__file__, "train", "--config", str(settings), "--seeds", "6:8",
               "--updates", "1000000", "--root", str(root)]  # fmt: skip
    before = runs(root)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    states = lambda: [root / "runs" / name / "state.json" for name in runs(root) - before]  # noqa: E731
    wait_for(lambda: len(states()) == 2 and all(path.exists() for path in states()))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED, err
    assert STOPPING in err
    assert "Traceback" not in err
    for path in states():
        state = json.loads(path.read_text())
        assert state["status"] == "stopped"
        checkpoints = path.parent / "checkpoints" / f"{state['updates_done']:08d}" / "training.safetensors"
        assert state["updates_done"] == 0 or checkpoints.exists()
    assert len([line for line in err.splitlines() if "go on with: cog train --resume" in line]) == 2


def test_going_on_and_being_done_already_are_said(run: Run, root: Path) -> None:
    train = (
        "train",
        "--mixture",
        "all",
        "--algo",
        "bc",
        "--obs",
        "state",
        "--seed",
        "5",
        "--root",
        str(root),
    )
    first = run(*train, "--updates", "3")
    assert "going on" not in first.err
    assert " 3 updates in " in first.out
    assert "already" not in first.out
    assert "going on from the checkpoint at 3 updates" in run(*train, "--updates", "4").err
    again = run(*train, "--updates", "4")
    assert "going on" not in again.err
    assert again.out.strip().endswith("s already")


def crowd_of(others: float | None, threads: int, monkeypatch: pytest.MonkeyPatch) -> Crowd:
    monkeypatch.setattr("commands.train.os.cpu_count", lambda: 2)
    monkeypatch.setattr("cogdata.system.machine.OtherPrograms.cores", lambda _: others)
    config = configure("bc", "fast", [])
    return Crowd(TrainRequest("bc", config, "fast", "state", 0, "cpu", threads))


def test_a_crowded_machine_is_remarked_on_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    crowd = crowd_of(1.26, 2, monkeypatch)
    assert str(crowd.remark()).startswith("other programs keep 1.3 of 2 cores busy: ")
    assert crowd.remark() is None


@pytest.mark.parametrize(
    ("others", "threads", "policy"), [(0.4, 2, ""), (None, 2, ""), (1.26, 1, ""), (1.26, 2, "passive")]
)
def test_threads_that_are_not_in_the_way_are_not(
    others: float | None, threads: int, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    assert crowd_of(others, threads, monkeypatch).remark() is None
