"""Verification finds every kind of damage; rebuilding repairs the catalog; the summary of a store."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from catalog import doctor
from catalog.agreement import Problem
from catalog.doctor import describe_store, verify
from catalog.index import db, sync
from catalog.mixtures.mixture import freeze
from catalog.query import run_query
from cogdata.errors import CogError
from cogdata.storage import runs
from cogdata.storage.store import Store
from tests.catalog.support import catalog_rows, collect_into, edit_json, write_evaluation, write_run_of

GRASPS = "collections/grasps/part-00000-00-11"
PLACEMENTS = "collections/placements/part-00000-00-08"


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory: pytest.TempPathFactory, tray_files: Path) -> Path:
    """The tray store with a mixture, a run that learned from it and its evaluation; not to be changed."""
    root = tmp_path_factory.mktemp("whole") / "store"
    shutil.copytree(tray_files, root)
    store = Store(str(root))
    info = freeze(store, "mix", "select episode_id from episodes").info
    write_run_of(store, "run-1", info)
    runs.write_state(store, "run-1", runs.RunState("finished", 1000, 2.0, "2026-11-21T09:30:00+00:00"))
    write_evaluation(store, "run-1", "final", [True, False])
    return root


@pytest.fixture
def whole(store: Store, whole_files: Path) -> Store:
    """A store of one's own with the files of ``whole_files``."""
    shutil.copytree(whole_files, store.url, dirs_exist_ok=True)
    return store


def lines(store: Store) -> list[str]:
    found = [str(problem) for problem in verify(store)]
    assert all("\n" not in line for line in found)
    return found


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("policy", "place", "says policy place, the episodes of part-00000-00-11 weak_grasp"),
        (
            "env",
            "cog/PlaceTray-v0",
            "says env cog/PlaceTray-v0, the episodes of part-00000-00-11 cog/PickTray-v0",
        ),
        ("noise", 0.1, "says noise 0.1, the episodes of part-00000-00-11 0.2"),
        ("image_size", 48, "says image_height 48, the episodes of part-00000-00-11 4"),
        ("horizon", 3, "says horizon 3, an episode of part-00000-00-11 has 4 steps"),
    ],
)
def test_a_collection_that_says_other_settings_than_its_episodes(
    whole: Store, setting: str, value: object, said: str
) -> None:
    edit_json(whole, "collections/grasps/collection.json", **{setting: value})
    again = "remove it and run the same `cog collect` again"
    assert lines(whole) == [f"collections/grasps/collection.json: {said}: {again}"]


def test_a_whole_store_has_no_problems(whole: Store) -> None:
    seen: list[tuple[int, int]] = []
    assert verify(whole, lambda done, total: seen.append((done, total))) == []
    assert seen == [(1, 2), (2, 2)]
    collect_into(whole, "grasps", 12, 14)
    assert verify(whole) == []


def test_an_empty_store_has_no_problems(store: Store) -> None:
    assert verify(store) == []


def flip(store: Store, path: str, position: int) -> None:
    data = bytearray(store.read_bytes(path))
    data[position] ^= 0xFF
    store.write_bytes(path, bytes(data))


def truncate(store: Store, path: str) -> None:
    store.write_bytes(path, store.read_bytes(path)[:-100])


def rewrite_digest(store: Store) -> None:
    table = store.read_table(f"{GRASPS}/episodes.parquet")
    digests = ["0" * 64, *table.column("digest").to_pylist()[1:]]
    position = table.schema.get_field_index("digest")
    changed = table.set_column(position, "digest", pa.array(digests))
    store.write_table(f"{GRASPS}/episodes.parquet", changed)


def forget_rows(store: Store, column: str, value: object) -> None:
    con = duckdb.connect(str(db.catalog_path(store)))
    con.execute(f"DELETE FROM base.episodes WHERE {column} = ?", [value])
    con.close()


def collect_elsewhere(store: Store) -> None:
    store.remove(GRASPS)
    collect_into(store, "grasps", 0, 14)


DAMAGES: list[tuple[str, Callable[[Store], object], list[str]]] = [
    (
        "a flipped byte in a shard",
        lambda store: flip(store, f"{GRASPS}/frames.tar", 600),
        [f"{GRASPS}/frames.tar: its sha256 is wrong: remove its folder and collect again",
         f"{GRASPS}/frames.tar: 1 episodes cannot be read, for example grasps/0000000: "],
    ),
    (
        "a truncated shard",
        lambda store: truncate(store, f"{GRASPS}/frames.tar"),
        [f"{GRASPS}/frames.tar: has "],
    ),
    (
        "a missing shard",
        lambda store: store.remove(f"{GRASPS}/frames.tar"),
        [f"{GRASPS}/frames.tar: is missing: remove its folder and collect again",
         f"{GRASPS}/frames.tar: 12 episodes cannot be read, for example grasps/0000000: "],
    ),
    (
        "a missing steps table",
        lambda store: store.remove(f"{GRASPS}/steps.parquet"),
        [f"{GRASPS}/steps.parquet: is missing: remove its folder and collect again",
         f"{GRASPS}/steps.parquet: "],
    ),
    (
        "another digest",
        rewrite_digest,
        [f"{GRASPS}/episodes.parquet: has ",
         f"{GRASPS}/frames.tar: 1 episodes have another content than their digest, for example grasps/0000000: "
         "remove the folder and collect again",
         "mixtures/mix/v1: 1 of its episodes have changed, for example grasps/0000000"],
    ),
    (
        "a damaged episodes table",
        lambda store: store.write_bytes(f"{GRASPS}/episodes.parquet", b"junk"),
        [f"{GRASPS}/episodes.parquet: has 4 bytes, must have ",
         "mixtures/mix/v1: 12 of its episodes are gone, for example grasps/0000000: collect them again"],
    ),
    (
        "a damaged commit",
        lambda store: store.write_text(f"{GRASPS}/COMMIT.json", "{}"),
        [f"{GRASPS}/COMMIT.json: ",
         "mixtures/mix/v1: 12 of its episodes are gone, for example grasps/0000000: collect them again"],
    ),
    (
        "counts of another part",
        lambda store: edit_json(store, f"{GRASPS}/COMMIT.json", steps=47, stop=13),
        [f"{GRASPS}: holds 12 episodes, not 0 to 12",
         f"{GRASPS}: its episodes have not the 47 steps of COMMIT.json"],
    ),
    (
        "a missing head",
        lambda store: store.remove("collections/grasps/collection.json"),
        ["collections/grasps/collection.json: is missing: run the same `cog collect` again"],
    ),
    (
        "parts that overlap",
        lambda store: collect_into(store, "grasps", 10, 14),
        ["collections/grasps/part-00000-10-13: overlaps part-00000-00-11: remove one of the two folders and "
         "collect its range again"],
    ),
    (
        "a part within another",
        lambda store: collect_into(store, "grasps", 10, 12),
        ["collections/grasps/part-00000-10-11: part-00000-00-11 has all its episodes: remove this folder"],
    ),
    (
        "a longer part from the same start",
        lambda store: collect_into(store, "grasps", 0, 14),
        ["collections/grasps/part-00000-00-11: part-00000-00-13 has all its episodes: remove this folder"],
    ),
    (
        "episodes collected again into another folder",
        collect_elsewhere,
        ["mixtures/mix/v1: 12 of its episodes lie elsewhere now, for example grasps/0000000: "
         "run `cog mix refresh mix`"],
    ),
    (
        "a damaged head of a mixture",
        lambda store: store.write_text("mixtures/mix/v1/mixture.json", "{"),
        ["mixtures/mix/v1: ", "runs/run-1/run.json: its mixture mix@1 is gone"],
    ),
    (
        "damaged statistics of a mixture",
        lambda store: store.write_text("mixtures/mix/v1/stats.json", "[]"),
        ["mixtures/mix/v1: "],
    ),
    (
        "a copy of a part under another name",
        lambda store: shutil.copytree(store.path(GRASPS), store.path(f"{GRASPS}.bak")),
        [f"{GRASPS}.bak: is not the name of a part, so nothing reads it: move it out of the store, or remove it"],
    ),
    (
        "a removed collection",
        lambda store: store.remove("collections/placements"),
        ["mixtures/mix/v1: 9 of its episodes are gone, for example placements/0000000: collect them again"],
    ),
    (
        "a changed mixture",
        lambda store: edit_json(store, "mixtures/mix/v1/mixture.json", digest="0" * 64),
        ["mixtures/mix/v1: mixture mix@1 in ",
         "runs/run-1/run.json: its mixture mix@1 is not the one it was trained on: the digests differ"],
    ),
    (
        "a removed mixture",
        lambda store: store.remove("mixtures/mix"),
        ["runs/run-1/run.json: its mixture mix@1 is gone"],
    ),
    (
        "a damaged run",
        lambda store: store.write_text("runs/run-1/run.json", "{"),
        ["runs/run-1/run.json: cannot be read ("],
    ),
    (
        "a run whose removal was cut off",
        lambda store: store.remove("runs/run-1/run.json"),
        ["runs/run-1: has no run.json, so it is no run: run `cog runs rm run-1`"],
    ),
    (
        "a damaged evaluation",
        lambda store: store.write_bytes("runs/run-1/evaluations/final.parquet", b"junk"),
        ["runs/run-1/evaluations/final.parquet: cannot be read ("],
    ),
    (
        "a catalog that forgot episodes",
        lambda store: forget_rows(store, "collection", "grasps"),
        ["catalog.duckdb: table episodes differs from the files in 12 rows: run `cog data rebuild`"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "expected"), [pytest.param(*row[1:], id=row[0]) for row in DAMAGES])
def test_every_kind_of_damage_is_named(
    whole: Store, damage: Callable[[Store], object], expected: list[str]
) -> None:
    sync.sync(whole)
    damage(whole)
    found = lines(whole)
    assert [line for line, start in zip(found, expected, strict=False) if not line.startswith(start)] == []
    rest = found[len(expected) :]
    assert [
        line for line in rest if "cannot be read" not in line
    ] == []  # further episodes of the same damage


def test_what_cannot_be_read_for_a_moment_is_not_called_missing(
    whole: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Store.read_bytes

    def refuse(self: Store, name: str, offset: int = 0, size: int | None = None) -> bytes:
        if name == f"{PLACEMENTS}/frames.tar" and size is None:
            raise CogError("the store cannot be read: connect timeout")
        return real(self, name, offset, size)

    monkeypatch.setattr(Store, "read_bytes", refuse)
    (line,) = [line for line in lines(whole) if "frames.tar: " in line]
    assert line.endswith("frames.tar: cannot be read now: the store cannot be read: connect timeout")


def test_what_is_made_while_it_checks_is_not_held_against_it(
    whole: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = doctor._verify_overlaps

    def meanwhile(store: Store, collections: set[str]) -> Iterator[Problem]:
        collect_into(store, "grasps", 12, 15)
        freeze(store, "meanwhile", "select episode_id from episodes where episode_index >= 12")
        return real(store, collections)

    monkeypatch.setattr(doctor, "_verify_overlaps", meanwhile)
    assert not [line for line in lines(whole) if "meanwhile" in line]


def test_rebuilding_repairs_the_catalog(whole: Store) -> None:
    sync.sync(whole)
    before = catalog_rows(whole)
    forget_rows(whole, "collection", "grasps")
    assert len(verify(whole)) == 1
    report = sync.rebuild(whole)
    assert report.added == {"collection": 2, "part": 2, "mixture": 1, "run": 1, "state": 1, "evaluation": 1}
    assert catalog_rows(whole) == before
    assert verify(whole) == []


def test_rebuilding_makes_a_catalog_where_there_is_none(whole: Store) -> None:
    db.catalog_path(whole).unlink(missing_ok=True)
    sync.rebuild(whole)
    assert run_query(whole, "select count(*) n from episodes").table.to_pylist() == [{"n": 21}]


def test_the_summary_of_a_store(tray: Store) -> None:
    collect_into(tray, "grasps", 12, 15)
    (Path(tray.url) / "collections" / "empty").mkdir()
    shutil.copy(Path(tray.url) / "collections/grasps/collection.json", Path(tray.url) / "collections/empty")
    edit_json(tray, "collections/empty/collection.json", name="empty")
    empty, grasps, placements = describe_store(tray)
    assert (grasps.collection, grasps.policy, grasps.env) == ("grasps", "weak_grasp", "cog/PickTray-v0")
    assert (grasps.parts, grasps.episodes, grasps.steps) == (2, 15, 60)
    assert grasps.success_rate == pytest.approx(5 / 15)
    assert grasps.solved_rate == pytest.approx(5 / 15)
    assert (grasps.noise, grasps.root_seed, grasps.image_size) == (0.2, 7, 4)
    assert grasps.created_at == datetime(2026, 11, 20, 10, 0)
    folder = Path(tray.url) / "collections" / "grasps"
    assert grasps.bytes == sum(
        path.stat().st_size for path in folder.glob("part-*/*") if path.name != "COMMIT.json"
    )
    assert (placements.collection, placements.episodes) == ("placements", 9)
    assert empty == replace(
        grasps, collection="empty", parts=0, episodes=0, steps=0, success_rate=None, solved_rate=None, bytes=0
    )
