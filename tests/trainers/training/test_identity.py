"""Run names: those of version 0.1 as literal text, and what an added option does to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, make_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from cogdata.errors import CogError
from cogdata.storage.runs import read_run, write_run
from cogdata.storage.store import Store
from tests.trainers.toy import ToyStream, make_manifest, small_config
from trainers.algorithm import Config
from trainers.algos import ALGORITHMS, algorithm_class, config_from_dict
from trainers.algos.actor_critic import ActorCriticConfig, SoftConfig
from trainers.checkpoint import list_checkpoints, read_info
from trainers.identity import before_later, later
from trainers.obs_kinds import OBS_KINDS
from trainers.paper.identify import experiment_of_run
from trainers.paper.plan import plan_experiments
from trainers.paper.reproduce import EvalBudget, is_done
from trainers.paper.results import Data, Evaluated, Result, Trained
from trainers.training.methods import configure_stages
from trainers.training.online import Online
from trainers.training.request import TrainRequest, register, resume_request, run_id
from trainers.training.train import train

NAMES = {
    ("bc", "fast", "state"): "d755fb33",
    ("bc", "fast", "image"): "29feebea",
    ("bc", "fast", "image+robot"): "113055b6",
    ("bc", "paper", "state"): "31dd0942",
    ("bc", "paper", "image"): "5a9da365",
    ("bc", "paper", "image+robot"): "fcff9f08",
    ("bfn", "fast", "state"): "4010887e",
    ("bfn", "fast", "image"): "b9bce166",
    ("bfn", "fast", "image+robot"): "921a73c4",
    ("bfn", "paper", "state"): "ea9b761c",
    ("bfn", "paper", "image"): "a72436f8",
    ("bfn", "paper", "image+robot"): "5d36b381",
    ("cql", "fast", "state"): "06f46ded",
    ("cql", "fast", "image"): "70a7987d",
    ("cql", "fast", "image+robot"): "53c7b25a",
    ("cql", "paper", "state"): "30af60bf",
    ("cql", "paper", "image"): "9978663c",
    ("cql", "paper", "image+robot"): "9523d48e",
    ("iql", "fast", "state"): "37fb8979",
    ("iql", "fast", "image"): "394f8367",
    ("iql", "fast", "image+robot"): "a8af3499",
    ("iql", "paper", "state"): "580f2172",
    ("iql", "paper", "image"): "665425ab",
    ("iql", "paper", "image+robot"): "bc552c91",
    ("sac", "fast", "state"): "75731f2f",
    ("sac", "fast", "image"): "11b37589",
    ("sac", "fast", "image+robot"): "fce1073a",
    ("sac", "paper", "state"): "f1b25db8",
    ("sac", "paper", "image"): "8daf3b76",
    ("sac", "paper", "image+robot"): "a50246bf",
}
"""Algorithm, preset, observation → end of the run's name on the toy manifest, as version 0.1 gives it."""

ALWAYS = {
    "bc": "updates batch_size encoder crop_px widths learning_rate stochastic head components hybrid",
    "bfn": "updates batch_size encoder crop_px discount target_rate average_rate learning_rate decay "
    "backup_samples acting_samples flow_steps flow_widths critic_widths critics critic_loss critic_weight "
    "half_proposals success",
    "cql": "updates batch_size encoder crop_px critic_widths policy_widths critics layer_norm half_gradients "
    "discount target_rate critic_learning_rate policy_learning_rate stochastic success temperature "
    "target_entropy shared_encoder decay acting_samples average_rate warm_start bellman_scale penalty_weight "
    "penalty_samples penalty_temperature importance data_in_logsumexp lagrange penalty_threshold "
    "backup_actions",
    "iql": "updates batch_size encoder crop_px critic_widths policy_widths critics layer_norm half_gradients "
    "discount target_rate critic_learning_rate policy_learning_rate stochastic success expectile "
    "inverse_temperature",
    "sac": "updates batch_size encoder crop_px critic_widths policy_widths critics layer_norm half_gradients "
    "discount target_rate critic_learning_rate policy_learning_rate stochastic success temperature "
    "target_entropy entropy_backup",
}
"""Algorithm → the settings of version 0.1, which every run is named by."""

FROM: dict[str, Any] = {"parent": "x", "parent_update": 5, "parent_digest": "ab" * 32}


@pytest.mark.parametrize(("algo", "preset", "obs"), NAMES)
def test_the_names_of_version_0_1_stay(algo: str, preset: str, obs: str) -> None:
    request = TrainRequest(algo, algorithm_class(algo).presets[preset], preset, obs)
    assert run_id(make_manifest(), request) == f"{algo}-toy-s0-{NAMES[algo, preset, obs]}"


def test_every_algorithm_preset_and_observation_of_version_0_1_has_its_name_above() -> None:
    assert set(NAMES) == {
        (algo, preset, obs) for algo in ALWAYS for preset in ("fast", "paper") for obs in OBS_KINDS
    }


def test_the_names_of_runs_that_start_from_others_stay() -> None:
    tuned = Online("cog/PickTray-v0", 300, 40)
    alone = Online("cog/PickTray-v0", 300, 40, "online", 0.25, 5, False)
    bfn, sac, cql = (algorithm_class(name).presets for name in ("bfn", "sac", "cql"))
    requests = {
        "bfn-toy-s0-baecf3af": TrainRequest("bfn", bfn["fast"], online=tuned, **FROM),
        "sac-toy-s0-6fdce071": TrainRequest(
            "sac", sac["fast"], online=alone, method="bc_all", stage="sac", **FROM
        ),
        "cql-toy-s3-c07a3f32": TrainRequest(
            "cql", cql["paper"], "paper", "image", 3, method="bc_init", stage="cql", **FROM
        ),
    }
    assert [run_id(make_manifest(), request) for request in requests.values()] == list(requests)


@pytest.mark.parametrize("algo", ALWAYS)
def test_a_setting_that_version_0_1_lacks_is_declared_as_a_later_one(algo: str) -> None:
    kind = type(algorithm_class(algo).presets["fast"])
    named = {one.name for one in fields(kind)} - before_later(kind).keys()
    assert named == set(ALWAYS[algo].split()), "declare a new setting as: name: type = later(default)"


@pytest.mark.parametrize("kind", [Config, ActorCriticConfig, SoftConfig])
def test_a_later_option_may_stand_in_what_algorithms_share(kind: type[Config]) -> None:
    """Options without a default follow it, in the files of the algorithms."""
    shared = make_dataclass(
        "Shared", [("extra", float, later(0.5))], bases=(kind,), frozen=True, kw_only=True
    )
    one = make_dataclass("One", [("own", int)], bases=(shared,), frozen=True)
    base = {
        name: vars(algorithm_class("cql").presets["fast"])[name] for name in (f.name for f in fields(kind))
    }
    made: Any = one(own=3, **base)
    assert (made.extra, made.own) == (0.5, 3)


Adding = Callable[..., None]


@pytest.fixture
def add(monkeypatch: pytest.MonkeyPatch) -> Adding:
    """Give an algorithm's configuration a field ``extra``, as a line in its file would."""

    def added(algo: str, declared: Any = None) -> None:
        presets = algorithm_class(algo).presets
        kind = type(presets["fast"])
        default = later(0.5) if declared is None else declared
        larger = make_dataclass(kind.__name__, [("extra", float, default)], bases=(kind,), frozen=True)
        grown = {name: larger(**vars(config)) for name, config in presets.items()}
        monkeypatch.setattr(algorithm_class(algo), "presets", grown)

    return added


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_a_later_option_renames_a_run_only_where_it_is_used(algo: str, add: Adding) -> None:
    add(algo)
    for preset, config in algorithm_class(algo).presets.items():
        name = f"{algo}-toy-s0-{NAMES[algo, preset, 'state']}"
        assert run_id(make_manifest(), TrainRequest(algo, config, preset)) == name
        used = config.override(["extra=0.75"])
        assert run_id(make_manifest(), TrainRequest(algo, used, preset)) != name


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_a_run_from_before_an_option_goes_on_under_its_name(algo: str, add: Adding, tmp_path: Path) -> None:
    store, manifest = Store(str(tmp_path)), make_manifest()
    config = small_config(algo, "updates=2", *(["warm_start=1"] if algo == "cql" else []))
    request = TrainRequest(algo, config, threads=1, tensorboard=False)
    info, _ = train(store, manifest, request, open_stream=ToyStream)
    add(algo)
    longer = resume_request(store, info.run, updates=4)
    assert vars(longer.config)["extra"] == 0.5
    assert run_id(manifest, longer) == info.run
    again, state = train(store, manifest, replace(longer, tensorboard=False), open_stream=ToyStream)
    assert (again.run, state.updates_done) == (info.run, 4)
    assert list_checkpoints(store, info.run)[-1] == 4
    assert read_run(store, info.run).config["extra"] == 0.5
    assert read_info(store, info.run, 2).config.keys() == read_info(store, info.run, 4).config.keys() - {
        "extra"
    }


def test_a_default_that_changes_later_leaves_older_runs_what_they_were(add: Adding) -> None:
    """Runs before the field did 0.5. Today's default 0.75 is another run, and so are its words in a file."""
    add("bc", later(0.75, before=0.5))
    old = config_from_dict("bc", {"updates": 6_000})
    assert vars(old)["extra"] == 0.5
    assert run_id(make_manifest(), TrainRequest("bc", old)) == f"bc-toy-s0-{NAMES['bc', 'fast', 'state']}"
    today = algorithm_class("bc").presets["fast"]
    assert vars(today)["extra"] == 0.75
    assert today.identity()["extra"] == 0.75
    assert config_from_dict("bc", today.to_dict()) == today


def test_settings_of_a_newer_version_are_said_to_be_that() -> None:
    data = algorithm_class("bc").presets["fast"].to_dict() | {"tomorrow": 1}
    said = r"^setting 'tomorrow' is unknown to this version: a newer cogdata wrote it, upgrade this one$"
    with pytest.raises(CogError, match=said):
        config_from_dict("bc", data)


def test_a_later_option_of_fine_tuning_renames_no_run() -> None:
    larger = make_dataclass("Online", [("extra", float, later(0.5))], bases=(Online,), frozen=True)
    common = {"env": "cog/PickTray-v0", "episodes": 300, "horizon": 40}
    assert larger(**common).identity() == Online(**common).identity()  # type: ignore[arg-type]
    assert larger(**common, extra=0.75).identity() == Online(**common).identity() | {"extra": 0.75}  # type: ignore[arg-type]


def test_what_fine_tuning_is_named_by_is_what_it_was() -> None:
    assert Online("e", 1, 2).identity() == {
        "env": "e", "horizon": 2, "data": "symmetric", "updates_per_step": 1.0, "round_episodes": 10, "continues": True,
    }  # fmt: skip


def test_a_unit_of_the_table_from_before_an_option_is_found_and_not_done_again(
    add: Adding, tmp_path: Path
) -> None:
    """Its run.json has no ``extra``; today's configuration has it at what it did before."""
    unit = plan_experiments(["place_in_tray"], obs="state", preset="fast", methods=["bfn"], seeds=[0])[0]
    store = Store(str(tmp_path))
    ((stage, config),) = configure_stages("bfn", "fast", unit.settings)
    manifest = make_manifest(unit.mixture)
    request = TrainRequest(stage.algo, config, "fast", "state", method="bfn", stage=stage.algo)
    info = register(store, run_id(manifest, request), manifest, request)
    assert "extra" not in info.config
    add("bfn")
    assert experiment_of_run(read_run(store, info.run)) == unit
    write_run(store, replace(info, config={**info.config, "extra": 0.75}))
    assert experiment_of_run(read_run(store, info.run)) is None
    evaluated = tuple(Evaluated(env, config.updates, "ab" * 32, 0, "11") for env in unit.envs)
    trained = Trained(info.run, "bfn", "m@1", config.updates, 256, 1.0, 1, "cpu", info.config)
    data = Data("m@1", "0" * 64, {}, {}, {}, "")
    result = Result(unit, data, (trained,), evaluated, (), {}, "", ())
    assert is_done(result, unit, "0" * 64, EvalBudget(2, 0, 0))
