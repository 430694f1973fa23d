"""Stores for the catalog's tests."""

from __future__ import annotations

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


@pytest.fixture
def tray(store: Store) -> Store:
    """12 weak grasps (4 of them solved) and 9 placements (3 solved), 4 actions each."""
    collect_into(store, "grasps", 0, 12)
    collect_into(store, "placements", 0, 9, policy="place", env="cog/PlaceTray-v0")
    return store
