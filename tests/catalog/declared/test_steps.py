"""``steps`` as the union of what the collections of a store declare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from catalog.agreement import verify_catalog
from catalog.columns import STEPS, widened
from catalog.index.sync import open_indexed, rebuild
from catalog.query import add_steps, run_query
from cogdata.errors import CogError
from cogdata.features import EpisodeSpec, Feature, Per
from cogdata.layout1 import ACTION, ROBOT
from cogdata.schema import PREDICATES
from cogdata.storage.store import Store
from tests.catalog.declared.foreign import ARM, write_foreign
from tests.catalog.support import collect_into, edit_json

ACTED: dict[str, list[Any]] = {"action": [[0.5, -1.5], [0.25, 2.0]], "reward": [0.0, 1.0]}


def rows_of(store: Store, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in run_query(store, sql).table.to_pylist()]


def described(store: Store, view: str = "steps") -> dict[str, tuple[str, str]]:
    return {name: (kind, text) for name, kind, text in rows_of(store, f"describe {view}")}


def of(*features: Feature, reward: Any = "float32") -> EpisodeSpec:
    return EpisodeSpec(features, ARM.action, reward=reward)


@pytest.fixture(params=["local", "remote"])
def lab(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """3 episodes of a built-in world and one of an arm."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "lab").mkdir()
    store = Store(str(tmp_path / "lab") if request.param == "local" else f"memory://lab/{tmp_path.name}")
    collect_into(store, "grasps", 0, 3)
    columns: dict[str, list[Any]] = {
        "joints": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]], "force": [0.1, 0.2, 0.3],
        "intervention": [True, False], "cup_on_shelf": [False, None, True], **ACTED,
    }  # fmt: skip
    write_foreign(store, "arm", ARM, columns)
    return store


def test_a_store_of_layout_1_has_the_columns_that_it_always_had(store: Store) -> None:
    collect_into(store, "grasps", 0, 2)
    assert run_query(store, "from steps").table.schema.equals(STEPS)
    assert described(store)["robot"] == ("FLOAT[]", ROBOT.help)
    assert described(store)["action"] == ("FLOAT[]", ACTION.help)


def test_an_empty_store_has_those_too(store: Store) -> None:
    table = run_query(store, "from steps").table
    assert (len(table), table.schema.equals(STEPS)) == (0, True)


def test_features_and_predicates_of_all_collections_are_columns(lab: Store) -> None:
    table = run_query(lab, "from steps order by episode_id, t").table
    assert table.column_names == [
        "episode_id", "t", "robot", "scene", "joints", "force", "intervention", "action", "reward",
        "terminated", "truncated", "phase", *PREDICATES, "cup_on_shelf",
    ]  # fmt: skip
    assert (len(table), table.schema.field("force").type) == (3 + 3 * 5, pa.float64())
    assert rows_of(lab, "select joints, force, intervention, action, cup_on_shelf, robot, placed from steps "
                        "where episode_id = 'arm/0000000' order by t") == [
        ([1.0, 2.0, 3.0], 0.1, True, [0.5, -1.5], False, None, None),
        ([4.0, 5.0, 6.0], 0.2, False, [0.25, 2.0], None, None, None),
        ([7.0, 8.0, 9.0], 0.3, None, None, True, None, None),
    ]  # fmt: skip
    assert rows_of(lab, "select joints, force, cup_on_shelf, len(robot), len(action) from steps "
                        "where episode_id = 'grasps/0000002' and t = 1") == [(None, None, None, 10, 8)]  # fmt: skip
    assert rows_of(lab, "select count(*) from steps where joints[2] > 4 or placed") == [(4,)]


def test_the_catalog_agrees_with_the_files_of_both(lab: Store) -> None:
    assert [str(problem) for problem in verify_catalog(lab, set())] == []


def test_describe_steps_says_what_the_declarations_say(lab: Store) -> None:
    found = described(lab)
    assert found["joints"] == ("FLOAT[]", "joint positions")
    assert found["force"] == ("DOUBLE", "grip force, N")
    assert found["intervention"] == ("BOOLEAN", "bool")
    assert found["cup_on_shelf"] == ("BOOLEAN", "on this observation; null: not in scene, or not judged")
    assert found["action"] == ("FLOAT[]", f"{ACTION.help} | wheel speeds")
    assert list(found) == run_query(lab, "from steps").table.column_names
    summary = dict(rows_of(lab, "select column_name, count from (summarize select force, t from steps)"))
    assert summary == {"force": 18, "t": 18}


def test_a_store_without_built_in_worlds_has_none_of_their_columns(store: Store) -> None:
    write_foreign(store, "arm", ARM)
    names = run_query(store, "from steps").table.column_names
    assert names == [
        "episode_id", "t", "joints", "force", "intervention", "action", "reward", "terminated", "truncated",
        "phase", "cup_on_shelf",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kinds", "wide"),
    [
        ([pa.uint8(), pa.uint16()], pa.uint16()),
        ([pa.uint16(), pa.int32()], pa.int32()),
        ([pa.int64(), pa.uint8()], pa.int64()),
        ([pa.float32(), pa.float32()], pa.float32()),
        ([pa.float32(), pa.float64()], pa.float64()),
        ([pa.int32(), pa.float32()], pa.float64()),
        ([pa.list_(pa.float32()), pa.list_(pa.int64())], pa.list_(pa.float64())),
        ([pa.list_(pa.float32()), pa.float32()], pa.list_(pa.float32())),
        ([pa.list_(pa.float32()), pa.int64()], pa.list_(pa.float64())),
        ([pa.list_(pa.float32()), pa.bool_()], None),
        ([pa.string(), pa.float32()], None),
        ([pa.bool_(), pa.uint8()], None),
        ([pa.list_(pa.string()), pa.list_(pa.int32())], None),
    ],
)
def test_numbers_widen_and_nothing_else_does(kinds: list[pa.DataType], wide: pa.DataType | None) -> None:
    assert widened(kinds) == widened(kinds[::-1]) == wide


def test_one_name_of_several_numbers_is_read_as_the_widest(store: Store) -> None:
    write_foreign(store, "a", of(Feature("state", "uint8", (2,)), Feature("x", "float16")),
                  {"state": [[1, 255], [2, 3], [0, 0]], "x": [1, 2, 3]})  # fmt: skip
    write_foreign(store, "b", of(Feature("state", "float64", (3,)), Feature("x", "float32"), reward="float64"),
                  {"state": [[0.1, 0.2, 0.3]] * 3, "x": [0.5, 1.5, 2.5], "reward": [0.1, 0.2]})  # fmt: skip
    assert described(store)["state"][0] == "DOUBLE[]"
    assert described(store)["x"][0] == "FLOAT"
    assert described(store)["reward"][0] == "DOUBLE"
    assert rows_of(store, "select state, x, reward from steps where t < 2 order by episode_id, t") == [
        ([1.0, 255.0], 1.0, None),
        ([2.0, 3.0], 2.0, None),
        ([0.1, 0.2, 0.3], 0.5, 0.1),
        ([0.1, 0.2, 0.3], 1.5, 0.2),
    ]


def test_a_number_beside_lists_is_a_list_of_one(store: Store) -> None:
    discrete = Feature("action", "int64", (), Per.TRANSITION, low=(0.0,), high=(3.0,))
    write_foreign(store, "cart", EpisodeSpec((), discrete), {"action": [3, 1]})
    assert rows_of(store, "select action from steps") == [(3,), (1,), (None,)]
    write_foreign(store, "arm", ARM, ACTED)
    assert described(store)["action"][0] == "DOUBLE[]"
    assert rows_of(store, "select action from steps where starts_with(episode_id, 'cart') order by t") == [
        ([3.0],),
        ([1.0],),
        (None,),
    ]


@pytest.fixture
def torn(store: Store) -> Store:
    """``position`` is a text in one collection and numbers in another."""
    write_foreign(store, "a", of(Feature("position", "string")), {"position": ["left", "right", None]})
    write_foreign(store, "b", of(Feature("position", "float32", (2,))), {"position": [[1.0, 2.0]] * 3})
    return store


CLASH = (
    "column position of steps is VARCHAR in a and FLOAT[] in b, which no type holds both of: leave it out, as "
    "in select * exclude (position) from steps"
)


@pytest.mark.parametrize(
    "sql",
    [
        "select position from steps",
        "from steps",
        "select count(position) from steps",
        "select t from steps where position[1] > 0",
        "select t from steps where position > 1.5",
        "summarize steps",
    ],
)
def test_a_query_that_reads_two_types_is_refused(torn: Store, sql: str) -> None:
    with pytest.raises(CogError) as caught:
        run_query(torn, sql)
    assert str(caught.value) == CLASH


def test_other_queries_are_answered(torn: Store) -> None:
    assert rows_of(torn, "select count(*), max(t) from steps") == [(6, 2)]
    assert len(rows_of(torn, "select * exclude (position) from steps")) == 6
    assert rows_of(torn, "select shape from features where feature = 'position'") == [([],), ([2],)]
    assert described(torn)["position"] == ("VARCHAR or FLOAT[]", "string | float32 (2,)")
    with pytest.raises(CogError, match="unknown column 'positoin'"):
        run_query(torn, "select positoin from steps")
    assert list(verify_catalog(torn, set())) == []


def test_only_the_collections_that_are_read_decide_the_columns(torn: Store) -> None:
    with open_indexed(torn) as con:
        only = [("b", "part-00000-00-00")]
        columns = {column.name: column for column in add_steps(con, torn, only)}
        assert con.execute("SELECT position FROM steps").fetchall() == [([1.0, 2.0],)] * 3
    assert (columns["position"].sql_type, columns["position"].clash) == ("FLOAT[]", "")


def test_words_of_sql_and_of_the_catalog_are_names_of_features(store: Store) -> None:
    names = ("order", "select", "filename", "cog_file", "file", "s")
    spec = of(*(Feature(name, "int32") for name in names))
    write_foreign(store, "a", spec, {name: [number] * 3 for number, name in enumerate(names)})
    listed = ", ".join(f'"{name}"' for name in names)
    assert rows_of(store, f"select distinct {listed} from steps") == [(0, 1, 2, 3, 4, 5)]


def test_steps_of_a_damaged_declaration_have_the_columns_of_every_step(store: Store) -> None:
    collect_into(store, "grasps", 0, 2)
    write_foreign(store, "arm", ARM, ACTED)
    edit_json(store, "collections/arm/collection.json", spec=[])
    rebuild(store)
    sql = "select t, action, reward, robot from steps where episode_id = 'arm/0000000' order by t"
    assert rows_of(store, sql) == [(0, None, 0.0, None), (1, None, 1.0, None), (2, None, None, None)]


def test_a_feature_per_episode_or_with_a_codec_is_no_column(lab: Store) -> None:
    for name in ("front", "instruction"):
        with pytest.raises(CogError, match=f"^unknown column '{name}'"):
            run_query(lab, f"select {name} from steps")


def test_extras_per_transition_are_columns(store: Store) -> None:
    spec = EpisodeSpec((), ARM.action, extras=(Feature("note", "string", per=Per.TRANSITION),))
    write_foreign(store, "a", spec, {"note": ["slow", None]})
    assert rows_of(store, "select t, note from steps where note is not null") == [(0, "slow")]
