"""Fine-tuning online: it improves a half-trained policy, and no interruption changes a bit of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cogdata.errors import CogError
from cogdata.layout1 import layout1_spec
from cogdata.storage.collections import CollectionInfo
from cogdata.storage.parts import list_parts, read_commit
from cogdata.storage.runs import RunState, ancestry, read_run, read_state
from cogdata.storage.samples import read_episode
from cogdata.storage.store import Store
from cogdata.streaming.stream import StreamOptions
from cogdata.streaming.transitions import Batch
from tests.synthetic import make_episode
from tests.trainers.toy import (
    PLACES,
    SIZE,
    TOY_SPEC,
    Sample,
    ToyEnv,
    ToyStream,
    make_manifest,
    make_spec,
    small_config,
    stitching,
)
from trainers.algos.bfn import Bfn
from trainers.checkpoint import list_checkpoints
from trainers.evaluation.evaluate import EvalEnv, evaluate, open_policy
from trainers.finetuning.finetune import FinetuneContext, FinetuneProgress, finetune
from trainers.finetuning.replay import Replay, joined
from trainers.training.online import Online, OnlineEnv
from trainers.training.request import TrainRequest, resume_request, run_id
from trainers.training.runlog import read_metrics
from trainers.training.start import from_run
from trainers.training.train import train

ENV = "toy/Chain-v0"
ONLINE_ENV = OnlineEnv(ENV, ToyEnv, "placed", TOY_SPEC)
SMALL: dict[str, Any] = {"threads": 1, "checkpoint_every": 2, "log_every": 2, "tensorboard": False}


def head(run: str) -> CollectionInfo:
    return CollectionInfo(
        name=run, command="cog finetune", policy=run, env=ENV, noise=0.0, root_seed=0, image_size=SIZE,
        horizon=8, success_range=(0.0, 1.0), part_size=100, created_at="2026-11-22T20:00:00",
        cogdata_version="0", code="", libraries={}, host="test",
    )  # fmt: skip


def streams(sample: Sample) -> Callable[[StreamOptions], ToyStream]:
    return lambda options: ToyStream(options, sample)


def parent_of(store: Store, algo: str = "bfn", *overrides: str, obs: str = "state") -> str:
    request = TrainRequest(algo, small_config(algo, "updates=4", *overrides), obs=obs, **SMALL)
    return train(store, make_manifest(), request, open_stream=streams(stitching))[0].run


def request_for(
    store: Store, parent: str, algo: str = "bfn", *overrides: str, **settings: Any
) -> TrainRequest:
    online = Online(ENV, **({"episodes": 7, "horizon": 8, "round_episodes": 3} | settings))
    obs = read_run(store, parent).obs
    base = TrainRequest(algo, small_config(algo, *overrides), obs=obs, **SMALL, online=online)
    return from_run(store, base, parent)


def go(
    store: Store, request: TrainRequest, *, stop_asked: Callable[[], bool] = lambda: False, **context: Any
) -> RunState:
    run = run_id(make_manifest(), request)
    options: dict[str, Any] = {
        "online_env": ONLINE_ENV,
        "head": head(run),
        "open_stream": streams(stitching),
        "stop_asked": stop_asked,
    }
    return finetune(store, make_manifest(), request, FinetuneContext(**(options | context)))[1]


def everything(store: Store, run: str) -> dict[str, Any]:
    """All bytes that a run and its collection consist of, but those that say when."""
    newest = list_checkpoints(store, run)[-1]
    base = f"runs/{run}/checkpoints/{newest:08d}"
    files = {name: store.read_bytes(f"{base}/{name}.safetensors") for name in ("weights", "training")}
    return files | {part: read_commit(store, run, part).files for part in list_parts(store, run)}


def test_a_half_trained_policy_improves(store: Store) -> None:
    """The better of two random steps is right in three of four places: the end is near, but out of reach."""
    quick = ("acting_samples=2", "batch_size=64", "learning_rate=0.003")
    parent = parent_of(store, "bfn", "updates=40", *quick)
    request = request_for(store, parent, "bfn", *quick, episodes=40, round_episodes=10)
    seen: list[FinetuneProgress] = []
    state = go(store, request, on_progress=seen.append)
    run = run_id(make_manifest(), request)
    assert (state.status, state.updates_done) == ("finished", 40 + 40 * 8)  # an update per action
    world, seeds = EvalEnv(ENV, ToyEnv, TOY_SPEC), range(60)
    before, after = (evaluate(open_policy(store, one), world, seeds).successes for one in (parent, run))
    assert before < 0.6 * 60
    assert after > 0.9 * 60
    last = seen[-1]
    assert (last.run, last.episodes, last.of, last.update) == (run, 40, 40, 360)
    lines = read_metrics(store, run)
    assert [line["episodes"] for line in lines] == [10, 20, 30, 40]
    assert lines[-1]["online_success"] > lines[0]["online_success"]


def test_a_run_says_where_it_comes_from_and_keeps_its_episodes(store: Store) -> None:
    parent = parent_of(store)
    request = request_for(store, parent)
    state, run = go(store, request), run_id(make_manifest(), request)
    assert (state.status, state.updates_done) == ("finished", 4 + 7 * 8)
    info = read_run(store, run)
    assert (info.parent, info.parent_update, info.mixture) == (parent, 4, "toy")
    assert info.online == {"env": ENV, "episodes": 7, "horizon": 8, "data": "symmetric",
                           "updates_per_step": 1.0, "round_episodes": 3, "continues": True}  # fmt: skip
    assert list_parts(store, run) == ["part-00000-00-02", "part-00000-03-05", "part-00000-06-06"]
    table = store.read_table(f"collections/{run}/part-00000-03-05/episodes.parquet")
    episode = read_episode(store, table.to_pylist()[0])
    assert (episode.meta.policy, episode.meta.env, episode.meta.index) == (run, ENV, 3)
    assert episode.meta.policy_params == {"update": 4 + 3 * 8}  # who acted: the learner after one round
    assert episode.image.shape == (9, SIZE, SIZE, 3)
    assert episode.reward is not None
    assert episode.truncated is not None
    assert episode.terminated is not None
    places = episode.robot[:, 0]
    assert places[0] == episode.meta.seed % 3
    assert np.array_equal(places[1:] == PLACES - 1, episode.reward > 0)
    steps = np.where(episode.action[:, 0] > 0, 1, -1)
    assert np.array_equal(places[1:], np.clip(places[:-1] + steps, 0, PLACES - 1))
    assert (episode.truncated[-1], episode.terminated.any()) == (True, False)


@pytest.mark.parametrize(
    ("algo", "obs", "data"),
    [("bfn", "image", "symmetric"), ("cql", "image+robot", "online"), ("sac", "state", "symmetric")],
)
def test_interrupted_anywhere_equals_uninterrupted(tmp_path: Path, algo: str, obs: str, data: str) -> None:
    """Two rounds of 8 turns and 24 updates, one of 8 and 8; asked before each of them.

    Stopped in turn 3 of round 1; killed before the first update; stopped in round 2, in turn 6 after 24
    updates; killed in the first turn of round 3, after 8 + 24; stopped there after 8 turns and 3 updates.
    """
    ends = []
    for name, cuts in (("whole", []), ("cut", [3, 9, 30, 33, 12])):
        store = Store(str(tmp_path / name))
        request = request_for(store, parent_of(store, algo, obs=obs), algo, data=data)
        for number, cut in enumerate(cuts):
            asked = Countdown(cut, kill=number % 2 == 1)
            with suppress(Killed):
                assert go(store, request, stop_asked=asked).status == "stopped"
        assert go(store, request).status == "finished"
        ends.append(everything(store, run_id(make_manifest(), request)))
    assert ends[0] == ends[1]


class Killed(BaseException):
    """What no program survives."""


class Countdown:
    """Asks for the end, or makes it, when it is asked for the nth time."""

    def __init__(self, calls: int, *, kill: bool) -> None:
        self.left, self.kill = calls, kill

    def __call__(self) -> bool:
        self.left -= 1
        if self.left <= 0 and self.kill:
            raise Killed
        return self.left <= 0


def test_of_an_odd_batch_the_larger_half_is_offline(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """5 = 3 offline and 2 online."""
    asked: list[int] = []
    draw = Replay.batch

    def counted(self: Replay, seed: int, number: int, count: int) -> Batch:
        asked.append(count)
        return draw(self, seed, number, count)

    def opened(options: StreamOptions) -> ToyStream:
        asked.append(options.batch_size)
        return ToyStream(options, stitching)

    monkeypatch.setattr(Replay, "batch", counted)
    request = request_for(store, parent_of(store), "bfn", "batch_size=5", episodes=1)
    go(store, request, open_stream=opened)
    assert asked == [3, *[2] * 8]


def test_of_one_robot_only_one_is_asked_for(tmp_path: Path) -> None:
    made: list[ToyEnv] = []

    def only() -> ToyEnv:
        made.append(ToyEnv())
        return made[-1]

    ends = []
    for name, online_env in (("worlds", ONLINE_ENV), ("robot", replace(ONLINE_ENV, make=only, together=1))):
        store = Store(str(tmp_path / name))
        request = request_for(store, parent_of(store))
        go(store, request, online_env=online_env)
        ends.append(everything(store, run_id(make_manifest(), request)))
    assert ends[0] == ends[1]
    assert len(made) == 1


def test_the_same_again_does_nothing_and_more_episodes_lengthen_it(store: Store) -> None:
    parent = parent_of(store)
    request = request_for(store, parent)
    first, run = go(store, request), run_id(make_manifest(), request)

    def refuse(options: StreamOptions) -> ToyStream:
        raise AssertionError("nothing is left to do")

    assert go(store, request, open_stream=refuse) == first
    longer = request_for(store, parent, episodes=9)
    assert run_id(make_manifest(), longer) == run
    assert go(store, longer).updates_done == 4 + 9 * 8
    assert list_parts(store, run)[-1] == "part-00000-07-08"
    info = read_run(store, run)
    assert info.online is not None
    assert info.online["episodes"] == 9
    with pytest.raises(CogError, match=f"run '{run}' learns online: give the `cog finetune` command again"):
        resume_request(store, run)


def test_asked_for_fewer_it_learns_from_all_that_there_are(store: Store) -> None:
    """Stopped in turn 3 of round 3, when 6 episodes are committed; then 3 are asked for, then 7 again."""
    parent = parent_of(store)
    request = request_for(store, parent)
    assert go(store, request, stop_asked=Countdown(8 + 24 + 8 + 24 + 3, kill=False)).status == "stopped"
    fewer = go(store, request_for(store, parent, episodes=3))
    assert (fewer.status, fewer.updates_done) == ("finished", 4 + 6 * 8)
    assert go(store, request).updates_done == 4 + 7 * 8


def test_another_algorithm_starts_from_the_policy_with_a_count_of_its_own(store: Store) -> None:
    parent = parent_of(store, "bc")
    request = request_for(store, parent, "sac", updates_per_step=0.5, continues=False)
    assert go(store, request).updates_done == 28  # half of 7 × 8
    lines = read_metrics(store, run_id(make_manifest(), request))
    assert [line["update"] for line in lines] == [12, 24, 28]


def test_a_finetuned_run_can_be_finetuned(store: Store) -> None:
    first = request_for(store, parent_of(store))
    go(store, first)
    second = request_for(store, run_id(make_manifest(), first), episodes=3)
    assert go(store, second).updates_done == 4 + 7 * 8 + 3 * 8
    chain = ancestry(store, run_id(make_manifest(), second))
    assert [info.parent_update for info in chain] == [60, 4, None]


def test_of_many_checkpoints_few_are_kept(store: Store) -> None:
    """Of rounds of 8 updates every fifth is kept, and the newest two."""
    request = request_for(store, parent_of(store), episodes=13, round_episodes=1)
    go(store, request)
    run = run_id(make_manifest(), request)
    assert list_checkpoints(store, run) == [4 + 8 * number for number in (5, 10, 12, 13)]


def test_a_number_that_is_not_finite_stops_the_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    request = request_for(store, parent_of(store))
    update = Bfn.update

    def poisoned(self: Bfn, *args: Any) -> Any:
        metrics = update(self, *args)
        return metrics | ({"q_mean": metrics["q_mean"] * float("nan")} if self.updates_done == 40 else {})

    monkeypatch.setattr(Bfn, "update", poisoned)
    with pytest.raises(CogError, match=r"diverged: q_mean is nan at update 52; last good checkpoint: 28"):
        go(store, request)
    state = read_state(store, run_id(make_manifest(), request))
    assert state is not None
    assert (state.status, state.updates_done) == ("diverged", 28)


def test_an_error_leaves_no_run_running(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """At update 40, after the checkpoint at 28; the same request goes on from there."""
    request = request_for(store, parent_of(store))
    update = Bfn.update

    def breaking(self: Bfn, *args: Any) -> Any:
        if self.updates_done == 40:
            raise RuntimeError("no memory")
        return update(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Bfn, "update", breaking)
        with pytest.raises(RuntimeError, match="no memory"):
            go(store, request)
    state = read_state(store, run_id(make_manifest(), request))
    assert state is not None
    assert (state.status, state.updates_done) == ("failed", 28)
    assert go(store, request).status == "finished"


def test_what_does_not_fit_is_one_line(store: Store) -> None:
    parent = parent_of(store)
    request = request_for(store, parent)
    other = replace(ONLINE_ENV, episode_spec=layout1_spec((SIZE, SIZE), ("place",), ("placed",)))
    with pytest.raises(
        CogError,
        match=rf"^{ENV} does not fit the policy: scene is float32 \(1,\) of place, needed is float32 \(2,\) of pl",
    ):
        go(store, request, online_env=other)
    with pytest.raises(CogError, match="batch_size is 1, must be at least 2 to be half online"):
        go(store, request_for(store, parent, "bfn", "batch_size=1"))
    wider = request_for(store, parent, "bfn", "critic_widths=8,8", "learning_rate=0.01")
    with pytest.raises(CogError) as caught:
        go(store, wider)
    said = f"bfn goes on with the layers that run '{parent}' has: leave critic_widths at [32, 32]"
    assert str(caught.value) == said
    go(store, request)
    run = run_id(make_manifest(), request)
    store.remove(f"collections/{run}/part-00000-03-05")
    longer = request_for(store, parent, episodes=9)
    with pytest.raises(
        CogError, match=f"episode 3 of collection '{run}' is gone: restore it, or begin anew: `cog runs rm"
    ):
        go(store, longer)
    store.remove(f"collections/{run}/part-00000-06-06")
    with pytest.raises(
        CogError, match=f"run '{run}' has learned from more than the 3 episodes that are left"
    ):
        go(store, longer)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"episodes": 0}, "--episodes is 0, must be from 1 to 1,000,000"),
        ({"round_episodes": 17}, "--round is 17 episodes, must be from 1 to 16"),
        ({"updates_per_step": 0.0}, "--updates-per-step is 0, must be from 0.01 to 100"),
        ({"data": "offline"}, "unknown data 'offline': did you mean 'online'?"),
    ],
)
def test_settings_out_of_range_are_one_line(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(CogError) as caught:
        Online(ENV, **({"episodes": 3, "horizon": 8} | settings))
    assert str(caught.value).startswith(said)


def test_an_episode_that_world_and_clock_end_keeps_both_flags(store: Store) -> None:
    class Both(ToyEnv):
        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            obs, reward, _, over, info = super().step(action)
            return obs, reward, over, over, info

    request = request_for(store, parent_of(store), episodes=2)
    go(store, request, online_env=replace(ONLINE_ENV, make=Both))
    run = run_id(make_manifest(), request)
    path = f"collections/{run}/{list_parts(store, run)[0]}/episodes.parquet"
    for row in store.read_table(path).to_pylist():
        episode = read_episode(store, row)
        assert episode.terminated is not None
        assert episode.truncated is not None
        assert episode.terminated.tolist() == episode.truncated.tolist() == [False] * 7 + [True]


def test_rounds_never_cross_the_border_of_a_part() -> None:
    online = Online(ENV, episodes=112, horizon=8, round_episodes=16)
    rounds = online.rounds()
    assert rounds[5:] == [(80, 96), (96, 100), (100, 112)]
    assert online.rounds([(0, 3)])[:2] == [(0, 3), (3, 19)]
    assert Online(ENV, 3, 8, updates_per_step=0.1).updates(30) == 3  # not 2, by 0.1 · 30 = 3.0000000000000004


def test_replay_has_windows_and_returns_within_an_episode() -> None:
    options = StreamOptions(windows={"robot": (-1, 0), "action": (0, 1)}, n_step=2, discount=0.5)
    replay = Replay(make_spec("state"), frames=3 * 5, source=2, options=options)
    for index in range(3):
        replay.add(make_episode("c", index))
    batch = replay.batch(0, 7, 400)
    episode, time = batch.obs["robot"][:, :, 0], batch.obs["robot"][:, :, 1]
    assert (episode[:, 0] == episode[:, 1]).all()
    assert np.array_equal(time[:, 0], np.maximum(time[:, 1] - 1, 0))
    assert np.array_equal(batch.valid["action"][:, 1], time[:, 1] < 3)
    assert np.array_equal(batch.next_obs["robot"][:, 1, 1], np.minimum(time[:, 1] + 2, 4))
    rewarded = (episode[:, 1] == 0) * 0.5 ** (3 - time[:, 1]) * (time[:, 1] >= 2)
    assert np.array_equal(batch.reward, rewarded.astype(np.float32))


def test_replay_draws_every_transition_and_nothing_across_episodes() -> None:
    replay = Replay(make_spec("state"), frames=3 * 5, source=2, options=StreamOptions())
    for index in range(3):
        replay.add(make_episode("c", index))
    assert replay.transitions == 12
    batch = replay.batch(0, 7, 600)
    assert list(batch.obs.parts) == ["robot", "scene"]
    episode, time = batch.obs["robot"][:, 0], batch.obs["robot"][:, 1]
    pairs = set(zip(episode.tolist(), time.tolist(), strict=True))
    assert pairs == {(float(i), float(t)) for i in range(3) for t in range(4)}
    assert np.array_equal(batch.next_obs["robot"][:, 0], episode)
    assert np.array_equal(batch.next_obs["robot"][:, 1], time + 1)
    assert np.array_equal(batch.reward, (episode == 0) & (time == 3))  # of three only the first is rewarded
    assert set(batch.source.tolist()) == {2}
    again = replay.batch(0, 7, 600)
    assert np.array_equal(again.action, batch.action)
    assert not np.array_equal(replay.batch(0, 8, 600).action, batch.action)
    both = joined(batch, again)
    assert len(both.action) == 1200
    assert np.array_equal(both.obs["scene"][600:], batch.obs["scene"])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))
