"""Recipes: the package's own mixtures, frozen at first use."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files

import pytest

from catalog.mixtures.mixture import freeze
from catalog.recipes import (
    RECIPES,
    Need,
    changed_since,
    ensure_mixture,
    recipe_sql,
    refreeze,
    shortfall,
)
from cogdata.errors import CogError
from cogdata.storage.manifest import SourceCounts, read_manifest
from cogdata.storage.store import Store
from tests.catalog.support import collect_into


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


def test_a_recipe_that_changed_since_is_said_and_frozen_on_request(
    tray: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_mixture(tray, "place_in_tray")
    assert changed_since(tray, "place_in_tray") is None
    today = recipe_sql("place_in_tray")
    other = today.replace("not solved", "true").replace("-- prior:", "-- prior, all of it:")
    monkeypatch.setattr("catalog.recipes.recipe_sql", lambda _: other)
    assert changed_since(tray, "place_in_tray") == (
        "place_in_tray@1 was frozen from an earlier version of the recipe place_in_tray: `cog collect --for "
        "place_in_tray` and `cog mix refresh place_in_tray --recipe` make a version of today's"
    )
    assert ensure_mixture(tray, "place_in_tray").ref == "place_in_tray@1"
    report = refreeze(tray, "place_in_tray")
    assert (report.info.ref, report.info.counts["prior"].episodes) == ("place_in_tray@2", 12)
    assert changed_since(tray, "place_in_tray") is None
    assert changed_since(tray, "place_in_tray@1") is None, "a version that was named is meant"


def test_other_words_are_no_other_recipe_but_other_shares_are(
    tray: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_mixture(tray, "place_in_tray")
    said = recipe_sql("place_in_tray").replace("-- prior:", "-- prior, told better:") + "\n"
    monkeypatch.setattr("catalog.recipes.recipe_sql", lambda _: said)
    assert changed_since(tray, "place_in_tray") is None
    monkeypatch.setitem(RECIPES, "place_in_tray", replace(RECIPES["place_in_tray"], weights={"prior": 0.4}))
    assert changed_since(tray, "place_in_tray") is not None


def test_the_same_content_by_other_words_becomes_todays(tray: Store) -> None:
    said = recipe_sql("place_in_tray").replace("not solved", "solved = false")
    first = freeze(tray, "place_in_tray", said, weights=RECIPES["place_in_tray"].weights).info
    assert first.sql != recipe_sql("place_in_tray")
    assert changed_since(tray, "place_in_tray") is not None
    report = refreeze(tray, "place_in_tray")
    assert (report.created, report.info.ref, report.info.digest) == (False, first.ref, first.digest)
    assert changed_since(tray, "place_in_tray") is None


@pytest.mark.parametrize("name", ["place_in_tray", "mine"])
def test_a_mixture_of_ones_own_is_no_old_recipe(tray: Store, name: str) -> None:
    freeze(tray, name, "select episode_id from episodes")
    assert changed_since(tray, name) is None


LACKS = "lacks episodes of weak_grasp in cog/PickTray-v0 (0 of 10,000)"
RUN = "run `cog collect --for place_in_tray` (--scale 0.1: a tenth of it)"


def test_missing_data_names_the_command_that_collects_it(tray: Store) -> None:
    tray.remove("collections/grasps")
    with pytest.raises(CogError) as caught:
        ensure_mixture(tray, "place_in_tray")
    assert str(caught.value) == f"recipe 'place_in_tray' {LACKS}: {RUN}"
    tray.remove("collections/placements")
    with pytest.raises(CogError) as caught:
        ensure_mixture(tray, "place_in_tray")
    assert str(caught.value) == (
        f"recipe 'place_in_tray' {LACKS}, place in cog/PlaceTray-v0 (0 of 5,000): {RUN}"
    )


def test_an_empty_store_lacks_everything_in_one_line(store: Store) -> None:
    with pytest.raises(CogError) as caught:
        ensure_mixture(store, "drawer_all")
    first = RECIPES["drawer_all"].needs[0]
    assert f"lacks episodes of {first.policy} in {first.env} (0 of {first.episodes:,}), " in str(caught.value)
    assert " and 6 more: run `cog collect --for drawer_all` " in str(
        caught.value
    )  # 8 priors + 1 task, 3 named


def test_episodes_that_a_recipe_cannot_use_do_not_count(store: Store) -> None:
    collect_into(store, "solved", 0, 1)  # episode 0 is solved: not for the prior
    collect_into(store, "placed", 0, 1, policy="place", env="cog/PlaceTray-v0")
    with pytest.raises(
        CogError, match=r"lacks episodes of weak_grasp in cog/PickTray-v0 \(0 of 10,000\): run"
    ):
        ensure_mixture(store, "place_in_tray")


def test_far_fewer_episodes_than_the_papers_are_said(tray: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    # 12 of 10,000 grasps are 0.12 %, 9 of 5,000 placements 0.18 %: the grasps are scarcer
    assert shortfall(tray, "place_in_tray") == (
        "place_in_tray has 12 episodes of weak_grasp in cog/PickTray-v0, the paper 10,000: "
        "`cog collect --for place_in_tray` collects the rest"
    )
    small = replace(
        RECIPES["place_in_tray_oracle"],
        needs=(replace(RECIPES["place_in_tray_oracle"].needs[0], episodes=18),),
    )
    monkeypatch.setitem(RECIPES, "half", small)
    assert shortfall(tray, "half") is None  # 9 of 18 are half


@pytest.mark.parametrize(
    ("scale", "episodes"),
    [(1.0, 10_000), (0.1, 1_000), (0.00001, 1), (1e-11, 1), (0.00011, 2), (0.07, 700), (2.0, 20_000)],
)
def test_a_need_is_scaled_up_to_whole_episodes(scale: float, episodes: int) -> None:
    assert Need("place", "cog/PlaceTray-v0", 10_000, "task").scaled(scale) == episodes


def test_an_unknown_mixture_is_named_with_its_neighbours(tray: Store) -> None:
    freeze(tray, "mine", "select episode_id from episodes")
    with pytest.raises(CogError) as caught:
        ensure_mixture(tray, "place_in_try")
    known = ", ".join(sorted(["mine", *RECIPES]))
    assert str(caught.value) == (
        f"unknown mixture 'place_in_try': did you mean 'place_in_tray'? known: {known}"
    )
    with pytest.raises(CogError, match=r"^unknown mixture 'place_in_tray@2'"):
        ensure_mixture(tray, "place_in_tray@2")


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_a_file_that_documents_it(name: str) -> None:
    recipe, sql = RECIPES[name], recipe_sql(name)
    assert sql.startswith(f"-- {recipe.file}: ")
    assert recipe.file == name or name in sql
    assert all(f"-- {need.source}:" in sql for need in recipe.needs)


def test_every_file_is_a_recipes() -> None:
    names = {entry.name.removesuffix(".sql") for entry in files("catalog.recipes").iterdir()
             if entry.name.endswith(".sql")}  # fmt: skip
    assert names == {recipe.file for recipe in RECIPES.values()}


@pytest.mark.parametrize("name", RECIPES)
def test_what_a_recipe_needs_is_what_its_sql_takes(wanted: Store, name: str) -> None:
    """Of 3 episodes the first is solved: 2 for each prior, 3 for the task, 1 for the oracle."""
    needs = RECIPES[name].needs
    usable = {"not solved": 2, "": 3, "success": 1}
    counts = ensure_mixture(wanted, name).counts
    assert {source: count.episodes for source, count in counts.items()} == {
        source: sum(usable[need.only] for need in needs if need.source == source)
        for source in {need.source for need in needs}
    }
    assert counts["task"].rewarded_after > 0
    for count in (count for source, count in counts.items() if source == "prior"):
        assert count.rewarded_after == 0
    rows = read_manifest(wanted, name).episodes.to_pylist()
    taken = {row["episode_id"].rpartition("/")[0] for row in rows}
    assert len(taken) == len({(need.policy, need.env) for need in needs}) == len(needs)


def test_an_unknown_recipe_is_named() -> None:
    with pytest.raises(CogError, match=r"^unknown recipe 'tray'"):
        recipe_sql("tray")
