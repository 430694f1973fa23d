from itertools import groupby

import numpy as np
import pytest

from cogdata.errors import CogError
from cogdata.schema import PREDICATES
from collectors.envs import ENVS, CogEnv, make
from collectors.policies import POLICIES, Phase, SceneView, ScriptedPolicy, drawer, make_policy
from collectors.policies.script import CLOSE_GRIPPER, LIMIT, MOVE_GAIN, OPEN_GRIPPER, command, never
from collectors.policies.tray import anywhere, beside

NAMES = sorted(POLICIES)
PRIOR = (
    "weak_grasp",
    "near_grasp",
    "blind_grasp",
    "drawer_open",
    "drawer_close",
    "drawer_open_suboptimal",
    "drawer_open_flipping",
    "close_top_then_open",
    "clear_blocker_then_open",
)
"""Scripts that make prior data, in their own environments: they never solve the task."""


def view(x: float = 0.0) -> SceneView:
    return SceneView(np.array([x, 0.0, 0.0]), np.zeros(3), True, {}, {})


def play(env: CogEnv, name: str, seed: int, *, noise: float = 0.2) -> tuple[list[str], list[dict[str, bool]]]:
    """Run one episode: the phases, and the predicates after every action."""
    spec = POLICIES[name]
    env.reset(seed=seed)
    policy = make_policy(name, noise=noise, rng=np.random.default_rng(10_000 + seed))
    phases, truths = [], []
    for _ in range(spec.horizon):
        action, phase = policy.act(env.view())
        phases.append(phase)
        truths.append(env.step(action)[4]["predicates"])
    return phases, truths


def count_successes(name: str, episodes: int) -> tuple[float, int]:
    """Success rate on the last observation, and episodes in which the task was ever solved."""
    spec = POLICIES[name]
    env = make(spec.default_env, observations=())
    goal, task = spec.goal(env.predicates), env.task_predicate
    played = [play(env, name, seed)[1] for seed in range(episodes)]
    env.close()
    rate = float(np.mean([truths[-1][goal] for truths in played]))
    return rate, sum(any(truth[task] for truth in truths) for truths in played)


# the table


def test_the_table_is_sound() -> None:
    for name, spec in POLICIES.items():
        assert spec.name == name
        assert spec.help
        assert "\n" not in spec.help
        assert spec.default_env in ENVS
        assert set(spec.goals) <= set(PREDICATES)
        assert spec.goal(make(spec.default_env, observations=()).predicates) == spec.goals[0]
        low, high = spec.success_range
        assert 0 <= low < high <= 1
        assert 1 <= spec.horizon <= ENVS[spec.default_env].horizon


def test_an_unknown_policy_is_answered_with_the_known_ones() -> None:
    with pytest.raises(CogError, match="unknown policy 'grsp': did you mean 'grasp'"):
        make_policy("grsp", rng=np.random.default_rng(0))


# the machinery


def test_phases_follow_each_other_and_the_last_one_stays() -> None:
    def is_at(x: float) -> Phase:
        return Phase(f"to {x}", lambda v, s: command(), lambda v, s: bool(v.ee_m[0] >= x))

    policy = ScriptedPolicy([is_at(1), is_at(2), is_at(3)], {}, noise=0.0, rng=np.random.default_rng(0))
    names = [policy.act(view(x))[1] for x in (0, 0.5, 1, 1.5, 5, 0, 9)]
    assert names == ["to 1", "to 1", "to 2", "to 2", "to 3", "to 3", "to 3"]


def test_a_phase_knows_the_view_it_began_with() -> None:
    def back(now: SceneView, start: SceneView) -> np.ndarray:
        return command(start.ee_m - now.ee_m)

    wait = Phase("wait", lambda v, s: command(), lambda v, s: v is not s)
    policy = ScriptedPolicy([wait, Phase("back", back, never)], {}, noise=0.0, rng=np.random.default_rng(0))
    moves = [policy.act(view(x))[0][0] for x in (0.0, 0.1, 0.15)]
    assert moves == pytest.approx([0.0, 0.0, MOVE_GAIN * -0.05])


def test_noise_is_gaussian_on_every_number_and_clipped() -> None:
    still = Phase("still", lambda v, s: command(gripper=OPEN_GRIPPER), never)
    policy = ScriptedPolicy([still], {}, noise=0.2, rng=np.random.default_rng(0))
    actions = np.array([policy.act(view())[0] for _ in range(4000)])
    assert actions.dtype == np.float32
    assert np.abs(actions).max() == np.float32(LIMIT)
    free = np.delete(actions, 6, axis=1)
    assert free.mean(axis=0) == pytest.approx(np.zeros(7), abs=0.015)
    assert free.std(axis=0) == pytest.approx(np.full(7, 0.2), rel=0.05)
    assert (actions[:, 6] == np.float32(LIMIT)).mean() == pytest.approx(0.3085, abs=0.03)  # P(n > ½σ)


def test_a_script_without_phases_is_refused() -> None:
    with pytest.raises(ValueError, match="found none"):
        ScriptedPolicy([], {}, noise=0.2, rng=np.random.default_rng(0))


def test_command_puts_the_numbers_in_their_places() -> None:
    assert command(np.array([0.1, -0.1, 0.0]), gripper=CLOSE_GRIPPER, neutral=0.9).tolist() == pytest.approx(
        [0.7, -0.7, 0, 0, 0, 0, CLOSE_GRIPPER, 0.9]
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_generator_decides_everything(name: str) -> None:
    env = make(POLICIES[name].default_env, observations=())
    env.reset(seed=0)
    one, two, other = (make_policy(name, rng=np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.drawn == two.drawn
    assert all(isinstance(value, float) for value in one.drawn.values())
    actions = [np.array([policy.act(env.view())[0] for _ in range(5)]) for policy in (one, two, other)]
    env.close()
    assert np.array_equal(actions[0], actions[1])
    assert not np.array_equal(actions[0], actions[2])
    assert np.abs(actions[2]).max() <= LIMIT


# the scripts


def test_thresholds_are_drawn_as_the_paper_says() -> None:
    drawn = np.array(
        [make_policy("grasp", rng=np.random.default_rng(s)).drawn["grasp_threshold_m"] for s in range(2000)]
    )
    assert drawn.mean() == pytest.approx(0.04, abs=0.001)
    assert drawn.std() == pytest.approx(0.01, rel=0.1)
    assert drawn.min() >= 0.02


def test_half_of_the_weak_grasps_go_astray_clear_of_the_tray() -> None:
    drawn = [make_policy("weak_grasp", rng=np.random.default_rng(seed)).drawn for seed in range(1000)]
    points = np.array([(d["grasp_x_m"], d["grasp_y_m"]) for d in drawn if d["at_random"]])
    assert len(points) == pytest.approx(500, abs=50)
    assert np.hypot(*(points - (0.5, 0.25)).T).min() >= 0.13
    assert points.std(axis=0).min() > 0.02


def test_a_blind_grasp_in_two_of_five_episodes_is_over_the_tray() -> None:
    # the tray is 0.117 × 0.112 m of the region's 0.19 × 0.16 m: 43 %
    drawn = [make_policy("blind_grasp", rng=np.random.default_rng(seed)).drawn for seed in range(1000)]
    points = np.array([(d["grasp_x_m"], d["grasp_y_m"]) for d in drawn])
    over = (np.abs(points - (0.4975, 0.25)) < (0.0585, 0.056)).all(axis=1)
    assert over.mean() == pytest.approx(0.43, abs=0.05)


def test_a_near_grasp_closes_within_6_cm_of_the_object() -> None:
    drawn = [make_policy("near_grasp", rng=np.random.default_rng(seed)).drawn for seed in range(1000)]
    away = np.array([(d["away_x_m"], d["away_y_m"]) for d in drawn])
    assert np.abs(away).max() <= 0.06
    assert away.std(axis=0) == pytest.approx((0.0346, 0.0346), rel=0.05)  # of a uniform draw: 0.12 / √12


def test_a_near_grasp_stays_where_it_was_and_clear_of_the_tray() -> None:
    places = {"tray": np.array([0.5, 0.25, -0.374])}

    def seen(x: float, y: float) -> SceneView:
        return SceneView(np.zeros(3), np.zeros(3), True, {**places, "object": np.array([x, y, -0.35])}, {})

    goal = beside(0.03, -0.02)
    assert goal(seen(0.7, 0.2)) == pytest.approx((0.73, 0.18, -0.335))
    assert goal(seen(0.75, 0.2)) == pytest.approx((0.73, 0.18, -0.335))  # pushed: the hand does not follow
    # 6 cm from the tray's middle is pushed out to 13 cm
    assert beside(-0.06, 0.0)(seen(0.62, 0.25)) == pytest.approx((0.63, 0.25, -0.335))


def test_half_of_the_placements_go_anywhere_clear_of_the_tray() -> None:
    drawn = [make_policy("pick_place", rng=np.random.default_rng(seed)).drawn for seed in range(1000)]
    points = np.array([(d["drop_across"], d["drop_along"]) for d in drawn if not d["in_tray"]])
    assert len(points) == pytest.approx(500, abs=50)
    assert points.min(axis=0) == pytest.approx((0, 0), abs=0.02)
    assert points.max(axis=0) == pytest.approx((1, 1), abs=0.02)
    tray = np.array([0.5, 0.25, -0.374])
    region = {"free_low": np.array([0.4, 0.1, -0.374]), "free_high": np.array([0.8, 0.3, -0.374])}
    moment = SceneView(np.zeros(3), np.zeros(3), True, {"tray": tray, **region}, {})
    # a quarter across and half along is (0.5, 0.2): 5 cm from the tray's middle, pushed out to 13 cm
    assert anywhere(0.25, 0.5)(moment) == pytest.approx((0.5, 0.12, -0.36))
    assert anywhere(1.0, 0.0)(moment) == pytest.approx((0.8, 0.1, -0.36))


@pytest.mark.parametrize(
    ("name", "phases", "predicate"),
    [
        ("grasp", ["approach", "close", "lift", "hold"], "grasped"),
        ("place", ["carry", "open", "retreat"], "placed"),
        ("grasp_from_drawer", ["approach", "close", "lift", "hold"], "grasped"),
    ],
)
def test_without_noise_the_script_does_its_job(name: str, phases: list[str], predicate: str) -> None:
    env = make(POLICIES[name].default_env, observations=())
    wins = 0
    for seed in range(12):
        seen, truths = play(env, name, seed, noise=0.0)
        wins += truths[-1][predicate]
        if truths[-1][predicate]:
            assert list(dict.fromkeys(seen)) == phases
    env.close()
    assert wins >= 11


def tries(seen: list[str], phase: str) -> int:
    """How many stretches of a phase there are."""
    return [name for name, _ in groupby(seen)].count(phase)


def test_a_missed_handle_is_followed_by_one_more_try() -> None:
    env = make("cog/DrawerBlocked2-v0", observations=())
    ends: dict[int, list[bool]] = {1: [], 2: []}
    for seed in range(16):
        seen, truths = play(env, "clear_blocker_then_open", seed, noise=0.0)
        if "to the handle" in seen:
            ends[tries(seen, "to the handle")].append(truths[-1]["drawer_open"])
    env.close()
    assert len(ends[2]) >= 2
    assert sum(ends[2]) >= 1, "a second try is to be worth something"
    assert sum(ends[1]) >= 3


HOOKED = ["to the handle", "pull", "rise", "neutral", "rest"]


@pytest.mark.parametrize(
    ("name", "phases", "predicate"),
    [
        ("drawer_open", HOOKED, "drawer_open"),
        ("drawer_close", ["to the handle", "push", "rise", "neutral", "rest"], "drawer_closed"),
        ("close_top_then_open", ["before the top", "push top", "rise", *HOOKED], "drawer_open"),
        (
            "clear_blocker_then_open",
            ["approach", "close", "lift", "carry", "open", "neutral", *HOOKED],
            "drawer_open",
        ),
    ],
)
def test_a_hand_that_does_not_miss_moves_drawers(
    name: str, phases: list[str], predicate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawer, "AIM_M", 0.0)
    monkeypatch.setattr(drawer, "HALF_HEARTED", 0.0)
    env = make(POLICIES[name].default_env, observations=())
    wins = 0
    for seed in range(8):
        env.reset(seed=seed)
        home = env.view().ee_m
        seen, truths = play(env, name, seed, noise=0.0)
        if truths[-1][predicate] and seen[-1] == "rest":
            assert list(dict.fromkeys(seen)) == list(dict.fromkeys(phases))
            assert env.view().ee_m == pytest.approx(home, abs=0.03)
            wins += 1
    env.close()
    assert wins >= 7


def test_the_suboptimal_script_pulls_or_pushes_for_a_whole_episode() -> None:
    env = make("cog/DrawerClosed-v0", observations=())
    ways = {}
    for seed in range(10):
        seen, _ = play(env, "drawer_open_suboptimal", seed, noise=0.0)
        drawn = make_policy("drawer_open_suboptimal", rng=np.random.default_rng(10_000 + seed)).drawn
        assert ("push" if drawn["opening"] else "pull") not in seen
        ways[drawn["opening"]] = seen
    env.close()
    assert set(ways) == {0.0, 1.0}


def test_the_flipping_script_draws_its_way_at_every_step() -> None:
    env = make("cog/DrawerClosed-v0", observations=())
    env.reset(seed=0)
    policy = make_policy("drawer_open_flipping", noise=0.0, rng=np.random.default_rng(3))
    at = env.view().at("handle") + np.array([0.008 + policy.drawn["handle_aim_m"], 0, 0.03])
    there = SceneView(at, np.zeros(3), True, env.view().landmarks, env.view().predicates)
    env.close()
    ways = [np.sign(policy.act(there)[0][0]) for _ in range(40)]
    assert 8 <= ways.count(1.0) <= 32
    assert ways.count(1.0) + ways.count(-1.0) == 40


def test_a_policy_says_where_its_goal_is_unknown() -> None:
    assert POLICIES["pick_place"].goal(("grasped", "placed")) == "placed"
    assert POLICIES["pick_place"].goal(("grasped", "blocker_moved")) == "blocker_moved"
    with pytest.raises(
        CogError, match=r"^the goal of policy drawer_open is drawer_open.*only grasped, placed.*DrawerClosed"
    ):
        POLICIES["drawer_open"].goal(("grasped", "placed"))


def test_pick_and_place_ends_in_the_neutral_pose() -> None:
    env = make("cog/PickTray-v0", observations=())
    wins = 0
    for seed in range(12):
        env.reset(seed=seed)
        home = env.view().ee_m
        seen, truths = play(env, "pick_place", seed, noise=0.0)
        if "rest" in seen:
            assert list(dict.fromkeys(seen)) == [
                "approach",
                "close",
                "lift",
                "carry",
                "open",
                "neutral",
                "rest",
            ]
            assert env.view().ee_m == pytest.approx(home, abs=0.04)
            drawn = make_policy("pick_place", rng=np.random.default_rng(10_000 + seed)).drawn
            assert truths[-1]["placed"] == bool(drawn["in_tray"])
            wins += 1
    env.close()
    assert wins >= 10


@pytest.mark.parametrize(("x", "down"), [(0.62, True), (0.59, False)])
def test_the_weak_grasp_leaves_alone_what_was_pushed_to_the_tray(x: float, down: bool) -> None:
    places = {"object": np.array([x, 0.25, -0.349]), "tray": np.array([0.5, 0.25, -0.374])}
    here = SceneView(np.array([x, 0.25, -0.26]), np.zeros(3), True, places, {})
    for seed in range(20):
        policy = make_policy("weak_grasp", noise=0.0, rng=np.random.default_rng(seed))
        if not policy.drawn["at_random"]:
            action, phase = policy.act(here)
            assert phase == "approach"
            assert (action[2] < -0.3) if down else (action[2] > 0.3)


def test_only_the_neutral_phase_goes_home_while_grasping() -> None:
    env = make("cog/PickTray-v0", observations=())
    env.reset(seed=0)
    policy = make_policy("grasp", rng=np.random.default_rng(0))
    actions = np.array([policy.act(env.view())[0] for _ in range(2000)])  # the arm stays: approach for ever
    env.close()
    assert actions[:, 7].mean() == pytest.approx(-0.3, abs=0.02)
    assert actions[:, 7].max() <= 0.5


@pytest.mark.parametrize("name", NAMES)
def test_success_is_in_its_documented_range_40_episodes(name: str) -> None:
    rate, solved = count_successes(name, 40)
    low, high = POLICIES[name].success_range
    slack = 3 * np.sqrt(0.25 / 40)
    assert low - slack <= rate <= high + slack
    if name in PRIOR:
        assert solved == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_success_is_in_its_documented_range_1000_episodes(name: str) -> None:
    rate, solved = count_successes(name, 1000)
    low, high = POLICIES[name].success_range
    assert low <= rate <= high
    if name in PRIOR:
        assert solved == 0
