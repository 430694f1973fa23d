"""A mixture's files: a round trip, and one line for whatever is damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cogdata.errors import CogError
from cogdata.storage.manifest import MixtureInfo, SourceCounts, Stats, read_info, read_manifest
from cogdata.storage.store import Store
from tests.catalog.support import collect_into

FOLDER = "mixtures/mix/v1"
INFO = MixtureInfo(
    name="mix",
    version=1,
    digest="ab" * 32,
    sql="select 1",
    shape="episode",
    weights={"a": 0.25, "b": 0.75},
    counts={"a": SourceCounts(1, 2, 0, 1), "b": SourceCounts(3, 4, 0, 0)},
    image_size=(4, 4),
    scene_fields=("x_m",),
    created_at="2026-11-20T10:00:00+00:00",
    cogdata_version="0.1.0",
    asked_weights={"a": 0.25},
)


@pytest.fixture
def mixed(tmp_path: Path) -> Store:
    from catalog.mixtures.mixture import freeze

    store = Store(str(tmp_path))
    collect_into(store, "grasps", 0, 2)
    freeze(store, "mix", "select episode_id, t, 0 as reward from steps where action is not null")
    return store


def test_a_head_is_a_round_trip() -> None:
    assert MixtureInfo.from_json(INFO.to_json()) == INFO


def test_a_head_without_asked_weights_is_read() -> None:
    data = json.loads(INFO.to_json())
    del data["asked_weights"]
    assert MixtureInfo.from_json(json.dumps(data)).asked_weights == {}


@pytest.mark.parametrize("damage", [b"{", b"", b"\xff", b"[]", b"{}", b'{"counts": [1]}', b"null"])
def test_a_damaged_head_is_said_in_one_line(mixed: Store, damage: bytes) -> None:
    path = f"{FOLDER}/mixture.json"
    mixed.write_bytes(path, damage)
    for read in (read_info, read_manifest):
        with pytest.raises(CogError) as caught:
            read(mixed, "mix")
        assert str(caught.value) == (
            f"{mixed.path(path)} is damaged: restore it, or remove {FOLDER} and freeze the query again"
        )


def test_an_unknown_field_of_a_head_is_left_out(mixed: Store) -> None:
    path, before = f"{FOLDER}/mixture.json", read_info(mixed, "mix")
    mixed.write_text(path, json.dumps(json.loads(mixed.read_text(path)) | {"colour": "red"}))
    assert read_info(mixed, "mix") == before


BAD_STATS = b'{"mean": {"action": [0]}, "std": {"action": [1]}, "min": {"action": [0, 1]}}'


@pytest.mark.parametrize("damage", [b"{", b"\xff", b"[]", b"{}", b'{"mean": 1, "std": 2}', BAD_STATS])
@pytest.mark.parametrize("name", ["stats.json", "episodes.parquet", "rewards.parquet"])
def test_another_damaged_file_is_said_in_one_line(mixed: Store, name: str, damage: bytes) -> None:
    mixed.write_bytes(f"{FOLDER}/{name}", damage)
    with pytest.raises(CogError) as caught:
        read_manifest(mixed, "mix")
    assert str(caught.value).startswith(
        f"{mixed.path(f'{FOLDER}/{name}')} is damaged: restore it, or remove "
    )


def test_statistics_are_a_round_trip() -> None:
    arm = Stats({"action": [0.5]}, {"action": [0.25]}, transitions=3)
    stats = Stats(
        mean={"joints": [1.0, 2.0], "action": [0.0]},
        std={"joints": [0.1, 0.2], "action": [1.0]},
        min={"joints": [0.0, 0.0], "action": [-1.0]},
        max={"joints": [2.0, 4.0], "action": [1.0]},
        quantiles={"q50": {"joints": [1.0, 2.5], "action": [0.125]}},
        transitions=7,
        embodiments={"arm": arm},
    )
    read = Stats.from_data(json.loads(stats.to_json()))
    assert read == stats
    assert read.of("arm").mean == {"action": [0.5]}


def test_statistics_of_version_1_are_read(mixed: Store) -> None:
    """They had a mean and a deviation of the three vectors, and nothing else."""
    path, before = f"{FOLDER}/stats.json", read_manifest(mixed, "mix").stats
    old = {name: json.loads(mixed.read_text(path))[name] for name in ("mean", "std")}
    assert old["mean"].keys() == {"robot", "scene", "action"}
    mixed.write_text(path, json.dumps(old))
    assert read_manifest(mixed, "mix").stats == Stats(before.mean, before.std)
