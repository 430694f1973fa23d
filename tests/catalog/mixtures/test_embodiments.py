"""Mixtures of several robots: padding, and statistics of each."""

from __future__ import annotations

import json

import numpy as np
import pytest

from catalog.mixtures.mixture import freeze, refresh
from cogdata.errors import CogError
from cogdata.storage.manifest import read_manifest
from cogdata.storage.selection import Selection
from cogdata.storage.store import Store
from cogdata.streaming.stream import Stream, StreamOptions
from tests.catalog.mixtures.robots import collect_arms
from tests.catalog.support import collect_into

ALL = "select episode_id from episodes"
BOTH = Selection(pad={"joints": 3, "action": 2}, stats_by="collection")


@pytest.fixture
def arms(store: Store) -> Store:
    """An arm of 2 joints and 1 motor, 2 episodes, and one of 3 joints and 2 motors, 1 episode."""
    collect_arms(store, "small", 2)
    collect_arms(store, "wide", 1, joints=3, motors=2)
    return store


def test_robots_of_two_sizes_are_refused_without_padding(arms: Store) -> None:
    with pytest.raises(
        CogError,
        match=r"^the action differs between small/0000000 \(float32 \(1,\)\) and wide/0000000 "
        r"\(float32 \(2,\)\): choose one robot by env, or pad it with --pad action=2$",
    ):
        freeze(arms, "mix", ALL)


def test_each_robot_has_statistics_of_its_own(arms: Store) -> None:
    freeze(arms, "mix", ALL, selection=BOTH)
    mix = read_manifest(arms, "mix")
    assert mix.episodes.column("embodiment").to_pylist() == ["small", "small", "wide"]
    stats = mix.stats
    assert (stats.transitions, sorted(stats.embodiments)) == (12, ["small", "wide"])
    small, wide = stats.embodiments["small"], stats.embodiments["wide"]
    # joints are 0 1 2 3 and 10 11 12 13 of the small arm, 0 1 2 3 of the wide one; an action is 0.5 more
    assert (small.transitions, wide.transitions) == (8, 4)
    assert small.mean["joints"] == [6.5, 6.5, 0.0]
    assert (small.min["joints"], small.max["joints"]) == ([0.0, 0.0, 0.0], [13.0, 13.0, 0.0])
    assert wide.mean["joints"] == [1.5, 1.5, 1.5]
    assert wide.std["joints"] == [1.25**0.5] * 3
    assert (small.mean["action"], wide.mean["action"]) == ([7.0, 0.0], [2.0, 2.0])
    assert small.std["joints"] == pytest.approx([26.25**0.5, 26.25**0.5, 0.0])
    assert wide.quantiles["q50"]["action"] == [2.0, 2.0]


def test_padding_is_no_part_of_the_statistics_of_all(arms: Store) -> None:
    freeze(arms, "mix", ALL, selection=BOTH)
    stats = read_manifest(arms, "mix").stats
    assert stats.mean["joints"] == pytest.approx([58 / 12, 58 / 12, 1.5])
    assert stats.mean["action"] == pytest.approx([64 / 12, 2.0])
    assert stats.std["joints"][2] == pytest.approx(1.25**0.5)


def test_batches_say_which_robot_and_what_is_padded(arms: Store) -> None:
    freeze(arms, "mix", ALL, selection=BOTH)
    stream = Stream(arms, read_manifest(arms, "mix"), StreamOptions(12, memory_bytes=2**20))
    assert stream.embodiments == ("small", "wide")
    batch = stream.batch(0)  # each transition once
    assert batch.embodiment is not None
    assert np.bincount(batch.embodiment).tolist() == [8, 4]
    wide = batch.embodiment == 1
    np.testing.assert_array_equal(batch.mask["joints"], np.stack([wide | True, wide | True, wide], axis=1))
    np.testing.assert_array_equal(batch.mask["action"], np.stack([wide | True, wide], axis=1))
    assert (batch.obs["joints"][~wide, 2] == 0).all()
    np.testing.assert_array_equal(batch.obs["joints"][wide, 2], batch.obs["joints"][wide, 0])


def test_what_tells_robots_apart_is_part_of_the_content(arms: Store) -> None:
    info = freeze(arms, "mix", ALL, selection=BOTH).info
    assert json.loads(arms.read_text("mixtures/mix/v1/mixture.json"))["selection"]["stats_by"] == "collection"
    report = refresh(arms, "mix")
    assert (report.created, report.info) == (False, info)
    by_policy = Selection(pad=BOTH.pad, stats_by="policy")
    other = freeze(arms, "mix", ALL, selection=by_policy).info
    assert other.version == 2
    assert sorted(read_manifest(arms, "mix").stats.embodiments) == ["replay"]


def test_a_source_can_be_an_embodiment(arms: Store) -> None:
    sql = "select episode_id, case when steps = 4 and collection = 'wide' then 'b' else 'a' end as source from episodes"
    freeze(arms, "mix", sql, selection=Selection(pad=BOTH.pad, stats_by="source"))
    mix = read_manifest(arms, "mix")
    assert mix.episodes.column("embodiment").to_pylist() == ["a", "a", "b"]
    assert mix.stats.of("b").mean["joints"] == [1.5, 1.5, 1.5]


def test_an_episode_without_a_value_has_no_embodiment(arms: Store) -> None:
    """The arms state no success, so their column task is null."""
    freeze(arms, "mix", ALL, selection=Selection(pad=BOTH.pad, stats_by="task"))
    mix = read_manifest(arms, "mix")
    assert mix.episodes.column("embodiment").to_pylist() == [None, None, None]
    assert mix.stats.embodiments == {}


def test_a_column_that_there_is_not_is_refused(arms: Store) -> None:
    with pytest.raises(
        CogError, match=r"^unknown column of --stats-by 'colection': did you mean 'collection'"
    ):
        freeze(arms, "mix", ALL, selection=Selection(pad=BOTH.pad, stats_by="colection"))


def test_a_column_of_too_many_values_is_refused(store: Store) -> None:
    collect_into(store, "many", 0, 300)
    with pytest.raises(
        CogError,
        match=r"^--stats-by episode_id has 300 values among these episodes, must have at most 256: name a "
        r"column of few, for example collection or env$",
    ):
        freeze(store, "mix", ALL, selection=Selection(stats_by="episode_id"))
