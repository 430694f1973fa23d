"""``cog mix infer``: rewards of a prior from a classifier that learned on the task data."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import cli
from cogdata.storage.manifest import mixture_folder, read_manifest
from cogdata.storage.store import Store
from tests.prepared import prepared
from tests.running import Run
from trainers.paper.stored import describe_data

REWARDS = """select source, s.reward > 0 as collected, m.reward > 0 as frozen, count(*) as steps
from (select episode_id, unnest(t) as t, unnest(reward) as reward from read_parquet('{}')) m
join steps s using (episode_id, t) join mixture_episodes e on e.episode_id = m.episode_id and e.mixture = 'told'
group by all"""


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 grasps that go on to a place of their own, 8 weak ones, 24 placements."""
    return prepared(tmp_path_factory, "solved", _collect)


def _collect(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for policy, count in (("pick_place", 24), ("weak_grasp", 8), ("place", 24)):
            env = f"cog/{'Place' if policy == 'place' else 'Pick'}Tray-v0"
            words = ["cog", "collect", "--policy", policy, "--env", env, "--episodes", str(count)]
            patch.setattr(sys, "argv", [*words, "--root", str(folder)])
            with pytest.raises(SystemExit) as left:
                cli.main()
            assert not left.value.code


@pytest.fixture
def store(collected: Path, tmp_path: Path) -> Store:
    shutil.copytree(collected, tmp_path / "store")
    return Store(str(tmp_path / "store"))


def test_the_prior_is_rewarded_where_it_looks_solved(run: Run, store: Store) -> None:
    said = run(
        "mix", "infer", "place_in_tray_solved", "--as", "told", "--updates", "400", "--root", store.url
    ).out
    assert "1,200 transitions labelled" in said  # 24 · 40 + 8 · 30
    assert f"next: cog train --mixture told --root {store.url}\n" in said
    info = read_manifest(store, "told").info
    whole = read_manifest(store, "place_in_tray_solved").info
    assert (info.shape, info.weights) == ("step", whole.weights)
    path = store.path(f"{mixture_folder('told', 1)}/rewards.parquet")
    rows = pq.read_table(path).to_pylist()
    assert sum(len(row["t"]) for row in rows) == 1_200 + 24 * 30
    answer = run("query", REWARDS.format(path), "--format", "json", "--root", store.url).out
    counts = {(row["source"], row["collected"], row["frozen"]): row["steps"] for row in json.loads(answer)}
    assert counts[("task", True, True)] > 0
    assert ("task", True, False) not in counts
    assert ("task", False, True) not in counts
    hits, misses = counts[("prior", True, True)], counts.get(("prior", True, False), 0)
    false = counts.get(("prior", False, True), 0)
    assert "read_parquet('labels/" in describe_data(store, "told").sql  # in a result no path of a machine
    assert hits > 4 * (misses + false), counts  # a block in the tray is not hard to tell
    assert f"precision {hits / (hits + false):.3f}, recall {hits / (hits + misses):.3f}" in said


def test_the_same_again_is_the_same_version_and_whole(run: Run, store: Store) -> None:
    for steps in ("20", "20", "300"):
        run("mix", "infer", "place_in_tray_solved", "--as", "told", "--updates", steps, "--root", store.url)
    names = sorted(Path(store.path("mixtures/told")).iterdir())
    assert len(names) <= 2
    run("mix", "show", "told@1", "--root", store.url)
    run("data", "verify", "--root", store.url)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("place_in_tray_solved", "--as", "not a name"), "mixture name 'not a name' must match"),
        (("place_in_tray_solved", "--as", "told", "--updates", "0"), "--updates is 0, must be from 1"),
        (("place_in_tray_solved", "--as", "told", "--obs", "smell"), "unknown observation 'smell'"),
        (
            ("place_in_tray_no_prior", "--as", "told"),
            "has the sources task: to infer rewards there must be 'task', and another one",
        ),
        (("nothing", "--as", "told"), "unknown mixture 'nothing'"),
    ],
)
def test_mistakes_are_one_line(run: Run, store: Store, words: tuple[str, ...], complaint: str) -> None:
    assert complaint in run("mix", "infer", *words, "--root", store.url).error


def test_what_says_every_reward_already_is_refused(run: Run, store: Store) -> None:
    sql = "select episode_id, t, case policy when 'place' then 'task' else 'prior' end as source, 1.0 as reward "
    sql += "from steps join episodes using (episode_id) where t = 1"
    run("query", sql, "--as", "told_all", "--root", store.url)
    error = run("mix", "infer", "told_all", "--as", "told", "--root", store.url).error
    assert error.startswith("mixture told_all@1 was frozen step by step")


def test_task_data_of_one_kind_teach_nothing(run: Run, store: Store) -> None:
    sql = "select episode_id, case policy when 'place' then 'task' else 'prior' end as source, 0.0 as reward from "
    run("query", f"{sql} episodes", "--as", "dull", "--root", store.url)
    error = run("mix", "infer", "dull", "--as", "told", "--updates", "5", "--root", store.url).error
    assert "transitions of the task data has a reward: a classifier needs both" in error
    assert not Path(store.path("labels")).exists()
