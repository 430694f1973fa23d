"""Which features a mixture takes: what all episodes share, or what is asked for."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from catalog.mixtures.mixture import freeze
from catalog.mixtures.portions import freeze_part, freeze_portion
from cogdata.errors import CogError
from cogdata.features import Command, EpisodeSpec, Feature, Per
from cogdata.storage.manifest import read_manifest
from cogdata.storage.selection import Selection, common
from cogdata.storage.store import Store
from cogdata.streaming.stream import Stream, StreamOptions
from tests.catalog.mixtures.robots import collect_arms
from tests.catalog.support import collect_into

ALL = "select episode_id from episodes"


def test_images_of_two_sizes_are_left_out_and_can_be_resized(tray: Store) -> None:
    collect_into(tray, "large", 0, 2, image_size=8)
    differs = "differs between grasps/0000000 (uint8 (4, 4, 3)) and large/0000000 (uint8 (8, 8, 3))"
    both = freeze(tray, "both", ALL).info
    assert both.left_out == {"image": differs}
    assert [one.name for one in both.spec.observations] == ["robot", "scene"]
    with pytest.raises(CogError, match=f"^feature image {re.escape(differs)}: leave it out of --features$"):
        freeze(tray, "both", ALL, selection=Selection(take=("image",)))
    resized = freeze(tray, "resized", ALL, selection=Selection(resize={"image": (4, 4)})).info
    assert (resized.left_out, resized.spec["image"].shape) == ({}, (4, 4, 3))
    assert freeze(tray, "small", f"{ALL} where image_height = 4").info.left_out == {}


def test_scenes_that_differ_are_left_out_and_said(tray: Store) -> None:
    collect_into(tray, "drawers", 0, 2, scene_fields=("object_x_m", "drawer_m"))
    info = freeze(tray, "both", ALL).info
    why = (
        "differs between drawers/0000000 (float32 (2,) of object_x_m, drawer_m) and grasps/0000000 (float32 (2,) of "
        "object_x_m, object_y_m)"
    )
    assert info.left_out == {"scene": why}
    assert [one.name for one in info.spec.observations] == ["image", "robot"]
    back = read_manifest(tray, "both")
    assert (back.info.spec, back.info.left_out) == (info.spec, info.left_out)
    assert back.stats.mean.keys() == {"robot", "action"}
    with pytest.raises(CogError, match=f"^feature scene {re.escape(why)}: leave it out of --features$"):
        freeze(tray, "both", ALL, selection=Selection(take=("image", "scene")))


def test_a_portion_delivers_the_features_of_its_mixture(tray: Store) -> None:
    """Its own episodes have a scene in common; all the methods that learn from the mixture see the same."""
    collect_into(tray, "drawers", 0, 2, scene_fields=("object_x_m", "drawer_m"))
    sql = "select episode_id, case collection when 'drawers' then 'task' else 'prior' end as source from episodes"
    freeze(tray, "both", sql)
    portion = freeze_portion(tray, "both", "prior")
    assert [one.name for one in portion.spec.observations] == ["image", "robot"]
    assert freeze_portion(tray, "both", "prior") == portion
    plain = freeze_part(tray, freeze(tray, "plain", f"{ALL} where collection = 'grasps'").info.ref, "half")
    assert (plain.selection, plain.left_out) == (Selection(), {})


def test_a_default_mixture_of_one_scene_says_what_version_1_said(tray: Store) -> None:
    info = freeze(tray, "mix", ALL).info
    said = json.loads(tray.read_text("mixtures/mix/v1/mixture.json"))
    assert said.keys() >= {"image_size", "scene_fields"}
    assert said["schema_version"] == 1
    assert not said.keys() & {"declared", "selection", "left_out", "unfollowed"}
    chosen = freeze(tray, "mix", ALL, selection=Selection(take=("image", "robot"))).info
    assert (chosen.version, chosen.left_out) == (2, {"scene": "is not among --features"})
    assert chosen.digest != info.digest
    assert freeze(tray, "mix", ALL, selection=Selection(take=("robot", "image", "robot"))).info == chosen


def test_a_renamed_feature_is_read_under_its_new_name(tray: Store) -> None:
    selection = Selection(take=("arm",), rename={"robot": "arm"})
    freeze(tray, "renamed", ALL, selection=selection)
    plain, renamed = freeze(tray, "plain", ALL), read_manifest(tray, "renamed")
    assert [one.name for one in renamed.info.spec.observations] == ["arm"]
    options = StreamOptions(batch_size=8, memory_bytes=2**22)
    arm = Stream(tray, renamed, options).batch(0)
    robot = Stream(tray, read_manifest(tray, plain.info.ref), options).batch(0)
    np.testing.assert_array_equal(arm.obs["arm"], robot.obs["robot"])
    with pytest.raises(CogError, match="unknown feature 'robbot'"):
        freeze(tray, "renamed", ALL, selection=Selection(rename={"robbot": "arm"}))


@pytest.mark.parametrize(
    ("rename", "name"),
    [({"state": "joints", "cam": "camera", "task": "subtask"}, "joints"),
     ({"state": "q", "joints": "q", "cam": "camera", "task": "subtask"}, "q")],
)  # fmt: skip
def test_features_of_two_names_become_one(store: Store, rename: dict[str, str], name: str) -> None:
    collect_arms(store, "one", 2)
    collect_arms(store, "two", 1, names={"joints": "state", "camera": "cam", "subtask": "task"})
    info = freeze(store, "mix", ALL, selection=Selection(rename=rename)).info
    assert [one.name for one in info.spec.observations] == ["camera", name, "subtask"]
    assert info.left_out == {}
    mix = read_manifest(store, "mix")
    # 0 1 2 3 and 10 11 12 13 of the first collection, 0 1 2 3 of the second
    assert mix.stats.mean[name] == pytest.approx([58 / 12, 58 / 12])
    stream = Stream(store, mix, StreamOptions(12, memory_bytes=2**20))
    batch = stream.batch(0)
    assert sorted(batch.obs[name][:, 0].tolist()) == [0, 0, 1, 1, 2, 2, 3, 3, 10, 11, 12, 13]
    np.testing.assert_array_equal(batch.obs["camera"][:, 0, 0, 0], batch.obs[name][:, 0])
    np.testing.assert_array_equal(batch.action[:, 0], batch.obs[name][:, 0] + 0.5)
    assert stream.texts["subtask"] == ("grasp", "reach")


def test_two_features_of_an_episode_do_not_become_one(store: Store) -> None:
    collect_arms(store, "one", 1)
    with pytest.raises(
        CogError,
        match=r"^--rename would give one/0000000 two features called joints: choose another name, or rename joints too$",
    ):
        freeze(store, "mix", ALL, selection=Selection(rename={"subtask": "joints"}))
    with pytest.raises(CogError, match=r"^unknown feature 'jonts': did you mean 'joints'\? known: camera, "):
        freeze(store, "mix", ALL, selection=Selection(rename={"jonts": "camera"}))


def test_a_feature_may_have_the_name_of_a_column_of_freezing(store: Store) -> None:
    collect_arms(store, "odd", 1, names={"joints": "number", "subtask": "frozen"})
    freeze(store, "mix", ALL)
    assert read_manifest(store, "mix").stats.mean["number"] == [1.5, 1.5]


def test_a_resized_camera_is_the_average_of_areas(tray: Store) -> None:
    freeze(tray, "halved", ALL, selection=Selection(take=("image",), resize={"image": (2, 2)}))
    freeze(tray, "whole", ALL)
    options = StreamOptions(batch_size=8, memory_bytes=2**22)
    small = Stream(tray, read_manifest(tray, "halved"), options).batch(0).obs["image"]
    large = Stream(tray, read_manifest(tray, "whole"), options).batch(0).obs["image"].astype(float)
    averages = large.reshape(8, 2, 2, 2, 2, 3).mean(axis=(2, 4))
    assert small.shape == (8, 2, 2, 3)
    assert np.abs(small - averages).max() <= 0.5


def test_padded_vectors_need_no_common_names() -> None:
    """Entries that only one robot names; a gripper command of one robot is not one of the other."""
    joints = Feature("joints", "float32", (2,), names=("hip", "knee"))
    action = Feature(
        "action", "float32", (2,), Per.TRANSITION, names=("hip", "grip"), commands=(Command(1, (0.0, 1.0)),)
    )
    longer = (replace(joints, shape=(3,), names=()), replace(action, shape=(3,), names=(), commands=()))
    specs = {"a/0": EpisodeSpec((joints,), action), "b/0": EpisodeSpec((longer[0],), longer[1])}
    spec = common(specs, Selection(pad={"joints": 3, "action": 3})).spec
    assert (spec["joints"].shape, spec["joints"].names) == ((3,), ())
    assert (spec.action.shape, spec.action.commands) == ((3,), ())


@pytest.mark.parametrize(
    ("types", "wide"), [(("float32", "float64"), "float64"), (("float16", "float32"), "float32")]
)
def test_floats_of_several_widths_join_to_the_widest(types: tuple[str, str], wide: str) -> None:
    specs = {
        kind: EpisodeSpec((Feature("joints", kind, (2,)),), Feature("action", kind, (2,), Per.TRANSITION))
        for kind in types
    }
    shared = common(specs, Selection())
    assert (shared.spec["joints"].dtype, shared.spec.action.dtype, shared.left_out) == (wide, wide, {})


def test_whole_numbers_and_floats_do_not_join() -> None:
    action = Feature("action", "float32", (2,), Per.TRANSITION)
    specs = {kind: EpisodeSpec((Feature("count", kind, (2,)),), action) for kind in ("int32", "float32")}
    assert common(specs, Selection()).left_out == {
        "count": "differs between int32 (int32 (2,)) and float32 (float32 (2,))"
    }
