"""`cog train` as people expect it: a file of settings, checkpoints judged on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.running import Run

PICK = "cog/PickTray-v0"
SMALL = """
mixture = "all"
algo = "bc"
obs = "state"
steps = 4
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
    assert {"threads = 1", 'alarm = "20:0.1"', "log = []", "[set]", "updates = 4", "widths = [16]"} <= set(
        lines
    )
    assert "learning_rate = 0.001" in lines
    again = tmp_path / "again.toml"
    again.write_text(printed.out)
    assert run("train", "--config", str(again), "--print-config").out == printed.out
    said = run("train", "--config", str(again))
    assert said.code == 0, said
    (name,) = runs(root) - before
    typed = ("--algo", "bc", "--obs", "state", "--steps", "4", "--seed", "5", "--threads", "1")
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


def test_checkpoints_are_judged_on_the_way_and_the_best_is_found_again(
    run: Run, root: Path, settings: Path, tmp_path: Path
) -> None:
    before = runs(root)
    judged = ("--eval-env", PICK, "--eval-every", "2", "--eval-episodes", "2")
    said = run("train", "--config", str(settings), *judged)
    assert said.code == 0, said
    (name,) = runs(root) - before
    lines = said.err.splitlines()
    assert f"judged at 2 updates: {PICK} 0/2 = 0.00" in lines
    assert f"judged at 4 updates: {PICK} 0/2 = 0.00" in lines
    assert said.out.splitlines()[1] == f"  best judged: update 2, 0/2 in {PICK}"
    table = run("query", f"select update, count(*) n, min(seed) s from evaluations where run = '{name}' "
                "group by update order by update", "--format", "csv").out  # fmt: skip
    assert table.splitlines()[1:] == ["2,2,1000000", "4,2,1000000"]
    said = run("eval", name, "--env", PICK, "--episodes", "1", "--update", "best", "--workers", "1")
    assert said.out.startswith(f"{name} @ 2 · {PICK}: 0/1")
    out = tmp_path / "best.pt2"
    said = run("export-policy", name, "--format", "torch", "--update", "best", "--out", str(out))
    assert said.out.splitlines()[0].endswith(f"update 2 of {name}")
    said = run("train", "--resume", name, "--steps", "6", *judged)
    assert f"judged at 6 updates: {PICK} 0/2 = 0.00" in said.err.splitlines()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("--eval-every", "5"),
            "--eval-every and --eval-episodes say how to judge while training: add --eval-env",
        ),
        (("--eval-env", "cog/Nowhere-v0"), "cog/Nowhere-v0"),
        (
            ("--eval-env", PICK, "--eval-episodes", "0"),
            "judging every 1000 updates on 0 episodes: both must be at least 1",
        ),
        (("--alarm", "soon"), "--alarm 'soon' must be off, LINES or LINES:MARGIN, for example 20:0.1"),
        (("--log", "wandb"), "--log wandb needs a library that is not installed: pip install wandb"),
        (("--config", "nowhere.toml"), "cannot read nowhere.toml: No such file or directory"),
    ],
)
def test_mistakes_cost_one_line_and_no_run(run: Run, root: Path, options: tuple[str, ...], said: str) -> None:
    before = runs(root)
    assert (
        said
        in run("train", "--mixture", "all", "--algo", "bc", "--obs", "state", "--steps", "2", *options).error
    )
    assert runs(root) == before


def test_a_run_is_gone_on_with_as_it_was_begun(run: Run, root: Path, settings: Path) -> None:
    (name,) = runs(root)
    assert (
        "--resume goes on with a run as it was begun"
        in run("train", "--resume", name, "--config", str(settings)).error
    )
    (settings.parent / "alarm.toml").write_text('alarm = "off"\n')
    said = run("train", "--resume", name, "--config", str(settings.parent / "alarm.toml"), "--print-config")
    assert 'alarm = "off"' in said.out.splitlines()
    with_best = run("eval", name, "--env", PICK, "--update", "best")
    assert with_best.error.startswith(f"run '{name}' has no best checkpoint: it was not judged in training")
