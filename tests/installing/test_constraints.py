"""The versions that are held, as pip reads them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_line_of_the_constraints_is_one_version_of_one_library() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9][\w.-]*==[0-9][\w.!+-]*", line)] == []
    names = [_name(line) for line in lines]
    assert sorted(set(names)) == sorted(names)


def test_every_library_that_is_asked_for_is_held() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [
        *project["dependencies"],
        *(line for lines in project["optional-dependencies"].values() for line in lines),
    ]
    held = {_name(line) for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert {_name(line) for line in asked} - held == {project["name"]}


def _name(line: str) -> str:
    """Name of a requirement as package indexes spell it."""
    name = re.match(r"[\w.-]+", line)
    assert name is not None, line
    return re.sub(r"[-_.]+", "-", name[0]).lower()
