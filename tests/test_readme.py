"""What the README shows of the demo is what was measured, as its file says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from commands.demo import DEMO_METHODS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DEMO: dict[str, Any] = json.loads((ROOT / "results" / "demo.json").read_text(encoding="utf-8"))


def test_the_demos_runs_are_those_of_its_file() -> None:
    """A run per method, each named twice: where it is trained, and where the two are compared."""
    runs = {score["run"]: score["method"] for score in DEMO["scores"]}
    assert sorted(runs.values()) == sorted(DEMO_METHODS.values())
    for name in runs:
        assert len([score for score in DEMO["scores"] if score["run"] == name]) == 2
        assert README.count(name) == 2


def test_the_demos_figures_are_those_of_its_file() -> None:
    assert DEMO["mixture_digest"][:12] in README
    assert f"\n{DEMO['seconds'] / 60:.1f} minutes · cog-demo/report.html\n" in README
    for method in DEMO_METHODS.values():
        rates = [score["rate"] for score in DEMO["scores"] if score["method"] == method]
        (line,) = [line for line in README.splitlines() if line.startswith(method)]
        shown = [float(word) for word in line.split() if word.replace(".", "").isdigit()]
        assert shown == rates
