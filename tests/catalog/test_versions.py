"""Files of a newer version are refused in one line, those of an older one open, unknown keys stay."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from catalog.doctor import verify
from catalog.index.sync import rebuild, sync
from catalog.mixtures.mixture import freeze
from catalog.query import run_query
from cogdata.errors import CogError
from cogdata.storage import collections, manifest, parts, runs
from cogdata.storage.store import Store
from cogdata.storage.versions import with_unknown
from tests.catalog.support import collect_into, edit_json, write_evaluation, write_run_of

SAID = "was written by a newer cogdata (schema 3, this one reads 2): upgrade cogdata"

GRASPS = "collections/grasps/part-00000-00-11"
READERS: dict[str, Callable[[Store], object]] = {
    "collections/grasps/collection.json": lambda store: collections.read_collection(store, "grasps"),
    f"{GRASPS}/COMMIT.json": lambda store: parts.read_commit(store, "grasps", "part-00000-00-11"),
    "mixtures/mix/v1/mixture.json": lambda store: manifest.read_info(store, "mix"),
    "mixtures/mix/v1/stats.json": lambda store: manifest.read_manifest(store, "mix").stats,
    "runs/run-1/run.json": lambda store: runs.read_run(store, "run-1"),
    "runs/run-1/state.json": lambda store: runs.read_state(store, "run-1"),
    "runs/run-1/best.json": lambda store: runs.read_best(store, "run-1"),
}
"""JSON file → its reader."""

INDEXED = [path for path in READERS if not path.endswith(("stats.json", "best.json"))]


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory: pytest.TempPathFactory, tray_files: Path) -> Path:
    """A store with every kind of file; not to be changed."""
    root = tmp_path_factory.mktemp("whole") / "store"
    shutil.copytree(tray_files, root)
    store = Store(str(root))
    info = freeze(store, "mix", "select episode_id from episodes where collection = 'grasps'").info
    write_run_of(store, "run-1", info)
    runs.write_state(store, "run-1", runs.RunState("finished", 1000, 2.0, "2026-11-21T09:30:00+00:00"))
    runs.write_best(store, "run-1", runs.Best(1000, "cog/PickTray-v0", (1, 2), 1))
    write_evaluation(store, "run-1", "final", [True, False])
    return root


@pytest.fixture
def whole(store: Store, whole_files: Path) -> Store:
    """A store of one's own with these files."""
    shutil.copytree(whole_files, store.url, dirs_exist_ok=True)
    return store


@pytest.mark.parametrize("path", READERS)
def test_a_newer_file_is_one_line(whole: Store, path: str) -> None:
    edit_json(whole, path, schema_version=3, success_range="of another shape", seeds=None)
    with pytest.raises(CogError) as raised:
        READERS[path](whole)
    assert str(raised.value) == f"{whole.path(path)} {SAID}"


@pytest.mark.parametrize("path", READERS)
@pytest.mark.parametrize("version", [0, 1])
def test_an_older_file_and_one_with_unknown_keys_opens(whole: Store, path: str, version: int) -> None:
    before = READERS[path](whole)
    edit_json(whole, path, schema_version=version, unheard_of={"of": [1]})
    after = READERS[path](whole)
    if path.endswith(("collection.json", "mixture.json")) and version == 0:
        assert repr(after) == repr(before).replace("schema_version=1", "schema_version=0")
    else:
        assert after == before
        assert verify(whole) == []


@pytest.mark.parametrize("path", READERS)
@pytest.mark.parametrize("text", ["[]", "3", "", "{", '{"schema_version": "2"}', "{}"])
def test_damage_is_still_one_line_that_says_what_to_do(whole: Store, path: str, text: str) -> None:
    whole.write_text(path, text)
    with pytest.raises(CogError, match=r"is damaged: (restore|remove|run)") as raised:
        READERS[path](whole)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("path", INDEXED)
def test_sync_names_a_newer_file_and_indexes_the_rest(whole: Store, path: str) -> None:
    sync(whole)
    edit_json(whole, path, schema_version=3)
    line = f"{whole.path(path)} {SAID}"
    assert sync(whole).problems == (line,)
    assert rebuild(whole).problems == (line,)
    result = run_query(whole, "select count(*) as n from episodes")
    assert result.unread == (line,)
    assert result.table["n"].to_pylist() == [9 if "COMMIT" in path else 21]
    where = path.removesuffix("/mixture.json")
    own = [str(problem) for problem in verify(whole)]
    assert own in ([f"{where}: {line}"], [f"{path}: {SAID}"])


def test_a_newer_evaluation_is_named_and_the_rest_is_indexed(whole: Store) -> None:
    write_evaluation(whole, "run-1", "later", [True])
    path = "runs/run-1/evaluations/later.parquet"
    table = whole.read_table(path)
    whole.write_table(path, table.replace_schema_metadata({"schema_version": "3"}))
    line = f"{whole.path(path)} {SAID}"
    assert sync(whole).problems == (line,)
    assert [str(problem) for problem in verify(whole)] == [f"{path}: {SAID}"]
    assert run_query(whole, "select count(*) as n from evaluations").table["n"].to_pylist() == [2]
    whole.write_table(path, table.replace_schema_metadata({"schema_version": "1"}))
    assert verify(whole) == []


def rewrite_run(store: Store) -> None:
    runs.write_run(store, runs.read_run(store, "run-1"))


def rewrite_state(store: Store) -> None:
    runs.write_state(store, "run-1", runs.RunState("stopped", 5, 1.0, "2027-01-01T00:00:00+00:00"))


def rewrite_best(store: Store) -> None:
    runs.write_best(store, "run-1", runs.Best(7, "cog/PickTray-v0", (1,), 1))


def rewrite_collection(store: Store) -> None:
    collect_into(store, "grasps", 12, 13)


def rewrite_mixture(store: Store) -> None:
    manifest.write_info(store, manifest.read_info(store, "mix"))


REWRITES: dict[str, Callable[[Store], None]] = {
    "runs/run-1/run.json": rewrite_run,
    "runs/run-1/state.json": rewrite_state,
    "runs/run-1/best.json": rewrite_best,
    "collections/grasps/collection.json": rewrite_collection,
    "mixtures/mix/v1/mixture.json": rewrite_mixture,
}
"""JSON file that is written again → how."""


@pytest.mark.parametrize("path", REWRITES)
def test_unknown_keys_stay_when_a_file_is_written_again(whole: Store, path: str) -> None:
    REWRITES[path](whole)
    bare: dict[str, Any] = json.loads(whole.read_text(path))
    text = whole.read_text(path)
    edit_json(whole, path, unheard_of={"of": [1]})
    REWRITES[path](whole)
    assert json.loads(whole.read_text(path)) == bare | {"unheard_of": {"of": [1]}}
    whole.write_text(path, "damaged" if "mixture" not in path and "run.json" not in path else text)
    REWRITES[path](whole)
    assert whole.read_text(path) == text  # the bytes of before


@pytest.mark.parametrize("path", REWRITES)
def test_a_newer_file_is_not_written_over(whole: Store, path: str) -> None:
    edit_json(whole, path, schema_version=3)
    text = whole.read_text(path)
    with pytest.raises(CogError, match="upgrade cogdata$"):
        REWRITES[path](whole)
    assert whole.read_text(path) == text


def test_a_file_that_is_not_there_has_no_unknown_keys(store: Store) -> None:
    assert with_unknown(store, "runs/x/state.json", runs.RunState, {"a": 1}) == {"a": 1}


def test_files_of_this_version_have_the_keys_of_before(store: Store) -> None:
    collect_into(store, "grasps", 0, 2)
    commit = json.loads(store.read_text("collections/grasps/part-00000-00-01/COMMIT.json"))
    assert "schema_version" not in commit
    assert json.loads(store.read_text("collections/grasps/collection.json"))["schema_version"] == 1
