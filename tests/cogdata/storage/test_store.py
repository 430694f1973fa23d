from __future__ import annotations

import errno
import os
from pathlib import Path

import pyarrow as pa
import pytest

from cogdata.errors import CogError
from cogdata.storage.store import Store, open_store


def test_a_file_appears_whole_and_leaves_nothing_beside_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write_text("a/b.txt", "one")
    store.write_text("a/b.txt", "two")
    assert store.read_text("a/b.txt") == "two"

    def fail(self: Path, target: Path) -> Path:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(
        CogError, match=r"cannot write .*/a/b.txt: the file system is read-only: choose another"
    ):
        store.write_text("a/b.txt", "three")
    assert store.read_text("a/b.txt") == "two"
    assert store.list_files("a") == ["b.txt"]


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "none, as on exFAT"])
def test_a_file_is_created_once_and_appears_whole(
    store: Store, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", _refuse)
    assert store.create_text("a/claim", "mine")
    assert not store.create_text("a/claim", "theirs")
    assert store.read_text("a/claim") == "mine"
    monkeypatch.setattr(os, "fsync", _refuse)  # cut off while the text is being written
    with pytest.raises(CogError, match="cannot write .*/a/other: operation not permitted"):
        store.create_text("a/other", "mine")
    assert store.list_files("a") == ["claim"]


def _refuse(*_: object) -> None:
    raise PermissionError(errno.EPERM, "Operation not permitted")


def test_ranges_folders_and_tables(store: Store) -> None:
    store.write_bytes("x/y/data", b"0123456789")
    assert store.read_bytes("x/y/data", 2, 3) == b"234"
    with pytest.raises(CogError, match="is truncated: 9 bytes at 5 wanted, 5 found"):
        store.read_bytes("x/y/data", 5, 9)
    with pytest.raises(CogError, match="is missing"):
        store.read_bytes("x/nothing")
    table = pa.table({"a": [1, 2], "b": [None, "x"]})
    store.write_table("t.parquet", table)
    assert store.read_table("t.parquet") == table
    assert store.list_folders("x") == ["y"]
    assert store.list_folders("none") == []
    assert store.size("x/y/data") == 10
    store.remove("x")
    store.remove("x")
    assert not store.exists("x/y/data")


def test_leftovers_of_writes_that_were_cut_off_are_swept_after_an_hour(store: Store) -> None:
    store.write_text("a/b/kept.txt", "x")
    old, young = (Path(store.path(f"a/b/.{name}.123.tmp")) for name in ("old", "young"))
    for path in (old, young):
        path.write_text("half")
    os.utime(old, (0, 0))
    assert store.sweep("a") == 1
    assert store.sweep("nothing") == 0
    assert store.list_files("a/b") == [".young.123.tmp", "kept.txt"]


def test_the_same_calls_on_a_store_that_is_no_folder() -> None:
    store = Store("memory://bucket/prefix")
    assert not store.is_local
    store.write_text("a/b.txt", "one")
    assert store.read_text("a/b.txt") == "one"
    assert store.list_folders("") == ["a"]
    assert store.list_files("a") == ["b.txt"]
    assert store.path("a/b.txt").startswith("memory://")
    store.remove("a")
    assert not store.exists("a/b.txt")


def test_the_root_is_the_option_then_the_variable_then_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COG_ROOT", raising=False)
    assert open_store().url == str(tmp_path / "cog-store")
    monkeypatch.setenv("COG_ROOT", str(tmp_path / "other"))
    assert open_store().url == str(tmp_path / "other")
    assert open_store(str(tmp_path / "third")).url == str(tmp_path / "third")
    (tmp_path / "file").write_text("")
    with pytest.raises(CogError, match="is a file: name a folder with --root"):
        open_store(str(tmp_path / "file"))
    with pytest.raises(CogError, match="cannot be opened"):
        open_store("nosuchprotocol://x")
