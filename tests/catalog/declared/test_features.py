"""The view ``features``: what each collection declares."""

from __future__ import annotations

from catalog.doctor import verify
from catalog.index.sync import rebuild, sync
from catalog.query import run_query
from cogdata.features import EpisodeSpec
from cogdata.layout1 import layout1_spec
from cogdata.schema import PREDICATES
from cogdata.storage.store import Store
from tests.catalog.declared.foreign import ARM, write_foreign
from tests.catalog.support import catalog_rows, collect_into, edit_json


def test_a_collection_has_a_row_per_name_it_declares(store: Store) -> None:
    write_foreign(store, "arm", ARM)
    rows = run_query(store, "select feature, role, per, dtype, shape, codec from features").table.to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        ("front", "observation", "observation", "uint8", [48, 64, 3], "zst"),
        ("joints", "observation", "observation", "float32", [3], ""),
        ("force", "observation", "observation", "float64", [], ""),
        ("action", "action", "transition", "float32", [2], ""),
        ("reward", "reward", "transition", "float32", [], ""),
        ("instruction", "extra", "episode", "string", [], ""),
        ("intervention", "extra", "transition", "bool", [], ""),
        ("cup_on_shelf", "predicate", "observation", "bool", [], ""),
    ]
    sql = "select names, low, high, privileged, rate_hz, source, help from features where feature = $${}$$"
    (joints,) = run_query(store, sql.format("joints")).table.to_pylist()
    assert joints == {
        "names": ["j1_rad", "j2_rad", "j3_rad"], "low": None, "high": None, "privileged": False,
        "rate_hz": None, "source": "", "help": "joint positions",
    }  # fmt: skip
    (action,) = run_query(store, sql.format("action")).table.to_pylist()
    assert (action["low"], action["high"]) == ([-1.0, -2.0], [1.0, 2.0])
    (intervention,) = run_query(store, sql.format("intervention")).table.to_pylist()
    assert intervention["source"] == "is.human"


def test_a_collection_of_layout_1_has_those_of_its_first_episode(store: Store) -> None:
    collect_into(store, "grasps", 0, 3, scene_fields=("object_x_m", "object_y_m", "object_z_m"))
    expected = layout1_spec((4, 4), ("object_x_m", "object_y_m", "object_z_m"), PREDICATES)
    names = "feature, shape, names, low, high, privileged, codec, help"
    rows = run_query(store, f"select {names} from features where role in ('observation', 'action')").table
    assert rows.to_pylist() == [
        {
            "feature": one.name, "shape": list(one.shape), "names": list(one.names),
            "low": one.low and list(one.low), "high": one.high and list(one.high),
            "privileged": one.privileged, "codec": one.codec, "help": one.help,
        }
        for one in (*expected.observations, expected.action)
    ]  # fmt: skip
    found = run_query(store, "select feature from features where role = 'predicate'").table
    assert tuple(found["feature"].to_pylist()) == PREDICATES


def test_features_come_and_go_with_their_collection(store: Store) -> None:
    count = "select collection, count(*)::int as n from features group by all order by all"
    collect_into(store, "grasps", 0, 2)
    write_foreign(store, "arm", ARM)
    sync(store)
    both = [{"collection": "arm", "n": 8}, {"collection": "grasps", "n": 11}]
    assert run_query(store, count).table.to_pylist() == both
    declared = EpisodeSpec((ARM["joints"],), ARM.action)
    edit_json(store, "collections/arm/collection.json", spec=declared.to_data())
    assert run_query(store, count).table.to_pylist() == [{"collection": "arm", "n": 3}, both[1]]
    before = catalog_rows(store)
    rebuild(store)
    assert catalog_rows(store) == before
    store.remove("collections/arm")
    store.remove("collections/grasps")
    assert run_query(store, count).table.to_pylist() == []


def test_a_damaged_declaration_is_one_line_and_the_rest_is_read(store: Store) -> None:
    collect_into(store, "grasps", 0, 2)
    write_foreign(store, "arm", ARM)
    edit_json(store, "collections/arm/collection.json", spec={"observations": 3})
    result = run_query(store, "select collection from collections")
    assert result.table["collection"].to_pylist() == ["grasps"]
    line = f"{store.path('collections/arm/collection.json')} is damaged: run the same `cog collect` again"
    assert result.unread == (line,)
    assert any("is damaged: run the same" in str(problem) for problem in verify(store))
