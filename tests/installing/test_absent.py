"""The command line where libraries are absent, or not asked for: PyBullet, as on Python 3.12, and torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from collectors.sim import without_engine
from tests.running import TINY

ROOT = Path(__file__).resolve().parents[2]

_RUN = """
import json, sys
for name in ("pybullet", "pybullet_utils"):
    sys.modules[name] = None
import cli
for command in json.loads(sys.argv[1]):
    sys.argv = ["cog", *command]
    try:
        cli.main()
    except SystemExit as end:
        print("exit", end.code or 0, file=sys.stderr)
"""


def _commands(*commands: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Run commands one after the other in a process that has no PyBullet."""
    return subprocess.run(
        [sys.executable, "-c", _RUN, json.dumps(commands)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


_LIST = """
import sys
import cli
sys.argv = ["cog", "list", sys.argv[1]]
try:
    cli.main()
finally:
    print("torch" in sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("algorithms", "bc   Behaviour cloning."),
        ("methods", "sac           soft actor-critic on prior and task data: no penalty"),
        ("ablations", "generalist         one policy for every start [drawer]"),
        ("recipes", "drawer_all"),
        ("envs", "cog/PickTray-v0"),
        ("policies", "weak_grasp"),
    ],
)
def test_a_list_loads_no_torch(kind: str, line: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LIST, kind], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "False\n")
    assert [shown for shown in done.stdout.splitlines() if shown.startswith(line)]


def test_what_needs_no_world_works(root: Path) -> None:
    done = _commands(
        ("list", "envs"),
        ("list", "policies"),
        ("query", "select count(*) as n from episodes", "--format", "csv", "--root", str(root)),
        ("data", "verify", "--root", str(root)),
        (
            "train",
            "--mixture",
            "all",
            "--algo",
            "bc",
            "--obs",
            "state",
            "--updates",
            "4",
            "--root",
            str(root),
        ),
    )
    assert done.stderr.count("exit 0") == 5, done.stderr
    assert "error: " not in done.stderr
    assert "\nn\n20\neverything is whole\n" in done.stdout
    assert done.stdout.splitlines()[0].startswith("cog/PickTray-v0")


def test_what_needs_a_world_says_so_in_one_line_before_anything_is_begun(root: Path) -> None:
    run = next(path.name for path in (root / "runs").iterdir())
    before = sorted(root.rglob("*"))
    train = ("train", "--mixture", "all", "--algo", "bc", "--obs", "state", "--updates", "5")
    done = _commands(
        ("collect", "--policy", "place", "--episodes", "2", *TINY, "--seed", "7", "--root", str(root)),
        ("eval", run, "--env", "cog/PlaceTray-v0", "--episodes", "1", "--root", str(root)),
        (*train, "--eval-env", "cog/PlaceTray-v0", "--root", str(root)),
        ("finetune", run, "--env", "cog/PlaceTray-v0", "--episodes", "1", "--root", str(root)),
    )
    line = f"error: {without_engine(sys.version_info[:2], ModuleNotFoundError())}"
    assert [said for said in done.stderr.splitlines() if said.startswith("error: ")] == [line] * 4
    assert done.stderr.count("exit 1") == 4
    assert "Traceback" not in done.stderr
    assert sorted(root.rglob("*")) == before


@pytest.mark.parametrize(
    ("python", "error", "said"),
    [
        ((3, 11), ModuleNotFoundError(), "which is not installed: pip install pybullet"),
        (
            (3, 13),
            ModuleNotFoundError(),
            "which has wheels for Python 3.11 only, this is 3.13: use Python 3.11",
        ),
        ((3, 11), ImportError("libX11.so.6: missing"), "which cannot be loaded here: libX11.so.6: missing"),
    ],
)
def test_the_line_says_what_to_do(python: tuple[int, int], error: ImportError, said: str) -> None:
    line = str(without_engine(python, error))
    assert line.startswith(f"the simulated worlds need PyBullet, {said}")
