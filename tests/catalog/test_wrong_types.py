"""Files of a store whose JSON has wrong types: a line for each, and the rest of the store is read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.running import Run
from tests.test_golden import HERE

MIXTURE = "mixtures/by_step/v1/mixture.json"
COMMIT = "collections/place-090a8e69/part-00000-00-00/COMMIT.json"
RUN = "runs/cql-by_step-s0-cd906a72/run.json"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "store"
    shutil.copytree(HERE / "v1" / "store", root)
    monkeypatch.setenv("COG_ROOT", str(root))
    return root


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("change", [{"image_size": []}, {"counts": {"a": None}}, {"digest": None}])
def test_a_mixture_with_a_wrong_value_keeps_nothing_else_from_being_read(
    store: Path, run: Run, change: dict[str, Any]
) -> None:
    edit(store / MIXTURE, **change)
    said = run("query", "select count(*) as n from episodes", "--format", "csv")
    assert (said.code, said.out.splitlines()[1]) == (0, "3")
    for command in (("data", "ls"), ("mix", "ls"), ("runs", "ls"), ("data", "verify")):
        assert "Traceback" not in run(*command).err
    assert run("data", "verify").code == 1


@pytest.mark.parametrize(
    "change",
    [
        {"bytes": None}, {"episodes": []}, {"steps": {}}, {"start": None}, {"stop": 10**40}, {"files": None},
        {"files": {}}, {"files": {"../../../evil": {"size": 1, "sha256": ""}}}, {"bytes": 7}, {"frames": True},
        {"schema_version": True}, {"schema_version": -1},
    ],
)  # fmt: skip
def test_a_commit_with_a_wrong_value_is_damaged(store: Path, run: Run, change: dict[str, Any]) -> None:
    edit(store / COMMIT, **change)
    said = run("data", "verify")
    assert said.code == 1
    assert "part-00000-00-00" in said.out + said.err
    assert "is damaged: remove the folder and collect again" in said.out + said.err
    assert "Traceback" not in said.err
    assert run("query", "select count(*) as n from episodes", "--format", "csv").out.splitlines()[1] == "2"


@pytest.mark.parametrize("text", ["[" * 100_000, '{"seed": ' + "9" * 5000 + "}"])
@pytest.mark.parametrize("file", [MIXTURE, COMMIT, RUN])
def test_json_that_no_reader_takes_is_one_line(store: Path, run: Run, file: str, text: str) -> None:
    (store / file).write_text(text)
    for command in (
        ("data", "ls"),
        ("runs", "show", "cql-by_step-s0-cd906a72"),
        ("mix", "ls"),
        ("data", "verify"),
    ):
        assert "Traceback" not in run(*command).err
    assert run("query", "select count(*) as n from steps", "--format", "csv").code == 0
