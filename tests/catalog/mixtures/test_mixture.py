"""Freezing: both shapes, every refusal, immutability; listing, comparing, freezing again, removing."""

from __future__ import annotations

import json
import math
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from catalog.doctor import verify
from catalog.index.db import CatalogBusyError, lock
from catalog.index.sync import sync
from catalog.mixtures.mixture import diff, freeze, list_mixtures, refresh, remove, resolve_weights
from catalog.query import run_query
from cogdata.errors import CogError
from cogdata.storage import manifest
from cogdata.storage.manifest import SourceCounts
from cogdata.storage.samples import read_episode
from cogdata.storage.store import Store
from tests.catalog.support import collect_into, make_episode, write_run_of

ALL = "select episode_id from episodes"
EPISODE = "episode_id [, source, reward, weight, t_start, t_end]"
TRAY = """
    select episode_id, 'prior' as source, 0 as reward from episodes where collection = 'grasps' and not solved
    union all by name
    select episode_id, 'task' as source from episodes where collection = 'placements'"""


def complaint(store: Store, sql: str, **options: object) -> str:
    with pytest.raises(CogError) as caught:
        freeze(store, "mix", sql, **options)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "\n" not in text
    assert not store.exists("mixtures")
    return text


def test_episode_shape_with_sources_and_relabelled_rewards(tray: Store) -> None:
    report = freeze(tray, "tray", TRAY, weights={"prior": 0.5})
    assert report.created
    info = report.info
    assert (info.ref, info.shape, info.image_size, info.scene_fields) == (
        "tray@1", "episode", (4, 4), ("object_x_m", "object_y_m"),
    )  # fmt: skip
    assert info.weights == {"prior": 0.5, "task": 0.5}
    assert info.counts == {"prior": SourceCounts(8, 32, 0, 0), "task": SourceCounts(9, 36, 6, 6)}
    frozen = manifest.read_manifest(tray, "tray")
    assert frozen.sources == ("prior", "task")
    assert frozen.rewards is None
    rows = frozen.episodes.to_pylist()
    assert [(row["source"], row["episode_id"]) for row in rows] == sorted(
        (row["source"], row["episode_id"]) for row in rows
    )
    assert {(row["source"], row["reward"], row["weight"], row["t_start"], row["t_end"]) for row in rows} == {
        ("prior", 0.0, 1.0, 0, 4), ("task", None, 1.0, 0, 4),
    }  # fmt: skip
    committed = {row["episode_id"]: row for row in run_query(tray, "from episodes").table.to_pylist()}
    for row in rows:
        for name in (
            "steps",
            "digest",
            "shard",
            "frames_offset",
            "frames_size",
            "steps_offset",
            "steps_crc32",
        ):
            assert row[name] == committed[row["episode_id"]][name]


def test_relabelling_counts_what_it_changes(tray: Store) -> None:
    info = freeze(tray, "zero", "select episode_id, 0.0 as reward from episodes").info
    assert info.counts == {"data": SourceCounts(21, 84, 14, 0)}
    info = freeze(tray, "one", "select episode_id, 1 as reward from episodes where not solved").info
    assert info.counts == {"data": SourceCounts(14, 56, 0, 56)}


def test_ranges_cut_episodes(tray: Store) -> None:
    info = freeze(tray, "tails", "select episode_id, 2 as t_start from episodes").info
    assert info.counts == {"data": SourceCounts(21, 42, 14, 14)}  # the reward lies on the last two steps
    info = freeze(
        tray, "heads", "select episode_id, 1 as t_start, 3 as t_end, 2.5 as weight from episodes"
    ).info
    assert info.counts == {"data": SourceCounts(21, 42, 7, 7)}
    row = manifest.read_manifest(tray, "heads").episodes.to_pylist()[0]
    assert (row["t_start"], row["t_end"], row["weight"]) == (1, 3, 2.5)


def test_step_shape_takes_exactly_the_chosen_steps(tray: Store) -> None:
    sql = "select episode_id, t, t / 10 as reward from steps where t in (0, 2) and episode_id like 'grasps/%'"
    info = freeze(tray, "steps", sql).info
    assert (info.shape, info.counts) == ("step", {"data": SourceCounts(12, 24, 4, 12)})
    frozen = manifest.read_manifest(tray, "steps")
    row = frozen.episodes.to_pylist()[0]
    assert (row["reward"], row["t_start"], row["t_end"], row["weight"]) == (None, 0, 3, 1.0)
    assert frozen.rewards is not None
    rewards = frozen.rewards.to_pylist()
    assert len(rewards) == 12
    assert rewards[0]["t"] == [0, 2]
    assert rewards[0]["reward"] == pytest.approx([0.0, 0.2])


def test_step_shape_keeps_collected_rewards_where_none_is_given(tray: Store) -> None:
    freeze(tray, "plain", "select episode_id, t from steps where action is not null")
    rewards = manifest.read_manifest(tray, "plain").rewards
    assert rewards is not None
    first = rewards.to_pylist()[0]
    assert (first["episode_id"], first["t"], first["reward"]) == (
        "grasps/0000000",
        [0, 1, 2, 3],
        [0, 0, 1, 1],
    )
    freeze(tray, "half", "select episode_id, t, case when t = 3 then 5 end as reward from steps where t < 4")
    rewards = manifest.read_manifest(tray, "half").rewards
    assert rewards is not None
    assert rewards.to_pylist()[0]["reward"] == [0, 0, 1, 5]


def test_a_predicate_can_be_the_reward(tray: Store) -> None:
    info = freeze(tray, "placed", "select episode_id, t, placed as reward from steps where t < 4").info
    assert info.counts == {"data": SourceCounts(21, 84, 14, 7)}  # placed from t = 3 on in 7 episodes


def test_what_never_changes_deviates_by_exactly_nothing(tray: Store) -> None:
    """All episodes but number 7 left out, the scene is 7 everywhere; 0.1 has no exact binary form."""
    freeze(tray, "one", "select episode_id from episodes where episode_id = 'grasps/0000007'")
    stats = manifest.read_manifest(tray, "one").stats
    assert stats.mean["scene"] == [7.0, 7.0]
    assert stats.std["scene"] == [0.0, 0.0]
    # robot[t][0] = 7 + 10 t / 100 for t = 0 … 3: mean 7.15, variance (0.15² + 0.05² + 0.05² + 0.15²) / 4
    assert stats.mean["robot"][0] == pytest.approx(7.15)
    assert stats.std["robot"][0] == pytest.approx(0.0125**0.5, rel=1e-5)


def test_stats_are_those_of_the_chosen_transitions(tray: Store) -> None:
    two = "('grasps/0000001', 'placements/0000002')"
    sql = f"select episode_id, 1 as t_start from episodes where episode_id in {two}"
    freeze(tray, "two", sql)
    stats = manifest.read_manifest(tray, "two").stats
    episodes = [make_episode("grasps", 1), make_episode("placements", 2)]
    expected = {
        "robot": np.concatenate([episode.robot[1:4] for episode in episodes]),
        "scene": np.concatenate([episode.scene[1:4] for episode in episodes]),
        "action": np.concatenate([episode.action[1:4] for episode in episodes]),
    }
    for name, values in expected.items():
        assert stats.mean[name] == pytest.approx(values.mean(axis=0).tolist(), rel=1e-5)
        assert stats.std[name] == pytest.approx(values.std(axis=0).tolist(), rel=1e-4)
        assert (stats.min[name], stats.max[name]) == (
            values.min(axis=0).tolist(),
            values.max(axis=0).tolist(),
        )
        for quantile, share in (("q01", 0.01), ("q10", 0.1), ("q50", 0.5), ("q90", 0.9), ("q99", 0.99)):
            wanted = np.quantile(values.astype(np.float64), share, axis=0).tolist()
            assert stats.quantiles[quantile][name] == pytest.approx(wanted)
    assert (stats.transitions, stats.embodiments) == (6, {})


def test_the_same_content_is_the_same_version_and_writes_nothing(tray: Store) -> None:
    first = freeze(tray, "all", ALL)
    folder = Path(tray.url) / "mixtures" / "all"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    again = freeze(tray, "all", "select e.episode_id, 'data' as source from episodes e order by random();")
    assert (again.created, again.info) == (False, first.info)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    collect_into(tray, "grasps", 12, 14)
    assert manifest.read_manifest(tray, "all").info == first.info
    more = freeze(tray, "all", ALL)
    assert (more.created, more.info.ref) == (True, "all@2")
    old = freeze(tray, "all", f"{ALL} where not (collection = 'grasps' and episode_index >= 12)")
    assert (old.created, old.info.ref) == (False, "all@1")


def test_weights_are_part_of_the_content(tray: Store) -> None:
    assert freeze(tray, "tray", TRAY).info.ref == "tray@1"
    assert freeze(tray, "tray", TRAY, weights={"prior": 0.5}).info.ref == "tray@2"
    assert freeze(tray, "tray", TRAY, weights={"task": 0.5}).info.ref == "tray@2"
    assert freeze(tray, "tray", TRAY, weights={"prior": 0.25}).info.ref == "tray@3"


@pytest.mark.parametrize(
    ("sql", "line"),
    [
        ("select policy, env from episodes",
         f"a mixture needs a column episode_id, found policy, env: select {EPISODE}, or episode_id, t "
         "[, reward, source, weight]"),
        ("select episode_id, 0 as rewrd from episodes",
         f"unknown column 'rewrd': did you mean 'reward'? the episode shape is {EPISODE}"),
        ("select * from episodes",
         f"unknown column 'collection': the episode shape is {EPISODE}"),
        ("select episode_id, t, 1 as t_start from steps",
         "unknown column 't_start': the step shape is episode_id, t [, reward, source, weight]"),
        (f"{ALL} where false", "the query returns no rows: nothing to freeze; without --as it shows what it finds"),
        ("select 'x' as episode_id", "unknown episode 'x': take episode_id from episodes or steps"),
        ("select 'x' || i as episode_id from range(3) t(i)",
         "unknown episode 'x0' (and 2 more): take episode_id from episodes or steps"),
        ("select null as episode_id", "column episode_id is null in 1 rows: every row needs one"),
        ("select episode_id, null as source from episodes",
         "column source is null in 21 rows: every row needs one"),
        ("select episode_id, null as t from episodes", "column t is null in 21 rows: every row needs one"),
        ("select 7 as episode_id", "column episode_id is int32, must be varchar: cast it in the query"),
        ("select episode_id, 'high' as reward from episodes",
         "column reward is string, must be float: cast it in the query"),
        ("select episode_id, 1.5 as t from episodes",
         "column t is decimal128(2, 1), must be integer: cast it in the query"),
        ("select episode_id, 5000000000 as t from episodes",
         "a value does not fit its column: Type INT64 with value 5000000000 can't be cast because the value "
         "is out of range for the destination type INT32 when casting from source column t"),
        (f"{ALL} union all {ALL}",
         "episode 'grasps/0000000' occurs 2 times in source 'data' (and 20 more): select it once"),
        ("select episode_id, t from steps where t < 2 union all select episode_id, t from steps where t = 1",
         "episode 'grasps/0000000' occurs 2 times at t = 1 (and 20 more): select it once"),
        ("select episode_id, 'a' as source from episodes "
         "union all (select min(episode_id), 'b' from episodes)",
         "episode 'grasps/0000000' is in two sources, 'a' and 'b': exclude it from one of them, or say "
         "--allow-overlap"),
        ("select episode_id, t, 'a' as source from steps where t = 0 union all "
         "select episode_id, t, 'b' from steps where t = 1 and episode_id = 'grasps/0000003'",
         "episode 'grasps/0000003' is in two sources, 'a' and 'b': in the step shape an episode has one "
         "source"),
        ("select episode_id, 'nan'::float as reward from episodes where episode_id = 'grasps/0000000'",
         "reward of episode 'grasps/0000000' is nan: must be finite, or null for as collected"),
        ("select episode_id, 'inf'::double as reward from episodes where episode_id = 'grasps/0000000'",
         "reward of episode 'grasps/0000000' is inf: must be finite, or null for as collected"),
        ("select episode_id, 0 as weight from episodes",
         "weight of episode 'grasps/0000000' is 0.0 (and 20 more): must be greater than 0, or null for 1"),
        ("select episode_id, 'nan'::double as weight from episodes limit 1",
         "weight of episode 'grasps/0000000' is nan: must be greater than 0, or null for 1"),
        ("select episode_id, t, t + 1 as weight from steps where t < 2 and episode_id = 'grasps/0000001'",
         "weight differs within episode 'grasps/0000001': it is one number per episode"),
        ("select episode_id, t from steps",
         "t = 4 of episode 'grasps/0000000' is the last observation, no action follows it (and 20 more): "
         "add WHERE action IS NOT NULL"),
        ("select episode_id, 9 as t from episodes where episode_id = 'grasps/0000000'",
         "t = 9 of episode 'grasps/0000000' is outside the episode: t must be 0 to 3"),
        ("select episode_id, -1 as t from episodes where episode_id = 'grasps/0000000'",
         "t = -1 of episode 'grasps/0000000' is outside the episode: t must be 0 to 3"),
        ("select episode_id, 3 as t_start, 3 as t_end from episodes where episode_id = 'grasps/0000000'",
         "range t_start = 3, t_end = 3 of episode 'grasps/0000000': must be 0 <= t_start < t_end <= 4"),
        ("select episode_id, 5 as t_end from episodes where episode_id = 'grasps/0000000'",
         "range t_start = 0, t_end = 5 of episode 'grasps/0000000': must be 0 <= t_start < t_end <= 4"),
        ("select episode_id frm episodes",
         "SQL syntax error near 'episodes' at line 1, column 23: check the words just before it"),
    ],
)  # fmt: skip
def test_what_cannot_be_frozen_is_refused_in_one_line(quiet_tray: Store, sql: str, line: str) -> None:
    assert complaint(quiet_tray, sql) == line


def test_a_mixture_name_is_a_folder_name(tray: Store) -> None:
    with pytest.raises(CogError, match=r"^mixture name 'My Mix' must match .*, for example place_in_tray$"):
        freeze(tray, "My Mix", ALL)


def test_overlap_is_allowed_on_request(tray: Store) -> None:
    sql = "select episode_id, source from episodes, (values ('a'), ('b')) sources(source)"
    report = freeze(tray, "both", sql, allow_overlap=True)
    assert report.info.counts == {"a": SourceCounts(21, 84, 14, 14), "b": SourceCounts(21, 84, 14, 14)}
    assert not refresh(tray, "both").created


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        ({}, {}),
        ({"prior": 0.5, "task": 0.5}, {"prior": 0.5, "task": 0.5, }),
        ({"prior": 0.25}, {"prior": 0.25, "task": 0.75}),
    ],
)  # fmt: skip
def test_weights_of_two_sources(weights: dict[str, float], shares: dict[str, float]) -> None:
    assert resolve_weights(weights, {"prior": 300, "task": 100}) == shares


def test_sources_without_a_weight_share_the_rest_by_their_transitions() -> None:
    shares = resolve_weights({"a": 0.4}, {"a": 1, "b": 300, "c": 100})
    assert shares == pytest.approx({"a": 0.4, "b": 0.45, "c": 0.15})
    assert math.fsum(shares.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("weights", "line"),
    [
        ({"piror": 0.5}, "unknown source 'piror': did you mean 'prior'? known: prior, task"),
        ({"prior": 0.0}, "weight prior=0 must be a share of a batch, more than 0 and at most 1"),
        ({"prior": -1.0}, "weight prior=-1 must be a share of a batch, more than 0 and at most 1"),
        ({"prior": float("nan")}, "weight prior=nan must be a share of a batch, more than 0 and at most 1"),
        ({"prior": 1.5}, "weight prior=1.5 must be a share of a batch, more than 0 and at most 1"),
        ({"prior": 0.7, "task": 0.7}, "weights sum to 1.4, must be at most 1: they are shares of a batch"),
        ({"prior": 0.2, "task": 0.2}, "weights sum to 0.4 and name every source: they must sum to 1"),
        ({"prior": 1.0}, "weights sum to 1 and leave nothing for source 'task': lower one of them"),
    ],
)
def test_wrong_weights_are_refused(quiet_tray: Store, weights: dict[str, float], line: str) -> None:
    assert complaint(quiet_tray, TRAY, weights=weights) == line


# --- list, diff, refresh, remove -------------------------------------------------------------------------


def test_diff_says_what_came_went_and_changed(tray: Store) -> None:
    freeze(tray, "mix", "select episode_id, 0 as reward from episodes where episode_index < 2")
    freeze(
        tray, "mix", "select episode_id, case when collection = 'grasps' then 0 end as reward from episodes "
        "where episode_index in (1, 2)"
    )  # fmt: skip
    found = diff(tray, "mix@1", "mix@2")
    assert (found.a.ref, found.b.ref) == ("mix@1", "mix@2")
    assert found.only_a == (("data", "grasps/0000000"), ("data", "placements/0000000"))
    assert found.only_b == (("data", "grasps/0000002"), ("data", "placements/0000002"))
    assert found.changed == (("data", "placements/0000001"),)
    same = diff(tray, "mix", "mix@2")
    assert (same.only_a, same.only_b, same.changed) == ((), (), ())


def test_diff_sees_rewards_step_by_step(tray: Store) -> None:
    freeze(tray, "mix", "select episode_id, t from steps where t < 4")
    freeze(tray, "mix", "select episode_id, t, case when t = 0 and episode_id = 'grasps/0000005' then 1 end "
           "as reward from steps where t < 4")  # fmt: skip
    assert diff(tray, "mix@1", "mix@2").changed == (("data", "grasps/0000005"),)


def test_refresh_freezes_what_the_sql_returns_now(tray: Store) -> None:
    freeze(tray, "tray", TRAY, weights={"prior": 0.5})
    assert not refresh(tray, "tray").created
    collect_into(tray, "grasps", 12, 14)
    report = refresh(tray, "tray")
    assert (report.created, report.info.ref, report.info.weights) == (
        True,
        "tray@2",
        {"prior": 0.5, "task": 0.5},
    )
    assert report.info.counts["prior"].episodes == 9  # 13 is new and not solved, 12 is solved
    with pytest.raises(CogError, match=r"^refresh makes a new version of 'tray': name it without @1$"):
        refresh(tray, "tray@1")
    with pytest.raises(CogError, match=r"^unknown mixture 'try': did you mean 'tray'\? known: tray$"):
        refresh(tray, "try")


THREE = "select episode_id, collection as source from episodes"


def test_refresh_shares_as_asked_where_sources_grow_and_come(tray: Store) -> None:
    collect_into(tray, "drops", 0, 3)  # 12, 48 and 36 transitions: drops, grasps, placements
    first = freeze(tray, "mix", THREE, weights={"grasps": 0.5}).info
    assert first.asked_weights == {"grasps": 0.5}
    assert first.weights == pytest.approx({"drops": 0.125, "grasps": 0.5, "placements": 0.375})
    assert manifest.read_info(tray, "mix") == first
    collect_into(tray, "drops", 3, 9)  # 36 of drops now: as many as of placements
    assert refresh(tray, "mix").info.weights == pytest.approx(
        {"drops": 0.25, "grasps": 0.5, "placements": 0.25}
    )
    collect_into(tray, "extra", 0, 18)  # 72 of extra: half of the half
    report = refresh(tray, "mix")
    assert (report.created, report.info.ref, report.info.asked_weights) == (True, "mix@3", {"grasps": 0.5})
    assert report.info.weights == pytest.approx(
        {"drops": 0.125, "extra": 0.25, "grasps": 0.5, "placements": 0.125}
    )


def test_a_version_of_before_asked_weights_were_kept(tray: Store) -> None:
    freeze(tray, "tray", TRAY, weights={"prior": 0.25})
    path = "mixtures/tray/v1/mixture.json"
    head = json.loads(tray.read_text(path))
    assert head.pop("asked_weights") == {"prior": 0.25}
    tray.write_text(path, json.dumps(head))
    assert manifest.read_manifest(tray, "tray").info.asked_weights == {}
    report = refresh(tray, "tray")
    assert (report.created, report.info.weights) == (False, {"prior": 0.25, "task": 0.75})


@pytest.mark.parametrize("again", ["freeze", "refresh"])
def test_episodes_collected_again_elsewhere_are_found(tray: Store, again: str) -> None:
    info = freeze(tray, "mix", ALL).info
    before = manifest.read_manifest(tray, "mix").episodes
    tray.remove("collections/grasps/part-00000-00-11")
    collect_into(tray, "grasps", 0, 8)
    collect_into(tray, "grasps", 8, 12)
    assert [problem.where for problem in verify(tray)] == ["mixtures/mix/v1"]
    report = freeze(tray, "mix", ALL) if again == "freeze" else refresh(tray, "mix")
    assert (report.created, report.info, report.moved) == (False, info, 12)
    after = manifest.read_manifest(tray, "mix")
    assert after.info == info
    assert set(after.episodes.column("shard").to_pylist()) == {
        "collections/grasps/part-00000-00-07/frames.tar",
        "collections/grasps/part-00000-08-11/frames.tar",
        "collections/placements/part-00000-00-08/frames.tar",
    }
    content = [name for name in manifest.EPISODES.names if name not in manifest.LOCATION]
    assert after.episodes.select(content) == before.select(content)
    committed = {row["episode_id"]: row for row in run_query(tray, "from episodes").table.to_pylist()}
    for row in after.episodes.to_pylist():
        assert read_episode(tray, committed[row["episode_id"]] | row).digest() == row["digest"]
    assert verify(tray) == []
    assert freeze(tray, "mix", ALL).moved == 0


def test_a_damaged_mixture_hides_no_other(tray: Store) -> None:
    freeze(tray, "good", ALL)
    for number, damage in enumerate((b"{", b"\xff", b"[]", b"{}", b'{"counts": [1]}'), 1):
        tray.write_bytes(f"mixtures/bad/v{number}/mixture.json", damage)
    assert [info.ref for info in list_mixtures(tray)] == ["good@1"]
    assert {problem.where for problem in verify(tray)} == {f"mixtures/bad/v{i}" for i in range(1, 6)}
    assert freeze(tray, "bad", ALL).info.ref == "bad@6"


def test_list_and_remove(tray: Store) -> None:
    for limit in (1, 2, 3):
        freeze(tray, "mix", f"{ALL} order by 1 limit {limit}")
    freeze(tray, "all", ALL)
    assert [info.ref for info in list_mixtures(tray)] == ["all@1", "mix@1", "mix@2", "mix@3"]
    assert remove(tray, "mix@3") == ["mix@3"]
    left = run_query(tray, "select version from mixtures where mixture = 'mix' order by 1").table
    assert left.column("version").to_pylist() == [1, 2]
    assert freeze(tray, "mix", f"{ALL} order by 1 limit 5").info.ref == "mix@4"  # 3 is never used again
    assert remove(tray, "mix") == ["mix@1", "mix@2", "mix@4"]
    assert run_query(
        tray, "select count(*) n from mixture_episodes where mixture = 'mix'"
    ).table.to_pylist() == [{"n": 0}]
    assert freeze(tray, "mix", f"{ALL} limit 1").info.ref == "mix@1"
    with pytest.raises(CogError, match=r"^mixture 'mix' has no version 7: there are \[1\]$"):
        remove(tray, "mix@7")
    with pytest.raises(CogError, match=r"^unknown mixture 'mox': did you mean 'mix'\? known: all, mix$"):
        remove(tray, "mox")


def test_a_mixture_that_a_run_learned_from_stays(tray: Store) -> None:
    info = freeze(tray, "mix", ALL).info
    freeze(tray, "mix", f"{ALL} limit 2")
    write_run_of(tray, "run-1", info)
    for ref in ("mix@1", "mix"):
        wanted = rf"^mixture '{ref}' is used by run run-1: `cog runs rm` first, or say --force$"
        with pytest.raises(CogError, match=wanted):
            remove(tray, ref)
    assert remove(tray, "mix@2") == ["mix@2"]
    assert remove(tray, "mix", force=True) == ["mix@1"]


def test_what_is_damaged_keeps_no_mixture_from_going(tray: Store) -> None:
    freeze(tray, "mix", ALL)
    tray.write_text("runs/odd/run.json", "{")
    assert remove(tray, "mix") == ["mix@1"]
    freeze(tray, "other", ALL)
    tray.write_text("mixtures/other/v1/mixture.json", "{")
    assert remove(tray, "other@1") == ["other@1"]


def test_nothing_is_frozen_from_a_catalog_of_before(tray: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    freeze(tray, "mix", ALL)
    collect_into(tray, "grasps", 12, 15)
    monkeypatch.setattr("catalog.index.sync.sync", partial(sync, timeout_s=0.05))
    with lock(tray, "catalog"), pytest.raises(CatalogBusyError, match="try again in a moment"):
        freeze(tray, "mix", ALL)
    counts = freeze(tray, "mix", ALL).info.counts.values()
    assert sum(count.episodes for count in counts) == 24


def test_of_many_runs_the_first_few_are_named(tray: Store) -> None:
    info = freeze(tray, "mix", ALL).info
    for number in range(5):
        write_run_of(tray, f"run-{number}", info)
    wanted = r"is used by runs run-0, run-1, run-2 and 2 more: `cog runs rm` first, or say --force$"
    with pytest.raises(CogError, match=wanted):
        remove(tray, "mix")


def test_freezing_reads_only_the_parts_it_needs(tray: Store) -> None:
    shutil.rmtree(Path(tray.url) / "collections" / "placements")
    collect_into(tray, "placements", 0, 2)
    (Path(tray.url) / "collections" / "placements" / "part-00000-00-01" / "steps.parquet").write_bytes(
        b"junk"
    )
    assert freeze(tray, "mix", f"{ALL} where collection = 'grasps'").created
    with pytest.raises(CogError, match=r"^the steps of a part cannot be read \(.*\): run `cog data verify`$"):
        freeze(tray, "mix", f"{ALL} where collection = 'placements'")
