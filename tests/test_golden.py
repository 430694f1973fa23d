"""Stores of every released format open, and hold what they held on the day of the release."""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pytest

from catalog.doctor import verify
from cogdata.storage.store import Store
from tests.golden import core, read
from tests.running import Run

HERE: Final = Path(__file__).parent / "golden"
FORMATS: Final = sorted(path.name for path in HERE.iterdir() if (path / "expected.json").exists())
TOLERANCE: Final = 1e-5
"""Processors round differently."""


def _expected(name: str) -> dict[str, Any]:
    expected: dict[str, Any] = json.loads((HERE / name / "expected.json").read_text())
    return expected


@pytest.fixture(params=FORMATS)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A copy of a golden store, and what is to be true of it."""
    shutil.copytree(HERE / request.param / "store", tmp_path / "store")
    return tmp_path / "store", _expected(request.param)


def test_the_released_formats_are_there() -> None:
    assert FORMATS == ["v1", "v2"]


@pytest.mark.parametrize("name", FORMATS)
def test_no_stored_byte_has_moved(name: str) -> None:
    root = HERE / name / "store"
    files = {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }
    assert files == _expected(name)["files"]


def test_a_golden_store_holds_what_it_held(golden: tuple[Path, dict[str, Any]]) -> None:
    root, expected = golden
    found = read.everything(root)
    actions = found.pop("actions")
    assert actions.keys() == expected["actions"].keys()
    for run, action in actions.items():
        np.testing.assert_allclose(action, expected["actions"][run], rtol=0, atol=TOLERANCE, err_msg=run)
    assert found == {name: value for name, value in expected.items() if name not in ("files", "actions")}


def test_a_golden_store_is_whole(golden: tuple[Path, dict[str, Any]]) -> None:
    assert verify(Store(str(golden[0]))) == []


def test_every_golden_run_goes_on(golden: tuple[Path, dict[str, Any]], run: Run) -> None:
    root, expected = golden
    for name in expected["runs"]:
        said = run("train", "--resume", name, "--updates", "6", "--root", str(root))
        assert said.code == 0, said
        assert json.loads((root / "runs" / name / "state.json").read_text())["updates_done"] == 6


def test_the_commands_that_made_its_collections_make_the_same_again(
    golden: tuple[Path, dict[str, Any]], run: Run, tmp_path: Path
) -> None:
    root, expected = golden
    for head in sorted(root.glob("collections/*/collection.json")):
        command = shlex.split(json.loads(head.read_text())["command"])[1:]
        assert run(*command, "--root", str(tmp_path / "again")).code == 0
        digests = {key: value for key, value in expected["digests"].items() if head.parent.name in key}
        assert digests
        assert digests.items() <= core.files_read(tmp_path / "again")["digests"].items()
        if json.loads(head.read_text())["libraries"]["pyarrow"] == pa.__version__:
            for name in ("frames.tar", "steps.parquet", "episodes.parquet"):
                (part,) = head.parent.glob(f"part-*/{name}")
                same = tmp_path / "again" / part.relative_to(root)
                assert same.read_bytes() == part.read_bytes()
