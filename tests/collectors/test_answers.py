"""What a driver answers is taken for what it is, or refused by name: in collecting and in evaluation."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from cogdata.episode import Episode
from cogdata.errors import CogError
from cogdata.layout1 import layout1_spec
from cogdata.rollout import rollout
from cogdata.storage.parts import PartWriter, list_parts
from cogdata.storage.samples import read_episode
from cogdata.storage.store import Store
from collectors.collect import EpisodeDone, collect_episode, plan, request
from collectors.drivers import open_env
from collectors.progress import ProgressCounter
from tests.collectors.test_foreign_env import STATE, Good
from trainers.evaluation.worlds import Worlds

HERE = __name__
STILL = np.zeros(8, np.float32)


class Told(Good):
    """Answers what its class attributes say, from its second step on."""

    grasped: ClassVar[Any] = False
    placed: ClassVar[Any] = False
    ends: ClassVar[Any] = (False, False)
    state: ClassVar[Any] = STATE

    def observe(self) -> Any:
        obs, info = super().observe()
        return obs | {"robot": self.state if self.time == 2 else STATE}, info

    def judge(self) -> dict[str, bool]:
        late = self.time >= 2
        return {"grasped": self.grasped if late else False, "placed": self.placed if late else False}

    def step(self, action: Any) -> Any:
        obs, _, *_, info = super().step(action)
        return obs, None, *(self.ends if self.time == 2 else (False, False)), info


def _collected(**told: object) -> Episode:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in told.items():
            patch.setattr(Told, name, value)
        return collect_episode(request("random", env=f"{HERE}:Told", image_size=16, horizon=4), 0)


WRONG = [
    ({"grasped": math.nan}, "gives info['predicates']['grasped'] = nan at step 2, must be True or False, or"),
    ({"grasped": "False"}, "gives info['predicates']['grasped'] = 'False' at step 2, must be True or False"),
    ({"grasped": 1}, "gives info['predicates']['grasped'] = 1 at step 2, must be True or False"),
    (
        {"placed": np.array([True, True])},
        "gives info['predicates']['placed'] = array([ True, True]) at step 2, must be",
    ),
    ({"placed": None}, "gives placed = None at step 2: the task's predicate must be judged at every step"),
    ({"ends": ("no", False)}, "gives terminated = 'no' at step 2, must be True or False"),
    ({"ends": (False, None)}, "gives truncated = None at step 2, must be True or False"),
    ({"state": np.full(10, np.inf, np.float32)}, "shows robot[0] = inf at step 2, must be finite"),
]


@pytest.mark.parametrize(("told", "said"), WRONG)
def test_an_answer_that_is_none_is_refused_where_it_is_collected(told: dict[str, Any], said: str) -> None:
    with pytest.raises(CogError) as caught:
        _collected(**told)
    assert str(caught.value).startswith(f"{HERE}:Told {said}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("told", "said"), WRONG)
def test_an_answer_that_is_none_is_refused_where_it_is_evaluated(
    told: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in told.items():
        monkeypatch.setattr(Told, name, value)
    with Worlds(functools.partial(open_env, f"{HERE}:Told", image_size=16), 1, 1) as worlds:
        worlds.reset([0])
        worlds.step({0: STILL})
        with pytest.raises(CogError) as caught:
            worlds.step({0: STILL})
    assert str(caught.value).startswith(f"{HERE}:Told {said}")


def test_an_environment_that_is_no_driver_is_held_to_the_same_answers() -> None:
    """Worlds of a library user, which no `Driven` stands before."""

    class Bare(Good):
        scene_fields: tuple[str, ...] = ()

        def observe(self) -> Any:
            obs, info = super().observe()
            return obs, info | {"success": math.nan if self.time else False}

        def step(self, action: Any) -> Any:
            obs, _, terminated, *_ = super().step(action)
            return obs, 0.0, terminated, np.bool_(True), self.observe()[1]

        episode_spec = layout1_spec((16, 16), (), ("placed",))

    with Worlds(lambda: Bare(16), 1, 1) as worlds:
        worlds.reset([0])
        with pytest.raises(CogError, match=r"^Bare gives info\['success'\] = nan at step 1, must be True"):
            worlds.step({0: STILL})
    episode = _collected()
    bare = Bare(16)
    bare.episode_spec = episode.spec
    with pytest.raises(CogError, match="shows no scene at the reset, which it declares"):
        rollout(bare, lambda _: (STILL, "wait"), episode.meta)


class Leaving(Good):
    def reset(self, **_: Any) -> Any:
        raise SystemExit("out of film")


def test_an_environment_that_exits_in_a_process_of_its_own_is_one_line() -> None:
    with (
        Worlds(functools.partial(Leaving, 16), 2, 2) as worlds,
        pytest.raises(CogError, match="^an environment failed: SystemExit: out of film$"),
    ):
        worlds.reset([0, 1])


def test_numpy_s_bools_are_bools() -> None:
    episode = _collected(grasped=np.bool_(True), placed=np.True_, ends=(np.False_, np.True_))
    assert episode.predicates["grasped"].tolist() == [False, False, True]
    assert episode.reward is not None
    assert episode.reward.tolist() == [0, 1]
    assert not episode.unjudged


def test_what_was_not_judged_is_null_and_no_failure(tmp_path: Path) -> None:
    episode = _collected(grasped=None)
    assert episode.unjudged["grasped"].tolist() == [False, False, True, True, True]
    assert [episode.holds("grasped", t) for t in range(3)] == [False, False, None]
    store = Store(str(tmp_path))
    meta = episode.meta
    aimed = Episode(**vars(episode) | {"meta": type(meta)(**vars(meta) | {"goal": "grasped"})})
    assert aimed.success is None
    writer = PartWriter(store, meta.collection, 0, 1)
    writer.add(aimed)
    folder = f"collections/{meta.collection}/{writer.commit().part}"
    (row,) = store.read_table(f"{folder}/episodes.parquet").to_pylist()
    assert row["success"] is None
    steps = store.read_table(f"{folder}/steps.parquet")
    assert steps["grasped"].to_pylist() == [False, False, None, None, None]
    assert steps["placed"].to_pylist() == [False] * 5
    back = read_episode(store, row)
    assert back.digest() == aimed.digest() == row["digest"]
    assert back.unjudged["grasped"].tolist() == [False, False, True, True, True]
    assert list_parts(store, meta.collection) == ["part-00000-00-00"]
    judged = Episode(**vars(aimed) | {"unjudged": {}})
    assert (judged.success, judged.digest() == aimed.digest()) == (False, False)


def test_the_task_need_not_be_judged_before_anything_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Told, "judge", lambda self: {"grasped": True, "placed": True if self.time else None})
    episode = collect_episode(request("random", env=f"{HERE}:Told", image_size=16, horizon=2), 0)
    assert episode.unjudged["placed"].tolist() == [True, False, False]
    assert episode.reward is not None
    assert episode.reward.tolist() == [1, 1]


def test_a_mask_that_says_nothing_or_something_else_is_refused() -> None:
    episode = _collected(grasped=None)
    for unjudged, said in (
        ({"drawer_open": np.ones(5, bool)}, "unjudged 'drawer_open' is bool"),
        ({"grasped": np.ones(4, bool)}, r"unjudged 'grasped' is bool \(4,\), must be as its predicate is"),
        ({"grasped": np.zeros(5, bool)}, "predicate 'grasped' was judged everywhere"),
    ):
        with pytest.raises(ValueError, match=said):
            Episode(**vars(episode) | {"unjudged": unjudged})
    held = {**episode.predicates, "grasped": np.ones(5, bool)}
    with pytest.raises(ValueError, match="predicate 'grasped' holds where it was not judged"):
        Episode(**vars(episode) | {"predicates": held})


def test_the_tally_takes_what_was_not_judged_for_no_failure(tmp_path: Path) -> None:
    asked = request("random", env=f"{HERE}:Told", image_size=16, horizon=2)
    counter = ProgressCounter(plan(Store(str(tmp_path)), asked, 4))
    for index, success in enumerate((True, None, None)):
        counter.add(EpisodeDone(index, 2, success, False))
    assert (counter.episodes, counter.judged, counter.successes) == (3, 1, 1)
    assert "success 100% [21%, 100%] · 2 not judged" in counter.line()
