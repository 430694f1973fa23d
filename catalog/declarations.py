"""Whether the files of a part are as its collection declares them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from catalog.columns import arrow_type, sql_type
from cogdata.episode import Episode
from cogdata.features import EpisodeSpec, Feature
from cogdata.layout1 import layout_of
from cogdata.storage.samples import extras_json


def wrong_columns(found: pa.Schema, declared: EpisodeSpec) -> list[str]:
    """Compare the columns of a part's steps with the declaration of its collection.

    Args:
        found: Of ``steps.parquet``.
        declared: By the collection; one of layout 1 leaves columns null, and is not compared.

    Returns:
        What is wrong, a column each.
    """
    if layout_of(declared) == 1:
        return []
    expected = {one.name: sql_type(arrow_type(one)) for one in (*declared.columns, declared.action)}
    expected["reward"] = sql_type(arrow_type(Feature("reward", declared.reward)))
    expected |= dict.fromkeys(("terminated", "truncated", *declared.predicates), "BOOLEAN")
    expected |= {"episode_id": "VARCHAR", "t": "INTEGER", "phase": "VARCHAR"}
    wrong = []
    for name, kind in expected.items():
        if name not in found.names:
            wrong.append(f"has no column {name}, which the collection declares")
        elif (stored := _kind(found.field(name).type)) != kind:
            wrong.append(f"has column {name} of type {stored}, declared as {kind}")
    more = [name for name in found.names if name not in expected]
    return wrong + [f"has a column {name}, which the collection does not declare" for name in more]


def _kind(found: pa.DataType) -> str:
    is_list = pa.types.is_list(found) or pa.types.is_fixed_size_list(found)
    try:
        return sql_type(pa.list_(found.value_type) if is_list else found)
    except KeyError:
        return str(found)


def wrong_declaration(episode: Episode, row: dict[str, Any], declared: EpisodeSpec | None) -> str | None:
    """Compare what an episode says of itself with its collection and with its row.

    Args:
        episode: As read from the shard.
        row: Of the same episode.
        declared: By the collection; None: layout 1.

    Returns:
        What is wrong, or None.
    """
    if declared is None or layout_of(declared) == 1:
        if layout_of(episode.spec) == 1:
            return None
        return "has a declaration of its own, the collection has none"
    if episode.spec.identity() != declared.identity():
        return _difference(episode.spec, declared)
    if row.get("extras") != extras_json(episode):
        return f"has extras {extras_json(episode)}, its row says {row.get('extras')}"
    return None


def _difference(found: EpisodeSpec, declared: EpisodeSpec) -> str:
    """The first thing in which two declarations differ."""
    mine, theirs = (
        {one.name: one for one in (*spec.observations, spec.action, *spec.extras)}
        for spec in (found, declared)
    )
    for name in [*theirs, *mine]:
        if name not in mine:
            return f"has no {name}, which the collection declares"
        if name not in theirs:
            return f"has {name}, which the collection does not declare"
        if mine[name].identity() != theirs[name].identity():
            return f"has {name} as {_words(mine[name])}, declared as {_words(theirs[name])}"
    if set(found.predicates) != set(declared.predicates):
        return f"has predicates {_listed(found)}, declared as {_listed(declared)}"
    return "declares its features in another order than the collection"


def _words(feature: Feature) -> str:
    return f"{feature.describe()} per {feature.per}"


def _listed(spec: EpisodeSpec) -> str:
    return ", ".join(spec.predicates) or "none"
