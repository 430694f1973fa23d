"""Recipes: mixtures that come with the package, as SQL files; frozen at first use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from catalog.mixture import freeze
from catalog.sync import open_indexed
from cogdata import manifest
from cogdata.errors import CogError, unknown
from cogdata.manifest import MixtureInfo
from cogdata.store import Store


@dataclass(frozen=True)
class Need:
    """Episodes that a recipe takes.

    Attributes:
        where: Their condition over ``episodes``.
        command: What collects them, in the paper's number.
    """

    where: str
    command: str


@dataclass(frozen=True)
class Recipe:
    """A mixture that comes with the package.

    Attributes:
        summary: What it holds, in one line.
        needs: Source → the episodes it takes.
        weights: Source → share of every batch; empty: uniform over transitions.
    """

    summary: str
    needs: Mapping[str, Need]
    weights: Mapping[str, float]


_WEAK_GRASPS: Final = Need(
    "policy = 'weak_grasp' and env = 'cog/PickTray-v0' and not solved",
    "cog collect --policy weak_grasp --env cog/PickTray-v0 --episodes 10000",
)
_PLACEMENTS: Final = Need(
    "policy = 'place' and env = 'cog/PlaceTray-v0'",
    "cog collect --policy place --env cog/PlaceTray-v0 --episodes 5000",
)
_GOOD_PLACEMENTS: Final = Need(f"{_PLACEMENTS.where} and success", _PLACEMENTS.command)

RECIPES: Final[Mapping[str, Recipe]] = {
    "place_in_tray": Recipe(
        "weak grasps without reward, and placements",
        {"prior": _WEAK_GRASPS, "task": _PLACEMENTS},
        {"prior": 0.5, "task": 0.5},
    ),
    "place_in_tray_no_prior": Recipe("placements alone", {"task": _PLACEMENTS}, {}),
    "place_in_tray_oracle": Recipe("successful placements alone", {"task": _GOOD_PLACEMENTS}, {}),
}
"""Name → recipe; its SQL is the file of that name beside this one."""


def recipe_sql(name: str) -> str:
    """Return the SQL of a recipe.

    Args:
        name: Key of :data:`RECIPES`.

    Raises:
        CogError: There is no such recipe.
    """
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return files("catalog.recipes").joinpath(f"{name}.sql").read_text(encoding="utf-8")


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
    missing = _missing(store, RECIPES[name])
    if missing:
        commands = " and ".join(f"`{command}`" for command in missing)
        raise CogError(f"mixture {name!r} needs episodes that are not in the store: run {commands}")
    return freeze(store, name, recipe_sql(name), weights=RECIPES[name].weights).info


def _missing(store: Store, recipe: Recipe) -> list[str]:
    if not store.exists("collections"):
        return [need.command for need in recipe.needs.values()]
    with open_indexed(store) as con:
        return [
            need.command
            for need in recipe.needs.values()
            if not con.execute(f"SELECT 1 FROM episodes WHERE {need.where} LIMIT 1").fetchall()
        ]
