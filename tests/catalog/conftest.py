"""Stores for the catalog's tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from catalog.recipes import RECIPES
from cogdata.storage.store import Store
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


@pytest.fixture(scope="session")
def wanted_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3 episodes (the first solved) of each policy and environment that a recipe needs; and of none of them."""
    root = tmp_path_factory.mktemp("wanted")
    pairs = {(need.policy, need.env) for recipe in RECIPES.values() for need in recipe.needs}
    others = {("grasp_from_drawer", "cog/DrawerClosed-v0"), ("drawer_open", "cog/DrawerOpen-v0")}
    for number, (policy, env) in enumerate(sorted(pairs | others)):
        collect_into(Store(str(root)), f"c{number}", 0, 3, policy=policy, env=env)
    return root


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory, wanted_files: Path) -> Store:
    """A copy of these files, shared by tests that only add mixtures of names of their own."""
    root = tmp_path_factory.mktemp("wanted") / "store"
    shutil.copytree(wanted_files, root)
    return Store(str(root))


@pytest.fixture(scope="module")
def quiet_tray(tmp_path_factory: pytest.TempPathFactory, tray_files: Path) -> Store:
    """The same, shared by tests that leave it as it is."""
    root = tmp_path_factory.mktemp("quiet") / "store"
    shutil.copytree(tray_files, root)
    return Store(str(root))
