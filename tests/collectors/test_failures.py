"""An episode that fails costs itself, not the ones that were finished before it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from cogdata.errors import CogError
from cogdata.storage.parts import PART_SIZE, Commit, list_parts
from cogdata.storage.store import Store
from collectors import engines
from collectors.checks import check_env
from collectors.collect import EpisodeDone, committed_indices, plan, prepare, request
from collectors.collect_part import MOST_IN_A_ROW, SKIP, EpisodeFailed, Event, collect_part
from collectors.engines import LocalEngine
from collectors.progress import ProgressCounter
from tests.collectors.test_foreign_env import STATE, Good
from tests.running import Run

HERE = __name__
FRAGILE = f"{HERE}:Fragile"

ERRORS: dict[str, BaseException] = {
    "OSError": OSError("motor 3 hung up"),
    "SystemExit": SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt(),
    "GeneratorExit": GeneratorExit(),
}


class Fragile(Good):
    """Breaks at the second step of the episodes, counted per process, that $BREAK names; then it is of no use."""

    episodes: ClassVar[int] = 0

    def __init__(self, image_size: int) -> None:
        super().__init__(image_size)
        self.number, self.broken = -1, False

    def reset(self, **given: Any) -> Any:
        if self.broken:
            raise OSError("still broken")
        self.number = Fragile.episodes
        Fragile.episodes += 1
        return super().reset(**given)

    def step(self, action: Any) -> Any:
        if self.time == 1 and str(self.number) in os.environ["BREAK"].split(","):
            self.broken = True
            if error := ERRORS.get(os.environ["HOW"]):
                raise error
        return super().step(action)

    def observe(self) -> Any:
        obs, info = super().observe()
        return obs | {"robot": STATE * np.nan} if self.broken else obs, info


class Pair(Good):
    """Two processes: the first to begin breaks at its third episode, once the other has finished two."""

    episodes: ClassVar[int] = 0

    def reset(self, **given: Any) -> Any:
        Pair.episodes += 1
        folder = Path(os.environ["PAIR"])
        if Pair.episodes == 1:
            Pair.first = _created(folder / "first")
        elif Pair.episodes == 3 and not Pair.first:
            _created(folder / "other")
        elif Pair.episodes == 3:
            for _ in range(3000):
                if (folder / "other").exists():
                    raise OSError("motor 3 hung up")
                time.sleep(0.01)
        return super().reset(**given)

    first: ClassVar[bool] = False


class Exiting(Good):
    def __init__(self, image_size: int) -> None:
        raise SystemExit("no licence")


def _created(path: Path) -> bool:
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _digests(store: Store, collection: str) -> dict[str, str]:
    return {
        row["episode_id"]: row["digest"]
        for part in list_parts(store, collection)
        for row in store.read_table(f"collections/{collection}/{part}/episodes.parquet").to_pylist()
    }


HOW = [
    ("OSError", "fails to do step 2: OSError('motor 3 hung up')"),
    ("nan", "shows robot[0] = nan at step 2, must be finite"),
    ("SystemExit", "fails to do step 2: SystemExit(3)"),
    ("KeyboardInterrupt", "fails to do step 2: KeyboardInterrupt()"),
    ("GeneratorExit", "fails to do step 2: GeneratorExit()"),
]


@pytest.mark.parametrize(("how", "said"), HOW)
def test_what_was_finished_before_a_failure_is_kept(
    how: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BREAK", "2")
    monkeypatch.setenv("HOW", how)
    store, asked = Store(str(tmp_path / "store")), request("random", env=FRAGILE, image_size=16, horizon=3)
    prepare(store, asked, "test")
    with pytest.raises(CogError) as caught:
        list(LocalEngine(1)(store, asked, plan(store, asked, 5).ranges))
    assert str(caught.value) == (
        f"episode 2 of {asked.collection} failed: {FRAGILE} {said}; what was finished is kept, --on-error skip "
        f"leaves such episodes out"
    )
    assert list_parts(store, asked.collection) == ["part-00000-00-01"]
    assert plan(store, asked, 5).ranges == ((2, 5),)


def test_a_failed_episode_is_skipped_and_tried_again_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver is of no use after a failure: what follows comes from a new one."""
    monkeypatch.setenv("BREAK", "1,3,4")
    monkeypatch.setenv("HOW", "OSError")
    store, asked = Store(str(tmp_path / "store")), request("random", env=FRAGILE, image_size=16, horizon=3)
    prepare(store, asked, "test")
    events = list(LocalEngine(1, "skip")(store, asked, plan(store, asked, 7).ranges))
    why = f"{FRAGILE} fails to do step 2: OSError('motor 3 hung up')"
    assert [event for event in events if isinstance(event, EpisodeFailed)] == [
        EpisodeFailed(index, why) for index in (1, 3, 4)
    ]
    assert [event.index for event in events if isinstance(event, EpisodeDone)] == [0, 2, 5, 6]
    parts = ["part-00000-00-00", "part-00000-02-02", "part-00000-05-06"]
    assert [event.part for event in events if isinstance(event, Commit)] == parts
    assert list_parts(store, asked.collection) == parts
    monkeypatch.setenv("BREAK", "")
    list(LocalEngine(1, "skip")(store, asked, plan(store, asked, 7).ranges))
    assert plan(store, asked, 7).missing == 0
    whole = Store(str(tmp_path / "whole"))
    prepare(whole, asked, "test")
    list(LocalEngine(1)(whole, asked, ((0, 7),)))
    assert _digests(store, asked.collection) == _digests(whole, asked.collection)


def test_a_worker_that_is_replaced_makes_no_part_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first attempt at a range committed 0 and failed at 1; the second one has no reason to fail."""
    monkeypatch.setenv("BREAK", "")
    monkeypatch.setenv("HOW", "OSError")
    store, asked = Store(str(tmp_path)), request("random", env=FRAGILE, image_size=16, horizon=3)
    prepare(store, asked, "test")
    collect_part(store, asked, (0, 1), lambda _: None)
    collect_part(store, asked, (0, 4), lambda _: None, on_error="skip")
    assert list_parts(store, asked.collection) == ["part-00000-00-00", "part-00000-01-03"]


def test_failures_in_a_row_end_a_command_that_skips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BREAK", ",".join(map(str, range(2, 99))))
    monkeypatch.setenv("HOW", "OSError")
    store, asked = Store(str(tmp_path)), request("random", env=FRAGILE, image_size=16, horizon=3)
    prepare(store, asked, "test")
    with pytest.raises(CogError, match=f"^{MOST_IN_A_ROW} episodes in a row failed, the last: episode 11 of"):
        list(LocalEngine(1, "skip")(store, asked, plan(store, asked, 50).ranges))
    assert list_parts(store, asked.collection) == ["part-00000-00-01"]


def test_the_other_workers_keep_what_they_finished_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAIR", str(tmp_path))
    store = Store(str(tmp_path / "store"))
    asked = request("random", env=f"{HERE}:Pair", image_size=16, horizon=3)
    prepare(store, asked, "test")
    events: list[Event] = []
    with pytest.raises(CogError, match=r"fails to reset\(seed=\d+\): OSError\('motor 3 hung up'\); what was"):
        events.extend(LocalEngine(2)(store, asked, ((0, PART_SIZE), (PART_SIZE, 2 * PART_SIZE))))
    done = {event.index for event in events if isinstance(event, EpisodeDone)}
    kept = {int(name.split("/")[1]) for name in _digests(store, asked.collection)}
    assert kept == done
    assert len({index // PART_SIZE for index in kept}) == 2
    assert len(kept) >= 4


def test_a_task_of_a_cluster_says_what_it_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fragile, "episodes", 0)
    monkeypatch.setenv("BREAK", "1")
    monkeypatch.setenv("HOW", "SystemExit")
    store, asked = Store(str(tmp_path)), request("random", env=FRAGILE, image_size=16, horizon=3)
    prepare(store, asked, "test")
    events, error = engines._collect_range((store, asked, "stop"), (0, 3), lambda: False)
    assert [type(event) for event in events] == [EpisodeDone, Commit]
    assert str(error).startswith(
        f"episode 1 of {asked.collection} failed: {FRAGILE} fails to do step 2: System"
    )
    monkeypatch.setattr(Fragile, "episodes", 0)
    other = Store(str(tmp_path / "other"))
    prepare(other, asked, "test")
    events, error = engines._collect_range((other, asked, "skip"), (0, 3), lambda: False)
    assert error is None
    assert [type(event) for event in events] == [EpisodeDone, Commit, EpisodeFailed, EpisodeDone, Commit]


def test_a_driver_that_exits_when_it_is_made_is_one_line() -> None:
    with pytest.raises(
        CogError, match=r"cannot be made by Class\(image_size=16\): SystemExit\('no licence'\)"
    ):
        check_env(f"{HERE}:Exiting", image_size=16)


def test_the_command_says_what_was_skipped_and_fails(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BREAK", "1,2")
    monkeypatch.setenv("HOW", "nan")
    asked = request("random", env=FRAGILE, image_size=16, horizon=3)
    command = ("collect", "--policy", "random", "--env", FRAGILE, "--image-size", "16", "--horizon", "3",
               "--episodes", "4", "--root", str(tmp_path), "--on-error")  # fmt: skip
    assert run(*command, "skp").error == "unknown --on-error 'skp': did you mean 'skip'? known: skip, stop"
    said = run(*command, "skip")
    assert said.code == 1
    assert "2/4 episodes" in said.out
    assert "2 skipped" in said.out
    assert said.err.splitlines()[-3:] == [
        f"2 episodes of {asked.collection} failed and were skipped; the same command tries them again",
        f"  episode 1: {FRAGILE} shows robot[0] = nan at step 2, must be finite",
        f"  episode 2: {FRAGILE} shows robot[0] = nan at step 2, must be finite",
    ]
    monkeypatch.setenv("BREAK", "0")
    failed = run(*command, "stop")
    assert failed.error.startswith(f"episode 1 of {asked.collection} failed: {FRAGILE} shows robot[0] = nan")
    assert run(
        "query", "select count(*) as n from episodes", "--root", str(tmp_path), "--format", "csv"
    ).out == ("n\n2\n")
    monkeypatch.setenv("BREAK", "")
    assert run(*command, "stop").code == 0
    assert plan(Store(str(tmp_path)), asked, 4).missing == 0


def test_only_the_first_skipped_episodes_are_named(tmp_path: Path) -> None:
    counter = ProgressCounter(plan(Store(str(tmp_path)), request("random", horizon=2), 20))
    assert counter.skips() == []
    for index in range(12):
        counter.add(EpisodeFailed(index, "it broke"))
    assert counter.skips()[1:3] == ["  episode 0: it broke", "  episode 1: it broke"]
    assert counter.skips()[-1] == "  and 2 more"
    counter.add(EpisodeDone(12, 2, True, False))
    left = counter.seconds_left
    assert left is not None
    assert left == pytest.approx(7 * counter.seconds, rel=0.2)  # 20 wanted, 12 skipped, 1 done


class CloseDies(Fragile):
    """Ends the process when it is closed after its failure."""

    def close(self) -> None:
        if self.broken:
            os._exit(3)


def test_what_is_finished_is_kept_where_closing_ends_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BREAK", "2")
    monkeypatch.setenv("HOW", "OSError")
    store = Store(str(tmp_path))
    planned = plan(store, request("random", env=f"{HERE}:CloseDies", image_size=16, horizon=3), 4)
    prepare(store, planned.asked, "cog collect")
    with pytest.raises(CogError):
        list(LocalEngine(1)(store, planned.asked, planned.ranges))
    assert committed_indices(list_parts(store, planned.asked.collection)) >= {0, 1}


class CloseHangs(Fragile):
    """Does not come back from being closed after its failure."""

    def close(self) -> None:
        time.sleep(60 if self.broken else 0)


def test_a_driver_that_does_not_close_ends_the_command_and_costs_nothing_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BREAK", "2")
    monkeypatch.setenv("HOW", "OSError")
    monkeypatch.setattr("collectors.drivers.CLOSING_S", 0.1)
    store = Store(str(tmp_path))
    what = request("random", env=f"{HERE}:CloseHangs", image_size=16, horizon=3)
    Fragile.episodes = 0
    prepare(store, what, "cog collect")
    with pytest.raises(
        CogError, match=r"^episode 2 failed: .* hung up.*; .*:CloseHangs does not close within 0.1 s"
    ):
        collect_part(store, what, (0, 4), lambda event: None, lambda: False, SKIP)
    assert committed_indices(list_parts(store, what.collection)) == {0, 1}
