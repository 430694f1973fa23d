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
"""Needs that an error names; of the rest it says how many."""
_FEW: Final = 0.5
"""Share of the paper's episodes below which a recipe is said to be small."""


@dataclass(frozen=True)
class Need:
    """Episodes that a recipe takes: those of a policy in an environment, whatever their collection's seed.

    Attributes:
        policy: Who acted.
        env: Where.
        episodes: How many the paper has.
        source: Source of the mixture that they belong to.
        only: Further condition over ``episodes``; empty: none.
    """

    policy: str
    env: str
    episodes: int
    source: str
    only: str = ""

    def scaled(self, scale: float) -> int:
        """Return how many episodes a fraction of the paper's number is, at least 1."""
        return max(1, math.ceil(round(scale * self.episodes, 6)))


@dataclass(frozen=True)
class Recipe:
    """A mixture that comes with the package.

    Attributes:
        summary: What it holds, in one line.
        file: Its SQL file beside this one, without ".sql"; recipes of the same content share one.
        needs: The episodes it takes.
        weights: Source → share of every batch; empty: uniform over transitions.
    """

    summary: str
    file: str
    needs: tuple[Need, ...]
    weights: Mapping[str, float]


def _prior(policy: str, env: str, episodes: int) -> Need:
    """Episodes without reward, of which none may have solved the task."""
    return Need(policy, env, episodes, "prior", "not solved")


_WEAK_GRASPS: Final = _prior("weak_grasp", "cog/PickTray-v0", 10_000)
_EMPTY_HANDS: Final = _prior("blind_grasp", "cog/PickTray-v0", 4_000)
_NEAR_GRASPS: Final = _prior("near_grasp", "cog/PickTray-v0", 4_000)
_WHOLE_WAYS: Final = Need("pick_place", "cog/PickTray-v0", 2_000, "prior")
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
"""Recipe → its prior; half a million transitions each, 1.5 million in all, as in the paper."""

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
    """A recipe over the drawer, and its two variants, whose data are the same for every start."""
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
        "weak, near and empty-handed grasps without reward, and placements; for learning from pixels",
        "place_in_tray_wide",
        (_WEAK_GRASPS, _NEAR_GRASPS, _EMPTY_HANDS, _PLACEMENTS),
        _HALVES,
    ),
    "place_in_tray_solved": Recipe(
        "a prior that now and then solves the task, without reward; placements",
        "place_in_tray_solved",
        (_ANY_WEAK_GRASPS, _WHOLE_WAYS, _PLACEMENTS),
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
    """Return the mixture that is meant; freeze the recipe of that name if there is no such mixture yet.

    Args:
        store: Where mixtures and episodes are.
        ref: ``name`` (newest version) or ``name@version``.

    Raises:
        CogError: There is neither, or the recipe's episodes have not been collected.
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
    """Freeze a recipe as it is today, whatever mixture of its name there is.

    Args:
        store: Where episodes and mixtures are.
        name: Key of :data:`RECIPES`.

    Raises:
        CogError: There is no such recipe, or the store has none of its episodes.
    """
    report = freeze(store, name, recipe_sql(name), weights=find_recipe(name).weights)
    if report.created or _same_recipe(report.info):
        return report
    info = replace(report.info, sql=recipe_sql(name))  # the same content by other words
    manifest.write_info(store, info)
    return replace(report, info=info)


def changed_since(store: Store, ref: str) -> str | None:
    """Say that a recipe's newest mixture was frozen from what the recipe was in an earlier version.

    Args:
        store: Where it is.
        ref: ``name`` or ``name@version``; a version that was named is meant.

    Returns:
        A line with what to type, or None: it is today's, is not a recipe's, or is not there.
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
    """Whether the newest mixture of a name is what its recipe freezes today, of some episodes."""
    info = _frozen_from_file(store, name)
    return info is not None and _same_recipe(info)


def is_short(store: Store, name: str, collected: Mapping[Need, tuple[str, int]]) -> bool:
    """Whether a recipe would take episodes that its newest mixture does not hold.

    Args:
        store: Where both are.
        name: Key of :data:`RECIPES` that has been frozen.
        collected: Need → the collection meant, and how many of its first episodes.
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
    """The newest mixture of a recipe's name if its SQL is some version of the recipe's file."""
    if name not in RECIPES or not manifest.list_versions(store, name):
        return None
    info = manifest.read_info(store, name)
    return info if info.sql.startswith(_title(RECIPES[name])) else None


def _same_recipe(info: MixtureInfo) -> bool:
    """Whether a mixture has the SQL and the shares that the recipe of its name has today."""
    same = _statement(info.sql) == _statement(recipe_sql(info.name))
    return same and info.shares == RECIPES[info.name].weights


def _title(recipe: Recipe) -> str:
    """How the SQL file of a recipe begins."""
    return f"-- {recipe.file}: "


def _statement(sql: str) -> str:
    """A recipe's SQL without the lines that are comments, and without its layout."""
    lines = [line for line in sql.splitlines() if not line.lstrip().startswith("--")]
    return " ".join(" ".join(lines).rstrip("; ").split())


def shortfall(store: Store, name: str) -> str | None:
    """Say which of a recipe's needs has far fewer episodes than the paper.

    Args:
        store: Where episodes are.
        name: Key of :data:`RECIPES`.

    Returns:
        A line about the scarcest of them, or None.
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
    """Need → episodes that the recipe can use, and episodes of its policy and environment."""
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
