"""What the README shows of the demo is what was measured, by the runs that today's configuration names."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cogdata.storage.manifest import Manifest
from cogdata.storage.store import Store
from commands.demo import DEMO_METHODS
from tests.synthetic import make_manifest, write_episodes
from trainers.algos import configure
from trainers.training.request import TrainRequest, run_id

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DEMO: dict[str, Any] = json.loads((ROOT / "results" / "demo.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("algo", DEMO_METHODS)
def test_the_demos_runs_are_called_what_they_are_called_today(algo: str, tmp_path: Path) -> None:
    some = make_manifest(write_episodes(Store(str(tmp_path)), "some", 2), ["all"] * 2)
    info = replace(some.info, name="place_in_tray", digest=DEMO["mixture_digest"])
    manifest = Manifest(info, some.episodes, some.rewards, some.stats)
    name = run_id(manifest, TrainRequest(algo, configure(algo, "fast", []), "fast", "state", 0))
    scores = [score for score in DEMO["scores"] if score["run"] == name]
    assert len(scores) == 2, (
        f"results/demo.json is of another configuration than {name}: run `make demo` again"
    )
    assert README.count(name) == 2


def test_the_demos_figures_are_those_of_its_file() -> None:
    assert DEMO["mixture_digest"][:12] in README
    assert f"\n{DEMO['seconds'] / 60:.1f} minutes · cog-demo/report.html\n" in README
    for method in DEMO_METHODS.values():
        rates = [score["rate"] for score in DEMO["scores"] if score["method"] == method]
        (line,) = [line for line in README.splitlines() if line.startswith(method)]
        shown = [float(word) for word in line.split() if word.replace(".", "").isdigit()]
        assert shown == rates
