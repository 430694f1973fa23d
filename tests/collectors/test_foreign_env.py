from __future__ import annotations

import functools
import hashlib
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict

from cogdata.errors import CogError
from cogdata.layout1 import layout_of
from cogdata.storage.collections import read_collection
from cogdata.storage.store import Store
from collectors.checks import check_env
from collectors.collect import collect_episode, plan, prepare, request
from collectors.drivers import open_env, view_of
from collectors.engines import LocalEngine
from collectors.policies import POLICIES
from collectors.policies.required_landmarks import required_landmarks, required_predicates
from collectors.policies.view import SceneView
from tests.running import TINY, Run
from trainers.evaluation.worlds import Worlds

HERE = __name__
GUIDE = Path(__file__).parents[2] / "docs" / "real_robot.md"
ROBOT = Box(-np.inf, np.inf, (10,), np.float32)
STATE = np.array([0.6, 0.1, -0.2, -0.5, 0.5, 0.5, 0.5, 0.036, -0.036, 1.0], np.float32)
PLACES = {"object": np.array([0.6, 0.2, -0.35]), "tray": np.array([0.5, 0.25, -0.374])}


class Good(gymnasium.Env[Any, Any]):
    """Counts its steps in the first pixel; the third step satisfies the task."""

    action_space: Any = Box(-1, 1, (8,), np.float32)
    predicates: Any = ("grasped", "placed")
    task_predicate = "placed"
    horizon: Any = 5

    def __init__(self, image_size: int) -> None:
        self.observation_space: Any = Dict(
            image=Box(0, 255, (image_size, image_size, 3), np.uint8), robot=ROBOT
        )
        self.size, self.time = image_size, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return self.observe()

    def step(self, action: Any) -> Any:
        self.time += 1
        obs, info = self.observe()
        return obs, None, False, False, info

    def observe(self) -> Any:
        image = np.zeros((self.size, self.size, 3), np.uint8)
        image[0, 0, 0] = self.time
        return {"image": image, "robot": STATE}, {"predicates": self.judge()}

    def judge(self) -> dict[str, bool]:
        return {"grasped": False, "placed": self.time == 3}

    def view(self) -> SceneView:
        return view_of(STATE, PLACES, self.judge())


class InPlace(Good):
    """Writes all that it shows into the arrays of its first observation, and into the action."""

    def __init__(self, image_size: int) -> None:
        super().__init__(image_size)
        self.image, self.robot = np.zeros((image_size, image_size, 3), np.uint8), STATE.copy()
        self.scene, self.judged, self.places = np.zeros(1, np.float32), self.judge(), {"object": np.zeros(3)}
        self.observation_space = Dict(
            **self.observation_space.spaces, scene=Box(-np.inf, np.inf, (1,), np.float32)
        )

    scene_fields = ("object_x_m",)

    def step(self, action: Any) -> Any:
        action[:] = 1
        return super().step(action)

    def observe(self) -> Any:
        self.image[:], self.robot[0], self.scene[:] = self.time, self.time, self.time
        self.places["object"][:] = self.time
        self.judged.update(self.judge())
        return {"image": self.image, "robot": self.robot, "scene": self.scene}, {"predicates": self.judged}

    def view(self) -> SceneView:
        return view_of(self.robot, self.places, self.judged)


class NotAnEnv:
    pass


class NeedsAPort(Good):
    def __init__(self, image_size: int, port: str) -> None:
        super().__init__(image_size)


class WideActions(Good):
    action_space = Box(-2, 2, (8,), np.float32)


class FewActions(Good):
    action_space = Box(-1, 1, (7,), np.float32)


class DictActions(Good):
    action_space: Any = Dict(arm=Box(-1, 1, (7,), np.float32))


class OneSpace(Good):
    def __init__(self, image_size: int) -> None:
        super().__init__(image_size)
        self.observation_space = ROBOT


class NoRobot(Good):
    def __init__(self, image_size: int) -> None:
        super().__init__(image_size)
        self.observation_space = Dict(image=self.observation_space["image"])


class FixedSize(Good):
    def __init__(self, image_size: int) -> None:
        super().__init__(64)


class NamelessScene(Good):
    def __init__(self, image_size: int) -> None:
        super().__init__(image_size)
        self.observation_space = Dict(**self.observation_space.spaces, scene=Box(-1, 1, (2,), np.float32))

    def observe(self) -> Any:
        obs, info = super().observe()
        return obs | {"scene": np.zeros(2, np.float32)}, info


class OwnPredicate(Good):
    predicates = ("grasped", "placed", "flying")

    def judge(self) -> dict[str, bool]:
        return super().judge() | {"flying": self.time > 1}


class UnnamedPredicates(Good):
    predicates = 7


class OtherTask(Good):
    task_predicate = "drawer_open"


class Always(Good):
    horizon = True


class Endless(Good):
    horizon = None


class Undecided(Good):
    def __init__(self, image_size: int) -> None:
        super().__init__(image_size)
        self.horizon = 7


class Unplugged(Good):
    def reset(self, **_: object) -> Any:
        raise OSError("no such device: /dev/ttyUSB0")


class Doubles(Good):
    def observe(self) -> Any:
        obs, info = super().observe()
        return obs | {"robot": obs["robot"].astype(np.float64)}, info


class Silent(Good):
    def judge(self) -> dict[str, bool]:
        return {"grasped": False}


class Homeless(Good):
    def view(self) -> SceneView:
        return view_of(STATE, {"object": PLACES["object"]}, self.judge())


class OtherView(Good):
    def view(self) -> Any:
        return {}


class Blind(Good):
    def view(self) -> SceneView:
        raise KeyError("no block in sight")


class SceneOfNothing(Good):
    scene_fields = ("object_x_m",)


class Clinging(Good):
    def close(self) -> None:
        raise OSError("gripper is stuck")


class Stalling(Good):
    """A motor that is out of reach at the second action; such errors also mean that a worker's pipe broke."""

    def step(self, action: Any) -> Any:
        if self.time == 1:
            raise ConnectionResetError("motor 3 hung up")
        return super().step(action)


class Drifting(Good):
    """Announces float32, and shows it at first."""

    def observe(self) -> Any:
        obs, info = super().observe()
        return obs | {"robot": obs["robot"].astype(np.float64 if self.time == 2 else np.float32)}, info


class Counted(Good):
    """Remembers what was done to all of its kind."""

    done: ClassVar[list[str]] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.done.append("reset")
        return super().reset(seed=seed)

    def close(self) -> None:
        self.done.append("close")


class CountedAndRefused(Counted):
    action_space: Any = Dict(arm=Box(-1, 1, (7,), np.float32))


class Unsighted(Good):
    view = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nolab.arm:Arm", r"^cannot import nolab\.arm of --env nolab\.arm:Arm: ModuleNotFoundError"),
        (f"{HERE}:Goood", r"^unknown class in \S+/test_foreign_env\.py 'Goood': did you mean 'Good'\?"),
        (f"{HERE}:NotAnEnv", "is not a class derived from gymnasium.Env: see docs/real_robot.md$"),
        (f"{HERE}:HERE", "is not a class derived from gymnasium.Env"),
        (f"{HERE}:NeedsAPort", r"cannot be made by Class\(image_size=48\): TypeError\(.*'port'"),
        (
            f"{HERE}:WideActions",
            r"^policy grasp is for the arm of the built-in worlds, whose state and action are not declared here "
            r"\(it takes float32 \(8,\) within \[-2, 2\]\): use --policy random, or module:function of yours$",
        ),
        (f"{HERE}:FewActions", r"\(it takes float32 \(7,\) within \[-1, 1\]\): use --policy random"),
        (f"{HERE}:OneSpace", r"\(it takes float32 \(8,\) within \[-1, 1\]\): use --policy random"),
        (f"{HERE}:NoRobot", r"\(it takes float32 \(8,\) within \[-1, 1\]\): use --policy random"),
        (f"{HERE}:DictActions", r"it takes actions in Dict\(.*, must be a Box of floats with one axis, Disc"),
        (f"{HERE}:UnnamedPredicates", r"predicates is 7, must be names, \('cup_on_shelf',\), or \(\)$"),
        (f"{HERE}:OtherTask", "has task_predicate 'drawer_open', must be one of its predicates"),
        (f"{HERE}:Always", "has horizon True, must be a whole number of at least 1 in the class"),
        (f"{HERE}:Endless", "has horizon None, must be a whole number of at least 1 in the class"),
        (f"{HERE}:Undecided", "has horizon 5, and 7 once made: write the latter in the class"),
        (f"{HERE}:Unplugged", r"fails to reset\(seed=0\): OSError\('no such device: /dev/ttyUSB0'\)"),
        (
            f"{HERE}:Doubles",
            r"shows robot as float64 \(10,\) at the reset, its observation_space says float32 \(10,\)",
        ),
        (f"{HERE}:Silent", r"gives info\['predicates'\] = \{'grasped': False\} at the reset, must judge gr"),
        (f"{HERE}:Homeless", r"^policy grasp asks for landmark tray, \S+:Homeless\.view\(\) has object: see"),
        (f"{HERE}:OtherView", r"view\(\) gives dict, must be a SceneView"),
        (f"{HERE}:Blind", r"^\S+:Blind fails to view\(\): KeyError\('no block in sight'\)$"),
        (f"{HERE}:SceneOfNothing", "has scene_fields, and shows no scene: leave them out"),
        (f"{HERE}:Clinging", r"^\S+:Clinging fails to close\(\): OSError\('gripper is stuck'\)$"),
        ("cog/Pick", "^unknown environment 'cog/Pick': did you mean 'cog/PickTray-v0'"),
    ],
)
def test_what_a_driver_lacks_is_said_in_one_line(name: str, said: str) -> None:
    with pytest.raises(CogError, match=said) as caught:
        check_env(name, image_size=48, policy="grasp")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("OneSpace", r"shows observation as \{'image': .*, its observation_space says float32 \(10,\)$"),
        ("NoRobot", "shows 'robot' at the reset, which it does not declare"),
    ],
)
def test_what_is_shown_is_held_against_the_observation_space(kind: str, said: str) -> None:
    with pytest.raises(CogError, match=said):
        check_env(f"{HERE}:{kind}", image_size=48, policy="random")


def test_a_driver_is_reset_once_and_closed_whether_it_passes_or_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Counted.done.clear()
    check_env(f"{HERE}:Counted", image_size=48, policy="grasp")
    assert Counted.done == ["reset", "close"]
    with pytest.raises(CogError, match="takes actions in"):
        check_env(f"{HERE}:CountedAndRefused", image_size=48, policy="random")
    assert Counted.done == ["reset", "close", "close"]
    with pytest.raises(CogError, match="^the goal of policy drawer_open is drawer_open"):  # before it moves
        check_env(f"{HERE}:Counted", image_size=48, policy="drawer_open")
    assert Counted.done == ["reset", "close", "close", "close"]
    open_env(f"{HERE}:Clinging", image_size=16).close()
    assert capsys.readouterr().err == (
        f"warning: {HERE}:Clinging fails to close(): OSError('gripper is stuck')\n"
    )


FAULTS = [
    ("Stalling", "fails to do step 2: ConnectionResetError('motor 3 hung up')"),
    ("Drifting", "shows robot as float64 (10,) at step 2, its observation_space says float32 (10,)"),
]


@pytest.mark.parametrize(("kind", "said"), FAULTS)
def test_a_driver_that_fails_while_collecting_is_one_line(kind: str, said: str, tmp_path: Path) -> None:
    store, asked = Store(str(tmp_path)), request("random", env=f"{HERE}:{kind}", image_size=16, horizon=4)
    prepare(store, asked, "test")
    with pytest.raises(CogError) as caught:
        list(LocalEngine(1)(store, asked, plan(store, asked, 2).ranges))
    assert str(caught.value).startswith(f"episode 0 of {asked.collection} failed: {HERE}:{kind} {said}; what")


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("kind", "said"), FAULTS)
def test_a_driver_that_fails_while_judged_is_one_line(kind: str, said: str, workers: int) -> None:
    world = functools.partial(open_env, f"{HERE}:{kind}", image_size=16)
    still = np.zeros(8, np.float32)
    with Worlds(world, 2, workers) as worlds:
        worlds.reset([0, 1])
        worlds.step({0: still, 1: still})
        with pytest.raises(CogError) as caught:
            worlds.step({0: still, 1: still})
    assert str(caught.value).endswith(f"{HERE}:{kind} {said}")
    assert "\n" not in str(caught.value)


def test_a_script_for_another_scene_of_ours_is_refused() -> None:
    check_env("cog/DrawerOpen-v0", image_size=48, policy="random")
    check_env("cog/DrawerOpen-v0", image_size=48)
    with pytest.raises(
        CogError, match="^the goal of policy place is placed, this environment has only grasp"
    ):
        check_env("cog/DrawerOpen-v0", image_size=48, policy="place")


def test_the_current_directory_is_searched_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, horizon in (("installed", 7), ("here", 9)):
        text = f"from {HERE} import Good\nclass Arm(Good):\n    horizon = {horizon}\n"
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "arm_in_two_folders.py").write_text(text)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "installed"), *sys.path])
    monkeypatch.chdir(tmp_path / "here")
    assert open_env("arm_in_two_folders:Arm", image_size=16).horizon == 9
    del sys.modules["arm_in_two_folders"]


def test_a_script_for_another_scene_is_refused() -> None:
    with pytest.raises(
        CogError, match="^the goal of policy drawer_open is drawer_open, this environment has"
    ):
        check_env(f"{HERE}:Good", image_size=48, policy="drawer_open")
    with pytest.raises(
        CogError, match=r"^--localize camera is for the worlds of `cog list envs`: \S+:Good says"
    ):
        request("grasp", env=f"{HERE}:Good", localize="camera")


@pytest.mark.parametrize("kind", ["FixedSize", "NamelessScene", "OwnPredicate", "WideActions", "FewActions"])
def test_what_the_built_in_worlds_do_not_have_is_declared(kind: str) -> None:
    check_env(f"{HERE}:{kind}", image_size=48, policy="random")
    spec = open_env(f"{HERE}:{kind}", image_size=48).episode_spec
    assert layout_of(spec) == 2
    assert spec["robot"].shape == (10,)
    assert spec["image"].shape == ((64, 64, 3) if kind == "FixedSize" else (48, 48, 3))
    assert ("flying" in spec.predicates) is (kind == "OwnPredicate")
    assert spec.action.size == (7 if kind == "FewActions" else 8)
    assert (spec.action.low or ())[0] == (-2 if kind == "WideActions" else -1)


@pytest.mark.parametrize("policy", ["grasp", "place", "random"])
def test_a_good_driver_passes(policy: str) -> None:
    check_env(f"{HERE}:Good", image_size=48, policy=policy)


def test_an_episode_has_the_driver_s_pictures_and_our_reward() -> None:
    episode = collect_episode(request("random", env=f"{HERE}:Good", image_size=16, horizon=4), 0)
    assert episode.image[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert episode.reward is not None
    assert episode.truncated is not None
    assert episode.reward.tolist() == [0, 0, 1, 0]  # judged on what the third action led to
    assert episode.truncated.tolist() == [False, False, False, True]
    assert (episode.scene.shape, episode.scene_fields) == ((5, 0), ())
    assert episode.meta.env == f"{HERE}:Good"
    assert episode.solved
    assert not episode.success  # of "placed", on the last observation


def test_a_driver_may_write_into_the_same_arrays_again_and_again() -> None:
    episode = collect_episode(request("random", env=f"{HERE}:InPlace", image_size=16, horizon=4), 0)
    for part in (episode.image[:, 5, 5, 2], episode.robot[:, 0], episode.scene[:, 0]):
        assert part.tolist() == [0, 1, 2, 3, 4]
    assert episode.predicates["placed"].tolist() == [False, False, False, True, False]
    assert np.abs(episode.action).max() <= 0.9  # as the script chose it: the driver wrote 1 into its own
    world = open_env(f"{HERE}:InPlace", image_size=16, observations=())
    world.reset(seed=0)
    before = world.view()
    for _ in range(3):
        world.step(np.zeros(8, np.float32))
    assert (before.ee_m[0], before.object_m[0], before.predicates["placed"]) == (0, 0, False)
    after = world.view()
    assert (after.ee_m[0], after.object_m[0], after.predicates["placed"]) == (3, 3, True)


def test_the_driver_s_own_horizon_counts_where_none_is_asked_for() -> None:
    world = open_env(f"{HERE}:Good", image_size=16, observations=("robot",))
    obs, info = world.reset(seed=0)
    assert obs.keys() == {"robot"}
    assert not info["success"]
    assert [world.step(np.zeros(8, np.float32))[3] for _ in range(5)] == [False] * 4 + [True]


def test_an_episode_has_the_fewer_of_policy_s_and_driver_s_actions() -> None:
    # random and pick_place have 30 and 40 actions of their own, Good 5 and Unhurried 35
    found = [
        request(policy, env=f"{HERE}:{kind}", horizon=asked).horizon
        for policy in ("random", "pick_place")
        for kind, asked in (("Good", None), ("Unhurried", None), ("Good", 50))
    ]
    assert found == [5, 30, 50, 5, 35, 50]
    given, own = (request("random", env=f"{HERE}:Good", horizon=horizon) for horizon in (5, None))
    assert given.collection == own.collection
    assert collect_episode(own, 0).steps == 5
    with pytest.raises(CogError, match="has horizon None, must be"):
        request("random", env=f"{HERE}:Endless")
    assert request("random", env="nolab.arm:Arm", horizon=5).horizon == 5  # nothing to look up


def test_a_script_without_landmarks_needs_no_view() -> None:
    view = open_env(f"{HERE}:Good", image_size=16).view()
    assert view.object_m == pytest.approx([0.6, 0.2, -0.35])
    assert view.turned_rad == pytest.approx([0, 0, 0], abs=1e-6)  # points straight down
    world = open_env(f"{HERE}:Unsighted", image_size=16)
    world.reset(seed=0)
    bare = world.view()
    assert (bare.landmarks, bare.predicates) == ({}, {"grasped": False, "placed": False})
    assert bare.gripper_open
    assert bare.ee_m == pytest.approx([0.6, 0.1, -0.2])
    check_env(f"{HERE}:Unsighted", image_size=16, policy="random")


def test_what_scripts_look_up_is_found_in_their_phases() -> None:
    assert (required_landmarks("grasp"), required_predicates("grasp")) == ({"object", "tray"}, set())
    assert (required_landmarks("random"), required_predicates("random")) == (set(), set())
    assert (required_landmarks("drawer_open"), required_predicates("drawer_open")) == (
        {"handle"}, {"drawer_open"},
    )  # fmt: skip
    for policy, spec in POLICIES.items():
        world = open_env(spec.default_env, image_size=16, observations=())
        world.reset(seed=0)
        view = world.view()
        assert required_landmarks(policy) <= view.landmarks.keys()
        assert required_predicates(policy) <= view.predicates.keys()


class Unhurried(Good):
    """Writes into the file that $CLOSED names, and is told to end meanwhile."""

    horizon = 35

    def close(self) -> None:
        if multiprocessing.parent_process() is None:  # it was made to say what it declares
            return
        for word in ("let ", "go"):
            with Path(os.environ["CLOSED"]).open("a") as file:
                file.write(word)
            os.kill(os.getpid(), signal.SIGTERM)


_COLLECT = """
import sys
from cogdata.storage.store import Store
from collectors.collect import plan, prepare, request
from collectors.engines import LocalEngine
if __name__ == "__main__":
    store, asked = Store(sys.argv[1]), request("random", env=sys.argv[2], image_size=16, horizon=2)
    prepare(store, asked, "test")
    list(LocalEngine(1)(store, asked, plan(store, asked, 2).ranges))
"""


def test_a_robot_is_let_go_of_when_its_worker_ends(tmp_path: Path) -> None:
    script, closed, root = tmp_path / "collect.py", tmp_path / "closed", Path(__file__).parents[2]
    script.write_text(_COLLECT)
    subprocess.run(
        [sys.executable, str(script), str(tmp_path / "store"), f"{HERE}:Unhurried"],
        env=os.environ | {"CLOSED": str(closed), "PYTHONPATH": str(root)}, cwd=root, check=True,
    )  # fmt: skip
    assert closed.read_text() == "let go"


def test_a_collection_knows_its_driver(tmp_path: Path) -> None:
    store, asked = Store(str(tmp_path)), request("random", env=f"{HERE}:Good", image_size=16, horizon=2)
    prepare(store, asked, "test")
    list(LocalEngine(1)(store, asked, plan(store, asked, 2).ranges))
    info = read_collection(store, asked.collection)
    assert (info.env, info.localize) == (f"{HERE}:Good", "simulator")
    assert re.fullmatch("[0-9a-f]{12}", info.libraries[HERE])


def test_a_part_knows_the_driver_that_made_it(run: Run, tmp_path: Path) -> None:
    """The same command before and after an edit of the driver; a part of version 0.1 says nothing."""
    store, module = str(tmp_path / "store"), tmp_path / "edited_arm.py"
    command = (
        "collect",
        "--policy",
        "random",
        "--env",
        "edited_arm:Arm",
        "--image-size",
        "16",
        "--root",
        store,
    )
    digests = []
    for episodes in ("1", "3"):
        module.write_text(f"from {HERE} import Good\nclass Arm(Good):\n    edited = {episodes}\n")
        digests.append(hashlib.sha256(module.read_bytes()).hexdigest()[:12])
        _cog(tmp_path, *command, "--episodes", episodes)
    assert run("collect", "--policy", "random", "--episodes", "1", *TINY, "--root", store).code == 0
    commit = next(Path(store).glob("collections/random-*/part-00000-01-02/COMMIT.json"))
    told = json.loads(commit.read_text())
    assert told["made_with"].keys() == {"cogdata", "code", "driver", "libraries"}
    sql = """
        select part, driver, p.cogdata_version is not null as known, p.libraries->>'numpy' as numpy
        from parts p join collections using (collection) order by env desc, part
    """
    rows = json.loads(run("query", sql, "--format", "json", "--root", store).out)
    assert [row["driver"] for row in rows] == [*digests, None]
    assert [row["numpy"] for row in rows] == [np.__version__] * 3
    del told["made_with"]
    commit.write_text(json.dumps(told))
    rows = json.loads(run("query", sql, "--format", "json", "--root", store).out)
    assert [row["known"] for row in rows] == [True, False, True]
    assert (rows[1]["driver"], rows[1]["numpy"]) == (None, None)


def _cog(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder as a process of its own."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, str(root / "cli.py"), *command], cwd=folder, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(root)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def _block(kind: str, number: int) -> str:
    found = re.findall(rf"```{kind}\n(.*?)```", GUIDE.read_text(), re.S)
    return str(found[number])


def _run_block(number: int, folder: Path, module: str) -> str:
    """Run an example of the guide as it stands; return what it says."""
    (folder / module).write_text(_block("python", number))
    env = {name: value for name, value in os.environ.items() if name != "COG_ROOT"}
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    done = subprocess.run(
        ["bash", "-ec", _block("sh", number)],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_guide_s_arm_with_two_cameras_runs_as_it_stands(tmp_path: Path) -> None:
    said = _run_block(0, tmp_path, "two_cameras.py")
    for line in (r"front +uint8 +\[120, 160, 3\] +observation", r"instruction +string +\[\] +extra"):
        assert re.search(line, said), said
    for task in ("cup", "bowl"):
        share = re.search(rf"put the {task} on the shelf +(\d+) +(\S+)", said)
        assert share
        assert (0 < int(share[1]) < 20, float(share[2])) == (True, 1.0)
    assert re.search(r"@ 4 · two_cameras:Arm: \d/2", said)
    assert len(list(tmp_path.glob("cog-store/runs/*/evaluations/*.webp"))) == 1


def test_the_guide_s_example_runs_as_it_stands(tmp_path: Path) -> None:
    said = _run_block(1, tmp_path, "arm.py")
    off_px, off_mm = re.search(r"calibrated: (\S+) px, (\S+) mm", said).groups()  # type: ignore[union-attr]
    assert float(off_px) < 0.3
    assert float(off_mm) < 2
    share = re.search(r"arm:FakeArm +20 +(\S+)", said)
    assert share
    assert float(share[1]) >= 0.6
    assert re.search(r"@ 4 · arm:FakeArm: \d/2", said)
    (rows,) = (tmp_path / "cog-store" / "runs").glob("*/evaluations/*.parquet")
    assert re.fullmatch(r"arm-fakearm-00000004-[0-9a-f]{8}", rows.stem)
