"""Layers in SQL: their features are columns of ``steps`` and ``episodes``, those of the newest version.

A value belongs to an episode by name and digest: that of an episode which has another content now is null. A
feature that is called as a column that the view has anyway is left out; `cog data verify` names it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

import duckdb
import pyarrow as pa

from catalog.columns import Column, arrow_type
from catalog.guard import COLUMNS
from catalog.index import parquet
from catalog.index.db import plain
from catalog.index.sync import open_indexed
from cogdata.errors import CogError
from cogdata.features import Feature, Per
from cogdata.storage.layers.heads import list_layers, list_versions, read_layer
from cogdata.storage.store import Store

_ON: Final = {
    "episodes": {"episode_id": "episode_id", "episode_digest": "digest"},
    "steps": {"episode_id": "episode_id", "t": "t"},
}
"""View → column of a layer's file → column of the view that says which row it belongs to."""

_Con = duckdb.DuckDBPyConnection


@dataclass(frozen=True)
class LayerColumn(Column):
    """A column of a view that a layer gives.

    Attributes:
        layer: Name of the layer.
        version: Its newest version.
        view: "steps" or "episodes".
    """

    layer: str = ""
    version: int = 0
    view: str = "steps"


def layer_columns(con: _Con, view: str, taken: Collection[str]) -> tuple[LayerColumn, ...]:
    """Return the columns that layers give a view.

    Args:
        con: Open catalog.
        view: "steps" or "episodes".
        taken: Names of the columns that the view has without them.
    """
    sql = (
        "SELECT layer, version, feature, dtype, shape, per, names, help FROM base.layer_features "
        "WHERE (layer, version) IN (SELECT (layer, max(version)) FROM base.layers GROUP BY layer) "
        "AND (per = 'episode') = $per_episode ORDER BY layer, position"
    )
    found: dict[str, LayerColumn] = {}
    rows = con.execute(sql, {"per_episode": view == "episodes"}).fetchall()
    for layer, version, name, dtype, shape, per, names, text in rows:
        if name not in taken and name not in found:
            feature = Feature(name, dtype, tuple(shape), Per(per), tuple(names), help=text)
            words = feature.help or feature.describe()
            found[name] = LayerColumn(name, (arrow_type(feature),), words, "", layer, version, view)
    return tuple(found.values())


def with_layers(
    con: _Con,
    store: Store,
    source: str,
    columns: Sequence[LayerColumn],
    reads: Callable[[str], bool],
) -> str:
    """Return SQL of the rows of ``steps`` or ``episodes`` with the columns of layers.

    Args:
        con: Open catalog.
        store: Where the files lie.
        source: SQL of the rows without them: a table, or a query in parentheses.
        columns: Of the view, from :func:`layer_columns`.
        reads: Whether the query that is to run may read a column; the file of one that it does not is not
            opened.

    Raises:
        CogError: A file of a layer is missing or damaged.
    """
    joins, values = "", ""
    for number, key in enumerate(sorted({(one.layer, one.version, one.view) for one in columns})):
        mine = [one for one in columns if (one.layer, one.version, one.view) == key]
        files = _files(con, *key) if any(reads(one.name) for one in mine) else []
        if files:
            keys = _ON[key[2]]
            on = " AND ".join(f"l{number}.{name} = v.{other}" for name, other in keys.items())
            joins += f" LEFT JOIN {_rows(con, store, files, mine)} l{number} ON {on}"
        for one in mine:
            value = f"l{number}.{parquet.quoted(one.name)}" if files else "NULL"
            values += f", CAST({value} AS {one.sql_type}) AS {parquet.quoted(one.name)}"
    return f"SELECT v.*{values} FROM {source} v{joins}"


def _files(con: _Con, layer: str, version: int, view: str) -> list[str]:
    sql = (
        f"SELECT {view}_file FROM base.layer_commits WHERE layer = $layer AND version = $version ORDER BY ALL"
    )
    found = con.execute(sql, {"layer": layer, "version": version}).fetchall()
    return [name for (name,) in found if name is not None]


def _rows(con: _Con, store: Store, files: Sequence[str], columns: Sequence[LayerColumn]) -> str:
    """SQL of the rows of a layer that belong to episodes as they are now, each once."""
    layer, version, view = columns[0].layer, columns[0].version, columns[0].view
    keys = ["episode_id", "episode_digest", *(["t"] if view == "steps" else [])]
    types = [pa.string(), pa.string(), pa.int32()]
    fields = [*zip(keys, types, strict=False), *((one.name, one.types[0]) for one in columns)]
    doubled = con.execute(
        "SELECT 1 FROM base.layer_episodes WHERE layer = $layer AND version = $version "
        "GROUP BY episode_id, episode_digest HAVING count(*) > 1 LIMIT 1",
        {"layer": layer, "version": version},
    ).fetchall()  # somebody copied a commit: the first by name counts
    try:
        scanned = parquet.scan(con, store, files, pa.schema(fields), files if doubled else ())
        con.execute(f"DESCRIBE SELECT * FROM {scanned}")
    except (duckdb.Error, OSError, pa.ArrowException) as error:
        said = parquet.as_stored(store, plain(error))
        raise CogError(
            f"a file of layer {layer}@{version} cannot be read ({said}): run `cog data verify`"
        ) from None
    by = ", ".join(f"r.{name}" for name in keys)
    once = f" QUALIFY row_number() OVER (PARTITION BY {by} ORDER BY r.{parquet.FILE}) = 1" if doubled else ""
    current = "(SELECT episode_id, digest FROM catalog.base.episodes WHERE NOT shadowed)"
    return (
        f"(SELECT r.* EXCLUDE ({parquet.FILE}) FROM {scanned} r JOIN {current} e "
        f"ON e.episode_id = r.episode_id AND e.digest = r.episode_digest{once})"
    )


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
