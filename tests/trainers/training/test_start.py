"""Runs that start from other runs: the same weights, the same eyes, the same bits after an interruption."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cogdata.errors import CogError
from cogdata.storage.manifest import Manifest, Stats
from cogdata.storage.runs import read_run
from cogdata.storage.store import Store
from tests.trainers.toy import ToyStream, make_manifest, small_config
from trainers.algorithm import Algorithm
from trainers.algos.bc import Bc
from trainers.checkpoint import load_policy, split_state
from trainers.training.request import TrainRequest, resume_request, run_id
from trainers.training.start import from_run, open_learner, parse_run
from trainers.training.train import train

SMALL: dict[str, Any] = {"threads": 1, "checkpoint_every": 2, "log_every": 2, "tensorboard": False}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def make_request(algo: str, *overrides: str) -> TrainRequest:
    return TrainRequest(algo, small_config(algo, "updates=6", *overrides), **SMALL)


def trained(store: Store, request: TrainRequest, manifest: Manifest | None = None) -> str:
    info, _ = train(store, manifest or make_manifest(), request, open_stream=ToyStream)
    return info.run


def shifted(manifest: Manifest) -> Manifest:
    """The same mixture with other statistics, as its parts have them."""
    mean = {name: [value + 1 for value in values] for name, values in manifest.stats.mean.items()}
    return replace(manifest, stats=Stats(mean, manifest.stats.std))


def named(learner: Algorithm) -> dict[str, torch.Tensor]:
    weights, training = split_state(learner)
    return weights | training


@pytest.mark.parametrize("algo", ["bc", "bfn", "cql"])
def test_a_run_begins_with_its_parents_networks_and_eyes(store: Store, algo: str) -> None:
    parent = trained(store, make_request(algo))
    request = from_run(store, make_request(algo, "updates=4"), parent)
    manifest = shifted(make_manifest(digest="1" * 64))
    learner, seconds = open_learner(store, "new", manifest, request)
    theirs, _ = open_learner(store, parent, make_manifest(), make_request(algo))
    assert (learner.updates_done, theirs.updates_done, seconds) == (0, 6, 0.0)
    assert learner.spec == theirs.spec
    mine, other = learner.state_dict(), theirs.state_dict()
    assert all(torch.equal(mine[name], other[name]) for name in other)
    assert not any(slot["step"].any() for slot in optimiser_slots(learner))


def optimiser_slots(learner: Algorithm) -> list[dict[str, torch.Tensor]]:
    split_state(learner)  # gives an optimiser that has not stepped its first state
    return [slots for optimiser in learner.optimisers.values() for slots in optimiser.state.values()]


def test_a_child_is_named_by_the_weights_it_starts_from(store: Store) -> None:
    parent = trained(store, make_request("bc"))
    newest, older = (from_run(store, make_request("bc"), ref) for ref in (parent, f"{parent}@4"))
    assert (newest.parent, newest.parent_update, older.parent_update) == (parent, 6, 4)
    method = replace(make_request("bc"), method="bc_all", stage="bc")
    names = {run_id(make_manifest(), one) for one in (make_request("bc"), newest, older, method)}
    assert len(names) == 4
    info = read_run(store, trained(store, newest))
    assert (info.parent, info.parent_update, info.parent_digest) == (parent, 6, newest.parent_digest)


def test_an_interrupted_child_equals_a_whole_one_bit_for_bit(tmp_path: Path) -> None:
    ends = []
    for name, lengths in (("whole", [6]), ("halves", [3, 6])):
        store = Store(str(tmp_path / name))
        bc = trained(store, make_request("bc", "widths=32,32"))
        request = from_run(store, make_request("cql"), bc)
        manifest = shifted(make_manifest(digest="1" * 64))
        for length in lengths:
            config = replace(request.config, updates=length)
            run = trained(store, replace(request, config=config), manifest)
        again = resume_request(store, run)
        assert run_id(manifest, again) == run
        learner, _ = open_learner(store, run, manifest, again)
        ends.append(named(learner))
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_a_child_goes_on_without_its_parent(store: Store) -> None:
    parent = trained(store, make_request("bc"))
    request = from_run(store, make_request("bc"), parent)
    run = trained(store, request)
    store.remove(f"runs/{parent}")
    longer = replace(request, config=replace(request.config, updates=8))
    assert trained(store, longer) == run
    assert load_policy(store, run)[1].update == 8


def test_a_policy_alone_starts_what_needs_no_more(store: Store) -> None:
    """Of the older checkpoints only the policy is kept: bc has no more, cql and bfn have."""
    for algo, *settings in (("bc",), ("cql", "acting_samples=1", "average_rate=1")):
        request = replace(make_request(algo, *settings), checkpoint_every=1)
        parent = trained(store, request)
        child = from_run(store, make_request(algo, *settings), f"{parent}@2")
        if algo == "bc":
            assert isinstance(open_learner(store, "new", make_manifest(), child)[0], Bc)
            continue
        said = (
            f"checkpoint 2 of run '{parent}' has only its policy left, cql takes over critics, "
            "log_temperature, targets too: start from update 5 or 6"
        )
        with pytest.raises(CogError) as caught:
            open_learner(store, "new", make_manifest(), child)
        assert str(caught.value) == said


def test_what_does_not_fit_is_one_line(store: Store) -> None:
    parent = trained(store, make_request("bc", "widths=16,16"))
    for request, said in (
        (make_request("cql"), "cql cannot start from this bc: policy.head.weight differs in size"),
        (make_request("bfn"), "bfn cannot start from bc: they have no network in common"),
        (replace(make_request("bc"), obs="image"), f"run '{parent}' looks at state: say --obs state"),
    ):
        with pytest.raises(CogError, match=said):
            open_learner(store, "new", make_manifest(), from_run(store, request, parent))
    manifest = make_manifest()
    other = replace(manifest, info=replace(manifest.info, scene_fields=("place", "two")))
    with pytest.raises(
        CogError,
        match=r"^mixture toy@1 does not fit the policy: scene is .* of place, two, needed is .* of place, one$",
    ):
        open_learner(store, "new", other, from_run(store, make_request("bc"), parent))
    with pytest.raises(CogError, match=f"unknown checkpoint of run '{parent}' '5'"):
        from_run(store, make_request("bc"), f"{parent}@5")
    exchanged = replace(from_run(store, make_request("bc"), parent), parent_digest="0" * 64)
    with pytest.raises(CogError, match=f"checkpoint 6 of run '{parent}' was exchanged since"):
        open_learner(store, "new", make_manifest(), exchanged)


@pytest.mark.parametrize("ref", ["run@", "run@newest", "run@-1", "run@²"])
def test_a_reference_is_a_run_and_a_number(ref: str) -> None:
    assert (parse_run("run"), parse_run("run@0012")) == (("run", None), ("run", "0012"))
    with pytest.raises(CogError, match=r"must be RUN, RUN@UPDATE or RUN@best, for example run@1000"):
        parse_run(ref)
