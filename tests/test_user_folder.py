"""Files of the user in the working folder never take the place of our modules or of Python's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import cli
from cogdata.system.imports import OURS, ROOT
from tests.running import Said

TRAPS = (
    "catalog", "cogdata", "collectors", "commands", "trainers", "cli", "typing", "signal", "tests", "duckdb", "numpy",
)  # fmt: skip
"""Modules that the user has files of the same name as."""

LAB = """
import helper_of_lab
import numpy as np
from gymnasium import Env
from gymnasium.spaces import Box, Dict


class X(Env):
    predicates = ("placed",)
    task_predicate = "placed"
    horizon = 3

    def __init__(self, image_size):
        self.action_space = Box(-1, 1, (8,), np.float32)
        self.observation_space = Dict(
            image=Box(0, 255, (image_size, image_size, 3), np.uint8), robot=Box(-np.inf, np.inf, (10,), np.float32)
        )
        self.size = image_size

    def _see(self):
        image = np.zeros((self.size, self.size, 3), np.uint8)
        return {"image": image, "robot": np.zeros(10, np.float32)}, {"predicates": {"placed": helper_of_lab.PLACED}}

    def reset(self, *, seed=None, options=None):
        return self._see()

    def step(self, action):
        obs, info = self._see()
        return obs, 0.0, False, False, info
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with a driver, a module that it imports, and files with the names of other modules."""
    (tmp_path / "lab.py").write_text(LAB)
    (tmp_path / "helper_of_lab.py").write_text("PLACED = False\n")
    for name in TRAPS:
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('{name}.py of the working folder')\n")
    return tmp_path


def cog(folder: Path, *args: str) -> Said:
    """Run the command as a process in that folder, where the project is not installed."""
    environment = {
        key: value for key, value in os.environ.items() if key not in ("PYTHONSAFEPATH", "COG_ROOT")
    }
    done = subprocess.run(
        [sys.executable, cli.__file__, *args], cwd=folder, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    return Said(done.returncode, done.stdout, done.stderr)


def test_every_command_works_there(folder: Path) -> None:
    collected = cog(
        folder, "collect", "--policy", "random", "--env", "lab:X", "--episodes", "4", "--workers", "2",
        "--image-size", "16",
    )  # fmt: skip
    assert collected.code == 0, collected
    counted = cog(
        folder, "query", "select count(*) as n, count_if(success) as won from episodes", "--format", "csv"
    )
    assert counted.out.splitlines() == ["n,won", "4,0"]
    assert cog(folder, "query", "select episode_id from episodes", "--as", "all").code == 0
    trained = cog(
        folder, "train", "--mixture", "all", "--algo", "bc", "--obs", "image+robot", "--updates", "1",
        "--set", "batch_size=2", "--set", "widths=8",
    )  # fmt: skip
    assert trained.code == 0, trained
    run = trained.out.split(":")[0]
    judged = cog(folder, "eval", run, "--env", "lab:X", "--episodes", "2", "--workers", "2")
    assert f"{run} @ 1 · lab:X: 0/2" in judged.out, judged


_EDITABLE = """
import importlib.util, sys
from importlib.machinery import PathFinder
from pathlib import Path

root = {root!r}


class Editable:  # as setuptools installs a checkout: found after everything on the path
    @staticmethod
    def find_spec(name, path=None, target=None):
        if path is None and name in {ours!r}:
            return PathFinder.find_spec(name, [root])


if __name__ == "__main__":  # a worker takes over the path of the command
    sys.path[:] = [one for one in sys.path if one not in ("", root)]
sys.meta_path[:] = [one for one in sys.meta_path if "ditable" not in repr(one)] + [Editable]
import cli
sys.argv[1:] = {args!r}
if __name__ == "__main__":
    cli.main()
"""


def test_it_works_where_a_checkout_is_installed(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The catalog is imported after the driver, when the working folder is on the path."""
    (folder / "lab.py").write_text(f"import secrets\nassert secrets.token_hex\n{LAB}")
    (folder / "secrets.py").write_text("raise RuntimeError('secrets.py of the working folder')\n")
    script = tmp_path_factory.mktemp("bin") / "cog"
    args = ["collect", "--policy", "random", "--env", "lab:X", "--episodes", "2", "--image-size", "16"]
    script.write_text(_EDITABLE.format(root=ROOT, ours=OURS, args=args))
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in ("PYTHONSAFEPATH", "PYTHONPATH", "COG_ROOT")
    }
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "2/2 episodes" in done.stdout


@pytest.mark.parametrize(("name", "owner"), [("catalog", "cogdata"), ("typing", "Python")])
def test_a_driver_with_the_name_of_another_module_is_refused(folder: Path, name: str, owner: str) -> None:
    said = cog(folder, "collect", "--policy", "random", "--env", f"{name}:X", "--episodes", "1")
    assert said.error == (
        f"{folder / f'{name}.py'} has the name of a module of {owner}: give it a name of its own, for example "
        f"my_{name}"
    )


def test_a_driver_with_the_name_of_a_library_that_is_loaded_is_refused(folder: Path) -> None:
    said = cog(folder, "collect", "--policy", "random", "--env", "numpy:X", "--episodes", "1")
    assert f"{folder / 'numpy.py'} has the name of a module of " in said.error
    assert said.error.endswith("numpy: give it a name of its own, for example my_numpy")


def test_a_driver_that_fails_to_import_is_one_line(folder: Path) -> None:
    (folder / "broken.py").write_text("import nothing_of_this_name\n")
    said = cog(folder, "collect", "--policy", "random", "--env", "broken:X", "--episodes", "1")
    assert said.error.startswith("cannot import broken of --env broken:X: ModuleNotFoundError")
