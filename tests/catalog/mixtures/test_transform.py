"""Mixtures whose action is the difference from an observation: what is frozen, measured and delivered."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from catalog.mixtures.declared import compare_features
from catalog.mixtures.mixture import freeze, refresh
from catalog.mixtures.portions import freeze_part
from cogdata.errors import CogError
from cogdata.features import Command, EpisodeSpec, Feature, Per
from cogdata.storage.manifest import mixture_digest, read_manifest
from cogdata.storage.selection import Selection, common
from cogdata.storage.store import Store
from cogdata.streaming.stream import Stream, StreamOptions
from cogdata.streaming.transitions import Batch
from tests.catalog.mixtures.robots import collect_arms

ALL = "select episode_id from episodes"
DELTA = Selection(transforms={"action": "delta:joints"})
TARGETS = np.tile(np.array([3.0, 5.0], np.float32), (4, 1))


@pytest.fixture
def arm(store: Store) -> Store:
    """Joints are 0 1 2 3 and 10 11 12 13, both alike; the action is always the target 3, 5."""
    collect_arms(store, "arm", 2, joints=2, motors=2, action=TARGETS)
    return store


def batch_of(store: Store, name: str, count: int, **options: object) -> Batch:
    chosen = StreamOptions(count, memory_bytes=2**20, **options)  # type: ignore[arg-type]
    return Stream(store, read_manifest(store, name), chosen).batch(0)


def test_the_statistics_are_of_the_difference(arm: Store) -> None:
    """3 2 1 0 and -7 -8 -9 -10 of the first entry, 2 more each of the second."""
    info = freeze(arm, "mix", ALL, selection=DELTA).info
    assert (info.spec.action.low, info.spec.action.high) == (None, None)
    stats = read_manifest(arm, "mix").stats
    assert stats.mean["action"] == [-3.5, -1.5]
    assert stats.std["action"] == pytest.approx([26.25**0.5] * 2)
    assert (stats.min["action"], stats.max["action"]) == ([-10, -8], [3, 5])
    assert stats.mean["joints"] == [6.5, 6.5]


def test_statistics_do_not_need_the_observation_among_the_features(arm: Store) -> None:
    chosen = Selection(take=("camera",), transforms=DELTA.transforms)
    assert freeze(arm, "mix", ALL, selection=chosen).info.left_out["joints"] == "is not among --features"
    assert read_manifest(arm, "mix").stats.mean == {"action": [-3.5, -1.5]}
    batch = batch_of(arm, "mix", 8)
    assert list(batch.obs.parts) == ["camera"]
    place = batch.obs["camera"][:, 0, 0, 0].astype(np.float32)  # equals the joints
    assert batch.action.dtype == np.float32
    np.testing.assert_array_equal(batch.action, np.stack([3 - place, 5 - place], axis=1))


@pytest.mark.parametrize("columns", [None, ("camera",), ("joints",)])
def test_batches_deliver_the_difference(arm: Store, columns: tuple[str, ...] | None) -> None:
    freeze(arm, "mix", ALL, selection=DELTA)
    action = batch_of(arm, "mix", 8, columns=columns).action
    assert sorted(map(tuple, action.tolist())) == [
        (-10, -8), (-9, -7), (-8, -6), (-7, -5), (0, 2), (1, 3), (2, 4), (3, 5),
    ]  # fmt: skip


def test_each_action_of_a_chunk_is_relative_to_its_own_step(arm: Store) -> None:
    freeze(arm, "mix", f"{ALL} where episode_id = 'arm/0000000'", selection=DELTA)
    batch = batch_of(arm, "mix", 4, windows={"action": (0, 1)})
    first = batch.obs["joints"][:, 0].argsort()
    assert batch.action[first, :, 0].tolist() == [[3, 2], [2, 1], [1, 0], [0, 0]]
    assert batch.valid["action"][first].tolist() == [[True, True]] * 3 + [[True, False]]


def test_an_action_that_is_stored_without_a_last_observation(store: Store) -> None:
    collect_arms(store, "cut", 1, joints=2, motors=2, action=TARGETS, final=False)
    freeze(store, "mix", ALL, selection=DELTA)
    assert sorted(batch_of(store, "mix", 3).action[:, 0].tolist()) == [1, 2, 3]


def test_padded_robots_subtract_what_they_have(store: Store) -> None:
    """One joint: 0 1 2 3; three joints: the same; the action is 0.5 more than each."""
    collect_arms(store, "small", 1, joints=1, motors=1)
    collect_arms(store, "wide", 1, joints=3, motors=3)
    chosen = Selection(pad={"joints": 4, "action": 4}, stats_by="collection", transforms=DELTA.transforms)
    freeze(store, "mix", ALL, selection=chosen)
    stats = read_manifest(store, "mix").stats
    assert stats.mean["action"] == [0.5, 0.5, 0.5, 0.0]
    assert stats.embodiments["small"].mean["action"] == [0.5, 0.0, 0.0, 0.0]
    assert stats.embodiments["wide"].mean["action"] == [0.5, 0.5, 0.5, 0.0]
    batch = batch_of(store, "mix", 8)
    assert batch.embodiment is not None
    rows = {(int(robot), *row) for robot, row in zip(batch.embodiment, batch.action.tolist(), strict=True)}
    assert rows == {(0, 0.5, 0, 0, 0), (1, 0.5, 0.5, 0.5, 0)}


def test_names_are_those_of_the_mixture(store: Store) -> None:
    collect_arms(store, "one", 1, joints=2, motors=2, action=TARGETS)
    collect_arms(store, "two", 1, {"joints": "state"}, joints=2, motors=2, action=TARGETS)
    chosen = Selection(rename={"joints": "q", "state": "q"}, transforms={"action": "delta:q"})
    freeze(store, "mix", ALL, selection=chosen)
    assert read_manifest(store, "mix").stats.mean["action"] == [1.5, 3.5]
    assert sorted(batch_of(store, "mix", 8).action[:, 0].tolist()) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_transform_is_part_of_the_content_and_is_kept(arm: Store) -> None:
    plain = freeze(arm, "mix", ALL).info
    said = json.loads(arm.read_text("mixtures/mix/v1/mixture.json"))
    assert "transforms" not in said["selection"]
    absolute = freeze(arm, "mix", ALL, selection=Selection(transforms={"action": "absolute"}))
    assert (absolute.created, absolute.info) == (False, plain)
    delta = freeze(arm, "mix", ALL, selection=DELTA).info
    assert (delta.version, delta.selection) == (2, DELTA)
    assert delta.digest != plain.digest
    said = json.loads(arm.read_text("mixtures/mix/v2/mixture.json"))
    assert said["selection"]["transforms"] == {"action": "delta:joints"}
    manifest = read_manifest(arm, "mix@2")
    assert mixture_digest(manifest.episodes, None, {}, DELTA) == delta.digest
    assert refresh(arm, "mix").info == delta
    assert freeze_part(arm, delta.ref, "half").selection == DELTA
    assert compare_features(plain, delta)[-1] == (
        "asked for: the default in mix@1, transformed action=delta:joints in mix@2"
    )


def test_a_selection_without_a_transform_says_what_it_said() -> None:
    data = Selection(pad={"action": 2}).to_data()
    assert data == {"take": None, "rename": {}, "resize": {}, "pad": {"action": 2}}
    assert Selection.from_data(DELTA.to_data()) == DELTA


def test_bounds_and_commands_are_those_of_absolute_actions() -> None:
    def declared(high: float) -> EpisodeSpec:
        bounds = {"low": (-1.0, 0.0), "high": (high, 1.0)}
        grip = (Command(1, (0.0, 1.0)),)
        action = Feature("action", "float32", (2,), Per.TRANSITION, ("a", "b"), commands=grip, **bounds)  # type: ignore[arg-type]
        return EpisodeSpec((Feature("joints", "float64", (2,)),), action)

    shared = common({"a/0": declared(1.0), "b/0": declared(2.0)}, DELTA).spec.action
    assert shared == Feature("action", "float32", (2,), Per.TRANSITION, ("a", "b"))


@pytest.mark.parametrize(
    ("selection", "error"),
    [
        (
            Selection(transforms={"action": "delta:jonts"}),
            "--transform action=delta:jonts: arm/0000000 has no observation jonts; it has camera, joints, subtask",
        ),
        (
            Selection(transforms={"action": "delta:mass_kg"}),
            "--transform action=delta:mass_kg: arm/0000000 has no observation mass_kg; it has camera, joints, "
            "subtask",
        ),
        (
            Selection(transforms={"action": "delta:subtask"}),
            "--transform action=delta:subtask: action is float32 (2,) and subtask is string, both must be floats "
            "in arm/0000000",
        ),
        (
            Selection(pad={"action": 3}, transforms=DELTA.transforms),
            "--transform action=delta:joints: pad both alike, with --pad action=N and --pad joints=N",
        ),
    ],
)
def test_what_cannot_be_subtracted_is_refused(arm: Store, selection: Selection, error: str) -> None:
    with pytest.raises(CogError, match=f"^{re.escape(error)}$"):
        freeze(arm, "mix", ALL, selection=selection)


def test_lengths_must_agree_in_every_episode(store: Store) -> None:
    collect_arms(store, "arm", 1, joints=3, motors=2)
    chosen = Selection(pad={"joints": 4, "action": 4}, transforms=DELTA.transforms)
    error = (
        "--transform action=delta:joints: action is float32 (2,) and joints is float64 (3,), both must have the "
        "same shape in arm/0000000"
    )
    with pytest.raises(CogError, match=f"^{re.escape(error)}$"):
        freeze(store, "mix", ALL, selection=chosen)


@pytest.mark.parametrize(
    ("transforms", "error"),
    [
        ({"joints": "delta:joints"}, "--transform joints=delta:joints: only the action can be transformed"),
        (
            {"action": "delta"},
            "--transform action=delta must be action=absolute or action=delta:OBSERVATION, for example "
            "action=delta:joints_rad",
        ),
        (
            {"action": "delta:"},
            "--transform action=delta: must be action=absolute or action=delta:OBSERVATION, for example "
            "action=delta:joints_rad",
        ),
    ],
)
def test_other_transforms_are_refused(transforms: dict[str, str], error: str) -> None:
    with pytest.raises(CogError, match=f"^{re.escape(error)}$"):
        Selection(transforms=transforms)
