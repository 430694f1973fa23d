"""Features of layers that a mixture takes beside those that its episodes declare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from catalog.layers import layer_columns
from cogdata.errors import CogError
from cogdata.features import Feature
from cogdata.storage.layers.heads import read_layer
from cogdata.storage.layers.reading import LayerUse, content_digest
from cogdata.storage.selection import Selection
from cogdata.storage.store import Store

_Con = duckdb.DuckDBPyConnection


@dataclass(frozen=True)
class Derived:
    """What a mixture takes of layers.

    Attributes:
        layers: (name, version) → its features that are taken.
    """

    layers: dict[tuple[str, int], tuple[Feature, ...]]

    @property
    def features(self) -> tuple[Feature, ...]:
        """All features that are taken."""
        return tuple(feature for features in self.layers.values() for feature in features)

    @property
    def reads(self) -> Callable[[str], bool] | None:
        """Whether a column of ``steps`` is taken of a layer; None: none is."""
        names = {feature.name for feature in self.features}
        return (lambda name: name in names) if names else None

    def check(self, con: _Con) -> None:
        """Refuse episodes of which a layer has no values.

        Args:
            con: Open catalog with the table ``chosen``.

        Raises:
            CogError: It names one.
        """
        sql = "SELECT DISTINCT episode_id, digest FROM episodes SEMI JOIN chosen USING (episode_id)"
        wanted = set(con.execute(sql).fetchall()) if self.layers else set()
        for name, version in self.layers:
            if missing := sorted(wanted - _held(con, name, version).keys()):
                raise CogError(
                    f"layer {name}@{version} has no values of {len(missing)} of the episodes, for example "
                    f"{missing[0][0]}: run its `cog derive` again, or choose episodes that have them"
                )

    def used(self, con: _Con, episodes: pa.Table) -> dict[str, LayerUse]:
        """Return what the head of the mixture says of layers.

        Args:
            con: Open catalog.
            episodes: Table of `cogdata.storage.manifest.EPISODES`.
        """
        keys = list(zip(episodes["episode_id"].to_pylist(), episodes["digest"].to_pylist(), strict=True))
        found: dict[str, LayerUse] = {}
        for (name, version), features in self.layers.items():
            held = _held(con, name, version)
            digest = content_digest({key[0]: held[key] for key in keys})
            found[name] = LayerUse(version, tuple(one.name for one in features), digest)
        return found


def _held(con: _Con, name: str, version: int) -> dict[tuple[str, str], str]:
    """Name and digest of each episode of a layer → digest of its values."""
    rows = con.execute(
        "SELECT episode_id, episode_digest, digest FROM base.layer_episodes "
        "WHERE layer = $layer AND version = $version ORDER BY file DESC",
        {"layer": name, "version": version},
    ).fetchall()
    return {(episode_id, episode_digest): digest for episode_id, episode_digest, digest in rows}


def layers_of(con: _Con, store: Store, selection: Selection) -> Derived:
    """Find the features that are asked for and that layers have, not the collections.

    Args:
        con: Open catalog.
        store: Where the layers lie.
        selection: What is asked for.
    """
    asked = {old for name in selection.take or () for old in selection.origins(name)}
    if not asked:
        return Derived({})
    declared = {name for (name,) in con.execute("SELECT DISTINCT feature FROM features").fetchall()}
    found: dict[tuple[str, int], tuple[Feature, ...]] = {}
    for view in ("steps", "episodes"):
        for one in layer_columns(con, view, declared):
            if one.name in asked:
                key = one.layer, one.version
                features = {one.name: one for one in read_layer(store, *key).features}
                found[key] = (*found.get(key, ()), features[one.name])
    return Derived(found)
