"""`cog list`: what there is by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

import typer

from cogdata.errors import CogError, unknown
from commands.shared import say

LISTS: Final = ("policies", "envs", "algorithms", "methods", "recipes", "ablations")
"""What `cog list` lists."""


def list_command(
    what: Annotated[str, typer.Argument(help=f"{', '.join(LISTS[:-1])} or {LISTS[-1]}.")],
) -> None:
    """List what there is by name, with a line of help each."""
    if what == "variations":
        raise CogError("variations are called ablations now: type `cog list ablations`")
    if what not in LISTS:
        raise unknown("list", what, LISTS)
    rows = _TABLES[what]()
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        say(f"{name:<{width}}  {text}")


def _policies() -> list[tuple[str, str]]:
    from collectors.policies import POLICIES

    return [
        (
            name,
            f"{spec.help} [{spec.default_env}, {spec.success_range[0]:.0%} to {spec.success_range[1]:.0%}]",
        )
        for name, spec in POLICIES.items()
    ]


def _envs() -> list[tuple[str, str]]:
    from collectors.envs import ENVS

    return [(name, f"{spec.help} [horizon {spec.horizon}]") for name, spec in ENVS.items()]


def _algorithms() -> list[tuple[str, str]]:
    from trainers.algos import ALGORITHMS

    return [(name, entry.summary) for name, entry in ALGORITHMS.items()]


def _methods() -> list[tuple[str, str]]:
    from trainers.training.methods import METHODS

    return [(name, method.summary) for name, method in METHODS.items()]


def _recipes() -> list[tuple[str, str]]:
    from catalog.recipes import RECIPES

    return [(name, recipe.summary) for name, recipe in RECIPES.items()]


def _ablations() -> list[tuple[str, str]]:
    from trainers.paper.ablations import ABLATIONS

    return [(name, f"{one.summary} [{one.task}]") for name, one in ABLATIONS.items()]


_TABLES: Final[dict[str, Callable[[], list[tuple[str, str]]]]] = dict(
    zip(LISTS, (_policies, _envs, _algorithms, _methods, _recipes, _ablations), strict=True)
)
