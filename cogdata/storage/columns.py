"""Tables that an older or newer version wrote, in the columns that this one knows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Give a table the columns of a schema: one that it lacks is null, one that the schema lacks is left out.

    Where the schema has lists, a number becomes a list of one.

    Args:
        table: As read from a file.
        schema: Columns and their types.

    Raises:
        pa.ArrowInvalid: A value does not fit its column.
    """
    columns = [
        _as(table.column(field.name), field.type)
        if field.name in table.column_names
        else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def _as(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Cast a column; a number to a list of it."""
    if pa.types.is_list(kind) and pa.types.is_primitive(column.type):
        values = column.combine_chunks()
        offsets = np.concatenate([[0], np.cumsum(np.asarray(values.is_valid()))]).astype(np.int32)
        lists = pa.ListArray.from_arrays(pa.array(offsets), values.drop_null(), mask=values.is_null())
        return pa.chunked_array([_cast(lists, kind)])
    return _cast(column, kind)


def _cast(column: Any, kind: pa.DataType) -> Any:  # noqa: ANN401 - an array, chunked or not
    """Cast; a whole number beyond 2^53 becomes the nearest float, as in SQL."""
    inside = kind.value_type if pa.types.is_list(kind) else kind
    return column.cast(kind, safe=not pa.types.is_floating(inside))
