"""A store's path is data: whatever characters it has, every reader says what the files say."""

from __future__ import annotations

import io
import os
import shutil
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.agreement import verify_catalog
from catalog.columns import STEPS
from catalog.doctor import verify
from catalog.guard import COLUMNS, VIEWS
from catalog.index import db, parquet, paths
from catalog.index.sync import rebuild, sync
from catalog.mixtures.mixture import freeze
from catalog.mixtures.portions import freeze_labelled, freeze_portion
from catalog.query import run_query
from cogdata.errors import CogError
from cogdata.storage.manifest import read_manifest
from cogdata.storage.parts import PART_EPISODES
from cogdata.storage.store import Store, open_store
from cogdata.streaming.stream import StreamOptions, open_stream
from tests.catalog.support import collect_into
from tests.running import Run

PART: Final = "collections/grasps/part-00000-00-02"

PATTERNS: Final = {
    "store[1]": "store1",
    "a?c": "abc",
    "a*": "ab",
    "{a,b}": "a",
    "**": "anything",
    "[!x]": "y",
    "b\\*c": "b*c",
    "d\\e?": "d\\ef",
}
"""Name of a root → a store beside it that the name matches as a pattern."""

OTHERS: Final = (
    "sp ace", " lead", "it's", 'say "no"', "new\nline", "tab\tbed", "p%41", "h#x", "back\\slash", "c::d", "~",
    "$HOME", "s3:x", ":memory:", "a&b;c", "é ü 日本", "COMMIT.json", "episodes.parquet", "catalog.duckdb",
)  # fmt: skip

WHOLE: Final = ("seed=0/reward=1", "a?c", "store[1]", "back\\slash", "c::d")
"""Roots that everything is tried in."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3 episodes of 4 actions, the first solved; not to be changed."""
    root = tmp_path_factory.mktemp("three")
    collect_into(Store(str(root)), "grasps", 0, 3)
    return root


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of the same names with other numbers in them."""
    root = tmp_path_factory.mktemp("neighbour")
    collect_into(Store(str(root)), "grasps", 0, 3, noise=0.5, steps=7)
    return root


def from_bytes(root: Path, name: str, schema: pa.Schema) -> list[dict[str, Any]]:
    """The rows of a file, read by neither DuckDB nor the store."""
    table = pq.ParquetFile(io.BytesIO((root / PART / name).read_bytes())).read()
    rows: list[dict[str, Any]] = table.select(schema.names).to_pylist()
    return rows


def check_rows(store: Store, root: Path) -> None:
    """Episodes and steps are those of the files, in every column."""
    episodes = run_query(store, "from episodes order by episode_id").table
    assert episodes.column_names[-3:] == ["observations", "members", "extras"]
    assert sorted(episodes.column_names[:-3]) == sorted(PART_EPISODES.names)
    found = episodes.select(PART_EPISODES.names).to_pylist()
    assert found == from_bytes(root, "episodes.parquet", PART_EPISODES)
    steps = run_query(store, "from steps order by episode_id, t").table.to_pylist()
    assert steps == from_bytes(root, "steps.parquet", STEPS)


def check_frozen(store: Store, root: Path) -> None:
    """A mixture holds the rewards of the files, and the store is whole."""
    info = freeze(store, "all", "select episode_id, t, reward from steps where action is not null").info
    frozen = read_manifest(store, "all")
    rewards = [row["reward"] for row in from_bytes(root, "steps.parquet", STEPS) if row["action"] is not None]
    assert frozen.rewards is not None
    assert [value for row in frozen.rewards["reward"].to_pylist() for value in row] == rewards
    assert info.counts["data"].rewarded_before == 2  # the last two steps of the first episode
    assert verify(store) == []


@pytest.mark.parametrize("view", VIEWS)
def test_folders_named_as_columns_set_no_column(view: str, files: Path, tmp_path: Path) -> None:
    root = tmp_path.joinpath(*(f"{column}=1" for column in COLUMNS[view]), "filename=1", "_cog_file=1")
    shutil.copytree(files, root)
    store = open_store(str(root))
    check_rows(store, root)
    assert list(verify_catalog(store, set())) == []


@pytest.mark.parametrize("name", [*PATTERNS, *OTHERS])
def test_a_root_of_any_name_is_read_and_its_neighbour_is_not(
    name: str, files: Path, others: Path, tmp_path: Path
) -> None:
    root = tmp_path / name
    shutil.copytree(files, root)
    if name in PATTERNS:
        shutil.copytree(others, tmp_path / PATTERNS[name])
    before = sorted(tmp_path.iterdir())
    store = open_store(str(root))
    assert store.is_local
    check_rows(store, root)
    if name in PATTERNS:
        check_frozen(store, root)
    rebuild(store)
    check_rows(store, root)
    assert sorted(tmp_path.iterdir()) == before
    assert {path.name for path in root.iterdir() if path.is_file()} <= {
        "catalog.duckdb",
        ".catalog.lock",
        ".mixtures.lock",
    }


def batches(store: Store) -> list[bytes]:
    """The first three batches of the mixture ``all``."""
    stream = open_stream(store, read_manifest(store, "all"), StreamOptions(batch_size=4, seed=3))
    found = []
    for position in range(3):
        batch = stream.batch(position)
        found.append(b"".join(array.tobytes() for array in (batch.obs["image"], batch.action, batch.reward)))
    return found


@pytest.fixture(scope="module")
def plain(files: Path, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """What a store of a plain name gives a learner."""
    root = tmp_path_factory.mktemp("plain") / "store"
    shutil.copytree(files, root)
    check_frozen(Store(str(root)), root)
    return batches(Store(str(root)))


@pytest.mark.parametrize("name", WHOLE)
def test_every_command_works_in_such_a_root(
    name: str, files: Path, plain: list[bytes], tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / name
    shutil.copytree(files, root)
    monkeypatch.setenv("COG_ROOT", str(root))
    check_frozen(Store(str(root)), root)
    assert batches(Store(str(root))) == plain
    query = "select episode_id, case when success then 'task' else 'prior' end as source from episodes"
    for command in (
        ("query", query, "--as", "two"),
        ("train", "--mixture", "two", "--algo", "bc", "--obs", "state", "--updates", "2"),
        ("runs", "ls"),
        ("data", "ls"),
        ("mix", "refresh", "all"),
        ("data", "verify"),
        ("data", "rebuild"),
    ):
        said = run(*command)
        assert said.code == 0, (command, said)
    for path in (root / "runs").iterdir():
        assert run("runs", "rm", path.name).code == 0
    assert list((root / "runs").iterdir()) == []


@pytest.mark.parametrize("name", ["source=prior/reward=1", "store[1]", "a?c", "it's", "back\\slash"])
def test_mixtures_that_read_files_of_the_store_find_them_under_any_root(
    name: str, files: Path, tmp_path: Path
) -> None:
    root = tmp_path / name
    shutil.copytree(files, root)
    store = open_store(str(root))
    source = "case when episode_index < 2 then 'prior' else 'task' end as source"
    freeze(
        store, "steps", f"select s.episode_id, t, 0.5 as reward, {source} from steps s join episodes e "
        "using (episode_id) where action is not null",
    )  # fmt: skip
    info = freeze_portion(store, "steps", "prior")
    assert (info.counts.keys(), info.counts["prior"].transitions) == ({"prior"}, 8)
    assert info.counts["prior"].rewarded_after == 8
    freeze(store, "whole", f"select episode_id, {source} from episodes")
    labels = {
        "episode_id": ["grasps/0000000"] * 4 + ["grasps/0000001"] * 4,
        "t": list(range(4)) * 2,
        "source": ["prior"] * 8,
        "reward": [0.25] * 8,
    }
    store.write_table("labels/given.parquet", pa.table(labels))
    freeze_labelled(store, "whole", "told", "labels/given.parquet")
    rewards = read_manifest(store, "told").rewards
    assert rewards is not None
    assert rewards["reward"].to_pylist() == [[0.25] * 4, [0.25] * 4, [0.0] * 4]


def test_a_path_that_sql_cannot_name_is_refused_before_anything_is_frozen(
    files: Path, tmp_path: Path
) -> None:
    root = tmp_path / "a\\b*"
    shutil.copytree(files, root)
    store = open_store(str(root))
    freeze(store, "whole", "select episode_id, 'prior' as source from episodes")
    with pytest.raises(CogError, match="no SQL names .* rename the folder"):
        freeze_labelled(store, "whole", "told", "labels/given.parquet")
    assert store.list_folders("mixtures") == ["whole"]


def test_users_sql_reads_files_of_its_own_store_alone(files: Path, others: Path, tmp_path: Path) -> None:
    shutil.copytree(files, tmp_path / "store[1]")
    shutil.copytree(others, tmp_path / "store1")
    store = open_store(str(tmp_path / "store[1]"))
    whole = f"{tmp_path}/store[[]1]/{PART}/episodes.parquet"
    sql = f"select noise from read_parquet('{whole}') order by all"
    assert run_query(store, sql).table["noise"].to_pylist() == [0.2] * 3
    with pytest.raises(CogError, match="SQL reads no files outside the store"):
        run_query(store, sql.replace("[[]", "["))


def test_a_relative_root_and_a_link_to_an_odd_one(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(files, tmp_path / "a?c")
    (tmp_path / "link").symlink_to("a?c")
    monkeypatch.chdir(tmp_path)
    for root in ("a?c", "./link", "link/../a?c"):
        store = open_store(root)
        assert store.url == str(tmp_path / "a?c")
        check_rows(store, tmp_path / "a?c")
    check_rows(Store(str(tmp_path / "link")), tmp_path / "a?c")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.parametrize("command", [("data", "ls"), ("collect", "--policy", "random", "--episodes", "1")])
def test_a_root_that_is_not_utf_8_is_refused_before_anything_is_written(
    command: tuple[str, ...], tmp_path: Path, run: Run
) -> None:
    root = os.fsdecode(bytes(tmp_path) + b"/caf\xe9")
    said = run(*command, "--root", root)
    assert said.error.endswith("/caf\\xe9' has bytes that are not UTF-8: choose another name")
    assert list(tmp_path.iterdir()) == []


def test_a_home_of_nobody_is_one_line(run: Run) -> None:
    said = run("data", "ls", "--root", "~nobody-has-this-name/store")
    assert "there is no such user" in said.error


@pytest.mark.parametrize("name", ["s3:", "a://b", "s3:/x"])
def test_a_path_is_a_path_even_if_it_looks_like_a_url_further_on(name: str, tmp_path: Path) -> None:
    store = Store(f"{tmp_path}/{name}")
    store.write_text("a/b", "said")
    assert Path(f"{tmp_path}/{name}/a/b").read_text() == "said"


def test_what_is_removed_of_a_remote_store_is_no_pattern() -> None:
    for name in ("roots/a[1]", "roots/a1"):
        Store(f"memory://{name}").write_text("runs/x/run.json", "{}")
    Store("memory://roots/a[1]").remove("runs/x")
    assert not Store("memory://roots/a[1]").exists("runs/x/run.json")
    assert Store("memory://roots/a1").exists("runs/x/run.json")


# --- another reader ---------------------------------------------------------------------------------------


@pytest.fixture
def store_here(files: Path, tmp_path: Path) -> Store:
    shutil.copytree(files, tmp_path / "seed=7" / "reward=9")
    return Store(str(tmp_path / "seed=7" / "reward=9"))


@pytest.fixture
def hive(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loader that takes folders for columns."""
    monkeypatch.setattr(parquet, "_OPTIONS", "hive_partitioning = true, union_by_name = true")


@pytest.mark.usefixtures("hive")
def test_verify_finds_what_the_loader_read_wrongly(store_here: Store) -> None:
    assert set(run_query(store_here, "from episodes").table["seed"].to_pylist()) == {7}
    assert [str(problem) for problem in verify(store_here)] == [
        "catalog.duckdb: table episodes differs from the files in 6 rows: run `cog data rebuild`",
        f"{PART}/steps.parquet: `cog query` reads 30 rows of it otherwise than they are: update cogdata",
    ]


def test_verify_finds_a_row_that_was_changed_in_the_catalog(store_here: Store) -> None:
    sync(store_here)
    with db.connect(store_here, write=True) as con:
        con.execute("UPDATE base.episodes SET total_reward = 5 WHERE episode_index = 1")
    assert [str(problem) for problem in verify(store_here)] == [
        "catalog.duckdb: table episodes differs from the files in 2 rows: run `cog data rebuild`"
    ]
    rebuild(store_here)
    assert verify(store_here) == []


# --- temporary folders ------------------------------------------------------------------------------------


def test_an_odd_temporary_folder_is_passed_over(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t?").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "t?"))
    shutil.copytree(files, tmp_path / "u?v")
    store = Store(str(tmp_path / "u?v"))
    check_rows(store, tmp_path / "u?v")
    assert verify(store) == []
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(CogError, match="set TMPDIR to one that has not"), paths.plain_folder():
        pass


def test_no_temporary_folder_is_left(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    shutil.copytree(files, tmp_path / "w?x")
    check_frozen(Store(str(tmp_path / "w?x")), tmp_path / "w?x")
    left = list((tmp_path / "temporary").iterdir())  # the name that DuckDB reads the store by, until the end
    assert [[path.name for path in folder.iterdir()] for folder in left] == [["store"]]
    assert np.all([path.is_symlink() for folder in left for path in folder.iterdir()])
