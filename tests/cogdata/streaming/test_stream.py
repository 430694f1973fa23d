from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cogdata.errors import CogError
from cogdata.storage.manifest import REWARDS, Manifest
from cogdata.storage.parts import PartWriter
from cogdata.storage.store import Store
from cogdata.streaming.stream import Stream, StreamOptions, open_stream
from cogdata.streaming.transitions import Batch
from tests.synthetic import make_episode, make_manifest, write_episodes

FRAME = 4 * 4 * 3 + 4 * (10 + 2 + 8 + 1) + 1 + 2  # bytes a synthetic frame takes in the pool


@pytest.fixture
def rows(store: Store) -> list[dict[str, Any]]:
    return write_episodes(store, "c", 24)


def _stream(store: Store, manifest: Manifest, **options: Any) -> Stream:
    return open_stream(store, manifest, StreamOptions(**({"batch_size": 8, "seed": 0} | options)))


def _ids(batch: Batch) -> list[tuple[int, int]]:
    """(episode index, t) of each transition."""
    return [(int(robot[0]), int(robot[1])) for robot in batch.obs["robot"]]


def _bytes(batch: Batch) -> bytes:
    arrays = [*batch.obs.parts.values(), batch.action, batch.reward, batch.next_obs["image"]]
    return b"".join(array.tobytes() for array in arrays)


def test_a_batch_holds_what_was_stored(store: Store, rows: list[dict[str, Any]]) -> None:
    batch = _stream(store, make_manifest(rows, ["a"] * 24)).batch(3)
    for i, (index, t) in enumerate(_ids(batch)):
        episode = make_episode("c", index)
        np.testing.assert_array_equal(batch.obs["image"][i], episode.image[t])
        np.testing.assert_array_equal(batch.next_obs["image"][i], episode.image[t + 1])
        np.testing.assert_array_equal(batch.next_obs["robot"][i], episode.robot[t + 1])
        assert episode.reward is not None
        np.testing.assert_array_equal(batch.action[i], episode.action[t])
        assert batch.reward[i] == episode.reward[t]
        assert not batch.terminated[i]


def test_where_world_and_clock_end_an_episode_a_learner_sees_the_world_s_end(store: Store) -> None:
    last = np.arange(4) == 3
    writer = PartWriter(store, "both", 0, 1)
    writer.add(replace(make_episode("both", 0), terminated=last, truncated=last))
    rows = store.read_table(f"collections/both/{writer.commit().part}/episodes.parquet").to_pylist()
    assert (rows[0]["terminated"], rows[0]["truncated"]) == (True, True)
    batch = _stream(store, make_manifest(rows, ["a"]), batch_size=4).batch(0)
    assert sorted(zip([t for _, t in _ids(batch)], batch.terminated.tolist(), strict=True)) == [
        (0, False), (1, False), (2, False), (3, True),
    ]  # fmt: skip


def test_a_pass_draws_every_transition_once(store: Store, rows: list[dict[str, Any]]) -> None:
    stream = _stream(store, make_manifest(rows, ["a"] * 24))
    assert (stream.transitions, stream.moves) == (96, False)
    for epoch in range(2):
        drawn = [pair for p in range(12) for pair in _ids(stream.batch(12 * epoch + p))]
        assert sorted(drawn) == sorted(itertools.product(range(24), range(4)))


@pytest.mark.parametrize("memory", [None, 40 * 5 * FRAME, 12 * 5 * FRAME])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_batch_is_a_pure_function_of_its_position(
    store: Store, rows: list[dict[str, Any]], memory: int | None, weighted: bool
) -> None:
    each = [5.0 if weighted and i in (3, 20) else 1.0 for i in range(24)]
    manifest = make_manifest(rows, ["a"] * 12 + ["b"] * 12, weights={"a": 0.25, "b": 0.75}, row_weight=each)
    in_order = _stream(store, manifest, memory_bytes=memory, threads=1)
    expected = [_bytes(in_order.batch(p)) for p in range(40)]
    jumping = _stream(store, manifest, memory_bytes=memory, threads=4)
    for position in (39, 0, 17, 18, 5, 30):
        assert _bytes(jumping.batch(position)) == expected[position]
    resumed = _stream(store, manifest, memory_bytes=memory, threads=3).batches(start=21)
    assert [_bytes(next(resumed)) for _ in range(10)] == expected[21:31]
    assert in_order.moves == (memory == 12 * 5 * FRAME)


def test_shares_are_exact_in_every_batch(store: Store, rows: list[dict[str, Any]]) -> None:
    manifest = make_manifest(rows, ["prior"] * 20 + ["task"] * 4, weights={"prior": 0.5, "task": 0.5})
    for memory in (None, 12 * 5 * FRAME):
        stream = _stream(store, manifest, memory_bytes=memory)
        for position in range(20):
            assert np.bincount(stream.batch(position).source).tolist() == [4, 4]


def test_a_moving_pool_sees_everything_and_stays_in_its_budget(
    store: Store, rows: list[dict[str, Any]]
) -> None:
    stream = _stream(store, make_manifest(rows, ["a"] * 24), memory_bytes=12 * 5 * FRAME)
    seen = {pair for p in range(200) for pair in _ids(stream.batch(p))}
    assert seen == set(itertools.product(range(24), range(4)))
    held = sum(values.nbytes for values in stream._pool.arrays.values())
    staged = stream._segments[0].staged
    assert staged is not None
    held += sum(values.nbytes for values in staged.pool.arrays.values())
    assert held <= 12 * 5 * FRAME


def test_rewards_come_from_the_manifest(store: Store, rows: list[dict[str, Any]]) -> None:
    manifest = make_manifest(rows, ["prior"] * 12 + ["task"] * 12, reward={"prior": 0.0})
    stream = _stream(store, manifest, columns=("robot",))
    for p in range(12):
        batch = stream.batch(p)
        for (index, t), reward, source in zip(_ids(batch), batch.reward, batch.source, strict=True):
            assert source == (index >= 12)
            assert reward == (index >= 12 and index % 3 == 0 and t == 3)


def test_the_step_shape_chooses_steps_and_relabels_them(store: Store, rows: list[dict[str, Any]]) -> None:
    labels = {
        "episode_id": [row["episode_id"] for row in rows],
        "t": [[1, 3]] * 24,
        "reward": [[0.5, None]] * 24,
    }
    rewards = pa.table(labels, schema=REWARDS)
    stream = _stream(store, make_manifest(rows, ["a"] * 24, rewards=rewards), columns=("robot",))
    assert stream.transitions == 48
    batch = stream.batch(0)
    for (index, t), reward in zip(_ids(batch), batch.reward, strict=True):
        assert t in (1, 3)
        assert reward == (0.5 if t == 1 else float(index % 3 == 0))


def test_weights_of_rows_are_proportions(store: Store, rows: list[dict[str, Any]]) -> None:
    manifest = make_manifest(rows, ["a"] * 24, row_weight=[3.0] * 12 + [1.0] * 12)
    stream = _stream(store, manifest, columns=("robot",))
    drawn = [index for p in range(50) for index, _ in _ids(stream.batch(p))]
    assert np.mean(np.array(drawn) < 12) == 0.75  # 6 of 8 in every batch


def test_an_unknown_column_is_refused_with_those_that_there_are(
    store: Store, rows: list[dict[str, Any]]
) -> None:
    with pytest.raises(CogError, match=r"unknown feature 'depth': .*image.*robot.*scene"):
        _stream(store, make_manifest(rows, ["a"] * 24), columns=("robot", "depth"))


def test_columns_come_in_the_order_of_the_declaration(store: Store, rows: list[dict[str, Any]]) -> None:
    manifest = make_manifest(rows, ["a"] * 24)
    assert list(_stream(store, manifest).batch(0).obs.parts) == ["image", "robot", "scene"]
    assert list(_stream(store, manifest, columns=("scene", "image")).batch(0).obs.parts) == ["image", "scene"]


def test_columns_not_asked_for_are_not_there(store: Store, rows: list[dict[str, Any]]) -> None:
    batch = _stream(store, make_manifest(rows, ["a"] * 24), columns=("scene",)).batch(0)
    assert list(batch.obs.parts) == list(batch.next_obs.parts) == ["scene"]


def test_a_flipped_byte_stops_the_stream_and_names_the_shard(
    store: Store, rows: list[dict[str, Any]]
) -> None:
    path = Path(store.path(rows[5]["shard"]))
    data = bytearray(path.read_bytes())
    data[rows[5]["frames_offset"] + 3] ^= 64
    path.write_bytes(data)
    with pytest.raises(CogError, match="frames.tar is damaged at byte"):
        next(_stream(store, make_manifest(rows, ["a"] * 24)).batches())


def test_an_episode_of_another_length_is_refused(store: Store, rows: list[dict[str, Any]]) -> None:
    manifest = make_manifest([row | {"steps": 3} for row in rows], ["a"] * 24)
    with pytest.raises(CogError, match="has 5 observations, its mixture says 4: run `cog data verify`"):
        _stream(store, manifest).batch(0)


def test_too_little_memory_is_said(store: Store, rows: list[dict[str, Any]]) -> None:
    with pytest.raises(CogError, match="--memory is too small"):
        _stream(store, make_manifest(rows, ["a"] * 24), memory_bytes=FRAME * 5)


def test_leaving_the_iterator_ends_its_thread(store: Store, rows: list[dict[str, Any]]) -> None:
    import threading

    batches = _stream(store, make_manifest(rows, ["a"] * 24)).batches()
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name == "cog-batches"]


def test_options_are_checked() -> None:
    with pytest.raises(CogError, match="batch size is 0"):
        StreamOptions(batch_size=0)
    assert replace(StreamOptions(), memory_bytes=7).budget == 7
    assert StreamOptions().budget > 1e8
