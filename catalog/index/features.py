"""Declared features as rows of the catalog: what each collection records, one row per name.

A collection of layout 2 declares its features in ``collection.json``. One of layout 1 declares nothing: its
features are those of :mod:`cogdata.layout1`, which the catalog holds once (``base.layout1``), with the image
size and the scene fields of the collection's first episode.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa

from cogdata.features import EpisodeSpec, Feature, Per
from cogdata.layout1 import layout1_spec
from cogdata.schema import PREDICATES

FEATURES: Final = pa.schema(
    [
        ("position", pa.int32()),  # within the declaration
        *((name, pa.string()) for name in ("feature", "role", "per", "dtype")),
        ("shape", pa.list_(pa.int32())),
        ("names", pa.list_(pa.string())),
        ("low", pa.list_(pa.float64())),
        ("high", pa.list_(pa.float64())),
        ("privileged", pa.bool_()),
        ("codec", pa.string()),
        ("rate_hz", pa.float64()),
        ("source", pa.string()),
        ("help", pa.string()),
    ]
)
"""Columns of ``base.features``, without the collection and its file."""


def feature_rows(spec: EpisodeSpec) -> pa.Table:
    """Return a row per name that a declaration gives: features, action, reward and predicates.

    Args:
        spec: Declaration of a collection's episodes.
    """
    rows = [_row(role, feature) for role, feature in _roles(spec)]
    return pa.Table.from_pylist(
        [{"position": number} | row for number, row in enumerate(rows)], schema=FEATURES
    )


def layout1_rows() -> pa.Table:
    """Return the rows of layout 1 for any image size and scene; both come from the episodes."""
    return feature_rows(layout1_spec((0, 0), (), PREDICATES))


def _roles(spec: EpisodeSpec) -> Iterator[tuple[str, Feature]]:
    for feature in spec.observations:
        yield "observation", feature
    yield "action", spec.action
    yield "reward", Feature("reward", spec.reward, per=Per.TRANSITION)
    for feature in spec.extras:
        yield "extra", feature
    for name in spec.predicates:
        yield "predicate", Feature(name, "bool")


def _row(role: str, feature: Feature) -> dict[str, Any]:
    return {
        "feature": feature.name,
        "role": role,
        "per": str(feature.per),
        "dtype": feature.dtype,
        "shape": list(feature.shape),
        "names": list(feature.names),
        "low": feature.low,
        "high": feature.high,
        "privileged": feature.privileged,
        "codec": feature.codec,
        "rate_hz": feature.rate_hz,
        "source": feature.source,
        "help": feature.help,
    }
