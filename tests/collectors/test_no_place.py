"""What a driver shows and the store has no place for is said, not dropped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict

from cogdata.errors import CogError
from cogdata.rollout import rollout
from cogdata.storage.store import Store
from collectors.checks import check_env
from collectors.collect import collect_episode, plan, prepare, request
from collectors.drivers import open_env
from collectors.engines import LocalEngine
from collectors.progress import ProgressCounter
from tests.collectors.test_foreign_env import Good

HERE = __name__
PICTURE = np.zeros((16, 16, 3), np.uint8)


class Wrist(Good):
    def observe(self) -> Any:
        obs, info = super().observe()
        return obs | {"wrist": PICTURE}, info


class Nested(Good):
    def __init__(self, image_size: int) -> None:
        super().__init__(image_size)
        self.observation_space = Dict(
            **self.observation_space.spaces, arm=Dict(q=Box(-1, 1, (2,), np.float32))
        )

    def observe(self) -> Any:
        obs, info = super().observe()
        return obs | {"arm": {"q": np.zeros(2, np.float32), "current": 0.5}}, info


class LateWrist(Good):
    def observe(self) -> Any:
        obs, info = super().observe()
        return (obs | {"wrist": PICTURE} if self.time == 2 else obs), info


class Undeclared(Good):
    def judge(self) -> dict[str, bool]:
        return super().judge() | {"drawer_open": True}


class Instructed(Good):
    def observe(self) -> Any:
        obs, info = super().observe()
        return obs, info | {"language_instruction": "pick up the cup"}


class Boasting(Good):
    """Calls it a success that the predicate denies."""

    def observe(self) -> Any:
        obs, info = super().observe()
        return obs, info | {"success": True}


class Talking(Good):
    def observe(self) -> Any:
        obs, info = super().observe()
        return obs, info | {"latency_s": 0.1} | ({"retries": 2} if self.time else {})


class Shaped(Good):
    """Rewards by distance."""

    def step(self, action: Any) -> Any:
        obs, _, terminated, truncated, info = super().step(action)
        return obs, -0.25, terminated, truncated, info


class NeverRewarding(Shaped):
    def step(self, action: Any) -> Any:
        obs, _, terminated, truncated, info = super().step(action)
        return obs, 0.0, terminated, truncated, info


class Agreeing(Shaped):
    def step(self, action: Any) -> Any:
        obs, _, terminated, truncated, info = super().step(action)
        return obs, float(self.time == 3), terminated, truncated, info


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (
            "Wrist",
            "shows 'wrist' at the reset, which it does not declare: declare it in observation_space, or do",
        ),
        ("Nested", "shows 'arm.current' at the reset, which it does not declare: declare it"),
        (
            "Undeclared",
            "gives info['predicates'] = {'grasped': False, 'placed': False, 'drawer_open': True} at",
        ),
        (
            "Instructed",
            "gives info['language_instruction'] at the reset, which it does not declare: add "
            "Feature('language_instruction', 'string', per=Per.EPISODE) to extras, or leave it out of info: see",
        ),
        (
            "Boasting",
            "gives info['success'] = True at the reset, where placed is False: let both be the same",
        ),
    ],
)
def test_what_has_no_place_is_refused_when_a_command_starts(kind: str, said: str) -> None:
    with pytest.raises(CogError) as caught:
        check_env(f"{HERE}:{kind}", image_size=16)
    assert str(caught.value).startswith(f"{HERE}:{kind} {said}")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("LateWrist", "shows 'wrist' at step 2, which it does not declare"),
        (
            "Shaped",
            "gives a reward of -0.25 at step 1, where placed is False and 0 is stored: let step() give 1 where "
            "placed holds, else 0, or None for no reward of its own",
        ),
        ("NeverRewarding", "gives a reward of 0 at step 3, where placed is True and 1 is stored"),
    ],
)
def test_what_has_no_place_is_refused_at_the_step_where_it_comes(kind: str, said: str) -> None:
    check_env(f"{HERE}:{kind}", image_size=16)
    with pytest.raises(CogError) as caught:
        collect_episode(request("random", env=f"{HERE}:{kind}", image_size=16), 0)
    assert str(caught.value).startswith(f"{HERE}:{kind} {said}")


def test_a_reward_that_is_the_predicate_is_its_own() -> None:
    episode = collect_episode(request("random", env=f"{HERE}:Agreeing", image_size=16), 0)
    assert episode.reward is not None
    assert episode.reward.tolist() == [0, 0, 1, 0, 0]


def test_other_keys_of_info_are_one_warning(tmp_path: Path) -> None:
    assert check_env(f"{HERE}:Talking", image_size=16) == ("latency_s",)
    store, asked = Store(str(tmp_path)), request("random", env=f"{HERE}:Talking", image_size=16, horizon=2)
    prepare(store, asked, "test")
    planned = plan(store, asked, 3)
    counter = ProgressCounter(planned)
    lines = [counter.left_out(event) for event in LocalEngine(1)(store, asked, planned.ranges)]
    said = f"info['latency_s'], info['retries'] of {HERE}:Talking is not stored"
    assert [line for line in lines if line] == [said]
    assert plan(store, asked, 3).missing == 0


def test_a_world_of_a_library_user_drops_nothing_either() -> None:
    world = open_env("cog/PickTray-v0", image_size=16, horizon=1)
    shown = world.reset(seed=0)

    class Two:
        episode_spec, task_predicate = world.episode_spec, world.task_predicate

        def reset(self, *, seed: int | None = None) -> Any:
            return shown[0] | {"wrist": PICTURE}, shown[1]

        def step(self, action: Any) -> Any:
            raise AssertionError

    meta = collect_episode(request("random", image_size=16, horizon=1), 0).meta
    with pytest.raises(
        CogError, match="^cog/PickTray-v0 shows 'wrist' at the reset, which it does not declare"
    ):
        rollout(Two(), lambda _: (np.zeros(8, np.float32), "wait"), meta)
