"""Episodes by name or query."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pytest

from catalog import episodes, query
from catalog.episodes import find_episodes
from cogdata.errors import CogError
from cogdata.storage.samples import read_episode
from cogdata.storage.store import Store


@pytest.mark.parametrize("asked", ["grasps/0000003", "grasps/3", " grasps/3 "])
def test_an_episode_is_found_by_its_name(quiet_tray: Store, asked: str) -> None:
    (row,), more = find_episodes(quiet_tray, asked, 1)
    assert (row["episode_id"], row["seed"], more) == ("grasps/0000003", 1003, False)
    assert read_episode(quiet_tray, row).digest() == row["digest"]


def test_a_query_gives_its_episodes_in_its_order_each_once(quiet_tray: Store) -> None:
    sql = "select episode_id, t from steps where episode_id like 'placements/%' order by episode_id desc, t"
    rows, more = find_episodes(quiet_tray, sql, 3)
    assert [row["episode_id"] for row in rows] == [f"placements/000000{index}" for index in (8, 7, 6)]
    assert more
    assert not find_episodes(quiet_tray, sql, 9)[1]


def test_a_query_is_read_no_further_than_the_episodes_that_are_drawn(
    quiet_tray: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    real = query.open_query

    @contextmanager
    def counted(store: Store, sql: str) -> Iterator[pa.RecordBatchReader]:
        with real(store, sql) as reader:
            yield pa.RecordBatchReader.from_batches(reader.schema, _counting(reader, taken))

    monkeypatch.setattr(episodes, "open_query", counted)
    # 21 episodes x 200,000 numbers are 4.2 million rows; the first batch has the first episode
    sql = "select e.episode_id, n from episodes e, range(200_000) r(n)"
    rows, _ = find_episodes(quiet_tray, sql, 1)
    assert len(rows) == 1
    assert sum(taken) < 1_000_000


def _counting(reader: pa.RecordBatchReader, taken: list[int]) -> Iterator[pa.RecordBatch]:
    for batch in reader:
        taken.append(len(batch))
        yield batch


def test_of_two_columns_of_that_name_the_first_counts(quiet_tray: Store) -> None:
    sql = "select e.episode_id, s.episode_id from episodes e join steps s using (episode_id) order by 1"
    rows, more = find_episodes(quiet_tray, sql, 1)
    assert (rows[0]["episode_id"], more) == ("grasps/0000000", True)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("grasps/12", "unknown episode 'grasps/0000012': type COLLECTION/INDEX, for example grasps/0000000"),
        ("gras", "unknown episode 'gras': type COLLECTION/INDEX, for example grasps/0000000, or a query"),
        ("select policy from episodes", "the query has no column episode_id, found policy: select"),
        ("select 3 as episode_id", "column episode_id is int32, must be a text"),
        ("select episode_id from episodes where false", "the query yields no episodes"),
        ("select 'x/0000001' as episode_id", "unknown episode 'x/0000001'"),
        ("select episode_id from episods", "unknown table 'episods': did you mean 'episodes'?"),
    ],
)
def test_what_is_not_an_episode_is_one_line(quiet_tray: Store, asked: str, said: str) -> None:
    with pytest.raises(CogError) as caught:
        find_episodes(quiet_tray, asked, 5)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_an_empty_store_has_none(store: Store) -> None:
    with pytest.raises(CogError, match=r"^unknown episode 'a/0000001': the store has none yet"):
        find_episodes(store, "a/1", 1)
