"""``cog data verify`` holds the files of a part against the declaration of its collection."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from catalog.declarations import wrong_columns
from catalog.doctor import describe_store, verify
from catalog.mixtures.mixture import freeze
from cogdata.features import EpisodeSpec
from cogdata.storage.store import Store
from tests.catalog.declared.foreign import ARM, write_foreign
from tests.catalog.support import collect_into, edit_json

HEAD = "collections/arm/collection.json"
PART = "collections/arm/part-00000-00-00"
MIXTURE = "mixtures/arms/v1"
AGAIN = "restore collection.json, or collect the part again"


@pytest.fixture
def arm(store: Store) -> Store:
    """A whole store: a built-in world, and an arm with and without a last observation."""
    collect_into(store, "grasps", 0, 2)
    columns: dict[str, list[Any]] = {"joints": [[1, 2, 3]] * 3, "reward": [0.0, 1.0]}
    write_foreign(store, "arm", ARM, columns, {"instruction": "go"})
    write_foreign(store, "short", ARM, final=False)
    return store


def said(store: Store) -> list[str]:
    return [str(problem) for problem in verify(store)]


def test_a_whole_store_has_no_problem(arm: Store) -> None:
    assert said(arm) == []
    assert [(one.collection, one.episodes, one.image_size) for one in describe_store(arm)] == [
        ("arm", 1, None), ("grasps", 2, 4), ("short", 1, None),
    ]  # fmt: skip


def test_a_mixture_of_declared_episodes_is_whole_until_their_members_move(arm: Store) -> None:
    freeze(arm, "arms", "select episode_id from episodes where collection = 'arm'")
    assert said(arm) == []
    path = f"{MIXTURE}/episodes.parquet"
    table = arm.read_table(path)
    members = table["members"].to_pylist()
    members[0][0]["offset"] += 512
    place = table.schema.get_field_index("members")
    field = table.schema.field("members")
    arm.write_table(path, table.set_column(place, field, pa.array(members, field.type)))
    assert said(arm) == [
        f"{MIXTURE}: 1 of its episodes lie elsewhere now, for example arm/0000000: run `cog mix refresh arms`"
    ]


def redeclare(store: Store, change: Callable[[dict[str, Any]], None]) -> None:
    spec = ARM.to_data()
    change(spec)
    EpisodeSpec.from_data(spec)
    edit_json(store, HEAD, spec=spec)


def test_help_rates_and_foreign_names_may_be_edited(arm: Store) -> None:
    redeclare(arm, lambda spec: spec["observations"][1].update(help="angles", rate_hz=30.0, source="q"))
    assert said(arm) == []


def joints_of_four(spec: dict[str, Any]) -> None:
    spec["observations"][1].update(shape=[4], names=[])


def force_as_text(spec: dict[str, Any]) -> None:
    spec["observations"][2].update(dtype="string")


def another_predicate(spec: dict[str, Any]) -> None:
    spec["predicates"] = ["cup_fell"]


def one_more(spec: dict[str, Any]) -> None:
    spec["observations"].append({"name": "gripper_m", "dtype": "float32", "shape": []})


@pytest.mark.parametrize(
    ("change", "columns", "episodes"),
    [
        (joints_of_four, None, "has joints as float32 (3,) of j1_rad, j2_rad, j3_rad per observation, declared "
         "as float32 (4,) per observation"),
        (force_as_text, "has column force of type DOUBLE, declared as VARCHAR",
         "has force as float64 per observation, declared as string per observation"),
        (another_predicate, "has no column cup_fell, which the collection declares (and 1 more)",
         "has predicates cup_on_shelf, declared as cup_fell"),
        (one_more, "has no column gripper_m, which the collection declares",
         "has no gripper_m, which the collection declares"),
    ],
)  # fmt: skip
def test_an_edited_declaration_is_named(
    arm: Store, change: Callable[[dict[str, Any]], None], columns: str | None, episodes: str
) -> None:
    redeclare(arm, change)
    lines = [f"{PART}/steps.parquet: {columns}: {AGAIN}"] if columns else []
    example = "1 episodes are not as the collection declares, for example arm/0000000"
    lines.append(f"{PART}/frames.tar: {example} {episodes}: {AGAIN}")
    assert said(arm) == lines


def test_a_removed_declaration_is_named(arm: Store) -> None:
    head = json.loads(arm.read_text(HEAD))
    arm.write_text(HEAD, json.dumps({name: value for name, value in head.items() if name != "spec"}))
    assert said(arm) == [
        f"{PART}/frames.tar: 1 episodes are not as the collection declares, for example arm/0000000 has a "
        f"declaration of its own, the collection has none: {AGAIN}"
    ]


def test_a_damaged_declaration_is_named_once(arm: Store) -> None:
    edit_json(arm, HEAD, spec={"observations": 3})
    assert said(arm) == [f"{HEAD}: {arm.path(HEAD)} is damaged: run the same `cog collect` again"]


def test_extras_that_differ_from_the_shard_are_named(arm: Store) -> None:
    path = f"{PART}/episodes.parquet"
    table = arm.read_table(path)
    place = table.schema.get_field_index("extras")
    changed = pa.array(['{"instruction": "stop"}'], pa.string())
    arm.write_table(path, table.set_column(place, "extras", changed))
    assert any(
        'arm/0000000 has extras {"instruction": "go"}, its row says {"instruction": "stop"}' in line
        for line in said(arm)
    )


def test_a_steps_file_with_other_columns_is_named(arm: Store) -> None:
    found = arm.read_table(f"{PART}/steps.parquet").schema
    assert wrong_columns(found, ARM) == []
    changed = found.remove(found.get_field_index("force")).append(pa.field("torque", pa.float32()))
    assert wrong_columns(changed, ARM) == [
        "has no column force, which the collection declares",
        "has a column torque, which the collection does not declare",
    ]


def test_a_lost_picture_is_named(arm: Store) -> None:
    path = f"{PART}/frames.tar"
    data = bytearray(arm.read_bytes(path))
    row = arm.read_table(f"{PART}/episodes.parquet").to_pylist()[0]
    (member,) = row["members"]
    data[member["offset"] + 4] ^= 1
    arm.write_bytes(path, bytes(data))
    lines = said(arm)
    assert lines[0] == f"{path}: its sha256 is wrong: remove its folder and collect again"
    assert lines[1].startswith(f"{path}: 1 episodes cannot be read, for example arm/0000000: ")
