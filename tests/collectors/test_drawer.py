"""The drawer scene: geometry, starts, predicates, and drawers that really slide."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from cogdata.schema import PREDICATES
from collectors.envs import ENVS, CogEnv, make
from collectors.policies import drawer as scripts
from collectors.policies import make_policy
from collectors.robots.widowx import WidowX
from collectors.sim import Box, Cylinder, Simulation, Vec3
from collectors.tasks import drawer
from collectors.tasks.drawer import CABINET, DrawerTask, SceneSpread, Start

STARTS = {
    "Open": {"drawer_open"} | {"top_drawer_closed", "blocker_moved"},
    "Closed": {"drawer_closed", "top_drawer_closed", "blocker_moved"},
    "Blocked1": {"drawer_closed", "blocker_moved"},
    "Blocked2": {"drawer_closed", "top_drawer_closed"},
}
"""What is true when an episode begins."""


@pytest.fixture
def sim() -> Iterator[Simulation]:
    with Simulation() as made:
        yield made


def built(
    sim: Simulation, start: Start, *, spread: SceneSpread = drawer.PUBLISHED, seed: int = 0
) -> tuple[WidowX, DrawerTask]:
    sim.clear()
    robot = WidowX(sim)
    task = DrawerTask(sim, robot, start=start, spread=spread)
    task.build(np.random.default_rng(seed))
    return robot, task


def named(task: DrawerTask) -> dict[str, float]:
    return dict(zip(task.scene_fields, task.scene().tolist(), strict=True))


def extent(shapes: tuple[Any, ...], at_m: Vec3) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner of boxes and of cylinders along y, in the world."""
    halves = [
        np.array(s.size_m) / 2 if isinstance(s, Box) else np.array([s.radius_m, s.length_m / 2, s.radius_m])
        for s in shapes
        if isinstance(s, (Box, Cylinder))
    ]
    places = [np.array(s.at_m) + at_m for s in shapes]
    low = np.min([p - h for p, h in zip(places, halves, strict=True)], axis=0)
    high = np.max([p + h for p, h in zip(places, halves, strict=True)], axis=0)
    return low, high


def test_the_cabinet_has_the_published_size() -> None:
    shell, bottom, top = CABINET
    at = (0.47, 0.2, -0.35)
    low, high = extent(shell.shapes, at)
    assert high - low == pytest.approx((0.125, 0.15, 0.124), abs=0.002)  # two rooms of 6 cm, 7 cm apart
    assert low[2] == pytest.approx(-0.374)  # stands on the table
    low, high = extent(top.shapes, (0.47, 0.2, -0.35 + top.at_m[2]))
    assert high - low == pytest.approx((0.12, 0.14, 0.04))
    assert low[2] == pytest.approx(-0.30)  # 7 cm above the bottom one
    low, high = extent(bottom.shapes, at)
    assert high[0] == pytest.approx(0.584 + 0.008)  # the handle's bar at x = 0.584
    assert (low[1], high[1]) == pytest.approx((0.13, 0.27))  # 14 cm long


@pytest.mark.parametrize("name", STARTS)
@pytest.mark.parametrize("suffix", ["", "Randomized"])
def test_every_episode_starts_as_its_name_says(name: str, suffix: str) -> None:
    env = make(f"cog/Drawer{name}{suffix}-v0", observations=("scene",))
    for seed in range(8):
        _, info = env.reset(seed=seed)
        assert {key for key, value in info["predicates"].items() if value} == STARTS[name]
        assert set(info["predicates"]) <= set(PREDICATES)
    env.close()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("start", [drawer.OPEN, drawer.CLOSED, drawer.BLOCKED_1, drawer.BLOCKED_2])
def test_everything_lies_still(sim: Simulation, start: Start, seed: int) -> None:
    robot, task = built(sim, start, seed=seed)
    before = task.scene()
    for _ in range(12):
        robot.apply(np.zeros(8, np.float32))
    assert task.scene() == pytest.approx(before, abs=0.002)


def test_the_ball_lies_in_the_published_place(sim: Simulation) -> None:
    places = []
    for seed in range(40):
        _, task = built(sim, drawer.OPEN, seed=seed)
        scene = named(task)
        places.append(scene["target_x_m"] + 0.125 - scene["drawer_open_m"])
        assert scene["target_y_m"] == pytest.approx(0.2, abs=0.002)
        assert scene["target_z_m"] == pytest.approx(-0.36 + 0.018, abs=0.002)  # on a floor 1 cm thick
    assert min(places) == pytest.approx(0.575, abs=0.004)
    assert max(places) == pytest.approx(0.605, abs=0.004)


def test_the_scene_says_where_the_handle_is(sim: Simulation) -> None:
    _, task = built(sim, drawer.CLOSED)
    shut = named(task)
    assert (shut["handle_x_m"], shut["handle_y_m"], shut["handle_z_m"]) == pytest.approx((0.584, 0.2, -0.35))
    assert shut["top_drawer_x_m"] == pytest.approx(0.53)
    sim.place_joints("cabinet", (drawer.BOTTOM, drawer.TOP), (0.1, 0.05))
    opened = named(task)
    assert opened["handle_x_m"] == pytest.approx(0.684)
    assert opened["top_drawer_x_m"] == pytest.approx(0.58)
    assert (opened["drawer_open_m"], opened["top_drawer_open_m"]) == pytest.approx((0.1, 0.05))
    assert task.landmarks()["handle"] == pytest.approx((0.684, 0.2, -0.35))
    assert task.landmarks()["handle_shut"] == pytest.approx((0.584, 0.2, -0.35))


@pytest.mark.parametrize(
    ("opened_m", "is_open", "is_closed"),
    [
        (0.0, False, True),
        (0.0062, False, True),
        (0.0063, False, False),
        (0.118, False, False),
        (0.119, True, False),
    ],
)
def test_open_and_closed_are_parts_of_the_travel(
    sim: Simulation, opened_m: float, is_open: bool, is_closed: bool
) -> None:
    _, task = built(sim, drawer.CLOSED)  # 5 % of 12.5 cm are 6.25 mm, 95 % are 118.75 mm
    sim.place_joints("cabinet", (drawer.BOTTOM, drawer.TOP), (opened_m, opened_m))
    truths = task.predicate_values((0.6, 0.2, -0.2))
    assert (truths["drawer_open"], truths["drawer_closed"]) == (is_open, is_closed)
    assert truths["top_drawer_closed"] == is_closed


@pytest.mark.parametrize(
    ("at_m", "moved"),
    [
        ((0.64, 0.2, -0.348), False),
        ((0.64, 0.32, -0.348), False),
        ((0.64, 0.34, -0.348), True),
        ((0.77, 0.2, -0.348), True),
        ((0.80, 0.0, -0.343), True),
        ((0.80, 0.0, -0.25), False),  # still in the hand
    ],
)
def test_a_blocker_is_moved_when_it_lies_somewhere_else(
    sim: Simulation, monkeypatch: pytest.MonkeyPatch, at_m: Vec3, moved: bool
) -> None:
    _, task = built(sim, drawer.BLOCKED_2)
    monkeypatch.setattr(sim, "pose", lambda _name: (at_m, (0.0, 0.0, 0.0, 1.0)))
    assert task.predicate_values((0.0, 0.0, 0.0))["blocker_moved"] == moved


def drag(env: CogEnv, path: list[Vec3], steps: int = 12) -> dict[str, float]:
    """Lead the open, upright hand through places: the scene afterwards."""
    for place in path:
        for _ in range(steps):
            view = env.view()
            action = np.zeros(8)
            action[:3] = 5 * (np.array(place) - view.ee_m)
            action[3:6] = -3 * view.turned_rad
            action[6] = 0.9
            observation = env.step(np.clip(action, -1, 1).astype(np.float32))[0]
    return dict(zip(env.scene_fields, observation["scene"].tolist(), strict=True))


def test_a_finger_behind_the_handle_pulls_the_drawer_open_and_shut() -> None:
    env = make("cog/DrawerClosed-v0", observations=("scene",), horizon=1000)
    env.reset(seed=0)
    scene = drag(env, [(0.584, 0.2, -0.2), (0.592, 0.2, -0.30)])
    assert scene["drawer_open_m"] < 0.01
    scene = drag(env, [(0.75, 0.2, -0.30)])
    assert scene["drawer_open_m"] == pytest.approx(0.125, abs=0.001)  # as far as the rails go
    assert scene["target_x_m"] - 0.125 == pytest.approx(0.465, abs=0.04)  # the ball came along
    scene = drag(env, [(0.71, 0.2, -0.30), (0.71, 0.2, -0.2), (0.60, 0.2, -0.2)])
    assert scene["drawer_open_m"] == pytest.approx(0.125, abs=0.001)  # and stays when the hand leaves
    scene = drag(env, [(0.73, 0.2, -0.2), (0.73, 0.2, -0.30), (0.55, 0.2, -0.30)])
    assert scene["drawer_open_m"] < 0.006
    env.close()


@pytest.mark.parametrize("seed", range(3))
def test_a_pulled_drawer_leaves_the_ball_where_task_episodes_have_it(seed: int) -> None:
    env = make("cog/DrawerClosed-v0", observations=("scene",), horizon=1000)
    first = env.reset(seed=seed)[0]["scene"]
    lay_m = first[env.scene_fields.index("target_x_m")]
    scene = drag(env, [(0.584, 0.2, -0.2), (0.592, 0.2, -0.30), (0.75, 0.2, -0.30)])
    assert scene["drawer_open_m"] == pytest.approx(0.125, abs=0.001)
    assert scene["target_x_m"] - 0.125 == pytest.approx(lay_m, abs=0.007)
    env.close()


def test_a_hand_in_the_air_moves_nothing() -> None:
    env = make("cog/DrawerClosed-v0", observations=("scene",), horizon=1000)
    env.reset(seed=0)
    scene = drag(env, [(0.584, 0.2, -0.22), (0.75, 0.2, -0.22)])
    assert scene["drawer_open_m"] == pytest.approx(0.0, abs=1e-4)
    env.close()


def test_the_top_drawer_covers_the_handle_when_half_open() -> None:
    reached = {}
    for name in ("Closed", "Blocked1"):
        env = make(f"cog/Drawer{name}-v0", observations=("scene",), horizon=1000)
        env.reset(seed=0)
        drag(env, [(0.584, 0.2, -0.18), (0.592, 0.2, -0.30)])
        reached[name] = float(env.view().ee_m[2])
        env.close()
    assert reached["Closed"] < -0.28
    assert reached["Blocked1"] > -0.24  # fingers 5.5 cm long stand on a drawer whose rim is at -0.26


def test_the_bottle_keeps_the_fingers_from_the_handle() -> None:
    env = make("cog/DrawerBlocked2-v0", observations=("scene",), horizon=1000)
    env.reset(seed=0)
    drag(env, [(0.584, 0.2, -0.18), (0.592, 0.2, -0.30)])
    assert env.view().ee_m[2] > -0.28
    env.close()


def test_randomized_scenes_differ_and_published_ones_hardly() -> None:
    spread = {}
    for suffix in ("", "Randomized"):
        env = make(f"cog/DrawerOpen{suffix}-v0", observations=("scene",))
        scenes = np.array([env.reset(seed=seed)[0]["scene"] for seed in range(60)])
        spread[suffix] = dict(
            zip(env.scene_fields, (scenes.max(axis=0) - scenes.min(axis=0)).tolist(), strict=True)
        )
        env.close()
    assert spread[""]["handle_y_m"] == 0.0
    assert spread[""]["target_size_m"] == 0.0
    assert spread["Randomized"]["handle_y_m"] == pytest.approx(0.07, abs=0.01)
    assert spread["Randomized"]["handle_x_m"] == pytest.approx(0.1, abs=0.01)
    assert spread["Randomized"]["target_y_m"] > 0.12
    assert spread["Randomized"]["target_size_m"] == pytest.approx(0.25 * 0.036, rel=0.1)


@pytest.mark.parametrize("shift_x_m", drawer.RANDOMIZED.shift_x_m)
@pytest.mark.parametrize("shift_y_m", drawer.RANDOMIZED.shift_y_m)
def test_a_drawer_is_opened_wherever_a_randomized_cabinet_stands(shift_x_m: float, shift_y_m: float) -> None:
    """A script that does not miss, at the four corners of where it can stand."""
    corner = replace(drawer.RANDOMIZED, shift_x_m=(shift_x_m,) * 2, shift_y_m=(shift_y_m,) * 2)
    task = partial(DrawerTask, start=drawer.CLOSED, spread=corner)
    env = CogEnv(
        replace(ENVS["cog/DrawerClosedRandomized-v0"], task=task), observations=("scene",), horizon=30
    )
    with patch.object(scripts, "AIM_M", 0.0):
        for seed in range(2):
            env.reset(seed=seed)
            script = make_policy("drawer_open", noise=0.1, rng=np.random.default_rng(seed))
            for _ in range(30):
                _, _, _, _, info = env.step(script.act(env.view())[0])
            assert info["predicates"]["drawer_open"]
    env.close()


def colored(image: np.ndarray, low: Vec3, high: Vec3) -> int:
    """Pixels whose channels all lie in a range."""
    return int(np.logical_and(image >= low, image <= high).all(axis=2).sum())


def test_all_that_matters_is_seen_at_48_pixels() -> None:
    seen = {}
    for name in STARTS:
        env = make(f"cog/Drawer{name}-v0")
        image = env.reset(seed=1)[0]["image"]
        env.close()
        seen[name] = {
            "ball": colored(image, (0, 90, 0), (60, 255, 80)),
            "bottle": colored(image, (0, 0, 110), (60, 100, 255)),
            "handle": colored(image, (120, 50, 0), (255, 140, 40)),
            "tray": colored(image, (60, 0, 60), (160, 60, 180)),
            "drawers": colored(image, (140, 140, 140), (254, 254, 254)),
        }
    assert {name: bool(counts["ball"]) for name, counts in seen.items()} == {
        "Open": True, "Closed": False, "Blocked1": False, "Blocked2": False,
    }  # fmt: skip
    for name, counts in seen.items():
        assert counts["bottle"] >= 8, name
        assert counts["handle"] >= 15, name
        assert counts["tray"] >= 30, name
        assert counts["drawers"] >= 8, name
    assert seen["Open"]["ball"] >= 10
    assert seen["Open"]["drawers"] > 3 * seen["Closed"]["drawers"]
    assert seen["Blocked1"]["drawers"] > 3 * seen["Closed"]["drawers"]


@pytest.mark.parametrize("env_id", ["cog/DrawerClosed-v0", "cog/DrawerBlocked2-v0"])
def test_prior_scripts_leave_the_ball_alone(env_id: str) -> None:
    from collectors.policies import POLICIES, make_policy

    names = [name for name, spec in POLICIES.items() if spec.default_env == env_id and name != "random"]
    assert names
    env = make(env_id, observations=())
    for name in names:
        for seed in range(6):
            env.reset(seed=seed)
            policy = make_policy(name, rng=np.random.default_rng(seed))
            for _ in range(POLICIES[name].horizon):
                env.step(policy.act(env.view())[0])
                assert not env._sim.touching("widowx", "target")
    env.close()
