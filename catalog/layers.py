"""Layers in SQL: which names their features may have."""

from __future__ import annotations

from collections.abc import Sequence

from catalog.guard import COLUMNS
from catalog.index.sync import open_indexed
from cogdata.errors import CogError
from cogdata.features import Feature
from cogdata.storage.layers.heads import list_layers, list_versions, read_layer
from cogdata.storage.store import Store


def check_free(store: Store, layer: str, features: Sequence[Feature]) -> None:
    """Refuse features of a layer that are called as something else in the store is.

    Args:
        store: Whose columns.
        layer: Name of the layer; its own other versions may have the same features.
        features: Of the layer.

    Raises:
        CogError: One is.
    """
    owners = {name: f"a column of {view}" for view in ("steps", "episodes") for name in COLUMNS[view]}
    with open_indexed(store) as con:
        sql = "SELECT feature, min(collection) FROM features GROUP BY feature"
        owners |= {name: f"declared by {first}" for name, first in con.execute(sql).fetchall()}
    for other in list_layers(store):
        if other != layer:
            for version in list_versions(store, other):
                info = read_layer(store, other, version)
                owners |= {one.name: f"a feature of layer {info.ref}" for one in info.features}
    for feature in features:
        if feature.name in owners:
            raise CogError(
                f"feature {feature.name} of layer {layer} is {owners[feature.name]} already: choose another "
                f"name, for example {layer.replace('-', '_')}_{feature.name}"
            )
