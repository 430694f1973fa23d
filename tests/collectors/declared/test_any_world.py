"""Worlds of any declaration are collected, by random actions and by policies of one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box

from cogdata.episode import Episode
from cogdata.errors import CogError
from cogdata.features import EpisodeSpec, Feature, Per
from cogdata.layout1 import ACTION, layout_of
from cogdata.storage.collections import declared, read_collection
from cogdata.storage.parts import list_parts
from cogdata.storage.samples import read_episode
from cogdata.storage.store import Store
from collectors.checks import check_env
from collectors.collect import CollectRequest, collect_episode, plan, prepare, request
from collectors.drivers import open_env
from collectors.engines import LocalEngine
from collectors.policies.actors import random_action
from tests.arms import TEXTS, Bimanual, SevenDof
from tests.running import TINY, Run

HERE = __name__
ARMS = "tests.arms"


def _collect(asked: CollectRequest, folder: Path, workers: int) -> Store:
    """Three parts of two episodes each."""
    store = Store(str(folder / str(workers)))
    prepare(store, asked, "test")
    list(LocalEngine(workers)(store, asked, ((0, 2), (2, 4), (4, 6))))
    return store


def _rows(store: Store, collection: str) -> list[dict[str, Any]]:
    return [
        row
        for part in list_parts(store, collection)
        for row in store.read_table(f"collections/{collection}/{part}/episodes.parquet").to_pylist()
    ]


@pytest.mark.parametrize(
    ("env", "options"),
    [
        ("CartPole-v1", {"sutton_barto_reward": True}),
        ("Pendulum-v1", {"g": 9.81}),
        (f"{ARMS}:SevenDof", {"shelf_m": 0.1}),
    ],
)
def test_the_number_of_workers_changes_no_digest(env: str, options: dict[str, Any], tmp_path: Path) -> None:
    asked = request("random", env=env, horizon=6, env_options=options)
    found = []
    for workers in (1, 3):
        store = _collect(asked, tmp_path, workers)
        rows = _rows(store, asked.collection)
        assert read_collection(store, asked.collection).spec == declared(store, asked.collection)
        episode = read_episode(store, rows[5])
        assert episode.digest() == rows[5]["digest"] == collect_episode(asked, 5).digest()
        found.append([row["digest"] for row in rows])
    assert len(set(found[0])) == 6
    assert found[0] == found[1]


def test_cart_pole_is_no_success_and_ends_when_it_falls() -> None:
    episode = collect_episode(request("random", env="CartPole-v1"), 0)
    assert episode.spec == EpisodeSpec(
        (Feature("observation", "float32", (4,)),),
        Feature("action", "int64", per=Per.TRANSITION, low=(0.0,), high=(1.0,)),
        reward="float64",
    )
    assert (episode.meta.task, episode.meta.goal, episode.success, episode.solved) == (None,) * 4
    assert episode.reward is not None
    assert episode.reward.tolist() == [1.0] * episode.steps
    assert episode.terminated is not None
    assert episode.terminated[-1]
    assert episode.steps < 100  # random actions let it fall; its own horizon is 500
    world = gymnasium.make("CartPole-v1")
    shown, _ = world.reset(seed=episode.meta.seed)
    for t in range(episode.steps):
        assert episode.array("observation")[t].tolist() == shown.tolist()
        shown, *_ = world.step(int(episode.action[t]))
    assert episode.array("observation")[-1].tolist() == shown.tolist()


def test_pendulum_keeps_its_own_reward_to_the_last_digit() -> None:
    episode = collect_episode(request("random", env="Pendulum-v1", horizon=7), 3)
    assert (episode.spec.action.low, episode.spec.action.high) == ((-2.0,), (2.0,))
    assert np.abs(episode.action).max() > 0.5
    world = gymnasium.make("Pendulum-v1")
    world.reset(seed=episode.meta.seed)
    own = [float(world.step(action)[1]) for action in episode.action]
    assert episode.reward is not None
    assert episode.reward.tolist() == own
    assert episode.truncated is not None
    assert episode.truncated.tolist() == [False] * 6 + [True]
    assert request("random", env="Pendulum-v1").horizon == 200


def test_two_arms_three_cameras_and_an_instruction() -> None:
    asked = request("random", env=f"{ARMS}:Bimanual")
    episode = collect_episode(asked, 0)
    assert (asked.image_size, asked.horizon, episode.steps) == (None, 4, 3)  # it terminates
    assert episode.array("images_front").shape == (4, 480, 640, 3)
    assert episode.array("images_front")[2, 2, 7, 1] == 200
    assert episode.array("depth")[:, 0, 0].tolist() == [0, 1000, 2000, 3000]
    assert episode.array("joint_position_rad").dtype == np.float64
    assert episode.array("gripper_open").tolist() == [0, 1, 0, 1]
    assert episode.array("instruction")[0] in TEXTS
    assert episode.array("effort_nm").tolist() == [[1, 0.5], [2, 0.5], [3, 0.5]]
    assert (episode.meta.task, episode.meta.goal) == ("block_handed_over", "block_handed_over")
    assert [episode.holds("block_handed_over", t) for t in range(4)] == [False, None, False, True]
    assert episode.success
    assert episode.reward is not None
    assert episode.reward[0] == -np.abs(episode.array("joint_position_rad")[1]).sum()
    assert (np.abs(episode.action) > 1).any()


def test_a_world_without_a_reward_has_that_of_its_task() -> None:
    episode = collect_episode(request("random", env=f"{ARMS}:SevenDof"), 2)
    assert episode.array("camera").shape == (6, 48, 48, 3)
    assert episode.reward is not None
    assert episode.reward.tolist() == episode.predicates["cup_on_shelf"][1:].tolist()
    assert (episode.action[:, :6].min() < -0.2, episode.action[:, 6].min() >= 0) == (True, True)


class Unrewarded(SevenDof):
    predicates: Any = ()
    task_predicate: Any = None

    def _told(self) -> dict[str, Any]:
        return {}


class SometimesRewarded(Unrewarded):
    def step(self, action: Any) -> Any:
        obs, _, *rest = super().step(action)
        return obs, 1.0 if self.time < 3 else None, *rest


def test_no_reward_is_null_and_some_are_refused() -> None:
    assert collect_episode(request("random", env=f"{HERE}:Unrewarded"), 0).reward is None
    with pytest.raises(CogError, match="SometimesRewarded gives no reward at step 3, and one at another"):
        collect_episode(request("random", env=f"{HERE}:SometimesRewarded"), 0)


class Growing(SevenDof):
    def _shown(self) -> Any:
        shown = super()._shown()
        return shown | {"joints_rad": np.zeros(6 + (self.time == 2), np.float32)}


class Losing(SevenDof):
    def _shown(self) -> Any:
        shown = super()._shown()
        return shown | {"joints_rad": np.full(6, np.nan if self.time == 2 else 0, np.float32)}


class Hiding(SevenDof):
    def _shown(self) -> Any:
        shown = super()._shown()
        return shown | ({"wrist": shown["camera"]} if self.time == 2 else {})


class Forgetting(Bimanual):
    def step(self, action: Any) -> Any:
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, reward, terminated, truncated, info | {"effort_nm": np.zeros(3, np.float32)}


class Overloaded(Bimanual):
    def step(self, action: Any) -> Any:
        obs, reward, terminated, truncated, info = super().step(action)
        effort = [0.0, 1e300 if self.time == 3 else 0.0]
        return obs, reward, terminated, truncated, info | {"effort_nm": effort}


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("Growing", "shows joints_rad as float32 (7,) at step 2, its observation_space says float32 (6,)"),
        ("Losing", "shows joints_rad[0] = nan at step 2, must be finite"),
        ("Hiding", "shows 'wrist' at step 2, which it does not declare"),
        ("Forgetting", "gives info['effort_nm'] = array([0., 0., 0.], dtype=float32) at step 1, declared is"),
        ("Overloaded", "gives info['effort_nm'] = [0.0, 1e+300] at step 3: effort_nm is inf at row 0"),
    ],
)
def test_what_was_not_declared_is_refused_where_it_comes(kind: str, said: str) -> None:
    with pytest.raises(CogError) as caught:
        collect_episode(request("random", env=f"{HERE}:{kind}"), 0)
    assert str(caught.value).startswith(f"{HERE}:{kind} {said}")


def go_right(obs: dict[str, Any]) -> float:
    return 1.5 if obs["observation"][1] > 0 else -1.5


def nudge(obs: dict[str, Any], rng: np.random.Generator) -> Any:
    return rng.uniform(-0.1, 0.1, 7).clip(0)


class Counting:
    """As many thousandths as it was called."""

    def __init__(self) -> None:
        self.calls = 0

    def act(self, obs: dict[str, Any]) -> Any:
        self.calls += 1
        return np.full(7, self.calls / 1000)


def too_far(obs: dict[str, Any]) -> Any:
    return np.full(7, 0.75, np.float32)


def too_few(obs: dict[str, Any]) -> Any:
    return np.zeros(6, np.float32)


def scribbling(obs: dict[str, Any]) -> Any:
    obs["joints_rad"][0] = 7
    return np.zeros(7, np.float32)


def test_a_policy_of_one_s_own_acts() -> None:
    asked = request(f"{HERE}:nudge", env=f"{ARMS}:SevenDof")
    first, again = collect_episode(asked, 0), collect_episode(asked, 0)
    assert first.digest() == again.digest() != collect_episode(asked, 1).digest()
    assert (first.steps, set(first.phase), first.meta.noise) == (5, {"policy"}, 0.0)
    assert asked.collection.startswith("tests_collectors_declared_test_any_world_nudge-")
    counted = collect_episode(request(f"{HERE}:Counting", env=f"{ARMS}:SevenDof"), 1)
    assert counted.action[:, 0] == pytest.approx([0.001, 0.002, 0.003, 0.004, 0.005])
    ours = request(f"{HERE}:nudge", env="cog/PickTray-v0", image_size=16)
    assert ours.horizon == 40


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (
            "too_far",
            f"an action of {ARMS}:SevenDof at step 1: action[0] is 0.75 at row 0, above its bound 0.5; nothing "
            f"was clipped",
        ),
        ("too_few", f"policy {HERE}:too_few gives float32 (6,), the action is float32 (7,) within [-0.5, 1]"),
        ("scribbling", f"policy {HERE}:scribbling fails to act: ValueError('assignment destination is read-"),
        ("missing", f"unknown function of {HERE} 'missing': did you mean"),
    ],
)
def test_what_a_policy_of_one_s_own_does_wrong_is_one_line(policy: str, said: str) -> None:
    with pytest.raises(CogError) as caught:
        collect_episode(request(f"{HERE}:{policy}", env=f"{ARMS}:SevenDof"), 0)
    assert str(caught.value).startswith(said)


def test_a_check_tries_the_policy_once() -> None:
    check_env(f"{ARMS}:SevenDof", image_size=16, policy=f"{HERE}:nudge")
    with pytest.raises(CogError, match="too_few gives float32"):
        check_env(f"{ARMS}:SevenDof", image_size=16, policy=f"{HERE}:too_few")
    with pytest.raises(CogError, match="^policy grasp is for the arm of the built-in worlds"):
        check_env("CartPole-v1", image_size=None, policy="grasp")


class Arm(SevenDof):
    """Our arm's action, and neither its state nor a view."""

    action_space = Box(-1, 1, (8,), np.float32)


def test_a_script_needs_a_view() -> None:
    world = open_env(f"{HERE}:Arm", image_size=16)
    with pytest.raises(CogError, match=r"Arm has no view\(\) for scripted policies: use --policy random, or"):
        world.view()


@pytest.mark.parametrize(
    ("low", "high", "means"),
    [
        ((-2.0, 0.0), (2.0, 1.0), (0.0, 0.5)),
        (None, None, (0.0, 0.0)),
        ((-np.inf, 3.0), (np.inf, np.inf), (0.0, 4.0)),
        ((-np.inf, -np.inf), (-1.0, 1.0), (-2.0, 0.0)),
    ],
)
def test_random_actions_are_uniform_or_normal(
    low: tuple[float, ...] | None, high: tuple[float, ...] | None, means: tuple[float, ...]
) -> None:
    action, rng = (
        Feature("action", "float32", (2,), per=Per.TRANSITION, low=low, high=high),
        np.random.default_rng(0),
    )
    drawn = np.stack([random_action(action, rng) for _ in range(4000)])
    action.check(drawn, 4000)
    assert drawn.mean(0) == pytest.approx(means, abs=0.06)
    discrete = Feature("action", "int64", (2,), per=Per.TRANSITION, low=(1.0, 0.0), high=(3.0, 1.0))
    chosen = np.stack([random_action(discrete, rng) for _ in range(200)])
    discrete.check(chosen, 200)
    assert [set(column.tolist()) for column in chosen.T] == [{1, 2, 3}, {0, 1}]


def test_random_actions_reach_bounds_that_no_number_lies_between() -> None:
    wide = (-1.5e308, -1.0)
    action = Feature("action", "float64", (2,), Per.TRANSITION, low=wide, high=(1.5e308, 1.0))
    rng = np.random.default_rng(0)
    drawn = np.stack([random_action(action, rng) for _ in range(4000)])
    action.check(drawn, 4000)
    assert (drawn / 1.5e308).mean(0) == pytest.approx((0, 0), abs=0.03)
    assert (drawn[:, 0] > 1e308).mean() == pytest.approx(1 / 6, abs=0.03)


def test_options_are_what_an_environment_takes() -> None:
    plain, given = (
        request("random", env=f"{ARMS}:SevenDof", env_options=one) for one in (None, {"shelf_m": -9.0})
    )
    assert plain.collection != given.collection
    assert (given.image_size, given.env_options) == (48, '{"shelf_m": -9.0}')
    assert collect_episode(given, 0).success
    for name, options, said in (
        (
            "CartPole-v1",
            {"image_size": 16},
            "CartPole-v1 says itself how large its pictures are: leave --image-si",
        ),
        (f"{ARMS}:Bimanual", {"image_size": 16}, "Bimanual says itself how large its pictures are"),
        (
            "CartPole-v1",
            {"noise": 0.1},
            "--noise is for scripted policies: random in CartPole-v1 makes its own",
        ),
        (
            "cog/PickTray-v0",
            {"env_options": {"a": 1}},
            "--env-option a is for environments of others, not for cog/",
        ),
        ("CartPole-v7", {}, "unknown environment 'CartPole-v7'"),
        ("gymnasium:Nothing-v0", {}, "unknown environment 'gymnasium:Nothing-v0'"),
    ):
        with pytest.raises(CogError, match=said):
            request("random", env=name, **options)
    with pytest.raises(
        CogError, match=r"^CartPole-v1 cannot be made by gymnasium.make\(.*mass=2\): TypeError"
    ):
        check_env("CartPole-v1", image_size=None, options='{"mass": 2}')
    with pytest.raises(CogError, match=f"^where does {HERE}:nudge act"):
        request(f"{HERE}:nudge")


def test_requests_of_before_keep_their_names() -> None:
    assert request("weak_grasp").collection == "weak_grasp-27ca2e8f"
    assert request("random", env=f"{ARMS}:SevenDof", horizon=3).collection == "random-98ccfb9b"
    camera = request("grasp", noise=0.1, root_seed=3, image_size=64, horizon=20, localize="camera")
    assert camera.collection == "grasp-14bce62f"
    told = request("weak_grasp", instruction="lift it")
    assert told.collection != request("weak_grasp").collection


def _written(asked: CollectRequest, tmp_path: Path) -> Episode:
    store = Store(str(tmp_path))
    prepare(store, asked, "test")
    list(LocalEngine(1)(store, asked, plan(store, asked, 1).ranges))
    return read_episode(store, _rows(store, asked.collection)[0])


def test_an_instruction_is_stored_with_a_built_in_world_too(tmp_path: Path) -> None:
    options: dict[str, Any] = {"image_size": 16, "horizon": 2}
    plain = collect_episode(request("grasp", **options), 0)
    told = _written(request("grasp", instruction="lift the block", **options), tmp_path)
    assert (layout_of(plain.spec), layout_of(told.spec)) == (1, 2)
    assert told.array("instruction").tolist() == ["lift the block"]
    assert told.spec.action == ACTION
    assert np.array_equal(told.image, plain.image)
    assert np.array_equal(told.action, plain.action)
    with pytest.raises(CogError, match="declares an instruction of its own: leave --instruction out$"):
        collect_episode(request("random", env=f"{ARMS}:Bimanual", instruction="fold"), 0)
    with pytest.raises(CogError, match="^--instruction is empty"):
        request("grasp", instruction=" ")


def test_a_collection_has_one_declaration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, store = request("random", env=f"{ARMS}:SevenDof", image_size=16), Store(str(tmp_path))
    _written(asked, tmp_path)
    monkeypatch.setattr("collectors.checks._KNOWN", {})
    monkeypatch.setattr(SevenDof, "predicates", ("cup_on_shelf",))
    monkeypatch.setattr(SevenDof, "feature_names", {"joints_rad": tuple("abcdef")}, raising=False)
    prepare(store, asked, "test")  # nobody has made it: what is known of it is what is there
    monkeypatch.setattr(SevenDof, "_told", lambda _self: {"predicates": {"cup_on_shelf": False}})
    check_env(asked.env, image_size=16, policy="random")
    with pytest.raises(CogError) as caught:
        prepare(store, asked, "test")
    assert str(caught.value) == (
        f"{ARMS}:SevenDof is declared otherwise than the episodes of {asked.collection}: joints_rad is float32 "
        f"(6,) of a, b, c, …, was float32 (6,); predicates are cup_on_shelf, were cup_on_shelf, cup_held; "
        f"collect it under another --seed, or declare it as before"
    )


def test_the_command_line_collects_any_world(run: Run, tmp_path: Path) -> None:
    root = ("--root", str(tmp_path))
    command = (
        "collect",
        "--policy",
        "random",
        "--env",
        "Pendulum-v1",
        "--env-option",
        "g=9.81",
        "--horizon",
        "3",
    )
    done = run(*command, "--episodes", "3", *root)
    assert done.code == 0, done.err
    assert "3/3 episodes" in done.out
    again = run(*command, "--episodes", "3", *root)
    assert "0 to collect" in again.out
    told = ("collect", "--policy", "place", "--episodes", "2", "--instruction", "put it away", *TINY, *root)
    assert run(*told).code == 0
    sql = "select extras->>'instruction' as said, env from episodes order by all"
    rows = json.loads(run("query", sql, "--format", "json", *root).out)
    assert [row["said"] for row in rows] == ["put it away"] * 2 + [None] * 3
    assert run("data", "verify", *root).code == 0
    assert run(*command, "--env-option", "9", "--episodes", "1", *root).error == (
        "--env-option '9' must be KEY=VALUE, for example render_size=64"
    )
