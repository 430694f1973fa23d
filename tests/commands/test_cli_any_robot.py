"""One store for robots of any kind, beside the paper's data: from collecting to an exported policy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from cogdata.storage.manifest import read_manifest
from cogdata.storage.store import open_store
from cogdata.streaming.stream import Stream, StreamOptions
from tests.running import Run, Said

SIX, TINY = "tests.arms:SixDof", ("--env-option", "image_size=16")
BIMANUAL, SEVEN, CART, PENDULUM = "tests.arms:Bimanual", "tests.arms:SevenDof", "CartPole-v1", "Pendulum-v1"
WORLDS = {
    BIMANUAL: ("--episodes", "3"),
    SEVEN: ("--episodes", "3", "--env-option", "image_size=16"),
    CART: ("--episodes", "4"),
    PENDULUM: ("--episodes", "2", "--horizon", "12"),
}
SMALL = ("--updates", "3", "--set", "batch_size=4", "--threads", "1")
WIDTHS = {
    "bc": ("widths=8,8",),
    "cql": ("critic_widths=8,8", "policy_widths=8,8"),
    "iql": ("critic_widths=8,8", "policy_widths=8,8"),
    "bfn": ("critic_widths=8,8", "flow_widths=8,8"),
}
Cog = Callable[..., Said]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the store of this module is; the first test fills it."""
    return tmp_path_factory.mktemp("any") / "store"


@pytest.fixture
def cog(run: Run, made: Path) -> Cog:
    """A command that has to succeed, in the store of this module."""

    def said(*words: str, root: Path = made) -> Said:
        found = run(*words, "--root", str(root))
        assert found.code == 0, found
        return found

    if not made.exists():
        for env, options in WORLDS.items():
            said("collect", "--policy", "random", "--env", env, *options, "--workers", "1")
        said("collect", "--policy", "weak_grasp", "--episodes", "2", "--image-size", "16", "--horizon", "4",
             "--workers", "1")  # fmt: skip
        for name, env in (("bimanual", BIMANUAL), ("seven", SEVEN), ("cart", CART), ("pendulum", PENDULUM)):
            said("query", f"select episode_id from episodes where env = '{env}'", "--as", name)
    return said


def _train(cog: Cog, mixture: str, algo: str, *options: str) -> str:
    chosen = (
        WIDTHS[algo][:1] if (mixture, algo) == ("cart", "cql") else WIDTHS[algo]
    )  # it has no policy there
    widths = [word for setting in chosen for word in ("--set", setting)]
    out = cog("train", "--mixture", mixture, "--algo", algo, *SMALL, *widths, *options)
    found = [word for word in (out.out + out.err).split() if word.startswith(f"{algo}-{mixture}-")]
    return found[0].rstrip(":")


def _rows(cog: Cog, sql: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in cog("query", sql, "--format", "jsonl").out.splitlines()]


def test_three_workers_make_the_same_episodes(cog: Cog, tmp_path: Path) -> None:
    for env in (BIMANUAL, CART):
        cog("collect", "--policy", "random", "--env", env, *WORLDS[env], "--workers", "3", root=tmp_path)
    sql = f"select episode_id, digest from episodes where env in ('{BIMANUAL}', '{CART}') order by episode_id"
    there = cog("query", sql, "--format", "jsonl", root=tmp_path).out
    assert there == cog("query", sql, "--format", "jsonl").out
    assert len(there.splitlines()) == 7


def test_each_world_is_queried_by_its_own_columns(cog: Cog) -> None:
    arms = _rows(
        cog, f"select instruction, block_handed_over as handed from episodes join steps using (episode_id) "
        f"where t = 3 and env = '{BIMANUAL}'"
    )  # fmt: skip
    assert [row["handed"] for row in arms] == [True] * 3
    assert {row["instruction"] for row in arms} <= {"hand over the red block", "fold the towel"}
    carts = _rows(
        cog, f"select success, total_reward = any_value(episodes.steps) as rewarded_each_step, "
        f"max(len(action)) as entries from episodes join steps using (episode_id) where env = '{CART}' "
        f"group by episode_id, success, total_reward"
    )  # fmt: skip
    assert carts == [{"success": None, "rewarded_each_step": True, "entries": 1}] * 4
    (pendulum,) = _rows(
        cog, f"select max(abs(action[1])) <= 2 as bounded, max(reward) < 0 as dense from steps join episodes "
        f"using (episode_id) where env = '{PENDULUM}'"
    )  # fmt: skip
    assert pendulum == {"bounded": True, "dense": True}
    assert cog("data", "verify").out.strip() == "everything is whole"


@pytest.mark.parametrize(
    ("mixture", "algo", "obs", "options"),
    [
        ("bimanual", "bc", "images_wrist,depth,joint_position_rad", ("--set", "chunk=2")),
        pytest.param("bimanual", "bfn", "state", (), marks=pytest.mark.slow),
        ("seven", "cql", "image+robot", ()),
        pytest.param("seven", "iql", "image", ("--set", "stack=2"), marks=pytest.mark.slow),
        pytest.param("cart", "bc", "state", (), marks=pytest.mark.slow),
        pytest.param("cart", "cql", "state", (), marks=pytest.mark.slow),
        ("cart", "iql", "state", ("--set", "n_step=3")),
        pytest.param("pendulum", "bfn", "state", (), marks=pytest.mark.slow),
        ("pendulum", "cql", "state", ()),
    ],
)
def test_a_policy_is_trained_evaluated_and_exported(
    cog: Cog, mixture: str, algo: str, obs: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    name = _train(cog, mixture, algo, "--obs", obs, *options)
    env = {"bimanual": BIMANUAL, "seven": SEVEN, "cart": CART, "pendulum": PENDULUM}[mixture]
    given = ("--env-option", "image_size=16") if env == SEVEN else ()
    stated = ("--success-return", "5") if env == CART else ()
    cog("eval", name, "--env", env, "--seeds", "0:2", "--workers", "1", *given, *stated)
    rows = _rows(cog, f"select success, predicates from evaluations where run = '{name}'")
    assert len(rows) == 2
    judged = {"bimanual": True, "seven": True, "cart": True, "pendulum": False}[mixture]
    assert [row["success"] is not None for row in rows] == [judged] * 2
    if obs == "state":
        file = tmp_path / "policy.onnx"
        cog("export-policy", name, "--out", str(file))
        assert len(onnx.load(str(file)).graph.output) == 1


def test_an_algorithm_that_cannot_says_so_in_one_line(run: Run, cog: Cog, made: Path) -> None:
    said = run("train", "--mixture", "cart", "--algo", "bfn", "--obs", "state", "--root", str(made))
    assert (
        "bfn needs a Box action, found a Discrete one (int64 within [0, 1]): choose bc, cql or iql"
        in said.error
    )


def test_robots_of_three_sizes_share_a_policy(cog: Cog, made: Path) -> None:
    """6, 7 and 14 actions: exact shares, masks, statistics of each, and one policy evaluated on each."""
    cog("collect", "--policy", "random", "--env", SIX, "--episodes", "2", "--workers", "1", *TINY)
    shares = {BIMANUAL: 0.5, SEVEN: 0.25, SIX: 0.25}
    named = ", ".join(f"'{env}'" for env in shares)
    out = cog(
        "query", f"select episode_id, 0.0 as reward, env as source from episodes where env in ({named})", "--as",
        "arms", "--rename", "joint_position_rad=joints", "--rename", "joints_rad=joints", "--pad", "joints=14",
        "--pad", "action=14", "--stats-by", "env",
        *(word for env, share in shares.items() for word in ("--weight", f"{env}={share}")),
    ).out  # fmt: skip
    assert "padded action=14, joints=14" in out
    store = open_store(str(made))
    frozen = read_manifest(store, "arms")
    batch = Stream(store, frozen, StreamOptions(batch_size=8, memory_bytes=2**24)).batch(3)
    sizes = {BIMANUAL: 14, SEVEN: 7, SIX: 6}
    assert batch.embodiment is not None
    robots = [sorted(shares)[number] for number in batch.embodiment]
    assert {env: robots.count(env) for env in shares} == {BIMANUAL: 4, SEVEN: 2, SIX: 2}
    assert batch.mask["action"].sum(axis=1).tolist() == [sizes[env] for env in robots]
    assert np.abs(frozen.stats.embodiments[SIX].max["action"]).max() <= 0.5
    name = _train(cog, "arms", "bc", "--obs", "joints")
    for env in shares:
        option = () if env == BIMANUAL else TINY
        cog("eval", name, "--env", env, "--seeds", "0:2", "--workers", "1", *option)
    rows = _rows(
        cog, f"select env, count(*) as n from evaluations where run = '{name}' group by 1 order by 1"
    )
    assert rows == [{"env": env, "n": 2} for env in sorted(shares)]


def test_rewards_of_other_worlds_add_up(cog: Cog) -> None:
    name = _train(cog, "pendulum", "iql", "--obs", "state")
    ended = _train(cog, "pendulum", "iql", "--obs", "state", "--set", "success=absorbing")
    rows = _rows(
        cog, f"select run, config->>'success' as success from runs where run in ('{name}', '{ended}')"
    )
    assert {row["run"]: row["success"] for row in rows} == {name: "continuing", ended: "absorbing"}
    head = json.loads(cog("mix", "show", "pendulum").out)
    low, high = head["reward_range"]
    assert -17 < low < high < 0
