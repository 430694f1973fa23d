from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from cogdata.errors import CogError
from cogdata.storage.collections import read_collection
from cogdata.storage.parts import PART_SIZE, Commit, list_parts
from cogdata.storage.store import Store
from collectors.collect import (
    CollectRequest,
    EpisodeDone,
    collect_episode,
    describe_collection,
    missing_ranges,
    plan,
    prepare,
    request,
)
from collectors.collect_part import Event
from collectors.engines import LocalEngine
from collectors.progress import ProgressCounter
from collectors.provenance import changed_versions

SHORT = {"image_size": 16, "horizon": 2}
EPISODES = PART_SIZE + 20


def _asked(**options: object) -> CollectRequest:
    return request("random", **(SHORT | options))  # type: ignore[arg-type]


def _digests(store: Store, collection: str) -> dict[str, str]:
    return {
        row["episode_id"]: row["digest"]
        for part in list_parts(store, collection)
        for row in store.read_table(f"collections/{collection}/{part}/episodes.parquet").to_pylist()
    }


def _collect(store: Store, asked: CollectRequest, episodes: int, workers: int) -> list[Event]:
    prepare(store, asked, "test")
    return list(LocalEngine(workers)(store, asked, plan(store, asked, episodes).ranges))


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(str(tmp_path_factory.mktemp("one")))
    _collect(store, _asked(), EPISODES, 1)
    return store


def test_the_number_of_workers_changes_no_digest(collected: Store, tmp_path: Path) -> None:
    asked = _asked()
    expected = _digests(collected, asked.collection)
    assert len(expected) == EPISODES
    for workers in (2, 3):
        store = Store(str(tmp_path / str(workers)))
        _collect(store, asked, EPISODES, workers)
        assert _digests(store, asked.collection) == expected


def test_the_same_command_again_adds_nothing_and_a_larger_one_only_the_rest(collected: Store) -> None:
    asked = _asked()
    assert plan(collected, asked, EPISODES).ranges == ()
    larger = plan(collected, asked, EPISODES + PART_SIZE)
    assert larger.have == EPISODES
    assert larger.ranges == ((EPISODES, 2 * PART_SIZE), (2 * PART_SIZE, EPISODES + PART_SIZE))
    smaller = plan(collected, asked, 10)
    assert (smaller.have, smaller.missing) == (10, 0)


def test_missing_ranges_are_cut_at_part_borders() -> None:
    have = set(range(3, 7))
    assert missing_ranges(have, PART_SIZE + 2) == [(0, 3), (7, PART_SIZE), (PART_SIZE, PART_SIZE + 2)]
    assert missing_ranges(set(), 3) == [(0, 3)]


_DRIVER = """
import sys
from cogdata.storage.store import Store
from collectors.collect import plan, prepare, request
from collectors.engines import LocalEngine
from collectors.provenance import changed_versions
if __name__ == "__main__":
    store, asked = Store(sys.argv[1]), request("random", image_size=16, horizon=2)
    prepare(store, asked, "test")
    for event in LocalEngine(2)(store, asked, plan(store, asked, int(sys.argv[2])).ranges):
        print(event, flush=True)
"""


@pytest.mark.parametrize(
    "delays",
    [(0.05, 0.1, 0.2), pytest.param(tuple(0.12 * kill for kill in range(10)), marks=pytest.mark.slow)],
    ids=["3 kills", "10 kills"],
)
def test_killed_at_any_moment_and_resumed_it_is_the_same_collection(
    collected: Store, tmp_path: Path, delays: tuple[float, ...]
) -> None:
    driver = tmp_path / "driver.py"
    driver.write_text(_DRIVER)
    store, asked = Store(str(tmp_path / "store")), _asked()
    for delay in delays:
        process = subprocess.Popen(
            [sys.executable, str(driver), store.url, str(EPISODES)],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    _collect(store, asked, EPISODES, 2)
    assert _digests(store, asked.collection) == _digests(collected, asked.collection)


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    store, asked = Store(str(tmp_path)), _asked()
    prepare(store, asked, "test")
    engine = LocalEngine(2)
    seen: list[int] = []
    killed = False
    for event in engine(store, asked, plan(store, asked, EPISODES).ranges):
        if isinstance(event, EpisodeDone):
            seen.append(event.index)
            if not killed:
                killed = True
                os.kill(engine.pids()[0], signal.SIGKILL)
    assert set(seen) == set(range(EPISODES))
    assert plan(store, asked, EPISODES).missing == 0


def test_told_to_stop_it_commits_what_is_done_and_resumes_behind_it(collected: Store, tmp_path: Path) -> None:
    store, asked = Store(str(tmp_path)), _asked()
    prepare(store, asked, "test")
    engine, done = LocalEngine(2), set()
    commits: list[Commit] = []
    for event in engine(store, asked, plan(store, asked, EPISODES).ranges):
        if isinstance(event, Commit):
            commits.append(event)
        else:
            done.add(event.index)
            engine.stop()
    held = {index for commit in commits for index in range(commit.start, commit.stop)}
    assert 1 <= len(held) < EPISODES
    assert held == done
    assert plan(store, asked, EPISODES).have == len(held)
    _collect(store, asked, EPISODES, 2)
    assert _digests(store, asked.collection) == _digests(collected, asked.collection)


def test_workers_that_cannot_be_started_are_one_line_or_the_end_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, asked, engine = Store(str(tmp_path)), _asked(), LocalEngine(1)

    def fail(_: object) -> None:
        raise EOFError

    monkeypatch.setattr(ForkServerProcess, "start", fail)
    with pytest.raises(
        CogError, match=r"^no worker can be started \(EOFError\(\)\): is memory short\? try fewer"
    ):
        list(engine(store, asked, ((0, 2),)))

    def fail_when_the_end_is_asked_for(_: object) -> None:
        engine.stop()
        raise EOFError

    monkeypatch.setattr(ForkServerProcess, "start", fail_when_the_end_is_asked_for)
    assert list(engine(store, asked, ((0, 2),))) == []


def test_a_worker_whose_parent_has_died_commits_nothing(tmp_path: Path) -> None:
    driver = tmp_path / "driver.py"
    driver.write_text(_DRIVER)
    store, asked = Store(str(tmp_path / "store")), _asked()
    process = subprocess.Popen(
        [sys.executable, str(driver), store.url, str(PART_SIZE)],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()  # its workers live on, until they speak
    process.wait()
    process.stdout.read()  # they have its stdout: this is the end of the last of them
    process.stdout.close()
    assert list_parts(store, asked.collection) == []


def test_an_episode_does_not_depend_on_the_one_before() -> None:
    asked = _asked()
    fresh = collect_episode(asked, 5).digest()
    collect_episode(asked, 1)
    assert collect_episode(asked, 5).digest() == fresh


def test_the_collection_is_named_by_all_that_decides_its_bytes() -> None:
    changes: list[dict[str, object]] = [
        {},
        {"noise": 0.1},
        {"root_seed": 1},
        {"image_size": 32},
        {"horizon": 3},
        {"env": "cog/PlaceTray-v0"},
    ]
    names = {_asked(**change).collection for change in changes}
    assert len(names) == 6
    assert all(name.startswith("random-") for name in names)


def test_the_head_records_command_versions_and_settings(collected: Store) -> None:
    info = read_collection(collected, _asked().collection)
    assert (info.command, info.policy, info.root_seed, info.image_size) == ("test", "random", 0, 16)
    assert info.libraries["pybullet"] == "3.2.7"
    assert prepare(collected, _asked(), "another command") == info
    assert changed_versions(info) is None
    older = replace(info, code="0ld", libraries=info.libraries | {"numpy": "1.0"})
    changed = changed_versions(older)
    assert changed is not None
    assert "code 0ld → " in changed
    assert "numpy 1.0 → " in changed


def test_a_damaged_head_is_written_anew(collected: Store, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    head = f"collections/{_asked().collection}/collection.json"
    store.write_text(head, "{")
    assert prepare(store, _asked(), "test").command == "test"
    assert read_collection(store, _asked().collection).policy == "random"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policy": "wek_grasp"}, "unknown policy 'wek_grasp': did you mean 'weak_grasp'"),
        ({"env": "cog/PickTry-v0"}, "unknown environment 'cog/PickTry-v0': did you mean 'cog/PickTray-v0'"),
        ({"noise": -0.1}, "--noise is -0.1"),
        ({"noise": float("nan")}, "--noise is nan"),
        ({"image_size": 4}, "--image-size is 4"),
        ({"root_seed": -1}, "--seed is -1"),
        ({"horizon": 0}, "--horizon is 0"),
    ],
)
def test_bad_requests_are_one_line(change: dict[str, object], message: str) -> None:
    with pytest.raises(CogError, match=message) as caught:
        request(**({"policy": "random"} | change))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_counts_below_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CogError, match="--episodes is 0, must be at least 1"):
        plan(Store(str(tmp_path)), _asked(), 0)
    with pytest.raises(CogError, match="--workers is -1"):
        LocalEngine(-1)


def test_the_counter_counts_an_episode_once_and_warns_far_from_the_documented_rate(collected: Store) -> None:
    asked = _asked()
    info = read_collection(collected, asked.collection)
    counter = ProgressCounter(plan(collected, asked, EPISODES + 200))
    for index in range(99):
        counter.add(EpisodeDone(index, 2, True, False))
    counter.add(EpisodeDone(98, 2, True, False))
    assert (counter.episodes, counter.successes, counter.steps) == (99, 99, 198)
    assert counter.warning(info) is None  # too few to say
    counter.add(EpisodeDone(99, 2, True, False))
    warning = counter.warning(info)
    assert warning is not None
    assert "random succeeds in 100 of 100 episodes" in warning
    assert "success 100% [96%, 100%]" in counter.line()
    fine = ProgressCounter(plan(collected, asked, EPISODES))
    for index in range(150):
        fine.add(EpisodeDone(index, 2, False, False))
    assert fine.warning(info) is None


def test_a_rate_is_documented_for_the_policys_own_environment_alone() -> None:
    own, other = request("drawer_open"), request("drawer_open", env="cog/DrawerBlocked1-v0")
    assert describe_collection(own, "").success_range == (0.4, 0.6)
    assert describe_collection(other, "").success_range == (0.0, 1.0)
