"""Which collections see the same scenes: those of `cog/*` worlds, and of custom environments none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cogdata.errors import CogError
from cogdata.rng import derive_seed
from cogdata.storage.parts import list_parts, part_folder
from cogdata.storage.store import Store
from collectors.collect import CollectRequest, plan, prepare, request
from collectors.engines import LocalEngine
from tests.collectors import test_foreign_env

LAB = f"{test_foreign_env.__name__}:Good"


def asked(noise: float, env: str = LAB) -> CollectRequest:
    return request("random", env=env, noise=noise, image_size=16, horizon=2, root_seed=5)


def collect(store: Store, what: CollectRequest, episodes: int) -> None:
    planned = plan(store, what, episodes)
    prepare(store, planned.asked, "cog collect")
    list(LocalEngine(1)(store, planned.asked, planned.ranges))


def seeds(store: Store, what: CollectRequest) -> list[int]:
    found: list[int] = []
    for part in list_parts(store, what.collection):
        table = store.read_table(f"{part_folder(what.collection, part)}/episodes.parquet")
        found += table["seed"].to_pylist()
    return found


def test_collections_of_our_worlds_share_their_scenes() -> None:
    """Their digests are published."""
    first, second = asked(0.1, "cog/PickTray-v0"), asked(0.2, "cog/PickTray-v0")
    assert [one.scene_seed(3) for one in (first, second)] == [derive_seed("scene", 5, 3)] * 2


def test_collections_of_custom_environments_have_scenes_of_their_own(tmp_path: Path) -> None:
    store, first, second = Store(str(tmp_path)), asked(0.1), asked(0.2)
    collect(store, first, 3)
    collect(store, second, 3)
    assert not set(seeds(store, first)) & set(seeds(store, second))
    assert seeds(store, first) == [derive_seed("scene", first.collection, 5, index) for index in range(3)]


def test_a_collection_of_an_earlier_version_goes_on_with_its_scenes(tmp_path: Path) -> None:
    store, old = Store(str(tmp_path)), replace(asked(0.1), shared_scenes=True)
    assert old.collection == asked(0.1).collection
    prepare(store, old, "cog collect")
    list(LocalEngine(1)(store, old, ((0, 2),)))
    collect(store, asked(0.1), 4)
    assert seeds(store, old) == [derive_seed("scene", 5, index) for index in range(4)]


def test_a_damaged_part_is_one_line(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    collect(store, asked(0.1), 1)
    (path,) = tmp_path.glob("collections/*/part-*/episodes.parquet")
    path.write_bytes(b"PAR1 nothing")
    with pytest.raises(CogError, match=r"episodes\.parquet cannot be read: run `cog data verify`$"):
        plan(store, asked(0.1), 2)
