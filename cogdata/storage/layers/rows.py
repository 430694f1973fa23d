"""Values of a layer for episodes, as the Parquet files of a commit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cogdata.features import Feature, Per
from cogdata.storage.layers.heads import LayerInfo
from cogdata.storage.tables import to_parquet

EPISODES: Final = "episodes"
STEPS: Final = "steps"

_COLUMNS: Final = {
    "uint8": pa.uint8(), "uint16": pa.uint16(), "int32": pa.int32(), "int64": pa.int64(), "bool": pa.bool_(),
    "float16": pa.float32(), "float32": pa.float32(), "float64": pa.float64(), "string": pa.string(),
}  # fmt: skip
"""Type of a feature → type of its column; few readers of Parquet know float16."""

Values = Mapping[str, NDArray[Any] | None]
"""Feature → its rows (N, T or 1, *shape); None: not derived, or unknown."""


@dataclass(frozen=True)
class LayerRow:
    """What a layer says of one episode.

    Attributes:
        episode_id: Its name.
        episode_digest: Digest of the episode that the values were derived from.
        observations: N of the episode.
        actions: T of the episode.
        values: Feature → rows.
    """

    episode_id: str
    episode_digest: str
    observations: int
    actions: int
    values: Values

    def rows_of(self, feature: Feature) -> int:
        """Return how many rows the episode has of a feature."""
        return {Per.OBSERVATION: self.observations, Per.TRANSITION: self.actions, Per.EPISODE: 1}[feature.per]

    def digest(self, features: Sequence[Feature]) -> str:
        """Return the sha256 (hex) of the values, of their declaration and of the episode's own digest.

        Args:
            features: Declaration of the layer.
        """
        sha = hashlib.sha256(f"layer\0{self.episode_digest}".encode())
        for feature in features:
            values = self.values[feature.name]
            sha.update(f"\0{json.dumps(feature.identity(), sort_keys=True)}\0".encode())
            if values is None:
                sha.update(b"null")
            elif feature.is_text:
                sha.update(json.dumps(values.tolist(), ensure_ascii=True).encode())
            else:
                sha.update(f"{values.dtype.str}{values.shape}\0".encode())
                sha.update(np.ascontiguousarray(values).data)
        return sha.hexdigest()


# --- tables --------------------------------------------------------------------------------------------


def encode_rows(info: LayerInfo, rows: Sequence[LayerRow]) -> dict[str, bytes]:
    """Return the files of a commit: name → bytes.

    Args:
        info: Head of the layer.
        rows: At least one.
    """
    files = {EPISODES: to_parquet(_episodes_table(info, rows))}
    if info.per_step:
        files[STEPS] = to_parquet(pa.concat_tables(_steps_table(info, row) for row in rows))
    return {f"{kind}-{hashlib.sha256(data).hexdigest()[:16]}.parquet": data for kind, data in files.items()}


def _episodes_table(info: LayerInfo, rows: Sequence[LayerRow]) -> pa.Table:
    columns = {
        "episode_id": pa.array([row.episode_id for row in rows], pa.string()),
        "episode_digest": pa.array([row.episode_digest for row in rows], pa.string()),
        "digest": pa.array([row.digest(info.features) for row in rows], pa.string()),
        "observations": pa.array([row.observations for row in rows], pa.int32()),
        "actions": pa.array([row.actions for row in rows], pa.int32()),
    }
    for feature in info.per_episode:
        columns[feature.name] = pa.chunked_array([encoded(feature, row, 1) for row in rows])
    return pa.table(columns)


def _steps_table(info: LayerInfo, row: LayerRow) -> pa.Table:
    rows = row.observations
    columns = {
        "episode_id": pa.array([row.episode_id] * rows, pa.string()),
        "episode_digest": pa.array([row.episode_digest] * rows, pa.string()),
        "t": pa.array(np.arange(rows, dtype=np.int32)),
    }
    return pa.table(columns | {one.name: encoded(one, row, rows) for one in info.per_step})


def column_type(feature: Feature) -> pa.DataType:
    """Return the type of a feature's column; more than one dimension is flattened to a list."""
    kind = _COLUMNS[feature.dtype]
    if not feature.shape:
        return kind
    return pa.list_(kind, feature.size) if feature.size else pa.list_(kind)


def encoded(feature: Feature, row: LayerRow, rows: int) -> pa.Array:
    """Return the values of a feature as a column of so many rows; what is not there is null."""
    kind, values = column_type(feature), row.values[feature.name]
    if values is None:
        return pa.nulls(rows, kind)
    if feature.is_text:
        return pa.array([*values.tolist(), *[None] * (rows - len(values))], kind)
    if not feature.size and feature.shape:  # no fixed size may be 0
        return pa.array([[]] * len(values) + [None] * (rows - len(values)), kind)
    wide = np.float32 if feature.dtype == "float16" else feature.numpy_dtype
    padded = np.zeros((rows, *feature.shape), wide)
    padded[: len(values)] = values
    beyond = np.arange(rows) >= len(values)
    if not feature.shape:
        return pa.array(padded, kind, mask=beyond)
    entries = pa.array(padded.reshape(-1), kind.value_type)
    mask = pa.array(beyond) if beyond.any() else None
    return pa.FixedSizeListArray.from_arrays(entries, feature.size, mask=mask)


def decoded(feature: Feature, column: pa.ChunkedArray, rows: int) -> NDArray[Any] | None:
    """The values of a feature from its column; None: there are none.

    Raises:
        ValueError: Some are missing.
    """
    array = column.slice(0, rows).combine_chunks()
    if len(array) != rows:
        raise ValueError(f"{feature.name} has {len(array)} rows, must have {rows}")
    if array.null_count == rows:
        return None
    if feature.is_text:
        return np.array(array.to_pylist(), object)
    if array.null_count:
        raise ValueError(f"{feature.name} lacks {array.null_count} of {rows} rows")
    flat = array.flatten() if feature.shape else array
    values: NDArray[Any] = flat.to_numpy(zero_copy_only=False)
    return values.astype(feature.numpy_dtype, copy=False).reshape(rows, *feature.shape)
