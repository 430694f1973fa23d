"""Freezing what was stored without rewards, or without the final observation."""

from __future__ import annotations

import re

import pytest

from catalog.mixtures.mixture import freeze
from cogdata.errors import CogError
from cogdata.storage.manifest import SourceCounts, read_manifest
from cogdata.storage.store import Store
from cogdata.streaming.stream import Stream, StreamOptions
from tests.catalog.mixtures.robots import collect_arms

ALL = "select episode_id from episodes"
STEPS = "select episode_id, t from steps where action is not null"


@pytest.fixture
def unrewarded(store: Store) -> Store:
    collect_arms(store, "arm", 2, reward=None)
    return store


@pytest.mark.parametrize(
    ("sql", "line"),
    [
        (ALL, "episode 'arm/0000000' (and 1 more) was stored without rewards: say them in the query, for "
              "example select episode_id, 0.0 as reward …"),
        (f"{ALL} where episode_index = 1", "episode 'arm/0000001' was stored without rewards: say them in the "
                                           "query, for example select episode_id, 0.0 as reward …"),
        (STEPS.replace(" from", ", case when t = 1 then 1 end as reward from"),
         "episode 'arm/0000000' (and 1 more) was stored without rewards: say them in the query, for example "
         "select episode_id, t, 0.0 as reward …"),
    ],
)  # fmt: skip
def test_unknown_rewards_are_not_frozen(unrewarded: Store, sql: str, line: str) -> None:
    with pytest.raises(CogError, match=f"^{re.escape(line)}$"):
        freeze(unrewarded, "mix", sql)
    assert not unrewarded.exists("mixtures")


def test_rewards_that_the_query_says_are_frozen(unrewarded: Store) -> None:
    info = freeze(unrewarded, "zero", "select episode_id, 0.0 as reward from episodes").info
    assert info.counts == {"data": SourceCounts(2, 8, 0, 0)}
    sql = STEPS.replace(" from", ", (t = 1)::float as reward from")
    info = freeze(unrewarded, "one", sql).info
    assert info.counts == {"data": SourceCounts(2, 8, 0, 2)}
    stream = Stream(unrewarded, read_manifest(unrewarded, "one"), StreamOptions(8, memory_bytes=2**20))
    assert sorted(stream.batch(0).reward.tolist()) == [0, 0, 0, 0, 0, 0, 1, 1]


def test_rewards_as_collected_beside_those_of_the_query(unrewarded: Store) -> None:
    collect_arms(unrewarded, "rewarded", 1)
    sql = "select episode_id, case when collection = 'arm' then -1 end as reward from episodes"
    assert freeze(unrewarded, "mix", sql).info.counts == {"data": SourceCounts(3, 12, 4, 4)}


@pytest.mark.parametrize(
    ("sql", "transitions", "left_out"),
    [
        (ALL, 6, 2),
        (STEPS, 6, 2),
        ("select episode_id, 3 as t_end from episodes", 6, 0),
        ("select episode_id, t from steps where t = 1", 2, 0),
        ("select episode_id, t from steps where t in (1, 3)", 2, 2),
    ],
)
def test_a_transition_to_an_unknown_observation_is_left_out(
    store: Store, sql: str, transitions: int, left_out: int
) -> None:
    collect_arms(store, "arm", 2, final=False)
    info = freeze(store, "mix", sql).info
    assert info.counts == {"data": SourceCounts(2, transitions, transitions, transitions)}
    assert info.unfollowed == left_out
    mix = read_manifest(store, "mix")
    assert mix.info.unfollowed == left_out
    assert mix.stats.transitions == transitions
    stream = Stream(store, mix, StreamOptions(4, memory_bytes=2**20))
    assert (stream.transitions, stream.left_out) == (transitions, 0)


def test_an_episode_of_which_nothing_is_left_is_left_out(store: Store) -> None:
    collect_arms(store, "arm", 2, final=False)
    collect_arms(store, "blink", 1, steps=1, final=False)
    info = freeze(store, "mix", ALL).info
    assert (info.counts, info.unfollowed) == ({"data": SourceCounts(2, 6, 6, 6)}, 3)
    line = "nothing to freeze: all 1 transitions of the query lead to an observation that was not stored"
    with pytest.raises(CogError, match=f"^{line}$"):
        freeze(store, "none", f"{ALL} where collection = 'blink'")
    with pytest.raises(CogError, match=r"^nothing to freeze: all 2 transitions of the query lead to"):
        freeze(store, "none", "select episode_id, t from steps where episode_id like 'arm/%' and t = 3")
