import hashlib
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from cogdata.errors import CogError
from collectors.envs import ENVS, CogEnv, Observation, make

IDS = sorted(ENVS)


def actions(count: int, seed: int = 0) -> np.ndarray:
    """Actions in which everything happens: moves, turns, toggles, now and then neutral."""
    return np.random.default_rng(seed).uniform(-1, 1, (count, 8)).astype(np.float32)


def digest(env: CogEnv, seed: int, count: int = 12) -> str:
    """What an episode looks like, every byte of it."""
    seen = hashlib.sha256()

    def add(observation: Observation) -> None:
        for name in sorted(observation):
            seen.update(observation[name].tobytes())

    add(env.reset(seed=seed)[0])
    for action in actions(count, seed):
        observation, reward, _, _, info = env.step(action)
        add(observation)
        seen.update(repr((reward, info)).encode())
    return seen.hexdigest()


@pytest.fixture(params=IDS)
def env(request: pytest.FixtureRequest) -> Iterator[CogEnv]:
    made = make(request.param)
    yield made
    made.close()


def test_gymnasiums_own_checker_is_content(env: CogEnv) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_env(env)


@pytest.mark.parametrize("env_id", IDS)
def test_the_ids_are_registered(env_id: str) -> None:
    env = gymnasium.make(env_id, observations=("robot",), disable_env_checker=True)
    observation, _ = env.reset(seed=1)
    assert set(observation) == {"robot"}
    assert isinstance(env.unwrapped, CogEnv)
    assert env.unwrapped.env_id == env_id
    env.close()


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(
        CogError, match=r"unknown environment 'cog/PickTry-v0': did you mean 'cog/PickTray-v0'"
    ):
        make("cog/PickTry-v0")
    with pytest.raises(CogError, match="unknown observation 'picture'.*image, robot, scene"):
        make("cog/PickTray-v0", observations=("picture",))
    with pytest.raises(CogError, match="found 0 and None"):
        make("cog/PickTray-v0", image_size=0)


def test_observations_match_their_space(env: CogEnv) -> None:
    observation, info = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert observation["image"].shape == (48, 48, 3)
    assert observation["robot"].shape == (10,)
    assert observation["scene"].shape == (len(env.scene_fields),)
    assert set(info) == {"predicates", "success"}
    assert set(info["predicates"]) == set(env.predicates)


def test_without_an_image_nothing_is_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("rendered")

    env = make("cog/PickTray-v0", observations=("scene",))
    monkeypatch.setattr(env._sim, "render", refuse)
    observation, _ = env.reset(seed=0)
    assert set(observation) == {"scene"}
    env.step(actions(1)[0])
    env.close()


def test_the_horizon_truncates_and_nothing_terminates() -> None:
    env = make("cog/PickTray-v0", observations=(), horizon=3)
    for _ in range(2):
        env.reset(seed=0)
        ends = [env.step(action)[2:4] for action in actions(3)]
        assert ends == [(False, False), (False, False), (False, True)]
    env.close()
    assert make("cog/PickTray-v0", observations=()).horizon == 40


def test_the_reward_is_judged_on_the_resulting_state() -> None:
    env = make("cog/PlaceTray-v0", observations=("scene",))
    observation, _ = env.reset(seed=0)
    rewards, truths = [], []
    for t in range(20):
        way = np.array([0.5, 0.25, -0.34 if t > 8 else -0.25]) - observation["scene"][:3]
        action = np.concatenate([5 * way, [0, 0, 0, 0.9 if t > 15 else 0, 0]])
        observation, reward, *_, info = env.step(np.clip(action, -1, 1).astype(np.float32))
        x, y, z = observation["scene"][:3].tolist()
        rewards.append(reward)
        truths.append(z < -0.32 and np.hypot(x - 0.5, y - 0.25) < 0.04)
        assert info["success"] == info["predicates"]["placed"] == bool(reward)
    assert rewards == [float(truth) for truth in truths]
    assert rewards[0] == 0.0
    assert rewards[-1] == 1.0
    env.close()


def test_actions_of_the_wrong_shape_are_refused(env: CogEnv) -> None:
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"shape \(8,\): found \(7,\)"):
        env.step(np.zeros(7, np.float32))


def test_actions_beyond_the_box_count_as_its_edge() -> None:
    env = make("cog/PickTray-v0", observations=("robot",))
    states = []
    for size in (1.0, 5.0):
        env.reset(seed=0)
        states.append(env.step(np.full(8, size, np.float32))[0]["robot"])
    env.close()
    assert states[0].tobytes() == states[1].tobytes()


def test_any_history_gives_the_same_bytes(env: CogEnv) -> None:
    fresh = digest(env, seed=3)
    env.reset(seed=8)
    for action in actions(7, seed=8):
        env.step(action)
    env.render(96)
    assert digest(env, seed=3) == fresh
    other = make(env.env_id)
    assert digest(other, seed=3) == fresh
    other.close()
    assert digest(env, seed=4) != fresh


def test_another_process_gives_the_same_bytes(env: CogEnv) -> None:
    code = (
        "from collectors.envs import make; from tests.collectors.test_envs import digest;"
        f"print(digest(make({env.env_id!r}), 5), digest(make({env.env_id!r}), 6))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [digest(env, 5), digest(env, 6)]


def test_what_is_observed_does_not_change_what_happens() -> None:
    with_image, without = make("cog/PickTray-v0"), make("cog/PickTray-v0", observations=("robot", "scene"))
    for env in (with_image, without):
        env.reset(seed=2)
    for action in actions(10, seed=2):
        seen, blind = with_image.step(action)[0], without.step(action)[0]
        assert seen["robot"].tobytes() == blind["robot"].tobytes()
        assert seen["scene"].tobytes() == blind["scene"].tobytes()
    with_image.close()
    without.close()


def test_a_reset_without_a_seed_draws_the_next_episode(env: CogEnv) -> None:
    env.reset(seed=0)
    second, third = env.reset()[0]["scene"], env.reset()[0]["scene"]
    assert not np.array_equal(second, third)
    env.reset(seed=0)
    assert np.array_equal(env.reset()[0]["scene"], second)


def test_pictures_come_in_any_size(env: CogEnv) -> None:
    observation, _ = env.reset(seed=0)
    assert np.array_equal(env.render(), observation["image"])
    assert env.render(192).shape == (192, 192, 3)
    small = make(env.env_id, image_size=32)
    assert small.reset(seed=0)[0]["image"].shape == (32, 32, 3)
    small.close()


def leads(image: np.ndarray, channel: int) -> np.ndarray:
    """Pixels where one colour clearly exceeds both others.  # (H, W) bool."""
    others = np.delete(image.astype(int), channel, axis=2).max(axis=2)
    return np.asarray(image[:, :, channel] > others + 40)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("env_id", ["cog/PickTray-v0", "cog/PlaceTray-v0"])
def test_block_tray_and_arm_can_be_told_apart_at_48_pixels(env_id: str, seed: int) -> None:
    env = make(env_id)
    image = env.reset(seed=seed)[0]["image"]
    env.close()
    block, tray = leads(image, 1), leads(image, 2)
    assert 12 <= block.sum() <= 120
    assert tray.sum() >= 150
    assert (image.max(axis=2) < 60).sum() >= 100
    assert np.argwhere(tray)[:, 1].mean() > 30  # the tray is at the right


def test_the_block_is_seen_where_it_is() -> None:
    env = make("cog/PickTray-v0")
    columns, places = [], []
    for seed in range(12):
        observation, _ = env.reset(seed=seed)
        columns.append(np.argwhere(leads(observation["image"], 1))[:, 1].mean())
        places.append(observation["scene"][0])
    env.close()
    # the camera looks towards -y: larger x is further left
    assert np.corrcoef(columns, places)[0, 1] < -0.98


def test_a_view_is_what_the_state_says(env: CogEnv) -> None:
    observation, info = env.reset(seed=0)
    view = env.view()
    assert view.ee_m == pytest.approx(observation["robot"][:3], abs=1e-6)
    scene = dict(zip(env.scene_fields, observation["scene"].tolist(), strict=True))
    for thing in ("object", "target"):
        if thing in view.landmarks:
            told = [scene[f"{thing}_{axis}_m"] for axis in "xyz"]
            assert view.at(thing) == pytest.approx(told, abs=1e-6)
    assert view.turned_rad == pytest.approx((0, 0, 0), abs=0.1)
    assert view.gripper_open == bool(observation["robot"][9])
    assert view.predicates == info["predicates"]
    with pytest.raises(CogError, match="'cupboard'.*object"):
        view.at("cupboard")


def test_importing_and_running_a_world_prints_nothing() -> None:
    code = "from collectors.envs import make; env = make('cog/PlaceTray-v0'); env.reset(seed=0); env.close()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
