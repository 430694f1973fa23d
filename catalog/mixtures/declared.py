"""What the episodes of a mixture declare, and what of it they share."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from cogdata.features import EpisodeSpec, Feature
from cogdata.layout1 import layout1_spec
from cogdata.storage import collections
from cogdata.storage.layers.reading import with_layers
from cogdata.storage.manifest import MixtureInfo
from cogdata.storage.selection import Selection, Shared, common
from cogdata.storage.store import Store

_Con = duckdb.DuckDBPyConnection


def shared_features(con: _Con, store: Store, selection: Selection, derived: Sequence[Feature] = ()) -> Shared:
    """Work out what the chosen episodes share after a selection.

    Args:
        con: Open catalog with the table ``chosen``.
        store: Where the collections' declarations are.
        selection: What is asked for.
        derived: Features of layers that are asked for, which every episode has beside those that it declares.

    Raises:
        CogError: A feature that is asked for, or the action, differs between two of them.
    """
    found = _declarations(con, store)
    if derived:
        found = {where: with_layers(spec, derived) for where, spec in found.items()}
    return common(found, selection)


def _declarations(con: _Con, store: Store) -> dict[str, EpisodeSpec]:
    """An episode of each declaration → the declaration, by the episodes' names."""
    rows = con.sql(
        "SELECT min(episode_id) AS example, collection, image_height, image_width, scene_fields "
        "FROM episodes SEMI JOIN chosen USING (episode_id) GROUP BY ALL ORDER BY example"
    ).fetchall()
    found: dict[str, EpisodeSpec] = {}
    seen: set[str] = set()
    for example, collection, height, width, fields in rows:
        if height is None:
            spec = collections.declared(store, collection)
        else:
            spec = layout1_spec((height, width), fields, ())
        if (identity := spec.identity()) not in seen:
            seen.add(identity)
            found[example] = spec
    return found


def compare_features(a: MixtureInfo, b: MixtureInfo) -> tuple[str, ...]:
    """Return how the features that two mixtures deliver differ, a line each, and what was asked for.

    Args:
        a: Head of the first.
        b: Head of the second.
    """
    lines = []
    names = dict.fromkeys(one.name for info in (a, b) for one in (*info.spec.features, info.spec.action))
    for name in names:
        said = [info.spec[name].describe() if name in info.spec else "" for info in (a, b)]
        if not all(said):
            holder, other = (a, b) if said[0] else (b, a)
            why = f", there it {reason}" if (reason := other.left_out.get(name)) else ""
            lines.append(f"{name}: only in {holder.ref}{why}")
        elif said[0] != said[1] or a.spec[name].identity() != b.spec[name].identity():
            lines.append(f"{name}: {said[0]} in {a.ref}, {said[1]} in {b.ref}")
    asked = [", ".join(info.selection.told()) or "the default" for info in (a, b)]
    if a.selection != b.selection:
        lines.append(f"asked for: {asked[0]} in {a.ref}, {asked[1]} in {b.ref}")
    return tuple(lines)
