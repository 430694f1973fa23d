"""Frozen results beside today's settings: a changed budget or default makes them an earlier commit's, no more."""

from __future__ import annotations

import shutil
from dataclasses import make_dataclass, replace
from pathlib import Path

import pytest

from tests.running import Run
from tests.trainers.paper import test_frozen as frozen
from tests.trainers.paper.reported import experiment_of, result_of
from trainers.algorithm import Config
from trainers.algos.bfn import Bfn
from trainers.identity import later
from trainers.paper.comparison import describe_differences, differences, same_settings, sort_by_settings
from trainers.paper.files import REPLACED, read_result, write_result
from trainers.paper.reproduce import EvalBudget, is_done
from trainers.paper.results import Result
from trainers.paper.table1 import BUDGETS, TASKS


def presets_with(discount: float) -> dict[str, Config]:
    return {name: config.override([f"discount={discount}"]) for name, config in Bfn.presets.items()}


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Twice the updates for best of N on the tray, and another discount for every preset of it."""
    tray = replace(TASKS["place_in_tray"], overrides={}, state_overrides={}, image_overrides={})
    monkeypatch.setitem(TASKS, "place_in_tray", tray)
    monkeypatch.setitem(BUDGETS, ("fast", False), {"bfn": ("updates=32000",)})
    monkeypatch.setattr(Bfn, "presets", presets_with(discount=0.5))
    return monkeypatch


def test_a_changed_budget_and_default_are_named(changed: pytest.MonkeyPatch) -> None:
    with pytest.MonkeyPatch.context() as before:
        before.setitem(BUDGETS, ("fast", False), {"bfn": ("updates=16000",)})
        before.setattr(Bfn, "presets", presets_with(discount=0.95))
        result = result_of("bfn", 0, "1111")
        assert differences(result, experiment_of("bfn")) == {}
        done = tuple(replace(one, update=16000) for one in result.evaluated)
        assert is_done(
            replace(result, evaluated=done), result.experiment, result.data.digest, EvalBudget(4, 0, 1)
        )
    only_default = replace(result, evaluated=done)
    assert not is_done(only_default, result.experiment, result.data.digest, EvalBudget(4, 0, 1))
    found = differences(result, experiment_of("bfn"))
    assert found == {"bfn.discount": (0.95, 0.5), "bfn.updates": (16000, 32000)}
    assert describe_differences(found) == "bfn.discount 0.95 → 0.5, bfn.updates 16000 → 32000"
    assert not is_done(result, experiment_of("bfn"), result.data.digest, EvalBudget(1, 0, 1))
    named = {result.experiment.name: result}
    others = {("abc", describe_differences(found)): (result.experiment.name,)}
    assert sort_by_settings([experiment_of("bfn"), experiment_of("bc_all")], named).others == others


def test_the_frozen_page_and_files_ask_no_setting_of_today(changed: pytest.MonkeyPatch) -> None:
    frozen.test_the_page_in_docs_is_the_one_of_the_files()
    frozen.test_every_cell_is_derived_again("place_in_tray", "state")
    frozen.test_the_rows_on_fresh_scenes_are_those_of_their_file()
    for path in frozen.FILES:
        frozen.test_a_file_agrees_with_itself(path)


def test_reproduce_names_the_files_of_an_earlier_commit(
    changed: pytest.MonkeyPatch, run: Run, tmp_path: Path
) -> None:
    """The published file of best of N, whose budget and default have changed, and a new one of cloning."""
    results = tmp_path / "results"
    other = write_result(results, result_of("bc_all", 0, "1111")).stem
    name = "place_in_tray-state-fast-bfn-s0"
    shutil.copy(frozen.RESULTS / f"{name}.json", results)
    code = read_result(results / f"{name}.json").code
    said = run(
        "reproduce", "place_in_tray", "--methods", "bfn,bc_all", "--seeds", "0:1", "--dry-run",
        "--results", str(results), "--root", str(tmp_path / "store"),
    )  # fmt: skip
    assert said.code == 0, said
    lines = said.out.splitlines()
    place = lines.index(f"files in {results}: 1 of today's settings, 1 of an earlier commit's")
    assert lines[place + 1].startswith(f"  made by {code}, ")
    assert lines[place + 1].endswith(f": {name}")
    assert "bfn.discount 0.95 → 0.5" in lines[place + 1]
    assert "bfn.updates 16000 → 32000" in lines[place + 1]
    assert "1 of them have a file of today's settings" in said.err
    assert "1 of them have a file in" in said.err
    assert {path.stem for path in results.glob("*")} == {name, other}


def test_a_setting_that_a_file_is_too_old_to_have_counts_as_its_frozen_default() -> None:
    def without(result: Result, key: str) -> Result:
        (one,) = result.runs
        config = {name: value for name, value in one.config.items() if name != key}
        return replace(result, runs=(replace(one, config=config),))

    settings = ("cql.decay=0.3", "cql.shared_encoder=false")  # before there was either: 0 and false
    result = result_of("cog", 0, "1111", settings=settings)
    assert differences(without(result, "shared_encoder"), result.experiment) == {}
    assert same_settings(without(result, "shared_encoder"), result)
    assert differences(without(result, "decay"), result.experiment) == {"cql.decay": (0.0, 0.3)}
    (run,) = result.runs
    older = replace(result, runs=(replace(run, config={**run.config, "gone": 1}),))
    assert differences(older, result.experiment) == {"cql.gone": (1, "none")}


def test_a_later_setting_counts_as_what_runs_did_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """One added with the old behaviour .5 as default, and a default that has become .7 since."""
    result = result_of("bfn", 0, "1111")
    for declared, found in ((later(0.5), {}), (later(0.7, before=0.5), {"bfn.extra": (0.5, 0.7)})):
        kind = type(Bfn.presets["fast"])
        larger = make_dataclass("Larger", [("extra", float, declared)], bases=(kind,), frozen=True)
        with monkeypatch.context() as patch:
            patch.setattr(Bfn, "presets", {name: larger(**vars(one)) for name, one in Bfn.presets.items()})
            assert differences(result, result.experiment) == found


def test_what_leads_to_the_same_configuration_is_the_same_setting() -> None:
    """A value that moved from a budget into the preset trains nothing again."""
    result = result_of("bfn", 0, "1111")
    said_twice = replace(result.experiment, settings=("bfn.updates=5", *result.experiment.settings))
    assert differences(result, said_twice) == {}
    other = replace(result.experiment, envs=result.experiment.envs[:1])
    assert differences(result, other) == {"envs": (list(result.experiment.envs), list(other.envs))}


def test_other_stages_are_one_difference() -> None:
    clone = result_of("bc_all", 0, "1111")
    found = differences(clone, experiment_of("bc_init"))
    assert found["stages"] == ("bc", "bc + cql")
    assert not any(key.startswith("cql.") for key in found)


def test_a_learner_that_goes_on_online_is_compared_too(tmp_path: Path) -> None:
    path = frozen.RESULTS / "closed_drawer-state-fast-bc_all-online-s0.json"
    result = read_result(path)
    *offline, online = result.runs
    assert online.algo == "sac"
    changed = replace(online, config={**online.config, "discount": 0.5})
    found = differences(replace(result, runs=(*offline, changed)), result.experiment)
    assert found["online.sac.discount"][0] == 0.5


def test_a_file_made_with_another_default_is_kept_beside_the_new_one(tmp_path: Path) -> None:
    """Same experiment, data and scenes; only the configuration says that a default was another one."""
    new = result_of("bfn", 0, "1101")
    (run,) = new.runs
    old = replace(new, runs=(replace(run, config={**run.config, "discount": 0.5}),))
    write_result(tmp_path, old)
    write_result(tmp_path, new)
    (kept,) = (tmp_path / REPLACED).iterdir()
    assert read_result(kept) == old
    assert read_result(tmp_path / f"{new.experiment.name}.json") == new
