"""Layers as files: what is derived is what is read, and an episode is in a layer once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cogdata.errors import CogError
from cogdata.features import DTYPES, Feature, Per
from cogdata.storage.layers import commits
from cogdata.storage.layers.commits import LayerPart, covered, list_commits, read_commit, read_rows
from cogdata.storage.layers.heads import LayerInfo, create_layer, list_layers, list_versions, read_layer
from cogdata.storage.layers.rows import LayerRow
from cogdata.storage.store import Store

FEATURES = (
    Feature("caption", "string", per=Per.EPISODE),
    Feature("mean_force", "float16", (2,), per=Per.EPISODE),
    Feature("embedding", "float32", (2, 2)),
    Feature("near", "bool", per=Per.TRANSITION),
    Feature("subtask", "string", per=Per.TRANSITION),
    Feature("nothing", "int32", (0,)),
)
MADE = {"cogdata": "0", "host": "test"}


def info_of(*features: Feature, **changes: Any) -> LayerInfo:
    values: dict[str, Any] = {
        "name": "seen", "version": 1, "function": "lab:seen", "source": "ab" * 32, "features": features or FEATURES,
        "command": "cog derive seen", "created_at": "2027-01-01T00:00:00", "cogdata_version": "0.2.0",
    }  # fmt: skip
    return LayerInfo(**values | changes)


def row_of(index: int, *, steps: int = 2, **changes: Any) -> LayerRow:
    """Values of episode ``index`` of 3 observations and 2 actions, which can be told from its index."""
    subtasks = np.empty(steps, object)
    subtasks[:] = ["reach", None] * (steps // 2)
    values: dict[str, NDArray[Any] | None] = {
        "caption": np.array([f"drawer {index}"], object),
        "mean_force": np.array([[index / 4, 2.0]], np.float16),
        "embedding": np.arange((steps + 1) * 4, dtype=np.float32).reshape(steps + 1, 2, 2) + index,
        "near": np.arange(steps) == 1,
        "subtask": subtasks,
        "nothing": np.zeros((steps + 1, 0), np.int32),
    }
    return LayerRow(f"arm/{index:07d}", f"{index:02x}" * 32, steps + 1, steps, values | changes)


def part_of(store: Store, info: LayerInfo, number: int = 0) -> LayerPart:
    return LayerPart(store, create_layer(store, info), "arm", f"part-{number:05d}", MADE)


def test_every_type_comes_back_as_it_was(store: Store) -> None:
    info = info_of()
    rows = [row_of(0), row_of(1, steps=4), row_of(2, embedding=None, caption=None, near=None, subtask=None)]
    commit = part_of(store, info).commit(rows)
    assert commit is not None
    assert (commit.episodes, commit.rows) == (3, 3 + 5 + 3)
    found = list(read_rows(store, read_layer(store, "seen"), read_commit(store, commit.path)))
    for (read, digest), row in zip(found, rows, strict=True):
        assert (read.episode_id, read.episode_digest) == (row.episode_id, row.episode_digest)
        assert read.digest(info.features) == digest == row.digest(info.features)
        for name, values in row.values.items():
            if values is None:
                assert read.values[name] is None
            else:
                np.testing.assert_array_equal(read.values[name], values)
                assert read.values[name].dtype == values.dtype  # type: ignore[union-attr]


@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if dtype != "string"])
@pytest.mark.parametrize("shape", [(), (3,)])
@pytest.mark.parametrize("per", list(Per))
def test_a_feature_of_any_type_shape_and_alignment(
    store: Store, dtype: str, shape: tuple[int, ...], per: Per
) -> None:
    feature = Feature("x", dtype, shape, per=per)
    rows = {Per.OBSERVATION: 3, Per.TRANSITION: 2, Per.EPISODE: 1}[per]
    values = (np.arange(rows * max(feature.size, 1)) % 2).reshape(rows, *shape).astype(dtype)
    given = [
        LayerRow("arm/0000000", "00", 3, 2, {"x": values}),
        LayerRow("arm/0000001", "01", 3, 2, {"x": None}),
    ]
    commit = part_of(store, info_of(feature)).commit(given)
    assert commit is not None
    (first, _), (second, _) = read_rows(store, info_of(feature), commit)
    np.testing.assert_array_equal(first.values["x"], values)
    assert first.values["x"].dtype == np.dtype(dtype)  # type: ignore[union-attr]
    assert second.values["x"] is None


def test_the_digest_is_of_episode_declaration_and_values() -> None:
    """The literal is of the first version of layers: a digest is for ever."""
    info, row = info_of(), row_of(7)
    assert row.digest(info.features) == GOLDEN
    others = [
        row_of(7, caption=np.array(["Drawer 7"], object)),
        row_of(7, near=None),
        row_of(7, embedding=row.values["embedding"] + np.float32(1)),  # type: ignore[operator]
        LayerRow(row.episode_id, "00" * 32, 3, 2, row.values),
    ]
    assert len({GOLDEN, *(other.digest(info.features) for other in others)}) == 5
    renamed = [Feature(f"{one.name}", one.dtype, one.shape, one.per, help="other words") for one in FEATURES]
    assert row.digest(renamed) == GOLDEN


GOLDEN = "a0f5d0ec019103ebb7a7b219e69ae7d64aed3b53b1d51ba95ebd47714bd16c1e"


def test_a_second_commit_holds_only_what_the_first_lacks(store: Store) -> None:
    info = info_of()
    part = part_of(store, info)
    assert part.commit([row_of(0), row_of(1)]) is not None
    other = part.commit([row_of(1, caption=np.array(["another"], object)), row_of(2)])
    assert other is not None
    assert (other.number, other.episodes) == (1, 1)
    assert part.commit([row_of(0), row_of(2)]) is None
    assert [path.rpartition("/")[2] for path in list_commits(store, info)] == [
        "commit-0000.json",
        "commit-0001.json",
    ]
    assert covered(store, info) == {(f"arm/{index:07d}", f"{index:02x}" * 32) for index in range(3)}


def test_two_that_commit_at_the_same_moment_share_the_episodes_out(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second has read what is there before the first commits, and would write under the same number."""
    info = info_of()
    first, second = part_of(store, info), part_of(store, info)
    written = Store.write_bytes

    def overtaken(self: Store, name: str, data: bytes) -> None:
        written(self, name, data)
        monkeypatch.setattr(Store, "write_bytes", written)
        assert first.commit([row_of(0), row_of(1, caption=np.array(["theirs"], object))]) is not None

    monkeypatch.setattr(Store, "write_bytes", overtaken)
    commit = second.commit([row_of(1, caption=np.array(["mine"], object)), row_of(2)])
    assert commit is not None
    assert (commit.number, commit.episodes) == (1, 1)
    captions = {
        row.episode_id: row.values["caption"][0]  # type: ignore[index]
        for path in list_commits(store, info)
        for row, _ in read_rows(store, info, read_commit(store, path))
    }
    assert captions == {"arm/0000000": "drawer 0", "arm/0000001": "theirs", "arm/0000002": "drawer 2"}


def test_an_episode_that_has_changed_is_missing_and_both_are_kept(store: Store) -> None:
    info, row = info_of(), row_of(0)
    part = part_of(store, info)
    part.commit([row])
    part.commit([LayerRow(row.episode_id, "ff" * 32, 3, 2, row.values)])
    assert covered(store, info) == {("arm/0000000", "00" * 32), ("arm/0000000", "ff" * 32)}


def test_files_that_no_commit_names_do_not_exist(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    info = info_of()
    part = part_of(store, info)
    monkeypatch.setattr(Store, "create_text", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        part.commit([row_of(0)])
    monkeypatch.undo()
    assert len(store.list_files(f"{info.folder}/arm/part-00000")) == 2
    assert list_commits(store, info) == []
    assert covered(store, info) == set()
    assert part.commit([row_of(0)]) is not None
    assert len(store.list_files(f"{info.folder}/arm/part-00000")) == 3


def test_a_commit_that_was_removed_is_not_followed_by_one_of_its_number(store: Store) -> None:
    info = info_of()
    part = part_of(store, info)
    part.commit([row_of(0)])
    part.commit([row_of(1)])
    store.remove(f"{info.folder}/arm/part-00000/commit-0000.json")
    again = part.commit([row_of(0), row_of(1)])
    assert again is not None
    assert (again.number, again.episodes) == (2, 1)


def test_versions_and_names(store: Store) -> None:
    create_layer(store, info_of())
    create_layer(store, info_of(version=10))
    create_layer(store, info_of(name="other"))
    assert list_layers(store) == ["other", "seen"]
    assert list_versions(store, "seen") == [1, 10]
    assert read_layer(store, "seen").ref == "seen@10"
    assert read_layer(store, "seen", 1) == info_of()
    with pytest.raises(CogError, match=r"^layer 'seen' has no version 2: there are \[1, 10\]$"):
        read_layer(store, "seen", 2)
    with pytest.raises(CogError, match=r"^unknown layer 'sen': did you mean 'seen'\? known: other, seen$"):
        read_layer(store, "sen")


def test_of_two_that_begin_a_version_the_second_joins_or_is_refused(store: Store) -> None:
    first = create_layer(store, info_of(created_at="2027-01-01T00:00:00"))
    assert create_layer(store, info_of(created_at="2027-01-01T00:00:01")) == first
    with pytest.raises(
        CogError, match=r"^another command has just begun seen@1, by lab:seen: type this again$"
    ):
        create_layer(store, info_of(source="cd" * 32))


@pytest.mark.parametrize(
    ("features", "line"),
    [
        (
            (Feature("reward", "float32"),),
            "'reward' is a name that every episode uses itself: choose another",
        ),
        ((Feature("digest", "string"),), "'digest' is a name that every episode uses itself: choose another"),
        ((Feature("x", "bool"), Feature("x", "bool")), "'x' is declared twice"),
        (
            (Feature("x", "uint8", (4, 4, 3), codec="zst"),),
            "x has codec zst: a layer holds columns, leave it out",
        ),
    ],
)
def test_features_that_are_no_columns_are_refused(features: tuple[Feature, ...], line: str) -> None:
    with pytest.raises(CogError) as caught:
        info_of(*features)
    assert str(caught.value) == line


def test_a_layer_needs_a_name_and_a_feature() -> None:
    with pytest.raises(CogError, match=r"^layer 'A b' must be lower case letters, digits, _ and -"):
        info_of(name="A b")
    with pytest.raises(CogError, match=r"^layer seen declares no feature$"):
        LayerInfo("seen", 1, "lab:seen", "", (), "", "", "")


def test_any_flipped_byte_of_a_json_file_is_noticed(store: Store) -> None:
    info = info_of(Feature("x", "bool"))
    row = LayerRow("arm/0000000", "00", 3, 2, {"x": np.ones(3, bool)})
    commit = part_of(store, info).commit([row])
    assert commit is not None
    for path, read in (
        (f"{info.folder}/layer.json", lambda: read_layer(store, "seen", 1)),
        (commit.path, lambda: read_commit(store, commit.path)),
    ):
        whole = store.read_bytes(path)
        for place in range(0, len(whole), 7):
            broken = bytearray(whole)
            broken[place] ^= 1
            store.write_bytes(path, bytes(broken))
            with pytest.raises(CogError, match="is damaged|newer cogdata"):
                read()
        store.write_bytes(path, whole)
        assert read()


def test_a_newer_version_is_said_to_be_newer(store: Store) -> None:
    info = create_layer(store, info_of())
    path = f"{info.folder}/layer.json"
    store.write_text(path, json.dumps(json.loads(store.read_text(path)) | {"schema_version": 99}))
    with pytest.raises(CogError, match=r"was written by a newer cogdata \(schema 99, this one reads 2\)"):
        read_layer(store, "seen")


def test_a_commit_leads_to_no_file_outside_its_folder(store: Store, tmp_path: Path) -> None:
    info = info_of()
    commit = part_of(store, info).commit([row_of(0)])
    assert commit is not None
    data = json.loads(store.read_text(commit.path))
    data["files"] = {"../../secret.parquet": {"size": 1, "sha256": "00"}}
    from cogdata.storage.layers.heads import sealed

    store.write_text(commit.path, sealed({name: value for name, value in data.items() if name != "sha256"}))
    with pytest.raises(CogError, match="is damaged: remove it and run the same `cog derive` again"):
        read_commit(store, commit.path)


def test_the_part_of_an_episode_is_that_of_100() -> None:
    assert [commits.part_name(index) for index in (0, 99, 100, 12_345_678)] == [
        "part-00000",
        "part-00000",
        "part-00001",
        "part-123456",
    ]
