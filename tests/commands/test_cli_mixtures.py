"""Which features a mixture takes, as it is typed and printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cogdata.storage.store import Store
from tests.catalog.mixtures.robots import collect_arms
from tests.catalog.support import collect_into
from tests.running import Run

ALL = "select episode_id from episodes"
PADDED = ("--pad", "joints=3", "--pad", "action=2")


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two arms of different sizes; only mixtures are added."""
    root = tmp_path_factory.mktemp("arms")
    collect_arms(Store(str(root)), "small", 2)
    collect_arms(Store(str(root)), "wide", 1, joints=3, motors=2)
    return str(root)


def test_what_is_asked_for_is_printed_and_kept(run: Run, arms: str) -> None:
    options = ("--features", "joints", "--stats-by", "collection")
    lines = run("query", ALL, "--as", "both", *PADDED, *options, "--root", arms).out.splitlines()
    assert lines[0].startswith("both@1 frozen · digest ")
    assert lines[1:4] == ["  features joints", "  padded action=2, joints=3", "  statistics by collection"]
    assert lines[4] == "  left out: camera is not among --features"
    assert lines[-1].startswith("  data: 3 episodes, 12 transitions, rewarded 12 as collected, 12 as frozen")
    head = json.loads(run("mix", "show", "both", "--root", arms).out)
    assert head["selection"] == {
        "take": ["joints"], "rename": {}, "resize": {}, "pad": {"joints": 3, "action": 2},
        "stats_by": "collection",
    }  # fmt: skip


def test_diff_prints_how_features_differ(run: Run, arms: str) -> None:
    run("query", ALL, "--as", "wider", *PADDED, "--root", arms)
    run("query", f"{ALL} where collection = 'small'", "--as", "one", "--rename", "joints=arm", "--root", arms)
    lines = run("mix", "diff", "wider", "one", "--root", arms).out.splitlines()
    at = lines.index("features that differ: 4")
    assert lines[at + 1 :] == [
        "  joints: only in wider@1",
        "  action: float32 (2,) in wider@1, float32 (1,) in one@1",
        "  arm: only in one@1",
        "  asked for: padded action=2, joints=3 in wider@1, renamed joints=arm in one@1",
    ]


def test_diff_says_why_a_feature_is_left_out(run: Run, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    collect_into(store, "grasps", 0, 2)
    collect_into(store, "drawers", 0, 2, scene_fields=("object_x_m", "drawer_m"))
    root = ("--root", str(tmp_path))
    why = (
        "differs between drawers/0000000 (float32 (2,) of object_x_m, drawer_m) and grasps/0000000 "
        "(float32 (2,) of object_x_m, object_y_m)"
    )
    assert f"  left out: scene {why}\n" in run("query", ALL, "--as", "both", *root).out
    run("query", f"{ALL} where collection = 'grasps'", "--as", "one", *root)
    assert f"  scene: only in one@1, there it {why}\n" in run("mix", "diff", "both", "one", *root).out
    assert "features that differ" not in run("mix", "diff", "one", "one", *root).out


def test_a_learner_is_told_what_its_mixture_leaves_out(run: Run, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    collect_into(store, "grasps", 0, 2)
    collect_into(store, "drawers", 0, 2, scene_fields=("object_x_m", "drawer_m"))
    root = ("--root", str(tmp_path))
    why = (
        "scene, which differs between drawers/0000000 (float32 (2,) of object_x_m, drawer_m) and "
        "grasps/0000000 (float32 (2,) of object_x_m, object_y_m)"
    )
    run("query", ALL, "--as", "both", *root)
    learn = ("train", "--mixture", "both", "--algo", "bc", "--updates", "1", *root)
    assert run(*learn, "--obs", "robot,scene").error == (
        f"mixture both@1 leaves out {why}; its features: image, robot"
    )
    assert f"both@1 leaves out {why}\n" in run(*learn, "--obs", "state").err
    run("query", ALL, "--as", "chosen", "--features", "robot", *root)
    assert "leaves out" not in run(*learn, "--mixture", "chosen", "--obs", "state").err


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ((), "the action differs between small/0000000 (float32 (1,)) and wide/0000000 (float32 (2,)): choose "
             "one robot by env, or pad it with --pad action=2"),
        (("--pad", "action=2", "--features", "joints"),
         "feature joints differs between small/0000000 (float64 (2,)) and wide/0000000 (float64 (3,)): leave "
         "it out of --features, or pad it with --pad joints=3"),
        (("--pad", "action=1"), "--pad action=1: it has 2 entries in wide/0000000, so pad it to 2 or more"),
        (("--features", "joints,joints"), "'joints,joints' names joints twice: say it once"),
        (("--rename", "action=moves"), "--rename action: the action of every mixture is called action, leave it"),
        (("--pad", "action"), "--pad 'action' must be NAME=VALUE, for example --pad action=14"),
        (("--pad", "action=-2"), "--pad action=-2 must be VECTOR=SIZE, for example action=14"),
        (("--resize", "camera=64"), "--resize camera=64 must be CAMERA=HEIGHTxWIDTH, for example image=64x64"),
        ((*PADDED, "--resize", "joints=8x8"),
         "--resize joints: it is float64 (2,) in small/0000000, which is no image"),
        ((*PADDED, "--stats-by", "robot"), "unknown column of --stats-by 'robot': known: "),
    ],
)  # fmt: skip
def test_mistakes_cost_one_line(run: Run, arms: str, options: tuple[str, ...], line: str) -> None:
    assert run("query", ALL, "--as", "wrong", *options, "--root", arms).error.startswith(line)


def test_how_to_freeze_needs_a_name(run: Run, arms: str) -> None:
    error = run("query", ALL, "--stats-by", "collection", "--root", arms).error
    assert error.endswith("--stats-by and --transform say how to freeze a mixture: add --as NAME")
