"""Frame stacks, action chunks and n-step returns: exact arrays, worked by hand."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from cogdata.errors import CogError
from cogdata.storage.manifest import Manifest
from cogdata.storage.store import Store
from cogdata.streaming.stream import Stream, StreamOptions, open_stream
from cogdata.streaming.transitions import Batch
from cogdata.streaming.windows import Runs, returns
from tests.cogdata.streaming.foreign import arm_episode, arm_manifest, write_arm

COLUMNS = ("camera", "joints")
WINDOWS = {"joints": (-2, 0), "action": (0, 2)}


def stream_of(store: Store, manifest: Manifest, **options: Any) -> Stream:
    given: dict[str, Any] = {"batch_size": 4, "columns": COLUMNS} | options
    return open_stream(store, manifest, StreamOptions(**given))


def by_number(batch: Batch) -> dict[int, int]:
    """10 · episode + t of the camera, which has no window → row of the batch."""
    return {int(number): row for row, number in enumerate(batch.obs["camera"][:, 0, 0, 0])}


def content(batch: Batch) -> list[bytes]:
    arrays = [*batch.obs.parts.values(), *batch.next_obs.parts.values(), batch.action, batch.reward]
    arrays += [*batch.valid.values(), *batch.next_valid.values(), batch.terminated]
    return [array.tobytes() for array in arrays] + [
        b"" if batch.discount is None else batch.discount.tobytes()
    ]


def test_runs_are_the_consecutive_steps_that_were_chosen() -> None:
    """t = 2, 3 and t = 5 of an episode of 6 actions whose final observation is unknown."""
    runs = Runs.of(np.array([5, 2, 3]), 6)
    assert (runs.first.tolist(), runs.stop.tolist(), runs.last.tolist()) == ([5, 2, 2], [6, 4, 4], [5, 4, 4])
    whole = Runs.of(np.arange(6), 7)
    assert (whole.first.tolist(), whole.stop.tolist(), whole.last.tolist()) == ([0] * 6, [6] * 6, [6] * 6)


def test_stacks_and_chunks_repeat_and_mask_what_lies_beyond_the_episode(store: Store) -> None:
    batch = stream_of(store, arm_manifest(write_arm(store, [arm_episode(3)])), windows=WINDOWS).batch(0)
    rows = [by_number(batch)[30 + t] for t in range(4)]
    assert batch.obs["joints"].shape == (4, 3, 2)
    assert batch.obs["joints"][rows, :, 0].tolist() == [
        [30, 30, 30],
        [30, 30, 31],
        [30, 31, 32],
        [31, 32, 33],
    ]
    assert batch.valid["joints"][rows].tolist() == [
        [False, False, True], [False, True, True], [True, True, True], [True, True, True],
    ]  # fmt: skip
    assert batch.next_obs["joints"][rows, :, 0].tolist() == [
        [30, 30, 31], [30, 31, 32], [31, 32, 33], [32, 33, 34],
    ]  # fmt: skip
    assert batch.next_valid["joints"][rows].tolist() == [[False, True, True], *[[True] * 3] * 3]
    assert batch.action.shape == (4, 3, 1)
    assert batch.action[rows, :, 0].tolist() == [
        [30.5, 31.5, 32.5], [31.5, 32.5, 33.5], [32.5, 33.5, 33.5], [33.5, 33.5, 33.5],
    ]  # fmt: skip
    assert batch.valid["action"][rows].tolist() == [
        [True, True, True], [True, True, True], [True, True, False], [True, False, False],
    ]  # fmt: skip
    assert batch.obs["camera"][rows, 0, 0, 0].tolist() == [30, 31, 32, 33]
    assert batch.next_obs["camera"][rows, 0, 0, 0].tolist() == [31, 32, 33, 34]


def test_windows_end_where_the_mixture_ends(store: Store) -> None:
    """Of 6 actions the mixture takes 2 ≤ t < 5."""
    rows = write_arm(store, [arm_episode(0, steps=6)])
    manifest = arm_manifest(rows, changes={0: {"t_start": 2, "t_end": 5}})
    batch = stream_of(store, manifest, batch_size=3, windows=WINDOWS, n_step=9, discount=0.5).batch(0)
    at = [by_number(batch)[t] for t in (2, 3, 4)]
    assert batch.obs["joints"][at, :, 0].tolist() == [[2, 2, 2], [2, 2, 3], [2, 3, 4]]
    assert batch.action[at, :, 0].tolist() == [[2.5, 3.5, 4.5], [3.5, 4.5, 4.5], [4.5, 4.5, 4.5]]
    assert batch.next_obs["camera"][at, 0, 0, 0].tolist() == [5, 5, 5]
    assert batch.next_obs["joints"][at, :, 0].tolist() == [[3, 4, 5]] * 3
    assert batch.reward[at].tolist() == [3 + 4 / 2 + 5 / 4, 4 + 5 / 2, 5]


def test_windows_end_at_a_step_that_was_not_chosen(store: Store) -> None:
    rows = write_arm(store, [arm_episode(0, steps=6)])
    manifest = arm_manifest(rows, times=[[0, 1, 3, 4]])
    batch = stream_of(store, manifest, windows={"action": (-1, 1)}, n_step=3, discount=0.5).batch(0)
    at = [by_number(batch)[t] for t in (0, 1, 3, 4)]
    assert batch.action[at, :, 0].tolist() == [
        [0.5, 0.5, 1.5],
        [0.5, 1.5, 1.5],
        [3.5, 3.5, 4.5],
        [3.5, 4.5, 4.5],
    ]
    assert batch.valid["action"][at].tolist() == [[False, True, True], [True, True, False]] * 2
    assert batch.reward[at].tolist() == [1 + 2 / 2, 2, 4 + 5 / 2, 5]
    assert batch.next_obs["camera"][at, 0, 0, 0].tolist() == [2, 2, 5, 5]
    assert batch.discount is not None
    assert batch.discount[at].tolist() == [0.25, 0.5, 0.25, 0.5]


@pytest.mark.parametrize("terminated", [False, True])
def test_returns_of_n_steps_end_with_the_episode(store: Store, terminated: bool) -> None:
    ends = np.arange(4) == 3 if terminated else np.zeros(4, bool)
    manifest = arm_manifest(write_arm(store, [arm_episode(0, terminated=ends)]))
    batch = stream_of(store, manifest, n_step=3, discount=0.5).batch(0)
    at = [by_number(batch)[t] for t in range(4)]
    assert batch.reward[at].tolist() == [1 + 2 / 2 + 3 / 4, 2 + 3 / 2 + 4 / 4, 3 + 4 / 2, 4]
    assert batch.next_obs["camera"][at, 0, 0, 0].tolist() == [3, 4, 4, 4]
    assert batch.terminated[at].tolist() == [False, *[terminated] * 3]
    assert batch.discount is not None
    assert (batch.reward.dtype, batch.discount.dtype) == (np.float32, np.float32)
    assert batch.discount[at].tolist() == ([0.125, 0, 0, 0] if terminated else [0.125, 0.125, 0.25, 0.5])


def test_a_return_ends_at_an_end_in_the_midst_of_old_data() -> None:
    """Version 0.1 stored episodes whose ``terminated`` is true before the last action, here at t = 1."""
    reward, terminated = np.array([1, 2, 3, 4, 0], np.float32), np.arange(5) == 1
    runs = Runs.of(np.arange(4), 5)
    rows = returns(np.arange(4), runs, StreamOptions(n_step=3, discount=0.5), reward, terminated)
    assert rows.after.tolist() == [2, 2, 4, 4]
    assert rows.reward is not None
    assert rows.discount is not None
    assert rows.reward.tolist() == [1 + 2 / 2, 2, 3 + 4 / 2, 4]
    assert rows.discount.tolist() == [0, 0, 0.25, 0.5]


def test_a_return_ends_with_a_success_where_that_is_absorbing() -> None:
    """Rewarded at t = 1 and 2: from 0 the return is γ with discount 0, from 3 on nothing is rewarded."""
    reward, terminated = np.array([0, 1, 1, 0, 0, 0], np.float32), np.zeros(6, bool)
    runs, options = Runs.of(np.arange(5), 6), StreamOptions(n_step=3, discount=0.5, success_ends=True)
    rows = returns(np.arange(5), runs, options, reward, terminated)
    assert rows.reward is not None
    assert rows.discount is not None
    assert rows.terminated is not None
    assert rows.reward.tolist() == [0.5, 1, 1, 0, 0]
    assert rows.discount.tolist() == [0, 0, 0, 0.25, 0.5]
    assert rows.terminated.tolist() == [True, True, True, False, False]
    assert rows.after.tolist() == [2, 2, 3, 5, 5]


def test_an_action_whose_successor_is_unknown_is_part_of_chunks_but_not_of_returns(store: Store) -> None:
    manifest = arm_manifest(write_arm(store, [arm_episode(0, final=False)]))
    options: dict[str, Any] = {"windows": WINDOWS, "n_step": 3, "discount": 0.5}
    batch = stream_of(store, manifest, batch_size=3, **options).batch(0)
    at = [by_number(batch)[t] for t in range(3)]
    assert batch.action[at, :, 0].tolist() == [[0.5, 1.5, 2.5], [1.5, 2.5, 3.5], [2.5, 3.5, 3.5]]
    assert batch.valid["action"][at].tolist() == [[True] * 3, [True] * 3, [True, True, False]]
    assert batch.reward[at].tolist() == [1 + 2 / 2 + 3 / 4, 2 + 3 / 2, 3]
    assert batch.next_obs["camera"][at, 0, 0, 0].tolist() == [3, 3, 3]


def test_one_step_with_a_discount_is_the_plain_transition(store: Store) -> None:
    manifest = arm_manifest(write_arm(store, [arm_episode(0, terminated=np.arange(4) == 3), arm_episode(1)]))
    plain, with_discount = (stream_of(store, manifest, discount=d).batch(0) for d in (None, 0.75))
    assert content(plain)[:-1] == content(with_discount)[:-1]
    assert with_discount.discount is not None
    assert with_discount.discount.tolist() == np.where(plain.terminated, 0, 0.75).tolist()


@pytest.mark.parametrize("memory", [None, 6 * 8 * 39])
def test_windows_are_the_same_by_threads_ranks_resume_and_pool(store: Store, memory: int | None) -> None:
    """Episodes of different lengths; in a moving pool, slots of 7 observations."""
    episodes = [arm_episode(index, steps=3 + index % 4, final=index % 3 > 0) for index in range(12)]
    manifest = arm_manifest(
        write_arm(store, episodes), sources=["a"] * 6 + ["b"] * 6, weights={"a": 0.5, "b": 0.5}
    )
    options: dict[str, Any] = {"windows": WINDOWS, "n_step": 3, "discount": 0.5, "memory_bytes": memory}
    stream = stream_of(store, manifest, threads=1, **options)
    assert stream.moves == (memory is not None)
    batches = [stream.batch(position) for position in range(30)]
    for batch in batches:
        for row, number in enumerate(batch.obs["camera"][:, 0, 0, 0].tolist()):
            index, t = divmod(number, 10)
            steps, last = len(episodes[index].action), episodes[index].length - 1
            stack = [10 * index + max(t + offset, 0) for offset in (-2, -1, 0)]
            chunk = [10 * index + min(t + offset, steps - 1) + 0.5 for offset in (0, 1, 2)]
            counted = min(3, last - t)
            assert batch.obs["joints"][row, :, 0].tolist() == stack
            assert batch.action[row, :, 0].tolist() == chunk
            assert batch.valid["action"][row].tolist() == [t + offset < steps for offset in (0, 1, 2)]
            assert batch.next_obs["camera"][row, 0, 0, 0] == number + counted
            assert batch.reward[row] == sum((t + 1 + ahead) * 0.5**ahead for ahead in range(counted))
    expected = [content(batch) for batch in batches]
    resumed = stream_of(store, manifest, threads=4, **options).batches(start=17)
    assert [content(next(resumed)) for _ in range(5)] == expected[17:22]
    for rank, position in itertools.product((0, 1), (3, 20)):
        part = stream_of(store, manifest, share=(rank, 2), **options).batch(position)
        assert np.array_equal(part.obs["joints"], batches[position].obs["joints"][rank::2])
        assert np.array_equal(part.action, batches[position].action[rank::2])
        assert np.array_equal(part.reward, batches[position].reward[rank::2])
        assert np.array_equal(part.valid["action"], batches[position].valid["action"][rank::2])


def test_windows_and_returns_that_cannot_be_are_refused(store: Store) -> None:
    manifest = arm_manifest(write_arm(store, [arm_episode(0)]))
    with pytest.raises(CogError, match=r"the window of joints is \(0, -1\): give its first step first"):
        StreamOptions(windows={"joints": (0, -1)})
    with pytest.raises(CogError, match="n_step is 0, must be at least 1"):
        StreamOptions(n_step=0)
    with pytest.raises(CogError, match="returns of 3 steps need a discount: give one, for example 0.99"):
        StreamOptions(n_step=3)
    with pytest.raises(CogError, match="discount is 1.5, must be between 0 and 1"):
        StreamOptions(discount=1.5)
    with pytest.raises(CogError, match="unknown feature with a window 'joint': did you mean 'joints'"):
        stream_of(store, manifest, windows={"joint": (0, 1)})
    with pytest.raises(CogError, match="mass_kg has one value per episode: it has no window"):
        stream_of(store, manifest, columns=("joints", "mass_kg"), windows={"mass_kg": (0, 1)})
