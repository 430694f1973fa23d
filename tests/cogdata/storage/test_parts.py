from __future__ import annotations

import errno
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import webdataset

from cogdata.errors import CogError
from cogdata.layout1 import layout1_spec
from cogdata.storage.collections import read_collection
from cogdata.storage.parts import (
    COMMIT,
    FRAMES,
    PART_SIZE,
    PartWriter,
    is_part_name,
    list_parts,
    part_name,
    part_range,
    read_commit,
)
from cogdata.storage.samples import read_episode
from cogdata.storage.store import Store
from cogdata.storage.versions import origin
from tests.synthetic import make_episode, write_episodes


def test_an_episode_comes_back_bit_for_bit(store: Store) -> None:
    rows = write_episodes(store, "c", 3, steps=7, size=6)
    for index, row in enumerate(rows):
        original = make_episode("c", index, steps=7, size=6)
        back = read_episode(store, row)
        assert back.digest() == original.digest() == row["digest"]
        np.testing.assert_array_equal(back.image, original.image)
        assert back.meta == original.meta


def test_a_scene_of_which_nothing_is_known_comes_back_empty(store: Store) -> None:
    whole = make_episode("c", 0)
    bare = replace(
        whole,
        spec=layout1_spec((4, 4), (), ("placed", "grasped")),
        observations={**whole.observations, "scene": np.zeros((5, 0), np.float32)},
    )
    writer = PartWriter(store, "c", 0, 1)
    writer.add(bare)
    (row,) = store.read_table(f"collections/c/{writer.commit().part}/episodes.parquet").to_pylist()
    back = read_episode(store, row)
    assert (back.scene.shape, back.scene_fields, back.digest()) == ((5, 0), (), bare.digest())


def test_the_same_range_is_the_same_bytes(store: Store, tmp_path: Path) -> None:
    other = Store(str(tmp_path / "other"))
    for target in (store, other):
        write_episodes(target, "c", 5)
    assert read_commit(store, "c", "part-00000-00-04") == read_commit(other, "c", "part-00000-00-04")


def test_what_made_a_part_changes_none_of_its_bytes(store: Store, tmp_path: Path) -> None:
    made_with = origin("lab:Arm", "0.2.0", "abc", {"numpy": "2", "lab": "1f2e"})
    assert made_with == {"cogdata": "0.2.0", "code": "abc", "driver": "1f2e",
                         "libraries": {"numpy": "2", "lab": "1f2e"}}  # fmt: skip
    assert origin("cog/PickTray-v0", "0.2.0", "", {"numpy": "2"})["driver"] is None
    commits = []
    for target, made in ((store, made_with), (Store(str(tmp_path / "other")), None), (store, None)):
        writer = PartWriter(target, "c", 0, 1, made)
        writer.add(make_episode("c", 0))
        commits.append(writer.commit())
    assert commits[0].files == commits[1].files
    assert [commit.made_with for commit in commits] == [made_with, None, made_with]  # the first one stays
    assert read_commit(store, "c", "part-00000-00-00") == commits[0]


def test_the_commit_names_size_and_sha256_of_each_file(store: Store) -> None:
    write_episodes(store, "c", 2)
    commit = read_commit(store, "c", "part-00000-00-01")
    assert (commit.start, commit.stop, commit.episodes, commit.steps, commit.frames) == (0, 2, 2, 8, 10)
    for name, facts in commit.files.items():
        data = store.read_bytes(f"collections/c/part-00000-00-01/{name}")
        assert facts == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def test_plain_webdataset_reads_our_shards(store: Store) -> None:
    rows = write_episodes(store, "c", 3)
    samples = list(webdataset.WebDataset(store.path(rows[0]["shard"]), shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == ["c/0000000", "c/0000001", "c/0000002"]
    assert [len(sample["frames.zst"]) for sample in samples] == [row["frames_size"] for row in rows]
    assert all(len(sample["steps.arrow.zst"]) > 0 for sample in samples)


def _rows(sql: str) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = duckdb.execute(sql).fetchall()
    return found


def test_sql_sees_one_row_per_observation_with_nulls_after_the_last_action(store: Store) -> None:
    write_episodes(store, "c", 4)
    path = store.path("collections/c/part-00000-00-03/steps.parquet")
    last = _rows(f"select * from '{path}' where t = 4 and episode_id = 'c/0000003'")
    names = [row[0] for row in _rows(f"describe select * from '{path}'")]
    row = dict(zip(names, last[0], strict=True))
    assert row["robot"][:2] == [3.0, 4.0]
    assert [row[name] for name in ("action", "reward", "truncated", "phase", "drawer_open")] == [None] * 5
    assert (row["placed"], row["grasped"]) == (True, False)
    counted = _rows(f"select count(*), count(reward), sum(reward) from '{path}'")
    assert counted == [(20, 16, 2.0)]


def test_without_a_commit_the_part_does_not_exist(store: Store) -> None:
    write_episodes(store, "c", 1)
    assert list_parts(store, "c") == ["part-00000-00-00"]
    store.remove(f"collections/c/part-00000-00-00/{COMMIT}")
    assert list_parts(store, "c") == []


@pytest.mark.parametrize(("failing", "expected"), [("frames.tar", []), ("COMMIT.json", [])])
def test_a_full_disk_commits_nothing_and_says_so(
    store: Store, monkeypatch: pytest.MonkeyPatch, failing: str, expected: list[str]
) -> None:
    import cogdata.storage.store as module

    real = module._replace

    def full(target: Path, data: Any, **how: Any) -> None:
        if target.name == failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(target, data, **how)

    monkeypatch.setattr(module, "_replace", full)
    with pytest.raises(CogError, match=f"cannot write .*{failing}: the disk is full"):
        write_episodes(store, "c", 2)
    assert list_parts(store, "c") == expected


def test_a_truncated_shard_and_a_flipped_byte_are_refused(store: Store) -> None:
    rows = write_episodes(store, "c", 2)
    path = Path(store.path(rows[1]["shard"]))
    data = bytearray(path.read_bytes())
    data[rows[0]["frames_offset"] + 5] ^= 1
    path.write_bytes(data[: rows[1]["steps_offset"] + 3])
    with pytest.raises(CogError, match=rf"{FRAMES} is damaged at byte {rows[0]['frames_offset']}"):
        read_episode(store, rows[0])
    with pytest.raises(CogError, match=rf"{FRAMES} is truncated: {rows[1]['steps_size']} bytes"):
        read_episode(store, rows[1])
    path.unlink()
    with pytest.raises(CogError, match=f"{FRAMES} is missing"):
        read_episode(store, rows[0])


def test_a_head_that_is_no_text_is_one_line(store: Store) -> None:
    write_episodes(store, "c", 2)
    store.write_bytes("collections/c/collection.json", b"\xff\xfe")
    with pytest.raises(CogError, match="collection.json is damaged: run the same `cog collect` again"):
        read_collection(store, "c")
    store.write_bytes(f"collections/c/part-00000-00-01/{COMMIT}", b"\xff\xfe")
    with pytest.raises(CogError, match="is damaged: remove the folder and collect again"):
        read_commit(store, "c", "part-00000-00-01")


def test_what_is_committed_is_not_written_again(store: Store) -> None:
    write_episodes(store, "c", 2)
    shard = Path(store.path("collections/c/part-00000-00-01/frames.tar"))
    before = shard.stat()
    rows = write_episodes(store, "c", 2, steps=9)  # as a writer of another version would
    assert shard.stat().st_mtime_ns == before.st_mtime_ns
    assert [row["steps"] for row in rows] == [4, 4]


def test_part_names_say_the_range() -> None:
    assert part_name(0, PART_SIZE) == "part-00000"
    assert part_name(7 * PART_SIZE, 8 * PART_SIZE) == "part-00007"
    assert part_name(PART_SIZE + 3, PART_SIZE + 10) == "part-00001-03-09"
    for span in ((0, PART_SIZE), (7 * PART_SIZE, 8 * PART_SIZE), (PART_SIZE + 3, PART_SIZE + 10), (200, 201)):
        assert part_range(part_name(*span)) == span
    for other in (
        "part-1",
        "part-00001-",
        "part-00001-03",
        "x-part-00001",
        "part-00001.bak",
        "part-0000\u0661",
    ):
        assert not is_part_name(other)
        with pytest.raises(ValueError, match="is not the name of a part"):
            part_range(other)
    with pytest.raises(ValueError, match="does not lie within one part"):
        part_name(PART_SIZE - 1, PART_SIZE + 1)


def test_a_short_part_holds_what_was_added_under_the_name_of_its_range(store: Store) -> None:
    writer = PartWriter(store, "c", 0, 3)
    for index in range(2):
        writer.add(make_episode("c", index))
    commit = writer.commit(short=True)
    assert (commit.part, commit.start, commit.stop, commit.episodes) == ("part-00000-00-01", 0, 2, 2)
    rows = store.read_table("collections/c/part-00000-00-01/episodes.parquet").to_pylist()
    assert {row["part"] for row in rows} == {"part-00000-00-01"}
    assert [read_episode(store, row).digest() for row in rows] == [row["digest"] for row in rows]
    with pytest.raises(ValueError, match="holds 0 episodes"):
        PartWriter(store, "c", 0, 3).commit(short=True)


def test_what_is_committed_never_changes_whatever_lies_beside_it(store: Store) -> None:
    write_episodes(store, "c", 2)
    head = store.read_text("collections/c/part-00000-00-01/COMMIT.json")
    store.write_text("collections/c/part-00000-00-01/episodes.parquet", "damaged")
    writer = PartWriter(store, "c", 0, 2)
    for index in range(2):
        writer.add(make_episode("c", index))
    assert writer.commit().episodes == 2
    assert store.read_text("collections/c/part-00000-00-01/COMMIT.json") == head
    assert (
        store.read_text("collections/c/part-00000-00-01/episodes.parquet") == "damaged"
    )  # for verify to find


@pytest.mark.parametrize("moment", ["episodes.parquet", "COMMIT.json"])
@pytest.mark.parametrize("steps", [4, 9], ids=["the same version", "another version"])
def test_of_two_writers_of_a_range_the_first_has_committed_it(
    store: Store, monkeypatch: pytest.MonkeyPatch, moment: str, steps: int
) -> None:
    """The other one commits just before this one writes its last table, or its commit."""
    path = "collections/c/part-00000-00-01"
    others: list[Any] = []
    import cogdata.storage.store as module

    write = module._replace

    def after_the_other(target: Path, data: Any, **how: Any) -> None:
        if target.name == moment and not others:
            others.append(True)
            write_episodes(store, "c", 2)
            others.append(store.read_text(f"{path}/{COMMIT}"))
        write(target, data, **how)

    monkeypatch.setattr(module, "_replace", after_the_other)
    writer = PartWriter(store, "c", 0, 2)
    for index in range(2):
        writer.add(make_episode("c", index, steps=steps))
    if steps == 4:
        assert writer.commit().steps == 8
    else:
        with pytest.raises(
            CogError, match=f"{path}: another writer committed other bytes meanwhile: run `cog"
        ):
            writer.commit()
    assert store.read_text(f"{path}/{COMMIT}") == others[1]


def test_a_part_that_was_committed_meanwhile_is_left_as_it_is(store: Store) -> None:
    writer = PartWriter(store, "c", 0, 2)
    for index in range(2):
        writer.add(make_episode("c", index, steps=9))
    write_episodes(store, "c", 2)
    folder = Path(store.path("collections/c/part-00000-00-01"))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert writer.commit().steps == 8
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_episodes_must_come_in_order(store: Store) -> None:
    writer = PartWriter(store, "c", 0, 2)
    with pytest.raises(ValueError, match="c/0000001 added, c/0 expected"):
        writer.add(make_episode("c", 1))
    with pytest.raises(ValueError, match="holds 0 episodes"):
        writer.commit()
