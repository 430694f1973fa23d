"""The wheel in an environment of its own, on a Python that PyBullet has no wheels for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.golden.core import files_read

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
PACKAGES = ("cogdata", "collectors", "trainers", "catalog", "commands")


def _call(*command: str | Path, where: Path) -> str:
    """What a command prints, called where no checkout is in sight."""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "COG_ROOT")}
    done = subprocess.run(
        [str(word) for word in command], cwd=where, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _build(folder: Path) -> Path:
    """Build the wheel, from a copy: building leaves files behind."""
    source = folder / "source"
    source.mkdir()
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "cli.py"):
        shutil.copy(ROOT / name, source)
    _call(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        folder,
        source,
        where=folder,
    )
    (wheel,) = folder.glob("cogdata_robot-*.whl")
    return wheel


def _python() -> str:
    """Find Python 3.12, or skip."""
    known = [shutil.which("python3.12"), *Path.home().glob(".pyenv/versions/3.12*/bin/python3.12")]
    for found in filter(None, known):
        asked = [str(found), "-c", "import sys, venv, ensurepip; print(sys.version_info[:2] == (3, 12))"]
        if subprocess.run(asked, capture_output=True, text=True, check=False).stdout == "True\n":
            return str(found)
    pytest.skip("this machine has no Python 3.12")


@pytest.mark.slow
def test_the_wheel_has_all_that_the_packages_need(tmp_path: Path) -> None:
    """Everything but Python files is named in pyproject.toml: SQL, templates, the marker of types."""
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    _call(environment / "bin" / "pip", "install", "--quiet", "--no-deps", _build(tmp_path), where=tmp_path)
    (site,) = environment.glob("lib/python*/site-packages")
    for name in PACKAGES:
        for path in (ROOT / name).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert (site / path.relative_to(ROOT)).is_file(), path


@pytest.mark.slow
def test_python_3_12_reads_streams_and_trains_from_a_store_made_here(tmp_path: Path, root: Path) -> None:
    """In a bare environment with the newest libraries that pip finds, several GB where torch has CUDA."""
    python, here = _python(), tmp_path / "here"
    here.mkdir()
    environment = tmp_path / "environment"
    _call(python, "-m", "venv", environment, where=here)
    _call(environment / "bin" / "pip", "install", "--quiet", _build(tmp_path), where=here)
    cog = environment / "bin" / "cog"

    found = json.loads(_call(environment / "bin" / "python", GOLDEN / "core.py", root, where=here))
    assert len(found["digests"]) == 20
    assert found == files_read(root)
    count = _call(
        cog, "query", "select count(*) as n from episodes", "--format", "csv", "--root", root, where=here
    )
    assert count.split() == ["n", "20"]
    assert _call(cog, "data", "verify", "--root", root, where=here) == "everything is whole\n"
    train = ("train", "--mixture", "all", "--algo", "bc", "--obs", "state", "--updates", "20")
    assert ": 20 updates in " in _call(cog, *train, "--root", root, where=here)
    assert _call(cog, "list", "envs", where=here).startswith("cog/PickTray-v0")
