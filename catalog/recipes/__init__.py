"""Recipes: mixtures that come with the package, as SQL files; frozen at first use."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Final

from catalog.index.sync import open_indexed, require_current
from catalog.mixtures.mixture import FreezeReport, freeze
from cogdata.errors import CogError, unknown
from cogdata.storage import manifest
from cogdata.storage.manifest import MixtureInfo
from cogdata.storage.store import Store

_SHOWN: Final = 3
"""Number of needs that an error names; the others are counted."""
_FEW: Final = 0.5
"""Fraction of the paper's episodes below which a shortfall is reported."""


@dataclass(frozen=True)
class Need:
    """Episodes that a recipe takes: those of a policy in an environment, from any collection.

    Attributes:
        policy: Policy that acted.
        env: Environment id.
        episodes: Number of episodes in the paper.
        source: Source of the mixture that they belong to.
        only: Additional SQL condition over ``episodes``; empty: none.
    """

    policy: str
    env: str
    episodes: int
    source: str
    only: str = ""

    def scaled(self, scale: float) -> int:
        """Return a fraction of the paper's number of episodes, at least 1."""
        return max(1, math.ceil(round(scale * self.episodes, 6)))


@dataclass(frozen=True)
class Recipe:
    """A mixture that comes with the package.

    Attributes:
        summary: One line about its content.
        file: Name of its SQL file in this folder, without ".sql"; recipes of equal content share one.
        needs: Episodes that it takes.
        weights: Source → share of every batch; empty: uniform over transitions.
    """

    summary: str
    file: str
    needs: tuple[Need, ...]
    weights: Mapping[str, float]


def _prior(policy: str, env: str, episodes: int) -> Need:
    """Return a need of prior episodes without reward, none of which solves the task."""
    return Need(policy, env, episodes, "prior", "not solved")


_WEAK_GRASPS: Final = _prior("weak_grasp", "cog/PickTray-v0", 10_000)
_BLIND_GRASPS: Final = _prior("blind_grasp", "cog/PickTray-v0", 4_000)
_NEAR_GRASPS: Final = _prior("near_grasp", "cog/PickTray-v0", 4_000)
_PICK_PLACES: Final = Need("pick_place", "cog/PickTray-v0", 2_000, "prior")
_ANY_WEAK_GRASPS: Final = Need("weak_grasp", "cog/PickTray-v0", 10_000, "prior")
_PLACEMENTS: Final = Need("place", "cog/PlaceTray-v0", 5_000, "task")
_GOOD_PLACEMENTS: Final = Need("place", "cog/PlaceTray-v0", 5_000, "task", "success")
_GRASPS: Final = Need("grasp_from_drawer", "cog/DrawerOpen-v0", 10_000, "task")
_GOOD_GRASPS: Final = Need("grasp_from_drawer", "cog/DrawerOpen-v0", 10_000, "task", "success")

_HALVES: Final = {"prior": 0.5, "task": 0.5}

DRAWER_PRIORS: Final[Mapping[str, tuple[Need, ...]]] = {
    "closed_drawer": (
        _prior("drawer_open", "cog/DrawerClosed-v0", 8_000),
        _prior("drawer_open_suboptimal", "cog/DrawerClosed-v0", 4_000),
        _prior("drawer_close", "cog/DrawerOpen-v0", 2_000),
        _prior("pick_place", "cog/DrawerClosed-v0", 2_000),
    ),
    "blocked_drawer_1": (
        _prior("close_top_then_open", "cog/DrawerBlocked1-v0", 10_000),
        _prior("drawer_open_suboptimal", "cog/DrawerBlocked1-v0", 3_400),
    ),
    "blocked_drawer_2": (
        _prior("clear_blocker_then_open", "cog/DrawerBlocked2-v0", 6_000),
        _prior("pick_place", "cog/DrawerBlocked2-v0", 2_000),
    ),
}
"""Recipe → needs of its prior: half a million transitions each, 1.5 million in all, as in the paper."""

_RANDOMIZED: Final = tuple(
    replace(need, env=need.env.replace("-v0", "Randomized-v0"))
    for need in (*DRAWER_PRIORS["closed_drawer"], _GRASPS)
)

_DRAWER_SUMMARIES: Final = {
    "closed_drawer": "opening, closing and moving the bottle at a closed drawer",
    "blocked_drawer_1": "closing the top drawer that is in the way and opening the bottom one",
    "blocked_drawer_2": "taking the bottle out of the way and opening the drawer",
    "drawer_all": "the priors of all three drawer recipes",
}
_ALL_PRIORS: Final = tuple(need for needs in DRAWER_PRIORS.values() for need in needs)


def _drawer(name: str) -> dict[str, Recipe]:
    """Return a drawer recipe with its `_no_prior` and `_oracle`, whose data are the same for every start."""
    prior = DRAWER_PRIORS.get(name, _ALL_PRIORS)
    summary = f"{_DRAWER_SUMMARIES[name]}, without reward; grasps from the open drawer"
    same = "from the open drawer alone, the same for every drawer recipe"
    return {
        name: Recipe(summary, name, (*prior, _GRASPS), _HALVES),
        f"{name}_no_prior": Recipe(f"grasps {same}", "drawer_no_prior", (_GRASPS,), {}),
        f"{name}_oracle": Recipe(f"successful grasps {same}", "drawer_oracle", (_GOOD_GRASPS,), {}),
    }


RECIPES: Final[Mapping[str, Recipe]] = {
    "place_in_tray": Recipe(
        "weak grasps without reward, and placements",
        "place_in_tray",
        (_WEAK_GRASPS, _PLACEMENTS),
        _HALVES,
    ),
    "place_in_tray_wide": Recipe(
        "weak, near and blind grasps without reward, and placements; for learning from images",
        "place_in_tray_wide",
        (_WEAK_GRASPS, _NEAR_GRASPS, _BLIND_GRASPS, _PLACEMENTS),
        _HALVES,
    ),
    "place_in_tray_solved": Recipe(
        "a prior that sometimes solves the task, without reward; placements",
        "place_in_tray_solved",
        (_ANY_WEAK_GRASPS, _PICK_PLACES, _PLACEMENTS),
        _HALVES,
    ),
    "place_in_tray_no_prior": Recipe("placements alone", "place_in_tray_no_prior", (_PLACEMENTS,), {}),
    "place_in_tray_oracle": Recipe(
        "successful placements alone", "place_in_tray_oracle", (_GOOD_PLACEMENTS,), {}
    ),
    "closed_drawer_randomized": Recipe(
        "as closed_drawer, where places, shapes and colours vary",
        "closed_drawer_randomized",
        _RANDOMIZED,
        _HALVES,
    ),
    **{name: recipe for start in _DRAWER_SUMMARIES for name, recipe in _drawer(start).items()},
}
"""Name → recipe."""


def find_recipe(name: str) -> Recipe:
    """Return a recipe by name.

    Args:
        name: Key of :data:`RECIPES`.

    Raises:
        CogError: There is no such recipe.
    """
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return RECIPES[name]


def recipe_sql(name: str) -> str:
    """Return the SQL of a recipe.

    Args:
        name: Key of :data:`RECIPES`.

    Raises:
        CogError: There is no such recipe.
    """
    return files("catalog.recipes").joinpath(f"{find_recipe(name).file}.sql").read_text(encoding="utf-8")


def ensure_mixture(store: Store, ref: str) -> MixtureInfo:
    """Return a mixture; freeze the recipe of that name if the mixture does not exist.

    Args:
        store: Store of mixtures and episodes.
        ref: ``name`` (newest version) or ``name@version``.

    Raises:
        CogError: Neither exists, or the recipe's episodes have not been collected.
    """
    name, version = manifest.parse_ref(ref)
    if manifest.list_versions(store, name):
        return manifest.read_info(store, ref)
    if name not in RECIPES or version is not None:
        mixtures = [entry for entry in store.list_folders("mixtures") if manifest.list_versions(store, entry)]
        raise unknown("mixture", ref, {*mixtures, *RECIPES})
    recipe = RECIPES[name]
    missing = [need for need, (usable, _) in _found(store, recipe).items() if not usable]
    if missing:
        listed = [f"{need.policy} in {need.env} (0 of {need.episodes:,})" for need in missing[:_SHOWN]]
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise CogError(
            f"recipe {name!r} lacks episodes of {', '.join(listed)}{more}: run `cog collect --for {name}` "
            f"(--scale 0.1: a tenth of it)"
        )
    return refreeze(store, name).info


def refreeze(store: Store, name: str) -> FreezeReport:
    """Freeze the current recipe, even if a mixture of its name exists.

    Args:
        store: Store of mixtures and episodes.
        name: Key of :data:`RECIPES`.

    Raises:
        CogError: There is no such recipe, or the store has none of its episodes.
    """
    report = freeze(store, name, recipe_sql(name), weights=find_recipe(name).weights)
    if report.created or _same_recipe(report.info):
        return report
    info = replace(report.info, sql=recipe_sql(name))  # the same content with another text
    manifest.write_info(store, info)
    return replace(report, info=info)


def changed_since(store: Store, ref: str) -> str | None:
    """Format a note that a recipe's newest mixture was frozen from an earlier version of the recipe.

    Args:
        store: Store of the mixture.
        ref: ``name`` or ``name@version``; a named version is never outdated.

    Returns:
        A line with the commands to type, or None: the mixture is current, not a recipe's, or missing.
    """
    name, version = manifest.parse_ref(ref)
    info = _frozen_from_file(store, name)
    if version is not None or info is None or _same_recipe(info):
        return None
    return (
        f"{info.ref} was frozen from an earlier version of the recipe {name}: "
        f"`cog collect --for {name}` and `cog mix refresh {name} --recipe` make a version of today's"
    )


def is_todays(store: Store, name: str) -> bool:
    """Return whether the newest mixture of a name was frozen from the current recipe."""
    info = _frozen_from_file(store, name)
    return info is not None and _same_recipe(info)


def is_short(store: Store, name: str, collected: Mapping[Need, tuple[str, int]]) -> bool:
    """Return whether a recipe would take episodes that its newest mixture does not have.

    Args:
        store: Store of mixtures and episodes.
        name: Key of :data:`RECIPES` that has been frozen.
        collected: Need → collection, and number of its first episodes to take.
    """
    newest = manifest.list_versions(store, name)[-1]
    require_current(store)
    with open_indexed(store) as con:
        for need, (collection, first) in collected.items():
            sql = (
                f"SELECT count(*) FROM episodes WHERE collection = $collection AND episode_index < $first "
                f"AND ({need.only or 'true'}) AND episode_id NOT IN "
                "(SELECT episode_id FROM mixture_episodes WHERE mixture = $name AND version = $version)"
            )
            given = {"collection": collection, "first": first, "name": name, "version": newest}
            if con.execute(sql, given).fetchall()[0][0]:
                return True
    return False


def _frozen_from_file(store: Store, name: str) -> MixtureInfo | None:
    """Return the newest mixture of a recipe's name if its SQL is a version of the recipe's file."""
    if name not in RECIPES or not manifest.list_versions(store, name):
        return None
    info = manifest.read_info(store, name)
    return info if info.sql.startswith(_title(RECIPES[name])) else None


def _same_recipe(info: MixtureInfo) -> bool:
    """Return whether a mixture has the SQL and the shares of the current recipe."""
    same = _statement(info.sql) == _statement(recipe_sql(info.name))
    return same and info.shares == RECIPES[info.name].weights


def _title(recipe: Recipe) -> str:
    """Return the first characters of a recipe's SQL file."""
    return f"-- {recipe.file}: "


def _statement(sql: str) -> str:
    """Return a recipe's SQL without comment lines and layout."""
    lines = [line for line in sql.splitlines() if not line.lstrip().startswith("--")]
    return " ".join(" ".join(lines).rstrip("; ").split())


def shortfall(store: Store, name: str) -> str | None:
    """Format a note about the need with the lowest fraction of the paper's episodes.

    Args:
        store: Store of the episodes.
        name: Key of :data:`RECIPES`.

    Returns:
        A line, or None if every need has enough.
    """
    found = _found(store, find_recipe(name))
    need = min(found, key=lambda need: found[need][1] / need.episodes)
    collected = found[need][1]
    if collected >= _FEW * need.episodes:
        return None
    return (
        f"{name} has {collected:,} episodes of {need.policy} in {need.env}, the paper {need.episodes:,}: "
        f"`cog collect --for {name}` collects the rest"
    )


def _found(store: Store, recipe: Recipe) -> dict[Need, tuple[int, int]]:
    """Return need → number of usable episodes, and of all episodes of its policy and environment."""
    if not store.exists("collections"):
        return dict.fromkeys(recipe.needs, (0, 0))
    found = {}
    with open_indexed(store) as con:
        for need in recipe.needs:
            sql = (
                f"SELECT count(*) FILTER ({need.only or 'true'}), count(*) FROM episodes "
                "WHERE policy = $policy AND env = $env"
            )
            given = {"policy": need.policy, "env": need.env}
            usable, collected = con.execute(sql, given).fetchall()[0]
            found[need] = (int(usable), int(collected))
    return found
