"""``cog reproduce`` from nothing to a page, in small: experiments, resuming, Ctrl-C, mistakes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import cli
import cogdata.streaming.footprint
import cogdata.system.machine
from commands.experiment import _ended_by
from tests.prepared import prepared
from tests.running import Run, wait_for
from trainers.paper.files import REPLACED
from trainers.paper.table1 import BUDGETS

SMALL = (
    "--trials", "2", "--curve", "1", "--seeds", "0:1", "--set", "bfn.updates=4", "--set", "bc.updates=4",
)  # fmt: skip
"""Four updates."""
SCALE = ("--scale", "0.001")
"""10 grasps and 5 placements."""


NAME = "place_in_tray-state-fast-bc_oracle-s0"


def reproduce(folder: Path, *options: str) -> tuple[str, ...]:
    scale = () if "--experiment" in options else SCALE
    return (
        "reproduce", "place_in_tray", *SMALL, *scale, "--methods", "bfn,bc_oracle", "--results", str(folder / "results"),
        "--root", str(folder / "store"), *options,
    )  # fmt: skip


@pytest.fixture
def made(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    """A copy of a reproduction of two methods."""
    shutil.copytree(prepared(tmp_path_factory, "made", _make), tmp_path / "made")
    return tmp_path / "made"


def _make(folder: Path) -> None:
    """In processes of their own, as a user would see it."""
    done = subprocess.run(
        [sys.executable, cli.__file__, *reproduce(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "collecting 10 episodes of weak_grasp in cog/PickTray-v0" in done.stdout
    assert "2 experiments, 0 there, 2 to do" in done.stdout
    assert "[2/2] " in done.stdout
    assert "2 experiments are in" in done.stdout
    assert done.stdout.endswith(f" minutes · next: cog report --results {folder / 'results'}\n")


def result(folder: Path, name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "results" / f"{name}.json").read_text())
    return found


def test_every_experiment_leaves_a_result(made: Path) -> None:
    names = sorted(file.name for file in (made / "results").iterdir())
    assert names == ["place_in_tray-state-fast-bc_oracle-s0.json", "place_in_tray-state-fast-bfn-s0.json"]
    data = json.loads((made / "results" / names[1]).read_text())
    assert [(one["env"], len(one["outcomes"]), one["update"]) for one in data["judged"]] == [
        ("cog/PlaceTray-v0", 2, 4), ("cog/PickTray-v0", 2, 4),
    ]  # fmt: skip
    assert [(one["env"], one["first_seed"], len(one["outcomes"])) for one in data["curve"]] == [
        ("cog/PickTray-v0", 1_000_000, 1)
    ]
    assert data["data"]["episodes"]["task"] == 5
    assert data["commands"][0].startswith("cog train --mixture place_in_tray --method bfn --obs state")
    assert [run["updates"] for run in data["runs"]] == [4]
    assert data["runs"][0]["mixture_digest"] == data["data"]["digest"]
    assert data["runs"][0]["transitions"] == sum(data["data"]["transitions"].values())
    portion = json.loads((made / "results" / names[0]).read_text())
    assert portion["data"] == data["data"]
    assert portion["runs"][0]["mixture"] == "place_in_tray_oracle@1"
    assert portion["runs"][0]["mixture_digest"] != data["data"]["digest"]
    assert 0 < portion["runs"][0]["transitions"] <= data["data"]["transitions"]["task"]


def test_the_same_again_has_nothing_to_do(run: Run, made: Path) -> None:
    said = run(*reproduce(made))
    assert "2 experiments, 2 there, 0 to do" in said.out
    refused = run(*reproduce(made, "--no-resume", "--root", str(made / "no-store"))).error
    assert refused.startswith(f"{made / 'results'} has 2 of these 2 experiments already, ")
    assert "leave --no-resume out" in refused
    assert not (made / "no-store").exists()


def test_results_count_in_another_store_whose_data_are_the_same(run: Run, made: Path, tmp_path: Path) -> None:
    said = run(*reproduce(made, "--root", str(tmp_path / "another")))
    assert "collecting 10 episodes of weak_grasp" in said.out
    assert "2 experiments, 2 there, 0 to do" in said.out


def test_what_is_left_is_said_and_not_done(run: Run, made: Path, tmp_path: Path) -> None:
    said = run(*reproduce(made, "--seeds", "0:2", "--dry-run")).out
    assert "4 experiments, 2 there, 2 to do" in said
    assert (
        "  place_in_tray-state-fast-bfn-s1: place_in_tray, evaluated in cog/PlaceTray-v0, cog/PickTray-v0"
        in said
    )
    assert run(*reproduce(tmp_path, "--dry-run")).code == 0
    noted = run(*reproduce(made, "--root", str(tmp_path / "another"), "--dry-run")).err
    assert (
        f"2 of them have a file of today's settings in {made / 'results'}, which counts if its data" in noted
    )
    assert "of other settings" not in noted
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_more_trials_are_another_evaluation_of_the_same_run(run: Run, made: Path) -> None:
    before = result(made, NAME)
    assert run(*reproduce(made, "--trials", "3", "--experiment", NAME)).code == 0
    after = result(made, NAME)
    assert after["runs"] == before["runs"]
    assert [len(one["outcomes"]) for one in after["judged"]] == [3, 3]  # type: ignore[attr-defined]
    said = run(*reproduce(made, "--trials", "5", "--curve", "0", "--set", "bfn.updates=5", "--dry-run"))
    assert f"2 of them have a file in {made / 'results'}, of other settings" in said.err
    assert f"files in {made / 'results'}: 1 of today's settings, " in said.out
    assert "bfn.updates 4 → 5: place_in_tray-state-fast-bfn-s0" in said.out
    assert run(*reproduce(made, "--experiment", NAME)).code == 0  # as it was
    (kept,) = (made / "results" / REPLACED).iterdir()
    assert json.loads(kept.read_text()) == after


def test_the_page_from_files_and_from_the_catalog(run: Run, made: Path, tmp_path: Path) -> None:
    """From the catalog alone the same table comes out; experiments with settings of their own are not the table's."""
    page = tmp_path / "results.md"
    said = run("report", "--results", str(made / "results"), "--out", str(page))
    code = result(made, NAME)["code"] or "unknown code"
    assert f"place_in_tray, state, preset fast: bc_oracle, bfn · 2 files made by {code}" in said.out
    assert "object on the table" in page.read_text()
    again = tmp_path / "again"
    from_catalog = (
        "report",
        "--results",
        str(again),
        "--catalog",
        "--root",
        str(made / "store"),
        "--out",
        str(page),
    )
    assert "holds no results" in run(*from_catalog).error  # four updates are not the table's six thousand
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BUDGETS, ("fast", False), {"bc": ("updates=4",)})
        assert "place_in_tray-state-fast-bc_oracle-s0.json" in run(*from_catalog).out
    found, there = (json.loads((folder / f"{NAME}.json").read_text()) for folder in (again, made / "results"))
    for one, other in zip(found["judged"], there["judged"], strict=True):
        assert one["outcomes"].startswith(other["outcomes"])
        assert one["checkpoint_digest"] == other["checkpoint_digest"]
    assert found["data"] == there["data"]
    assert found["runs"] == there["runs"]


def test_a_result_is_of_the_version_that_was_learned_from(run: Run, made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "store", tmp_path / "store")
    root = ("--root", str(tmp_path / "store"))
    sql = "select episode_id, 'task' as source from episodes where policy = 'place'"
    assert "place_in_tray@2" in run("query", sql, "--as", "place_in_tray", *root).out
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BUDGETS, ("fast", False), {"bfn": ("updates=4",)})
        folder = ("--results", str(tmp_path / "results"), "--out", str(tmp_path / "page.md"))
        assert run("report", "--catalog", *folder, *root).code == 0
    found = result(tmp_path, NAME.replace("bc_oracle", "bfn"))
    assert found["data"] == result(made, NAME.replace("bc_oracle", "bfn"))["data"]


def test_finetuning_and_ablations(run: Run, made: Path) -> None:
    name = "place_in_tray-state-fast-bfn-online-s0"
    assert run(*reproduce(made, "--finetune", "2", "--experiment", name)).code == 0
    found = result(made, name)
    assert len(str(found["online"])) == 2
    assert [run["algo"] for run in found["runs"]] == ["bfn", "bfn"]  # type: ignore[attr-defined]
    assert "cog finetune RUN --env cog/PickTray-v0 --episodes 2" in str(found["commands"])
    said = run("list", "ablations").out
    assert "generalist" in said
    assert run("list", "variations").error == (
        "variations are called ablations now: type `cog list ablations`"
    )
    for old, new in (("--variations", "--ablations"), ("--unit", "--experiment")):
        assert run("reproduce", old, "x").error.startswith(f"{old} is called {new} now: type {new}")
    refused = run("reproduce", "--ablations", "generalist", "--finetune", "3", "--root", str(made / "store"))
    assert refused.error.startswith("--ablations say what learns and how")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("drawers",), "unknown task 'drawers': did you mean 'drawer'?"),
        (("drawer", "--methods", "cogg"), "unknown method 'cogg'"),
        (("drawer", "--trials", "0"), "--trials is 0"),
        (("drawer", "--curve", "-1"), "--curve is -1"),
        (("drawer", "--scale", "0"), "--scale is 0"),
        (("drawer", "--seeds", "3"), "--seeds '3' must be START:STOP"),
        (("drawer", "--jobs", "no"), "--jobs is no"),
        (("drawer", "--finetune", "0", "--methods", "bfn"), "--finetune is 0"),
        (("drawer", "--experiment", "one"), "unknown experiment 'one'"),
        (
            ("drawer", "--experiment", "one", "--scale", "0.1"),
            "--experiment does one experiment on what is collected",
        ),
        (
            ("drawer", "--experiment", "one", "--dry-run"),
            "--experiment does one experiment on what is collected",
        ),
        (("drawer", "--ablations", "prior-10"), "ablation 'prior-10' is of place_in_tray"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_begun(
    run: Run, tmp_path: Path, options: tuple[str, ...], says: str
) -> None:
    assert run("reproduce", *options, "--root", str(tmp_path / "store")).error.startswith(says)
    assert not (tmp_path / "store").exists()


def test_a_damaged_result_is_named(run: Run, made: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    (results / "place_in_tray-state-fast-bfn-s0.json").write_text("{")
    said = run(*reproduce(made, "--results", str(results))).error
    assert "place_in_tray-state-fast-bfn-s0.json is no result of `cog reproduce`" in said
    assert (results / "place_in_tray-state-fast-bfn-s0.json").read_text() == "{"


def test_root_is_for_the_catalog(run: Run, made: Path) -> None:
    assert run("report", "--root", str(made)).error.startswith("--root is read with --catalog alone")


def test_more_experiments_than_memory_are_refused_and_a_killed_one_says_so(
    run: Run, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = reproduce(made, "--seeds", "0:2", "--jobs", "2")
    with monkeypatch.context() as patch:
        patch.setattr(cogdata.system.machine, "free_memory", lambda: 1)
        assert (
            "2 experiments at once need 0.0 GB, 0.0 GB are free: give a smaller --scale" in run(*more).error
        )
    with monkeypatch.context() as patch:
        patch.setattr(cogdata.streaming.footprint, "footprint", lambda manifest, options: (6 * 10**9, 10**9))
        patch.setattr(cogdata.system.machine, "free_memory", lambda: 10**10)
        said = run(*more).error
        assert said == (
            "2 experiments at once need 14.0 GB, 10.0 GB are free: give --jobs 1, or stop something else"
        )
    assert _ended_by(1) == ""
    assert _ended_by(-signal.SIGTERM) == " · ended by SIGTERM"
    assert "when memory runs out, see --jobs" in _ended_by(-signal.SIGKILL)


def test_ctrl_c_stops_the_experiments_and_the_same_command_goes_on(made: Path, tmp_path: Path) -> None:
    """A run that would take hours is asked to stop once it has begun: a checkpoint, no result, code 130."""
    results = tmp_path / "results"
    command = reproduce(made, "--set", "bfn.updates=900000", "--results", str(results))
    runs = made / "store" / "runs"

    def training() -> bool:
        heads = [json.loads(head.read_text()) for head in runs.glob("bfn-*/run.json")]
        return any(head["updates"] == 900_000 for head in heads)

    with subprocess.Popen(
        [sys.executable, cli.__file__, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(training, 120)  # two interpreters that import torch, on a machine that may be busy
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert re.search("stopped: [01] of 2 experiments are done; the same command goes on", err)
    assert "Traceback" not in err + out
    assert not list(results.glob("*-bfn-*"))
    states = [json.loads(state.read_text())["status"] for state in runs.glob("bfn-*/state.json")]
    assert "running" not in states


def test_a_recipe_frozen_of_fewer_episodes_is_frozen_anew(run: Run, tmp_path: Path) -> None:
    root, results = tmp_path / "store", ("--results", str(tmp_path / "results"), "--dry-run")
    store = ("--root", str(root))
    plan = ("reproduce", "place_in_tray", "--methods", "bc_all", "--seeds", "0:1", *results, *store)
    assert (
        "10 episodes of weak_grasp in cog/PickTray-v0 to collect first" in run(*plan, "--scale", "0.001").out
    )
    run("collect", "--for", "place_in_tray", "--scale", "0.0004", "--workers", "1", *store)
    run("train", "--mixture", "place_in_tray", "--algo", "bc", "--obs", "state", "--updates", "1", *store)
    assert "frozen anew" not in run(*plan, "--scale", "0.0004").out
    larger = run(*plan, "--scale", "0.0008").out
    assert "4 episodes of weak_grasp in cog/PickTray-v0 to collect first" in larger
    assert "place_in_tray to be frozen anew, larger" in larger
    run("collect", "--for", "place_in_tray", "--scale", "0.0008", "--workers", "1", *store)
    collected = run(*plan, "--scale", "0.0008").out
    assert "to collect" not in collected
    assert "place_in_tray to be frozen anew, larger" in collected
    done = run(
        *plan[:-3], *store, "--scale", "0.0008", "--trials", "1", "--curve", "0", "--jobs", "1",
        "--set", "bc.updates=1",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "place_in_tray@2 frozen" in done.out
    assert run("runs", "ls", *store, "--format", "csv").out.count("place_in_tray@2") == 2, "a line per start"
    assert "frozen anew" not in run(*plan, "--scale", "0.0008").out


def test_a_mixture_of_ones_own_is_reproduced_from_as_it_is(run: Run, filled: Path, tmp_path: Path) -> None:
    shutil.copytree(filled, tmp_path / "store")
    store = ("--root", str(tmp_path / "store"))
    run("query", "select episode_id from episodes", "--as", "place_in_tray", *store)
    said = run(
        "reproduce", "place_in_tray", "--methods", "bc_all", "--results", str(tmp_path / "results"), "--dry-run",
        *store,
    ).out  # fmt: skip
    assert said.startswith("3 experiments, 0 there")
