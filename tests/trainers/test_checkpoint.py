from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from cogdata.errors import CogError
from cogdata.storage.store import Store
from tests.trainers.toy import KINDS, seeded, small_learner, tensors
from trainers.algorithm import Algorithm
from trainers.algos import ALGORITHMS
from trainers.checkpoint import (
    KEEP_FULL,
    list_checkpoints,
    load_policy,
    load_training,
    read_info,
    save_checkpoint,
    split_state,
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def updated(algo: str, kind: str, first: int, last: int, learner: Algorithm | None = None) -> Algorithm:
    learner = learner or small_learner(algo, kind)
    for update in range(first, last):
        learner.update(tensors(kind, 16, position=update), seeded(update))
    return learner


def identical(one: Algorithm, two: Algorithm) -> bool:
    mine, theirs = ({**weights, **rest} for weights, rest in (split_state(one), split_state(two)))
    return mine.keys() == theirs.keys() and all(
        torch.equal(value, theirs[name]) for name, value in mine.items()
    )


@pytest.mark.parametrize("algo", ALGORITHMS)
@pytest.mark.parametrize("kind", KINDS)
def test_resumed_equals_uninterrupted_bit_for_bit(store: Store, algo: str, kind: str) -> None:
    straight = updated(algo, kind, 0, 6)
    save_checkpoint(store, "r", updated(algo, kind, 0, 3), 1.5)
    resumed = small_learner(algo, kind, seed=99)
    info = load_training(store, "r", resumed)
    assert (info.update, info.seconds, resumed.updates_done) == (3, 1.5, 3)
    assert identical(updated(algo, kind, 3, 6, resumed), straight)


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_a_loaded_policy_acts_the_same(store: Store, algo: str) -> None:
    learner = updated(algo, "image+robot", 0, 2)
    saved = save_checkpoint(store, "r", learner, 0)
    loaded, info = load_policy(store, "r")
    obs = tensors("image+robot", 5).obs
    noise = torch.randn(5, *learner.noise_shape)
    assert torch.equal(loaded.act(obs, noise), learner.act(obs, noise))
    assert info.weights_digest == saved.weights_digest
    assert (loaded.config, loaded.spec, loaded.updates_done) == (learner.config, learner.spec, 2)


def test_only_the_newest_can_be_resumed_but_all_can_act(store: Store) -> None:
    learner = small_learner("bfn")
    for update in range(KEEP_FULL + 2):
        save_checkpoint(store, "r", updated("bfn", "state", update, update + 1, learner), 0)
    assert list_checkpoints(store, "r") == [1, 2, 3, 4]
    assert list_checkpoints(store, "r", full=True) == [3, 4]
    assert load_policy(store, "r", 1)[1].update == 1
    with pytest.raises(CogError, match=r"no checkpoint to resume from at 1: full ones: \[3, 4\]"):
        load_training(store, "r", learner, 1)


def test_a_folder_without_its_json_does_not_exist(store: Store) -> None:
    learner = updated("bc", "state", 0, 1)
    save_checkpoint(store, "r", learner, 0)
    save_checkpoint(store, "r", updated("bc", "state", 1, 2, learner), 0)
    store.remove("runs/r/checkpoints/00000002/checkpoint.json")  # as a crash before the last write leaves it
    assert list_checkpoints(store, "r") == [1]
    assert load_training(store, "r", small_learner("bc")).update == 1


@pytest.mark.parametrize("damage", ["truncate", "flip"])
@pytest.mark.parametrize("name", ["weights", "training"])
def test_a_damaged_file_is_refused_in_one_line(store: Store, name: str, damage: str) -> None:
    save_checkpoint(store, "r", updated("bfn", "state", 0, 1), 0)
    path = Path(store.path(f"runs/r/checkpoints/00000001/{name}.safetensors"))
    data = bytearray(path.read_bytes())
    if damage == "truncate":
        del data[len(data) // 2 :]
    else:
        data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(CogError, match=rf"{name}.safetensors is damaged") as caught:
        load_training(store, "r", small_learner("bfn"))
    assert "\n" not in str(caught.value)


def test_a_damaged_head_is_refused(store: Store) -> None:
    save_checkpoint(store, "r", updated("bc", "state", 0, 1), 0)
    store.write_text("runs/r/checkpoints/00000001/checkpoint.json", '{"algo": "bc", ')
    with pytest.raises(CogError, match="checkpoint.json is damaged"):
        read_info(store, "r")


def test_a_checkpoint_of_another_algorithm_is_refused(store: Store) -> None:
    save_checkpoint(store, "r", updated("bc", "state", 0, 1), 0)
    with pytest.raises(CogError, match="checkpoint of another algorithm: run 'r' is 'bc', not 'bfn'"):
        load_training(store, "r", small_learner("bfn"))


def test_a_checkpoint_of_other_networks_is_refused(store: Store) -> None:
    save_checkpoint(store, "r", updated("bc", "state", 0, 1), 0)
    with pytest.raises(CogError, match=r"has shape \(32, .*must be \(16, "):
        load_training(store, "r", small_learner("bc", "state", "widths=16,16"))
    with pytest.raises(CogError, match=r"does not fit its configuration: \d+ tensors differ"):
        load_training(store, "r", small_learner("bc", "state", "widths=32"))


def test_missing_checkpoints_are_named(store: Store) -> None:
    with pytest.raises(CogError, match="run 'r' has no checkpoint yet: `cog train --resume r`"):
        load_policy(store, "r")
    save_checkpoint(store, "r", updated("bc", "state", 0, 1), 0)
    with pytest.raises(CogError, match="unknown checkpoint of run 'r' '7': known: 1"):
        load_policy(store, "r", 7)


def test_the_head_says_what_the_files_hold(store: Store) -> None:
    save_checkpoint(store, "r", updated("bc", "state", 0, 1), 2.0)
    head = json.loads(store.read_text("runs/r/checkpoints/00000001/checkpoint.json"))
    assert (head["algo"], head["update"], head["seconds"]) == ("bc", 1, 2.0)
    assert [one["name"] for one in head["obs"]["features"]] == ["robot", "scene"]
    assert head["action"]["feature"]["high"] == [1.0] * 8
    assert head["config"]["widths"] == [32, 32]
