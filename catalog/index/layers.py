"""Layers as rows of the catalog: what each version declares, and which episodes its commits hold."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Final

import pyarrow as pa

from cogdata.storage.layers.commits import read_commit, read_table
from cogdata.storage.layers.heads import parse_head
from cogdata.storage.layers.rows import EPISODES, STEPS
from cogdata.storage.store import Store

_FEATURES: Final = pa.schema(
    [
        ("layer", pa.string()),
        ("version", pa.int32()),
        ("position", pa.int32()),
        *((name, pa.string()) for name in ("feature", "per", "dtype", "help")),
        ("shape", pa.list_(pa.int32())),
        ("names", pa.list_(pa.string())),
    ]
)
_KEYS: Final = ("episode_id", "episode_digest", "digest")


def utc(text: str) -> datetime:
    """Return an ISO time as DuckDB holds it: UTC, without a zone."""
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def layer_rows(store: Store, path: str) -> dict[str, pa.Table]:
    """Return the rows of a head: table of ``base`` → rows.

    Args:
        store: Where it lies.
        path: Of ``layer.json``.

    Raises:
        CogError: It is damaged, or of a newer version.
    """
    info = parse_head(store, path)
    row = {
        "layer": info.name,
        "version": info.version,
        "function": info.function,
        "source": info.source,
        "features": [one.name for one in info.features],
        "command": info.command,
        "created_at": utc(info.created_at),
        "cogdata_version": info.cogdata_version,
    }
    features = [
        {
            "layer": info.name,
            "version": info.version,
            "position": number,
            "feature": one.name,
            "per": str(one.per),
            "dtype": one.dtype,
            "shape": list(one.shape),
            "names": list(one.names),
            "help": one.help,
        }
        for number, one in enumerate(info.features)
    ]
    declared = pa.Table.from_pylist(features, schema=_FEATURES)
    return {"layers": pa.Table.from_pylist([row]), "layer_features": declared}


def commit_rows(store: Store, path: str) -> dict[str, pa.Table]:
    """Return the rows of a commit: table of ``base`` → rows.

    Args:
        store: Where it lies.
        path: Of the commit.

    Raises:
        CogError: It, or its file of episodes, is damaged or of a newer version.
    """
    commit = read_commit(store, path)
    names = ("layer", "version", "collection", "part", "number", "episodes", "rows")
    row = {name: value for name, value in asdict(commit).items() if name in names} | {
        "bytes": sum(said["size"] for said in commit.files.values()),
        "episodes_file": commit.file(EPISODES),
        "steps_file": commit.file(STEPS),
    }
    rows = read_table(store, commit, EPISODES).select(list(_KEYS))
    rows = rows.append_column("layer", pa.array([commit.layer] * len(rows), pa.string()))
    rows = rows.append_column("version", pa.array([commit.version] * len(rows), pa.int32()))
    return {"layer_commits": pa.Table.from_pylist([row]), "layer_episodes": rows}
