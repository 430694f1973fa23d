"""The distribution: its name, its extras, its version, and what the texts tell to install."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import cogdata
from cogdata.system.distribution import DISTRIBUTION, pip_install

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
TEXTS = ("*.py", "*.md", "*.toml", "*.txt", "*.html", "*.j2", "Makefile")
INSTALLS = re.compile(r"pip install[^\n]*?[ '\"]cogdata(?!-robot)\b")


def _texts() -> list[Path]:
    """Texts of the tree, without folders that git would not take."""
    left_out = {".venv", "build", "cog-store", "cog-demo"}
    found = [path for pattern in TEXTS for path in ROOT.rglob(pattern)]
    return [path for path in found if not left_out & set(path.relative_to(ROOT).parts)]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("pip install 'cogdata[export]'", True),
        ("pip install -U cogdata", True),
        ("pip install 'cogdata-robot[export]'", False),
        ("pip install -c constraints.txt -e '.[ray]'", False),
    ],
)
def test_an_instruction_to_install_another_project_is_seen(line: str, found: bool) -> None:
    assert bool(INSTALLS.search(line)) is found


def test_no_text_tells_to_install_the_other_project_called_cogdata() -> None:
    texts = _texts()
    assert len(texts) > 200
    wrong = {
        f"{path.relative_to(ROOT)}: {line}"
        for path in texts
        if path != Path(__file__)
        for line in path.read_text(encoding="utf-8").splitlines()
        if INSTALLS.search(line)
    }
    assert not wrong


def test_the_distribution_is_called_what_the_hints_call_it() -> None:
    project = PROJECT["project"]
    assert project["name"] == DISTRIBUTION == "cogdata-robot"
    assert project["scripts"] == {"cog": "cli:main"}
    assert pip_install("export") == "pip install 'cogdata-robot[export]'"


def test_every_extra_that_a_hint_names_exists() -> None:
    asks = re.compile(r"(?:pip_install\(['\"]|cogdata-robot\[)(\w+)")
    named = {extra for path in _texts() if path != Path(__file__) for extra in asks.findall(path.read_text())}
    assert {"ray", "export"} <= named <= PROJECT["project"]["optional-dependencies"].keys()


def test_the_version_is_written_once_and_known_without_an_installation() -> None:
    assert PROJECT["tool"]["setuptools"]["dynamic"] == {"version": {"attr": "cogdata.__version__"}}
    assert re.fullmatch(r"\d+\.\d+\.\d+", cogdata.__version__)
    asks = re.compile(r"version\(['\"]cogdata")
    assert [path for path in _texts() if path.suffix == ".py" and asks.search(path.read_text())] == []
