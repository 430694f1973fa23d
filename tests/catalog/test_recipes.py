"""Recipes: the package's own mixtures, frozen at first use."""

from __future__ import annotations

from importlib.resources import files

import pytest

from catalog.mixture import freeze
from catalog.recipes import RECIPES, ensure_mixture, recipe_sql
from cogdata.errors import CogError
from cogdata.manifest import SourceCounts, read_manifest
from cogdata.store import Store

GRASP = "`cog collect --policy weak_grasp --env cog/PickTray-v0 --episodes 10000`"
PLACE = "`cog collect --policy place --env cog/PlaceTray-v0 --episodes 5000`"


def test_place_in_tray_is_frozen_at_first_use(tray: Store) -> None:
    info = ensure_mixture(tray, "place_in_tray")
    assert info.ref == "place_in_tray@1"
    assert info.weights == {"prior": 0.5, "task": 0.5}
    assert info.counts == {"prior": SourceCounts(8, 32, 0, 0), "task": SourceCounts(9, 36, 6, 6)}
    rows = read_manifest(tray, "place_in_tray").episodes.to_pylist()
    assert {(row["source"], row["reward"]) for row in rows} == {("prior", 0.0), ("task", None)}
    solved = {f"grasps/{index:07d}" for index in (0, 3, 6, 9)}
    assert not solved & {row["episode_id"] for row in rows}
    assert ensure_mixture(tray, "place_in_tray") == info


def test_the_variants(tray: Store) -> None:
    assert ensure_mixture(tray, "place_in_tray_no_prior").counts == {"task": SourceCounts(9, 36, 6, 6)}
    assert ensure_mixture(tray, "place_in_tray_oracle").counts == {"task": SourceCounts(3, 12, 6, 6)}


def test_a_mixture_of_that_name_wins(tray: Store) -> None:
    own = freeze(tray, "place_in_tray", "select episode_id from episodes").info
    assert ensure_mixture(tray, "place_in_tray") == own
    assert ensure_mixture(tray, "place_in_tray@1") == own


def test_missing_data_names_the_commands_that_collect_it(store: Store, tray: Store) -> None:
    assert store is tray
    tray.remove("collections/grasps")
    with pytest.raises(CogError) as caught:
        ensure_mixture(tray, "place_in_tray")
    assert (
        str(caught.value) == f"mixture 'place_in_tray' needs episodes that are not in the store: run {GRASP}"
    )
    tray.remove("collections/placements")
    with pytest.raises(CogError) as caught:
        ensure_mixture(tray, "place_in_tray")
    assert str(caught.value) == (
        f"mixture 'place_in_tray' needs episodes that are not in the store: run {GRASP} and {PLACE}"
    )


def test_an_unknown_mixture_is_named_with_its_neighbours(tray: Store) -> None:
    freeze(tray, "mine", "select episode_id from episodes")
    with pytest.raises(CogError) as caught:
        ensure_mixture(tray, "place_in_try")
    assert str(caught.value) == (
        "unknown mixture 'place_in_try': did you mean 'place_in_tray'? known: mine, place_in_tray, "
        "place_in_tray_no_prior, place_in_tray_oracle"
    )
    with pytest.raises(CogError, match=r"^unknown mixture 'place_in_tray@2'"):
        ensure_mixture(tray, "place_in_tray@2")


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_a_file_that_documents_it(name: str) -> None:
    sql = recipe_sql(name)
    assert sql.startswith(f"-- {name}: ")
    assert all(f"-- {source}:" in sql for source in RECIPES[name].needs)


def test_every_file_is_a_recipe() -> None:
    names = {entry.name.removesuffix(".sql") for entry in files("catalog.recipes").iterdir()
             if entry.name.endswith(".sql")}  # fmt: skip
    assert names == set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_what_a_recipe_needs_is_what_its_sql_takes(tray: Store, name: str) -> None:
    info = ensure_mixture(tray, name)
    assert set(info.counts) == set(RECIPES[name].needs)
    for source, need in RECIPES[name].needs.items():
        count = freeze(tray, "need", f"select episode_id from episodes where {need.where}").info.counts[
            "data"
        ]
        assert count.episodes == info.counts[source].episodes


def test_an_unknown_recipe_is_named() -> None:
    with pytest.raises(CogError, match=r"^unknown recipe 'tray'"):
        recipe_sql("tray")
