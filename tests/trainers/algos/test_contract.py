"""What every algorithm promises, for every kind of observation and preset, and for one that is added."""

from __future__ import annotations

from pathlib import Path

import pytest

from cogdata.errors import CogError
from cogdata.storage.store import Store
from tests.trainers.algos.contract import (
    PROMISES,
    Subject,
    a_configuration_survives_json,
    an_update_moves_weights_and_reports_finite_scalars,
)
from tests.trainers.toy import KINDS, ToyStream, make_manifest
from trainers.algos import ALGORITHMS, Entry, algorithm_class, configure
from trainers.checkpoint import load_policy
from trainers.training.request import TrainRequest
from trainers.training.train import train

VARIANTS = (
    ("bc", "head=mixture"), ("bc", "head=flow"), ("bc", "hybrid=true"), ("bc", "stochastic=false"),
    ("cql", "lagrange=true"), ("cql", "layer_norm=true", "critics=3", "stochastic=true"),
    ("cql", "penalty_samples=2", "backup_actions=3"), ("cql", "shared_encoder=true"),
    ("cql", "shared_encoder=true", "acting_samples=1", "average_rate=1"), ("sac", "entropy_backup=true"),
)  # fmt: skip
"""Settings that change what a learner consists of or draws."""
SMALL_ONES = [Subject(algo, kind).small for algo in ALGORITHMS for kind in KINDS] + [
    Subject(algo, "image+robot", overrides=tuple(overrides)).small for algo, *overrides in VARIANTS
]
PRESETS = [
    Subject(algo, kind, preset) for algo in ALGORITHMS for kind in KINDS for preset in ("fast", "paper")
]


@pytest.mark.parametrize("subject", SMALL_ONES, ids=str)
@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_every_algorithm_keeps_every_promise(promise: object, subject: Subject, tmp_path: Path) -> None:
    assert callable(promise)
    promise(subject, tmp_path)


@pytest.mark.parametrize("subject", PRESETS, ids=str)
def test_every_preset_is_built_and_takes_a_step(subject: Subject, tmp_path: Path) -> None:
    a_configuration_survives_json(subject, tmp_path)
    an_update_moves_weights_and_reports_finite_scalars(subject, tmp_path)


def test_an_algorithm_is_one_file_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        ALGORITHMS, "mean_action", Entry("tests.trainers.mean_action:MeanAction", "The mean action.")
    )
    for kind in KINDS:
        for number, promise in enumerate(PROMISES):
            promise(Subject("mean_action", kind), tmp_path / kind / str(number))
    store = Store(str(tmp_path / "store"))
    request = TrainRequest(
        "mean_action", configure("mean_action", "fast", ["updates=30"]), threads=1, tensorboard=False
    )
    info, state = train(store, make_manifest(), request, open_stream=ToyStream)
    assert (state.status, info.algo) == ("finished", "mean_action")
    assert load_policy(store, info.run)[0].name == "mean_action"


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_the_table_says_of_an_algorithm_what_its_class_says(algo: str) -> None:
    kind = algorithm_class(algo)
    assert kind.name == algo
    assert (kind.__doc__ or "").splitlines()[0] == ALGORITHMS[algo].summary


def test_an_unknown_algorithm_is_named_with_the_known_ones() -> None:
    with pytest.raises(
        CogError, match=r"unknown algorithm 'bfm': did you mean 'bfn'\? known: bc, bfn, cql, iql, sac"
    ):
        configure("bfm")
    with pytest.raises(CogError, match="unknown preset 'quick'.*known: fast, paper"):
        configure("bc", "quick")
