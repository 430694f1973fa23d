"""Streams of features that a dataset declared itself, with what other people's data leave unknown."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cogdata.errors import CogError
from cogdata.features import EpisodeSpec, Feature
from cogdata.storage.manifest import Manifest
from cogdata.storage.selection import Selection
from cogdata.storage.store import Store
from cogdata.streaming.footprint import footprint
from cogdata.streaming.stream import Stream, StreamOptions, open_stream
from cogdata.streaming.transitions import Batch
from tests.cogdata.streaming.foreign import arm_episode, arm_manifest, spec_of, write_arm


def stream_of(store: Store, manifest: Manifest, **options: Any) -> Stream:
    return open_stream(store, manifest, StreamOptions(**({"batch_size": 4} | options)))


def in_order(batch: Batch) -> list[int]:
    """Row numbers of a batch by 10 · episode + t."""
    joints = batch.obs["joints"]
    first = joints if joints.ndim == 2 else joints[:, 0]
    return [int(number) for number in np.argsort(first[:, 0])]


def test_declared_features_come_by_name(store: Store) -> None:
    manifest = arm_manifest(write_arm(store, [arm_episode(0), arm_episode(1)]))
    batch = stream_of(store, manifest, batch_size=8).batch(0)
    order = in_order(batch)
    assert list(batch.obs.parts) == list(batch.next_obs.parts) == ["camera", "joints", "subtask"]
    numbers = [0, 1, 2, 3, 10, 11, 12, 13]
    assert batch.obs["joints"].dtype == np.float64
    assert batch.obs["joints"][order].tolist() == [[n, n] for n in numbers]
    assert batch.next_obs["joints"][order, 0].tolist() == [n + 1 for n in numbers]
    assert (batch.obs["camera"].dtype, batch.obs["camera"].shape) == ("uint8", (8, 2, 2, 1))
    assert batch.obs["camera"][order, 1, 1, 0].tolist() == numbers
    assert batch.action[order].tolist() == [[n + 0.5] for n in numbers]
    assert batch.reward[order].tolist() == [1, 2, 3, 4] * 2
    assert (batch.valid, batch.mask, batch.discount, batch.embodiment) == ({}, {}, None, None)


def test_texts_are_indices_into_a_sorted_list(store: Store) -> None:
    manifest = arm_manifest(write_arm(store, [arm_episode(1), arm_episode(0)]))
    stream = stream_of(store, manifest, batch_size=8, columns=("joints", "subtask", "instruction"))
    assert stream.texts == {
        "subtask": ("grasp", "reach"),
        "instruction": ("take cup 0", "take cup 1"),
    }
    batch = stream.batch(0)
    order = in_order(batch)
    assert batch.obs["subtask"].dtype == batch.obs["instruction"].dtype == np.int32
    assert batch.obs["subtask"][order].tolist() == [-1, 1, 0, 1] * 2
    assert batch.next_obs["subtask"][order].tolist() == [1, 0, 1, 0] * 2
    assert batch.obs["instruction"][order].tolist() == [0] * 4 + [1] * 4


def test_annotations_are_delivered_when_they_are_asked_for(store: Store) -> None:
    manifest = arm_manifest(write_arm(store, [arm_episode(0), arm_episode(3)]))
    batch = stream_of(store, manifest, batch_size=8, columns=("joints", "mass_kg", "intervention")).batch(0)
    order = in_order(batch)
    assert batch.obs["mass_kg"][order].tolist() == [0.0] * 4 + [0.75] * 4
    assert batch.next_obs["mass_kg"][order].tolist() == [0.0] * 4 + [0.75] * 4
    assert batch.obs["intervention"][order].tolist() == [False, True, False, False] * 2
    assert list(batch.next_obs.parts) == ["joints", "mass_kg"]  # nothing is done from the next observation


@pytest.mark.parametrize("memory", [None, 20 * 27])
def test_a_transition_to_an_unknown_observation_is_left_out_and_counted(
    store: Store, memory: int | None
) -> None:
    """8 episodes of 3 actions and 3 observations, one of 4; a row takes 27 bytes, a moving pool holds four."""
    episodes = [arm_episode(index, steps=3, final=index == 0) for index in range(9)]
    manifest = arm_manifest(write_arm(store, episodes))
    told: list[str] = []
    options = StreamOptions(4, memory_bytes=memory, columns=("joints",))
    stream = open_stream(store, manifest, options, told.append)
    assert (stream.transitions, stream.left_out, stream.moves) == (19, 8, memory is not None)
    assert told == [
        "mixture arms@1: 8 transitions are left out, because the observation that they lead to is unknown; "
        "19 remain"
    ]
    seen = set()
    for position in range(60):
        batch = stream.batch(position)
        assert np.array_equal(batch.next_obs["joints"], batch.obs["joints"] + 1)
        seen |= set(batch.obs["joints"][:, 0].tolist())
    assert seen == {0, 1, 2} | {10 * index + t for index in range(1, 9) for t in (0, 1)}


def test_chosen_steps_without_a_successor_are_left_out_too(store: Store) -> None:
    rows = write_arm(store, [arm_episode(0, final=False), arm_episode(1)])
    stream = stream_of(store, arm_manifest(rows, times=[[3, 1], [3]]), batch_size=2)
    assert (stream.transitions, stream.left_out) == (2, 1)
    assert sorted(stream.batch(0).obs["joints"][:, 0].tolist()) == [1, 13]


def test_a_mixture_of_unknown_successors_alone_is_refused(store: Store) -> None:
    rows = write_arm(store, [arm_episode(0, final=False)])
    with pytest.raises(CogError, match="arms@1: it has no transition whose successor is known"):
        stream_of(store, arm_manifest(rows, times=[[3]]))


def test_an_unknown_end_is_said_once_and_is_no_end(store: Store) -> None:
    rows = write_arm(store, [arm_episode(0, terminated=None), arm_episode(1)])
    told: list[str] = []
    stream = open_stream(store, arm_manifest(rows), StreamOptions(4), told.append)
    assert told == []
    assert not any(stream.batch(position).terminated.any() for position in range(4))
    assert stream.unknown_ends == 4
    assert told == [
        "mixture arms@1: of 4 transitions read so far it is unknown whether they ended in a terminal state; "
        "batches say that they did not"
    ]


def test_an_unknown_reward_must_be_relabelled(store: Store) -> None:
    rows = write_arm(store, [arm_episode(0), arm_episode(1, reward=None)])
    with pytest.raises(
        CogError,
        match=r"^episode arm1/0000000 has no reward at t = 0: relabel: select …, 0\.0 as reward$",
    ):
        stream_of(store, arm_manifest(rows)).batch(0)
    batch = stream_of(store, arm_manifest(rows, changes={1: {"reward": 0.25}}), batch_size=8).batch(0)
    assert batch.reward[in_order(batch)].tolist() == [1, 2, 3, 4] + [0.25] * 4


def test_a_footprint_follows_the_declaration(store: Store) -> None:
    """Camera 4 bytes, two joints of 8, a text's index 4; action 4, reward 4, flag 1, source 2: 35 bytes."""
    manifest = arm_manifest(write_arm(store, [arm_episode(0), arm_episode(1, final=False)]))
    assert footprint(manifest, StreamOptions(10, memory_bytes=10**6)) == (9 * 35, 4 * 10 * 2 * 35)
    stacked = StreamOptions(10, memory_bytes=10**6, windows={"camera": (-2, 0)})
    assert footprint(manifest, stacked) == (9 * 35, 4 * 10 * 2 * (35 + 2 * 4))


# --- several embodiments -------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", [None, 6 * 8 * 39])
def test_shorter_vectors_are_padded_and_masked(store: Store, memory: int | None) -> None:
    """Arms of two joints and one motor beside arms of three joints and two motors."""
    small = [arm_episode(index) for index in range(5)]
    large = [arm_episode(index, joints=3, motors=2) for index in range(5, 10)]
    rows = write_arm(store, [*small, *large])
    manifest = arm_manifest(
        rows,
        changes={index: {"embodiment": "so100" if index < 5 else "aloha"} for index in range(10)},
        sources=["small"] * 5 + ["large"] * 5,
        weights={"small": 0.25, "large": 0.75},
        declared=spec_of(joints=3, motors=2),
        selection=Selection(pad={"joints": 3, "action": 2}),
    )
    stream = stream_of(store, manifest, batch_size=8, memory_bytes=memory, columns=("joints",))
    assert stream.embodiments == ("aloha", "so100")
    assert stream.moves == (memory is not None)
    for position in range(12):
        batch = stream.batch(position)
        assert np.bincount(batch.source).tolist() == [6, 2]
        assert batch.embodiment is not None
        assert batch.embodiment.dtype == np.int16
        for row, number in enumerate(batch.obs["joints"][:, 0].tolist()):
            long = number >= 50
            assert batch.obs["joints"][row].tolist() == [number, number, number if long else 0]
            assert batch.next_obs["joints"][row].tolist() == [
                number + 1,
                number + 1,
                number + 1 if long else 0,
            ]
            assert batch.action[row].tolist() == [number + 0.5, number + 0.5 if long else 0]
            assert batch.mask["joints"][row].tolist() == [True, True, long]
            assert batch.mask["action"][row].tolist() == [True, long]
            assert batch.embodiment[row] == (0 if long else 1)


def test_a_vector_of_another_length_without_padding_is_refused(store: Store) -> None:
    rows = write_arm(store, [arm_episode(0), arm_episode(1, joints=3)])
    with pytest.raises(
        CogError, match=r"episode arm1/0000000 has joints of shape \(3,\), its mixture says \(2,\): freeze it"
    ):
        stream_of(store, arm_manifest(rows)).batch(0)


def test_an_episode_without_a_declared_feature_is_refused(store: Store) -> None:
    spec = spec_of()
    more = EpisodeSpec((*spec.observations, Feature("torque", "float32", (2,))), spec.action, (), spec.extras)
    rows = write_arm(store, [arm_episode(0)])
    with pytest.raises(CogError, match="episode arm0/0000000 has no torque, which its mixture declares"):
        stream_of(store, arm_manifest(rows, declared=more)).batch(0)


def test_embodiments_are_told_apart_without_padding(store: Store) -> None:
    rows = write_arm(store, [arm_episode(0), arm_episode(1)])
    stream = stream_of(store, arm_manifest(rows, changes={1: {"embodiment": "left"}}), batch_size=8)
    batch = stream.batch(0)
    assert stream.embodiments == ("left",)
    assert batch.embodiment is not None
    assert batch.embodiment[in_order(batch)].tolist() == [-1] * 4 + [0] * 4
    assert batch.mask == {}
