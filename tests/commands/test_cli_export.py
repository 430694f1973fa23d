"""`cog export-policy` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from tests.running import Run


def test_a_policy_is_written_and_described(run: Run, root: Path, tmp_path: Path) -> None:
    (name,) = (path.name for path in (root / "runs").iterdir())
    out = tmp_path / "deep" / "policy.onnx"
    said = run("export-policy", name, "--out", str(out))
    assert said.code == 0, said
    lines = said.out.splitlines()
    assert lines[0].startswith(f"{out}: ")
    assert lines[0].endswith(f" MB, update 3 of {name}")
    assert lines[1] == "  robot: float32 (batch, 10)"
    assert lines[2].startswith("  scene: float32 (batch, ")
    assert lines[3:5] == ["  noise: float32 (batch, 8)", "  action: float32 (batch, 8)"]
    assert lines[5].startswith(
        "  tried on random observations: actions differ from the learner's by at most "
    )
    (entry,) = onnx.load(str(out)).metadata_props
    assert json.loads(entry.value)["run"] == name


def test_a_file_is_named_after_run_and_update(
    run: Run, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (name,) = (path.name for path in (root / "runs").iterdir())
    assert run("export-policy", name, "--format", "torch").code == 0
    assert (tmp_path / f"{name}-00000003.pt2").is_file()


def test_mistakes_cost_one_line(run: Run, root: Path) -> None:
    (name,) = (path.name for path in (root / "runs").iterdir())
    assert run("export-policy", "nobody").error.startswith("unknown run 'nobody'")
    assert (
        run("export-policy", name, "--format", "tflite").error
        == "unknown format 'tflite': known: onnx, torch"
    )
    said = run("export-policy", name, "--format", "torch", "--out", str(root / "runs"))
    assert said.error == f"cannot write {root / 'runs'} (Is a directory): name another with --out"
