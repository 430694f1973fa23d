"""Layers in SQL: columns of ``steps`` and ``episodes``, null where nothing was derived."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from catalog import layers as layers_module
from catalog.doctor import verify
from catalog.index.sync import rebuild
from catalog.layers import check_free
from catalog.mixtures.mixture import freeze
from catalog.query import run_query
from cogdata.errors import CogError
from cogdata.features import EpisodeSpec, Feature, Per
from cogdata.storage.layers.commits import LayerPart, list_commits, read_commit
from cogdata.storage.layers.heads import LayerInfo, create_layer, sealed
from cogdata.storage.layers.rows import LayerRow
from cogdata.storage.store import Store
from tests.catalog.declared.foreign import ARM, write_foreign
from tests.catalog.support import collect_into

FEATURES = (
    Feature("caption", "string", per=Per.EPISODE, help="what happens"),
    Feature("pose", "float32", (2, 2), per=Per.EPISODE),
    Feature("distance_m", "float32", help="to the goal"),
    Feature("corner", "float16", (2,)),
    Feature("jerk", "int32", per=Per.TRANSITION),
)


def info_of(name: str = "seen", version: int = 1, features: tuple[Feature, ...] = FEATURES) -> LayerInfo:
    return LayerInfo(
        name, version, "lab:f", "ab" * 32, features, f"cog derive {name}", "2027-01-02T03:04:05", "0"
    )


def digests_of(store: Store, collection: str) -> dict[str, str]:
    sql = f"select episode_id, digest from episodes where collection = '{collection}'"
    return dict(rows_of(store, sql))


def derive(store: Store, info: LayerInfo, collection: str, indices: list[int], start: float = 0.0) -> None:
    """Give episodes of 4 actions values that can be told from their index: distance_m[t] = start + i + t / 8."""
    create_layer(store, info)
    digests = digests_of(store, collection)
    rows = []
    for index in indices:
        times = np.arange(5)
        values: dict[str, Any] = {
            "caption": np.array([f"{info.ref} of {index}"], object),
            "pose": np.full((1, 2, 2), index, np.float32),
            "distance_m": (start + index + times / 8).astype(np.float32),
            "corner": np.stack([times, times + index], axis=1).astype(np.float16),
            "jerk": np.arange(4, dtype=np.int32),
        }
        name = f"{collection}/{index:07d}"
        mine = {one.name: values.get(one.name) for one in info.features}
        rows.append(LayerRow(name, digests[name], 5, 4, mine))
    LayerPart(store, info, collection, "part-00000", {}).commit(rows)


def rows_of(store: Store, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in run_query(store, sql).table.to_pylist()]


@pytest.fixture
def seen(store: Store) -> Store:
    """3 episodes, of which a layer has values of the last two."""
    collect_into(store, "grasps", 0, 3)
    derive(store, info_of(), "grasps", [1, 2])
    return store


def test_a_feature_per_episode_is_a_column_of_episodes(seen: Store) -> None:
    assert rows_of(seen, "select episode_index, caption, pose from episodes order by 1") == [
        (0, None, None),
        (1, "seen@1 of 1", [1.0, 1.0, 1.0, 1.0]),
        (2, "seen@1 of 2", [2.0, 2.0, 2.0, 2.0]),
    ]
    assert rows_of(seen, "select count(*) from episodes where caption like '%of 2'") == [(1,)]


def test_features_per_step_are_columns_of_steps(seen: Store) -> None:
    sql = "select t, distance_m, corner, jerk from steps where episode_id like '%{}' order by t"
    assert rows_of(seen, sql.format(2)) == [
        (0, 2.0, [0.0, 2.0], 0),
        (1, 2.125, [1.0, 3.0], 1),
        (2, 2.25, [2.0, 4.0], 2),
        (3, 2.375, [3.0, 5.0], 3),
        (4, 2.5, [4.0, 6.0], None),
    ]
    assert rows_of(seen, sql.format(0))[4] == (4, None, None, None)
    assert rows_of(seen, "select count(*), count(distance_m), count(jerk) from steps") == [(15, 10, 8)]
    table = run_query(seen, "select distance_m, corner, jerk from steps").table
    assert table.schema.types == [pa.float32(), pa.list_(pa.float32()), pa.int32()]


@pytest.mark.parametrize(
    "sql",
    [
        "select * from steps order by episode_id, t",
        "from steps order by episode_id, t",
        "select * exclude (robot) from steps order by episode_id, t",
        "select s.* from steps s order by s.episode_id, s.t",
        "select columns('dist.*|t') from steps order by episode_id, t",
        "with a as (from steps) select DISTANCE_M as distance_m from a order by episode_id, t",
        'select s."distance_m" from steps s order by s.episode_id, s.t',
        "select s['distance_m'] as distance_m from steps s order by episode_id, t",
        "select (s).distance_m as distance_m from steps s order by episode_id, t",
        "select distance_m from steps join (values (1.0::float)) v(distance_m) using (distance_m)",
        "select distance_m from steps natural join (values (1.0::float)) v(distance_m)",
        "select steps.distance_m from steps order by episode_id, t",
    ],
)
def test_a_column_is_read_however_it_is_named(seen: Store, sql: str) -> None:
    found = run_query(seen, sql).table["distance_m"].to_pylist()
    assert found in ([None] * 5 + [1 + t / 8 for t in range(5)] + [2 + t / 8 for t in range(5)], [1.0])


def test_no_file_of_a_layer_is_opened_for_a_query_that_reads_no_column_of_it(
    seen: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> str:
        raise AssertionError("a layer is read")

    monkeypatch.setattr(layers_module, "_rows", refused)
    for sql in (
        "select count(*) from steps where robot[1] > 0",
        "select s.episode_id, avg(s.reward) from steps s join episodes e using (episode_id) group by all",
        "select policy, count(*) from episodes group by all",
    ):
        assert rows_of(seen, sql)
    for sql in ("from steps", "select caption from episodes", "select e from episodes e"):
        with pytest.raises(AssertionError, match="a layer is read"):
            run_query(seen, sql)


def test_describe_and_layers_say_what_there_is(seen: Store) -> None:
    described = {row[0]: row[1:] for row in rows_of(seen, "describe steps")}
    assert described["distance_m"] == ("FLOAT", "to the goal")
    assert described["corner"] == ("FLOAT[]", "float16 (2,)")
    assert list(described) == run_query(seen, "from steps").table.column_names
    described = {row[0]: row[1:] for row in rows_of(seen, "describe episodes")}
    assert described["caption"] == ("VARCHAR", "what happens")
    assert list(described) == run_query(seen, "from episodes").table.column_names
    sql = "select layer, version, function, features, episodes, created_at::varchar, source from layers"
    names = ["caption", "pose", "distance_m", "corner", "jerk"]
    assert rows_of(seen, sql) == [("seen", 1, "lab:f", names, 2, "2027-01-02 03:04:05", "ab" * 32)]


def test_the_newest_version_counts(seen: Store) -> None:
    derive(seen, info_of(version=2, features=(FEATURES[0], FEATURES[2])), "grasps", [0], start=100.0)
    assert rows_of(seen, "select episode_index, caption from episodes order by 1") == [
        (0, "seen@2 of 0"),
        (1, None),
        (2, None),
    ]
    assert rows_of(seen, "select t, distance_m from steps where distance_m is not null order by 1")[0] == (
        0,
        100.0,
    )
    assert rows_of(seen, "select version, episodes from layers") == [(1, 2), (2, 1)]
    with pytest.raises(CogError, match="^unknown column 'jerk'"):
        run_query(seen, "select jerk from steps")


def test_values_of_an_episode_that_has_changed_do_not_count(seen: Store) -> None:
    seen.remove("collections/grasps/part-00000-00-02")
    collect_into(seen, "grasps", 0, 3, noise=0.3)
    assert rows_of(seen, "select count(*), count(caption) from episodes") == [(3, 0)]
    assert rows_of(seen, "select count(*), count(distance_m) from steps") == [(15, 0)]
    assert rows_of(seen, "select episodes from layers") == [(0,)]
    (problem,) = verify(seen)
    assert str(problem) == (
        "layers/seen/v1: 2 of its episodes have changed, for example grasps/0000001: run the same `cog derive` again"
    )
    derive(seen, info_of(), "grasps", [0, 1, 2])
    assert rows_of(seen, "select count(caption) from episodes") == [(3,)]
    assert rows_of(seen, "select count(*), count(distance_m) from steps") == [(15, 15)]
    assert verify(seen) == []


def test_layers_stand_beside_what_collections_declare(store: Store) -> None:
    write_foreign(store, "arm", ARM, extras={"instruction": "open"})
    collect_into(store, "grasps", 0, 1)
    derive(store, info_of(), "grasps", [0])
    assert rows_of(store, "select collection, instruction, caption from episodes order by 1") == [
        ("arm", "open", None),
        ("grasps", None, "seen@1 of 0"),
    ]
    assert rows_of(store, "select count(joints), count(distance_m) from steps") == [(3, 5)]
    described = [row[0] for row in rows_of(store, "describe episodes")]
    assert described == run_query(store, "from episodes").table.column_names


def test_a_mixture_is_frozen_by_what_a_layer_says(seen: Store) -> None:
    info = freeze(seen, "far", "select episode_id from episodes where caption like '%of 2'").info
    assert info.counts["data"].episodes == 1
    sql = "select episode_id, t, distance_m > 2.2 as reward from steps where jerk is not null and distance_m > 2"
    info = freeze(seen, "near", sql).info
    assert (info.counts["data"].transitions, info.counts["data"].rewarded_after) == (3, 2)


def test_rebuilding_reads_layers(seen: Store) -> None:
    report = rebuild(seen)
    assert (report.added["layer"], report.added["layer commit"], report.problems) == (1, 1, ())
    assert rows_of(seen, "select count(caption) from episodes") == [(2,)]


def test_a_layer_that_is_removed_is_gone(seen: Store) -> None:
    assert rows_of(seen, "select count(caption) from episodes") == [(2,)]
    shutil.rmtree(seen.path("layers/seen"))
    with pytest.raises(CogError, match="^unknown column 'caption'"):
        run_query(seen, "select caption from episodes")
    assert rows_of(seen, "from layers") == []


def test_a_layer_without_values_is_null(store: Store) -> None:
    collect_into(store, "grasps", 0, 1)
    create_layer(store, info_of())
    assert rows_of(store, "select caption from episodes") == [(None,)]
    assert rows_of(store, "select distinct distance_m, corner from steps") == [(None, None)]


# --- names -----------------------------------------------------------------------------------------------


def test_names_that_are_taken_are_refused(seen: Store) -> None:
    write_foreign(seen, "arm", ARM)
    for name, owner in (
        ("robot", "declared by grasps"),
        ("joints", "declared by arm"),
        ("front", "declared by arm"),
        ("cup_on_shelf", "declared by arm"),
        ("instruction", "declared by arm"),
        ("seed", "a column of episodes"),
        ("caption", "a feature of layer seen@1"),
    ):
        with pytest.raises(CogError) as caught:
            check_free(seen, "my-own", [Feature("free", "bool"), Feature(name, "bool")])
        assert str(caught.value) == (
            f"feature {name} of layer my-own is {owner} already: choose another name, for example my_own_{name}"
        )
    check_free(seen, "seen", FEATURES)


def test_a_name_that_a_collection_declares_later_is_its_own(seen: Store) -> None:
    spec = EpisodeSpec((Feature("distance_m", "float64"),), ARM.action, extras=(FEATURES[0],))
    write_foreign(seen, "arm", spec, {"distance_m": [7.0, 8.0, 9.0]}, extras={"caption": "its own"})
    assert rows_of(seen, "select distance_m from steps where distance_m is not null order by 1") == [
        (7.0,),
        (8.0,),
        (9.0,),
    ]
    assert rows_of(seen, "select caption from episodes where caption is not null") == [("its own",)]
    (problem,) = verify(seen)
    assert str(problem) == (
        "layers/seen/v1/layer.json: feature caption of layer seen is declared by arm already: SQL leaves this one out"
    )


# --- damage ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_one_flipped_byte_of_each_kind_of_file_is_found(seen: Store) -> None:
    assert verify(seen) == []
    (path,) = list_commits(seen, info_of())
    commit = read_commit(seen, path)
    again = "remove the commit that names it, and run the same `cog derive` again"
    files = {
        "layers/seen/v1/layer.json": "is damaged: restore it, or remove its folder and derive it again",
        path: "is damaged: remove it and run the same `cog derive` again",
        str(commit.file("episodes")): f"its sha256 is wrong: {again}",
        str(commit.file("steps")): f"its sha256 is wrong: {again}",
    }
    for name, said in files.items():
        whole = seen.read_bytes(name)
        for place in (0, len(whole) // 2, len(whole) - 1):
            broken = bytearray(whole)
            broken[place] ^= 0x10
            seen.write_bytes(name, bytes(broken))
            found = [str(problem) for problem in verify(seen) if problem.where == name]
            assert len(found) == 1, (name, place, verify(seen))
            assert found[0].endswith(said)
            assert len(verify(seen)) == 1
        seen.write_bytes(name, whole)
    assert verify(seen) == []


def test_what_is_missing_is_named(seen: Store) -> None:
    (path,) = list_commits(seen, info_of())
    steps = str(read_commit(seen, path).file("steps"))
    seen.remove(steps)
    assert [str(problem) for problem in verify(seen)] == [
        f"{steps}: is missing: remove the commit that names it, and run the same `cog derive` again"
    ]
    with pytest.raises(CogError, match="^a file of layer seen@1 cannot be read .*: run `cog data verify`$"):
        run_query(seen, "select distance_m from steps")
    assert rows_of(seen, "select count(caption), count(*) from episodes") == [(2, 3)]
    seen.remove("layers/seen/v1/layer.json")
    assert [str(problem) for problem in verify(seen)] == [
        "layers/seen/v1/layer.json: is missing, so nothing reads the folder: restore it, or remove the folder"
    ]


def test_episodes_that_are_gone_are_named(seen: Store) -> None:
    seen.remove("collections/grasps/part-00000-00-02")
    assert [str(problem) for problem in verify(seen)] == [
        "layers/seen/v1: 2 of its episodes are gone, for example grasps/0000001: collect them again"
    ]


def test_a_commit_that_was_copied_counts_once_and_is_named(seen: Store, tmp_path: Path) -> None:
    (path,) = list_commits(seen, info_of())
    data = json.loads(seen.read_text(path))
    del data["sha256"]
    seen.write_text(path.replace("0000.json", "0001.json"), sealed(data | {"number": 1}))
    assert rows_of(seen, "select count(*), count(caption) from episodes") == [(3, 2)]
    assert rows_of(seen, "select count(*), count(distance_m) from steps") == [(15, 10)]
    assert [str(problem) for problem in verify(seen)] == [
        "layers/seen/v1: 2 episodes are in two of its commits, for example grasps/0000001: remove one of the two"
    ]


def test_values_that_are_not_those_of_their_digest_are_named(seen: Store) -> None:
    """A commit whose sums are right and whose values are not, as a program of somebody else's could write it."""
    (path,) = list_commits(seen, info_of())
    commit, data = read_commit(seen, path), json.loads(seen.read_text(path))
    table = seen.read_table(str(commit.file("episodes")))
    table = table.set_column(
        table.column_names.index("caption"), "caption", pa.array(["mine", "seen@1 of 2"])
    )
    seen.write_table("layers/x.parquet", table)
    whole = seen.read_bytes("layers/x.parquet")
    seen.remove("layers/x.parquet")
    sha256 = hashlib.sha256(whole).hexdigest()
    del data["files"][str(commit.file("episodes")).rpartition("/")[2]], data["sha256"]
    data["files"][f"episodes-{sha256[:16]}.parquet"] = {"size": len(whole), "sha256": sha256}
    seen.write_bytes(f"{commit.folder}/episodes-{sha256[:16]}.parquet", whole)
    seen.write_text(path, sealed(data))
    assert [str(problem) for problem in verify(seen)] == [
        f"{path}: 1 episodes have other values than their digest, for example grasps/0000001: remove the commit that "
        f"names it, and run the same `cog derive` again"
    ]
