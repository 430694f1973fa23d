"""Curves, forecasts, and which result is whose."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cogdata.storage.manifest import mixture_folder
from cogdata.storage.runs import RunInfo, RunState, write_run, write_state
from cogdata.storage.store import Store
from tests.trainers.paper.reported import TABLE, evaluated, experiment_of, result_of
from tests.trainers.toy import make_manifest
from trainers.paper.forecast import expected_seconds, schedule_seconds, shares_learned
from trainers.paper.identify import experiment_of_run
from trainers.paper.reproduce import EvalBudget, commands_of, curve_updates, is_done
from trainers.training.methods import configure_stages

TRIALS = EvalBudget(4, 0, 10)
CLONE = ("bc.updates=6000", "bc.batch_size=256")
"""Settings of cloning, whatever today's budget is."""
HEAD = RunInfo(
    "run", "place_in_tray", 1, "d" * 64, "cql", "fast", "state", 0, 6000, 256, {}, "cpu", 1, 1,
    "2026-01-01T00:00:00+00:00", "0.1.0", method="cog", stage="cql",
)  # fmt: skip


def test_a_curve_takes_the_checkpoints_nearest_to_equal_distances() -> None:
    """Of every thousandth up to 5,000 four points of 4,500: goals 1,125, 2,250, 3,375 and 4,500."""
    thousands = [1000 * number for number in range(1, 6)]
    assert curve_updates([*thousands, 4500], 4500, 4) == [1000, 2000, 3000, 4500]
    assert curve_updates([0, 20], 20, 10) == [20]
    assert curve_updates([], 20, 10) == []


def test_experiments_on_two_places_end_when_the_later_one_does() -> None:
    """5, 3, 3, 1: the first place has 5 and then 1, the other 3 and 3."""
    assert schedule_seconds([5.0, 3.0, 3.0, 1.0], 2) == 6.0
    assert schedule_seconds([5.0, 3.0], 1) == 8.0


def test_an_experiment_takes_as_long_as_its_like_did() -> None:
    """60 s of training and 30 s of evaluation; else 6,000 updates of 5 ms and 500 episodes of 60 steps of 2 ms."""
    experiment = experiment_of("bc_all", 7, settings=CLONE)
    like = [result_of("bc_all", seed, "1111", settings=CLONE) for seed in (0, 1)]
    assert expected_seconds(experiment, TRIALS, like) == 90.0
    unlike = [replace(like[0], evaluation_seconds=None), result_of("bfn", 0, "1111")]
    unlike += [replace(one, runs=(replace(one.runs[0], device="cuda:0"),)) for one in like]
    assert expected_seconds(experiment, replace(TRIALS, episodes=250), unlike) == pytest.approx(30 + 60)
    assert expected_seconds(experiment, TRIALS, unlike, "cuda") == 90.0


def test_what_has_been_learned_is_not_waited_for() -> None:
    """Half of 60 s of training, all of 30 s of evaluation."""
    experiment = experiment_of("bc_all", 7, settings=CLONE)
    assert (
        expected_seconds(experiment, TRIALS, [result_of("bc_all", 0, "1111", settings=CLONE)], learned=0.5)
        == 60.0
    )
    assert expected_seconds(experiment, replace(TRIALS, episodes=250), [], learned=0.5) == pytest.approx(
        15 + 60
    )


def test_an_experiment_that_was_stopped_has_learned_what_its_runs_have(tmp_path: Path) -> None:
    """6,000 updates of the clone and 21,000 of the learner's 30,000 are three quarters of all."""
    store = Store(str(tmp_path))
    experiment = experiment_of("bc_init", 0, settings=("bc.updates=6000", "cql.updates=30000"))
    stages = configure_stages("bc_init", "fast", experiment.settings)
    assert [config.updates for _, config in stages] == [6000, 30000]
    for (stage, config), portion, done in zip(stages, ("prior", "no_prior"), (6000, 21000), strict=True):
        info = make_manifest(f"place_in_tray_{portion}").info
        store.write_text(f"{mixture_folder(info.name, info.version)}/mixture.json", info.to_json())
        head = replace(HEAD, run=stage.algo, algo=stage.algo, stage=stage.algo, method="bc_init")
        head = replace(head, config=config.to_dict(), mixture=info.name)
        write_run(store, replace(head, mixture_digest=info.digest))
        write_state(store, stage.algo, RunState("stopped", done, 1.0, "2026-01-01T00:00:00+00:00"))
    others = [
        replace(experiment, seed=1),
        replace(experiment, online=5, change="online"),
        experiment_of("bc_all", 0),
    ]
    others.append(replace(experiment, settings=(*experiment.settings, "cql.discount=0.9"), change="another"))
    shares = shares_learned(store, [experiment, *others])
    assert shares.pop(experiment.name) == 0.75
    assert shares == {one.name: share for one, share in zip(others, (0, 0, 0, 1 / 6), strict=True)}
    store.write_text("runs/damaged/run.json", "{")
    write_run(store, replace(head, mixture_digest="f" * 64))  # of another version than today's
    assert shares_learned(store, [experiment]) == {experiment.name: 1 / 6}


def test_a_result_counts_for_its_experiment_its_mixture_and_its_episodes() -> None:
    experiment = experiment_of("bfn", 0, settings=("bfn.updates=16000",))
    done = result_of("bfn", 0, "1111", settings=experiment.settings)
    updates = experiment.last_update
    assert updates == 16_000
    done = replace(done, evaluated=tuple(evaluated(one.env, "1111", updates) for one in done.evaluated))
    assert is_done(done, experiment, "e" * 64, TRIALS)
    assert not is_done(done, experiment, "f" * 64, TRIALS)
    assert not is_done(done, replace(experiment, seed=1), "e" * 64, TRIALS)
    assert not is_done(done, experiment, "e" * 64, replace(TRIALS, episodes=5))
    assert is_done(
        done, experiment, "e" * 64, replace(TRIALS, episodes=3)
    )  # what is evaluated more is not done again
    assert not is_done(replace(done, evaluated=done.evaluated[:1]), experiment, "e" * 64, TRIALS)
    assert not is_done(done, experiment, "e" * 64, replace(TRIALS, curve=3))
    curved = replace(done, curve=(evaluated(TABLE, "111", updates, 1_000_000),))
    assert is_done(curved, experiment, "e" * 64, replace(TRIALS, curve=3))
    assert is_done(curved, experiment, "e" * 64, replace(TRIALS, curve=2))
    assert not is_done(curved, experiment, "e" * 64, replace(TRIALS, curve=4))


def test_a_run_tells_its_experiment_though_the_configuration_has_grown_since() -> None:
    experiment = experiment_of("cog", 0)
    config = configure_stages("cog", "fast", experiment.settings)[-1][1].to_dict()
    info = replace(HEAD, config=config)
    assert experiment_of_run(info) == experiment
    older = {name: value for name, value in config.items() if name != "shared_encoder"}
    assert experiment_of_run(replace(info, config=older)) == experiment
    assert experiment_of_run(replace(info, config=config | {"shared_encoder": True})) is None
    assert experiment_of_run(replace(info, config=config | {"gone": 1})) is None
    assert experiment_of_run(replace(info, method=None)) is None


def test_what_to_type_for_the_same() -> None:
    train, evaluate_command = commands_of(experiment_of("bfn", 2, settings=("bfn.updates=16000",)), TRIALS)
    assert train == (
        "cog train --mixture place_in_tray --method bfn --obs state --preset fast --seed 2 --threads 1 "
        "--guard off --set bfn.updates=16000"
    )
    assert evaluate_command == "cog eval RUN --env cog/PlaceTray-v0 --env cog/PickTray-v0 --episodes 4"
    tuned = commands_of(experiment_of("bc_all", 0, change="online", online=50, envs=(TABLE,)), TRIALS)
    assert tuned[1] == (
        "cog finetune RUN --env cog/PickTray-v0 --episodes 50 --updates-per-step 0.25 --threads 1 --algo sac "
        "--data online"
    )
