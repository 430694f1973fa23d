"""Stores for the catalog's tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cogdata.store import Store
from tests.catalog.support import collect_into


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty local store."""
    root = tmp_path / "store"
    root.mkdir()
    return Store(str(root))


@pytest.fixture(scope="session")
def tray_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 weak grasps (4 of them solved) and 9 placements (3 solved), 4 actions each; not to be changed."""
    root = tmp_path_factory.mktemp("tray")
    collect_into(Store(str(root)), "grasps", 0, 12)
    collect_into(Store(str(root)), "placements", 0, 9, policy="place", env="cog/PlaceTray-v0")
    return root


@pytest.fixture
def tray(store: Store, tray_files: Path) -> Store:
    """A store of one's own with the files of ``tray_files``."""
    shutil.copytree(tray_files, store.url, dirs_exist_ok=True)
    return store


@pytest.fixture(scope="module")
def quiet_tray(tmp_path_factory: pytest.TempPathFactory, tray_files: Path) -> Store:
    """The same, shared by tests that leave it as it is."""
    root = tmp_path_factory.mktemp("quiet") / "store"
    shutil.copytree(tray_files, root)
    return Store(str(root))
