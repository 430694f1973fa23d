"""Columns of ``episodes`` and ``evaluations`` that collections declare."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pyarrow as pa
import pytest

from catalog.doctor import verify
from catalog.index.sync import rebuild
from catalog.mixtures.mixture import freeze
from catalog.query import run_query
from cogdata.errors import CogError
from cogdata.features import EpisodeSpec, Feature, Per
from cogdata.layout1 import layout1_spec
from cogdata.schema import PREDICATES
from cogdata.storage.parts import PART_EPISODES
from cogdata.storage.runs import EVALUATIONS, EVALUATIONS_2, evaluation_schema, predicates_of
from cogdata.storage.store import Store
from tests.catalog.declared.foreign import ARM, write_foreign
from tests.catalog.support import collect_into, write_evaluation, write_run_of


def rows_of(store: Store, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in run_query(store, sql).table.to_pylist()]


def per_episode(*extras: Feature) -> EpisodeSpec:
    return EpisodeSpec(ARM.observations[1:2], ARM.action, extras=extras)


def extra(name: str, dtype: str, shape: tuple[int, ...] = ()) -> Feature:
    return Feature(name, dtype, shape, Per.EPISODE)


# --- episodes --------------------------------------------------------------------------------------------


def test_episodes_of_layout_1_count_their_observations_and_have_no_other_columns(store: Store) -> None:
    collect_into(store, "grasps", 0, 1)
    table = run_query(store, "from episodes").table
    core = [*PART_EPISODES.names, "observations", "members", "extras"]
    assert sorted(table.column_names) == sorted(core)
    assert rows_of(store, "select steps, observations, members, extras from episodes") == [(4, 5, None, None)]


def test_a_feature_per_episode_is_a_column_and_null_elsewhere(store: Store) -> None:
    collect_into(store, "grasps", 0, 1)
    write_foreign(store, "arm", ARM, extras={"instruction": "open the drawer"})
    write_foreign(store, "mute", ARM)
    assert rows_of(store, "select collection, instruction, observations from episodes order by all") == [
        ("arm", "open the drawer", 3),
        ("grasps", None, 5),
        ("mute", None, 3),
    ]
    described = {name: (kind, text) for name, kind, text in rows_of(store, "describe episodes")}
    assert list(described) == run_query(store, "from episodes").table.column_names
    assert described["instruction"] == ("VARCHAR", "what the operator was told")
    joined = "select count(*) from steps join episodes using (episode_id) where instruction like 'open%'"
    assert rows_of(store, joined) == [(3,)]


def test_numbers_and_arrays_per_episode_have_their_types(store: Store) -> None:
    spec = per_episode(
        extra("mass_kg", "float32"), extra("count", "int64"), extra("lit", "bool"), extra("pose", "float64", (2, 2))
    )  # fmt: skip
    given = {"mass_kg": 0.1, "count": 2**62 + 1, "lit": True, "pose": [[1.0, 2.0], [3.0, 4.5]]}
    write_foreign(store, "a", spec, extras=given)
    write_foreign(store, "b", per_episode(extra("pose", "int32", (3,)), extra("count", "uint8")),
                  extras={"pose": [1, 2, 3], "count": 7})  # fmt: skip
    table = run_query(store, "select mass_kg, count, lit, pose from episodes order by collection").table
    assert table.schema.types == [pa.float32(), pa.int64(), pa.bool_(), pa.list_(pa.float64())]
    assert [tuple(row.values()) for row in table.to_pylist()] == [
        (pytest.approx(0.1), 2**62 + 1, True, [1.0, 2.0, 3.0, 4.5]),
        (None, 7, None, [1.0, 2.0, 3.0]),
    ]


def test_two_types_of_a_feature_per_episode_are_refused_where_they_are_read(store: Store) -> None:
    write_foreign(store, "a", per_episode(extra("operator", "string")), extras={"operator": "eve"})
    write_foreign(store, "b", per_episode(extra("operator", "int32")), extras={"operator": 3})
    assert rows_of(store, "select count(*) from episodes") == [(2,)]
    with pytest.raises(CogError) as caught:
        run_query(store, "select operator from episodes")
    assert str(caught.value) == (
        "column operator of episodes is VARCHAR in a and INTEGER in b, which no type holds both of: leave it "
        "out, as in select * exclude (operator) from episodes"
    )


def test_a_feature_named_as_a_column_of_episodes_is_a_problem_that_loses_nothing(store: Store) -> None:
    write_foreign(store, "a", per_episode(extra("seed", "string")), extras={"seed": "basil"})
    result = run_query(store, "select seed, extras->>'seed' as said from episodes")
    assert result.table.to_pylist() == [{"seed": 5, "said": "basil"}]
    line = (
        f"{store.path('collections/a/collection.json')} declares seed per episode, which episodes has a "
        f"column for: its values are in episodes.extras"
    )
    assert result.unread == (line,)
    assert rebuild(store).problems == (line,)


def test_a_last_observation_that_is_unknown_is_counted(store: Store) -> None:
    write_foreign(store, "a", per_episode(), final=False)
    assert rows_of(store, "select steps, observations from episodes") == [(2, 2)]
    assert rows_of(store, "select t, action is null from steps order by t") == [(0, False), (1, False)]


# --- evaluations -----------------------------------------------------------------------------------------


def evaluate_foreign(store: Store, name: str, predicates: list[dict[str, bool | None]]) -> None:
    """A file of a world that is not built in."""
    rows = [
        {
            "run": "run-1", "evaluation": name, "env": "lab:Arm", "update": 10, "checkpoint_digest": "cd",
            "seed": seed, "success": judged.get("cup_on_shelf"), "solved": True, "first_reward_t": None,
            "steps": 2, "total_reward": 0.5, "stochastic": False, "created_at": datetime(2027, 1, 1),
            "purpose": "evaluation", "predicates": list(judged.items()),
        }
        for seed, judged in enumerate(predicates)
    ]  # fmt: skip
    table = pa.Table.from_pylist(rows, schema=evaluation_schema(ARM))
    store.write_table(f"runs/run-1/evaluations/{name}.parquet", table)


@pytest.fixture
def evaluated(tray: Store) -> Store:
    """A run that was evaluated in a built-in world and in another."""
    info = freeze(tray, "mix", "select episode_id from episodes").info
    write_run_of(tray, "run-1", info)
    write_evaluation(tray, "run-1", "final", [True, False])
    evaluate_foreign(tray, "arm", [{"cup_on_shelf": True, "lit": None}, {"cup_on_shelf": False, "lit": True}])
    return tray


def test_the_schema_follows_the_world() -> None:
    assert evaluation_schema(layout1_spec((4, 4), (), PREDICATES)) is EVALUATIONS
    assert evaluation_schema(ARM) is EVALUATIONS_2
    assert [*EVALUATIONS.names[:13], "purpose", "predicates"] == EVALUATIONS_2.names


def test_evaluations_of_both_kinds_are_read_together(evaluated: Store) -> None:
    names = "env, seed, placed, grasped, drawer_open, cup_on_shelf, lit"
    assert rows_of(evaluated, f"select {names} from evaluations order by env, seed") == [
        ("cog/PickTray-v0", 100, True, True, None, None, None),
        ("cog/PickTray-v0", 101, False, True, None, None, None),
        ("lab:Arm", 0, None, None, None, True, None),
        ("lab:Arm", 1, None, None, None, False, True),
    ]
    sql = "select predicates from evaluations order by env, seed"
    assert [dict(row[0]) for row in rows_of(evaluated, sql)] == [
        {"grasped": True, "placed": True},
        {"grasped": True, "placed": False},
        {"cup_on_shelf": True, "lit": None},
        {"cup_on_shelf": False, "lit": True},
    ]
    assert verify(evaluated) == []


def test_old_columns_of_evaluations_keep_their_names_and_places(evaluated: Store) -> None:
    columns = run_query(evaluated, "from evaluations").table.column_names
    assert columns == [*EVALUATIONS.names, "predicates", "cup_on_shelf", "lit"]
    described = rows_of(evaluated, "describe evaluations")
    assert [row[0] for row in described] == columns
    assert described[-2:] == [
        (name, "BOOLEAN", "on the last observation; null: not in scene, or not judged")
        for name in ("cup_on_shelf", "lit")
    ]


def test_a_predicate_that_is_only_declared_is_a_column_too(store: Store) -> None:
    write_foreign(store, "arm", ARM)
    assert rows_of(store, "select count(*), count(cup_on_shelf) from evaluations") == [(0, 0)]


def test_a_predicate_called_success_stays_apart_from_success(evaluated: Store) -> None:
    evaluate_foreign(evaluated, "arm", [{"success": False, "cup_on_shelf": True}])
    sql = "select success, predicates['success'] from evaluations where evaluation = 'arm'"
    assert rows_of(evaluated, sql) == [(True, False)]


def test_predicates_of_a_file_without_any_are_none() -> None:
    rows = pa.table({"seed": [1, 2]})
    assert predicates_of(rows) == [{}, {}]
