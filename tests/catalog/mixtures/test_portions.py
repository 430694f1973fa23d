"""Portions of a mixture: the same rows, under a name of their own."""

from __future__ import annotations

import pyarrow as pa
import pytest

from catalog.mixtures.mixture import freeze
from catalog.mixtures.portions import freeze_labelled, freeze_part, freeze_portion, portion_sql
from catalog.query import run_query
from catalog.recipes import ensure_mixture
from cogdata.errors import CogError
from cogdata.storage.manifest import MixtureInfo, SourceCounts, read_manifest
from cogdata.storage.store import Store

MINE = """
    select episode_id, 'prior' as source, 0.5 as reward, 2.0 as weight, 1 as t_start, 3 as t_end
    from episodes where collection = 'grasps' and not solved
    union all by name
    select episode_id, 'task' as source from episodes where collection = 'placements'"""


@pytest.fixture
def mine(tray: Store) -> MixtureInfo:
    """8 unsolved grasps, relabelled, weighed and cut; 9 placements, of which 0, 3 and 6 succeed."""
    return freeze(tray, "mine", MINE, weights={"prior": 0.25}).info


def test_each_portion_has_the_rows_of_the_mixture(tray: Store, mine: MixtureInfo) -> None:
    whole = read_manifest(tray, "mine").episodes.to_pylist()
    found = {name: freeze_portion(tray, "mine", name) for name in ("prior", "task", "oracle")}
    assert [info.ref for info in found.values()] == ["mine_prior@1", "mine_no_prior@1", "mine_oracle@1"]
    assert found["prior"].counts == {"prior": SourceCounts(8, 16, 0, 16)}  # 2 of 4 transitions, all rewarded
    assert found["task"].counts == {"task": SourceCounts(9, 36, 6, 6)}
    assert found["oracle"].counts == {"task": SourceCounts(3, 12, 6, 6)}
    for name, source in (("prior", "prior"), ("task", "task")):
        rows = read_manifest(tray, found[name].ref).episodes.to_pylist()
        assert rows == [row for row in whole if row["source"] == source]
    assert all(info.weights == {} for info in found.values())
    assert "m.mixture = 'mine' and m.version = 1" in found["oracle"].sql


def test_a_portion_is_that_of_its_version_for_ever(tray: Store, mine: MixtureInfo) -> None:
    first = freeze_portion(tray, "mine", "task")
    assert freeze_portion(tray, "mine", "task") == first
    freeze(tray, "mine", f"{MINE} and episode_index < 5")
    assert freeze_portion(tray, "mine", "task").ref == "mine_no_prior@2"
    assert freeze_portion(tray, "mine@1", "task") == first


def test_a_recipe_of_that_name_has_the_same_content(tray: Store) -> None:
    ensure_mixture(tray, "place_in_tray")
    for portion, name in (("task", "place_in_tray_no_prior"), ("oracle", "place_in_tray_oracle")):
        recipe = ensure_mixture(tray, name)
        assert freeze_portion(tray, "place_in_tray", portion) == recipe


def test_rewards_of_single_steps_are_kept(tray: Store) -> None:
    sql = """
        select episode_id, t, case when t = 2 then 0.25 end as reward, 3.0 as weight,
               case when episode_id like 'grasps%' then 'prior' else 'task' end as source
        from steps where t between 1 and 2"""
    freeze(tray, "mine", sql)
    info = freeze_portion(tray, "mine", "oracle")
    assert (info.ref, info.shape) == ("mine_oracle@1", "step")
    frozen = read_manifest(tray, info.ref)
    assert frozen.rewards is not None
    placements = [f"placements/{index:07d}" for index in (0, 3, 6)]
    assert frozen.rewards.to_pylist() == [  # collected: 0 at t = 1, 1 at t = 2
        {"episode_id": name, "t": [1, 2], "reward": [0.0, 0.25]} for name in placements
    ]
    assert set(frozen.episodes["weight"].to_pylist()) == {3.0}


def test_a_mixture_that_is_its_own_portion_stays(tray: Store, mine: MixtureInfo) -> None:
    task = freeze_portion(tray, "mine", "task")
    assert freeze_portion(tray, task.ref, "task") == task
    assert freeze_portion(tray, task.ref, "oracle").ref == "mine_no_prior_oracle@1"


def test_what_is_missing_is_one_line(tray: Store, mine: MixtureInfo) -> None:
    freeze(tray, "all", "select episode_id from episodes")
    said = r"^mixture all@1 has the sources data, none is named 'prior': say 'prior' as source in its query$"
    with pytest.raises(CogError, match=said):
        freeze_portion(tray, "all", "prior")
    with pytest.raises(CogError, match=r"^unknown portion 'tasks': did you mean 'task'\?"):
        freeze_portion(tray, "mine", "tasks")
    freeze(tray, "poor", "select episode_id, 'task' as source from episodes where not success")
    with pytest.raises(CogError, match=r"^no episode of source 'task' of mixture poor@1 succeeded$"):
        freeze_portion(tray, "poor", "oracle")


def test_a_name_too_long_for_a_portion_is_one_line(tray: Store, mine: MixtureInfo) -> None:
    """58 + 9 characters are more than 64, 58 + 6 are not."""
    long = "m" * 58
    freeze(tray, long, MINE)
    assert freeze_portion(tray, long, "prior").name == f"{long}_prior"
    said = (
        r"^mixture m+@1 has too long a name for its portion 'm+_no_prior' of 67 .* name of at most 55 charac"
    )
    with pytest.raises(CogError, match=said):
        freeze_portion(tray, long, "task")


def test_the_query_of_a_portion_is_one_that_a_user_may_run(tray: Store, mine: MixtureInfo) -> None:
    assert run_query(tray, portion_sql(tray, mine, "oracle")).table.num_rows == 3


def test_a_part_of_a_mixture_by_a_condition(tray: Store, mine: MixtureInfo) -> None:
    """Half of the prior, all of the task; rows as in the whole, shares too; the same again is the same version."""
    condition = "m.source <> 'prior' or e.episode_index % 2 = 1"
    part = freeze_part(tray, "mine", "half", where=condition)
    whole = read_manifest(tray, "mine").episodes.to_pylist()
    wanted = [
        row for row in whole if row["source"] == "task" or int(row["episode_id"].split("/")[1]) % 2 == 1
    ]
    assert 9 < len(wanted) < len(whole)
    assert read_manifest(tray, part.ref).episodes.to_pylist() == wanted
    assert (part.ref, part.weights) == ("mine_half@1", mine.weights)
    assert freeze_part(tray, "mine", "half", where=condition) == part


def test_a_part_whose_episodes_end_earlier(tray: Store, mine: MixtureInfo) -> None:
    """The task's end before they hold, at step 3 of 4; the prior's, cut to end before it, stay as they are."""
    holds = "(select min(s.t) from steps s where s.episode_id = m.episode_id and s.phase = 'hold')"
    until = f"case when m.source = 'task' then coalesce({holds}, m.t_end) else m.t_end end"
    part = freeze_part(tray, "mine", "short", until=until)
    assert {source: count.transitions for source, count in part.counts.items()} == {"prior": 16, "task": 27}
    ends = {(row["source"], row["t_end"]) for row in read_manifest(tray, part.ref).episodes.to_pylist()}
    assert ends == {("prior", 3), ("task", 3)}


def test_a_part_with_other_rewards(tray: Store, mine: MixtureInfo) -> None:
    """Null is what was collected, for unsolved grasps nothing, where the mixture says 0.5."""
    was = mine.counts["prior"]
    assert was.rewarded_after == was.transitions > 0 == was.rewarded_before
    part = freeze_part(tray, "mine", "told", reward="null")
    assert part.counts["prior"].rewarded_after == 0
    assert part.counts["task"] == mine.counts["task"]
    part = freeze_part(tray, "mine", "all", reward="1.0")
    assert part.counts["task"].rewarded_after == part.counts["task"].transitions


def test_a_part_of_single_steps_or_of_nothing_is_one_line(tray: Store, mine: MixtureInfo) -> None:
    freeze(tray, "steps", "select episode_id, t, 'prior' as source from steps where t = 1")
    with pytest.raises(CogError, match="^mixture steps@1 was frozen step by step and says"):
        freeze_part(tray, "steps", "half")
    with pytest.raises(CogError, match="no "):
        freeze_part(tray, "mine", "none", where="false")


def test_other_rewards_leave_the_weights(tray: Store) -> None:
    sql = """select episode_id, 'prior' as source, 0.0 as reward, 2.0 + episode_index as weight
             from episodes where collection = 'grasps' and not solved
             union all by name
             select episode_id, 'task' as source, null as reward, 3.0 as weight
             from episodes where collection = 'placements'"""
    whole = freeze(tray, "heavy", sql).info
    rows = read_manifest(tray, "heavy").episodes.to_pylist()
    labels = [
        {"episode_id": row["episode_id"], "t": t, "source": "prior", "reward": 0.5}
        for row in rows
        if row["source"] == "prior"
        for t in range(row["t_start"], row["t_end"])
    ]
    tray.write_table("labels/told.parquet", pa.Table.from_pylist(labels))
    told = freeze_labelled(tray, "heavy", "told", "labels/told.parquet")
    assert told.counts["prior"].rewarded_after == len(labels)
    assert told.counts["task"] == whole.counts["task"]
    weights = {row["episode_id"]: row["weight"] for row in rows}
    assert len(set(weights.values())) > 2
    assert {
        row["episode_id"]: row["weight"] for row in read_manifest(tray, "told").episodes.to_pylist()
    } == weights
