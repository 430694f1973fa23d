"""Episodes of any declaration: what is written is what is read, and layout 1 stays what it was."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cogdata.episode import Episode, EpisodeMeta
from cogdata.errors import CogError
from cogdata.features import EpisodeSpec, Feature, Per
from cogdata.layout1 import layout_of
from cogdata.storage.collections import CollectionInfo, declared, read_collection, write_collection
from cogdata.storage.parts import PART_EPISODES, PartWriter
from cogdata.storage.samples import Sample, read_episode, read_steps
from cogdata.storage.store import Store
from tests.synthetic import make_episode, write_episodes

SPEC = EpisodeSpec(
    observations=(
        Feature("camera_front", "uint8", (6, 8, 3), codec="zst"),
        Feature("depth", "uint16", (4, 5), codec="zst"),
        Feature("joints_rad", "float64", (3,), names=("hip", "knee", "ankle")),
        Feature("contacts", "bool", (2,)),
        Feature("touch", "float16", (2, 2)),
        Feature("battery_v", "float32"),
        Feature("subtask", "string"),
    ),
    action=Feature("action", "float64", (2,), Per.TRANSITION, low=(-3.0, -2.0), high=(3.0, 2.0)),
    predicates=("cup_on_shelf", "cup_upright"),
    extras=(
        Feature("instruction", "string", per=Per.EPISODE),
        Feature("mass_kg", "float64", per=Per.EPISODE),
        Feature("intervention", "bool", per=Per.TRANSITION),
        Feature("timestamp_s", "float64"),
    ),
    reward="float64",
    rate_hz=50.0,
)


def episode_of(index: int, *, steps: int = 4, final: bool = True, **changes: Any) -> Episode:
    """An episode of SPEC whose numbers can be told from its index; joints_rad[t, 0] = t."""
    rng, rows = np.random.default_rng(index), steps + final
    joints = rng.normal(size=(rows, 3))
    joints[:, 0] = np.arange(rows)
    upright = np.ones(rows, bool)
    values: dict[str, Any] = {
        "meta": EpisodeMeta("arm", index, "lab:Arm", "replay", {}, 0.0, index, "cup_on_shelf", None),
        "spec": SPEC,
        "observations": {
            "camera_front": rng.integers(0, 256, (rows, 6, 8, 3), np.uint8),
            "depth": rng.integers(0, 2**16, (rows, 4, 5), np.uint16),
            "joints_rad": joints,
            "contacts": rng.random((rows, 2)) < 0.5,
            "touch": rng.random((rows, 2, 2)).astype(np.float16),
            "battery_v": np.full(rows, 12.5, np.float32),
            "subtask": np.array(["reach"] * (rows - 1) + [None], object),
        },
        "action": rng.uniform(-2, 2, (steps, 2)),
        "reward": np.linspace(-1, 0, steps),
        "terminated": np.arange(steps) == steps - 1,
        "truncated": np.zeros(steps, bool),
        "predicates": {"cup_on_shelf": np.arange(rows) == rows - 1, "cup_upright": upright},
        "phase": ("reach",) * steps,
        "extras": {
            "instruction": np.array([f"put cup {index} on the shelf"], object),
            "mass_kg": np.array([0.25]),
            "intervention": np.arange(steps) == 1,
            "timestamp_s": 1.7e9 + np.arange(rows) / 50,
        },
    }
    return Episode(**values | changes)


def _written(store: Store, episodes: list[Episode]) -> list[dict[str, Any]]:
    writer = PartWriter(store, "arm", 0, len(episodes))
    for episode in episodes:
        writer.add(episode)
    rows: list[dict[str, Any]] = store.read_table(
        f"collections/arm/{writer.commit().part}/episodes.parquet"
    ).to_pylist()
    return rows


def _same(one: Episode, other: Episode) -> None:
    for held, read in ((one.observations, other.observations), (one.extras, other.extras)):
        assert held.keys() == read.keys()
        for name, values in held.items():
            np.testing.assert_array_equal(values, read[name])
    assert one.digest() == other.digest()


def test_every_type_comes_back_as_it_was(tmp_path: Path) -> None:
    store, episodes = Store(str(tmp_path)), [episode_of(0), episode_of(1, steps=2)]
    rows = _written(store, episodes)
    assert [row["digest"] for row in rows] == [episode.digest() for episode in episodes]
    for row, episode in zip(rows, episodes, strict=True):
        _same(episode, read_episode(store, row))
    assert (rows[0]["observations"], rows[0]["steps"], rows[0]["success"], rows[0]["solved"]) == (
        5,
        4,
        None,
        True,
    )
    assert json.loads(rows[0]["extras"]) == {"instruction": "put cup 0 on the shelf", "mass_kg": 0.25}
    assert [member["feature"] for member in rows[0]["members"]] == ["camera_front", "depth"]
    assert rows[0]["image_height"] is None


def test_steps_have_a_column_per_feature_and_predicate(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    _written(store, [episode_of(0)])
    table = store.read_table("collections/arm/part-00000-00-00/steps.parquet")
    assert table.column_names == [
        "episode_id", "t", "joints_rad", "contacts", "touch", "battery_v", "subtask", "action", "reward",
        "terminated", "truncated", "phase", "cup_on_shelf", "cup_upright", "intervention", "timestamp_s",
    ]  # fmt: skip
    assert table["joints_rad"].to_pylist()[3][0] == 3
    assert table["intervention"].to_pylist() == [False, True, False, False, None]
    assert table["subtask"].to_pylist() == ["reach"] * 4 + [None]
    assert table["timestamp_s"].to_pylist()[1] == 1.7e9 + 0.02
    assert len(table["touch"].to_pylist()[0]) == 4


def test_what_is_unknown_is_null(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    unknown = episode_of(0, final=False, reward=None, terminated=None, truncated=None)
    assert (unknown.length, unknown.final_observation) == (4, False)
    (row,) = _written(store, [unknown])
    assert (row["observations"], row["steps"], row["total_reward"], row["terminated"]) == (4, 4, None, None)
    back = read_episode(store, row)
    assert (back.reward, back.terminated, back.truncated, back.length) == (None, None, None, 4)
    _same(unknown, back)
    table = store.read_table("collections/arm/part-00000-00-00/steps.parquet")
    assert table["action"].null_count == 0
    assert table["reward"].to_pylist() == [None] * 4


def test_the_digest_is_of_values_and_of_nothing_that_says_how_they_are_stored() -> None:
    episode = episode_of(0)
    png = replace(SPEC["camera_front"], codec="png", help="front")
    renamed = replace(SPEC, observations=(png, *SPEC.observations[1:]), rate_hz=None)
    assert replace(episode, spec=renamed).digest() == episode.digest()
    digests = {
        episode.digest(),
        episode_of(1).digest(),
        replace(episode, reward=None).digest(),
        replace(episode, terminated=None).digest(),
        replace(episode, meta=replace(episode.meta, goal="cup_upright")).digest(),
        replace(
            episode, extras={**episode.extras, "instruction": np.array(["fold the towel"], object)}
        ).digest(),
        replace(episode, unjudged={"cup_on_shelf": np.arange(5) == 0}).digest(),
    }
    assert len(digests) == 7


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"observations": {"joints_rad": np.zeros((5, 3))}}, "camera_front is declared, and the episode has"),
        (
            {"action": np.full((4, 2), 2.5)},
            r"action\[1\] is 2.5 at row 0, above its bound 2; nothing was clip",
        ),
        ({"action": np.full((4, 2), np.nan)}, "action is nan at row 0"),
        ({"reward": np.zeros(4, np.float32)}, "reward is float32, must be float64"),
        ({"predicates": {}}, "declared"),
    ],
)
def test_what_is_not_declared_so_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        episode_of(0, **changes)


def test_an_undeclared_observation_is_named() -> None:
    shown = {**episode_of(0).observations, "wrist": np.zeros((5, 2))}
    with pytest.raises(ValueError, match="observation wrist is not declared; declared: camera_front, depth"):
        episode_of(0, observations=shown)


def test_a_part_has_one_declaration(tmp_path: Path) -> None:
    writer = PartWriter(Store(str(tmp_path)), "arm", 0, 2)
    writer.add(episode_of(0))
    other = replace(SPEC, predicates=("cup_on_shelf", "cup_level"))
    held = episode_of(1).predicates
    with pytest.raises(ValueError, match="arm/0000001 is declared otherwise"):
        writer.add(
            episode_of(
                1,
                spec=other,
                predicates={"cup_on_shelf": held["cup_on_shelf"], "cup_level": held["cup_upright"]},
            )
        )


def test_a_collection_keeps_its_declaration(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    info = CollectionInfo(
        "arm", "cog collect", "replay", "lab:Arm", 0.0, 0, None, None, (0.0, 1.0), 100, "2026-01-01T00:00:00", "0",
        "", {}, "", spec=SPEC,
    )  # fmt: skip
    write_collection(store, info)
    assert json.loads(store.read_text("collections/arm/collection.json"))["schema_version"] == 2
    assert read_collection(store, "arm").spec == declared(store, "arm") == SPEC
    write_collection(store, replace(info, name="old", image_size=4, horizon=4, spec=None))
    said = json.loads(store.read_text("collections/old/collection.json"))
    assert (said["schema_version"], "spec" in said) == (1, False)


def test_no_annotation_hides_a_column_of_episodes(tmp_path: Path) -> None:
    seed = replace(SPEC, extras=(Feature("seed", "int64", per=Per.EPISODE),))
    info = CollectionInfo(
        "arm", "cog collect", "replay", "lab:Arm", 0.0, 0, None, None, (0.0, 1.0), 100, "2026-01-01T00:00:00", "0",
        "", {}, "", spec=seed,
    )  # fmt: skip
    with pytest.raises(
        CogError, match="annotation 'seed' is a column of episodes already: call it otherwise"
    ):
        write_collection(Store(str(tmp_path)), info)


def test_layout_1_keeps_its_members_and_columns(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    (row,) = write_episodes(store, "c", 1)
    assert list(row) == PART_EPISODES.names
    assert Sample.of(row).members.keys() == {"image"}
    batch = read_steps(store, Sample.of(row))
    assert batch.schema.metadata.keys() == {b"meta", b"scene_fields", b"frames_shape"}
    assert layout_of(make_episode("c", 0).spec) == 1
