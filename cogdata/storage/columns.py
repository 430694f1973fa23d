"""Tables that an older or newer version wrote, in the columns that this one knows."""

from __future__ import annotations

import pyarrow as pa


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Give a table the columns of a schema: one that it lacks is null, one that the schema lacks is left out.

    Args:
        table: As read from a file.
        schema: Columns and their types.

    Raises:
        pa.ArrowInvalid: A value does not fit its column.
    """
    columns = [
        table.column(field.name).cast(field.type)
        if field.name in table.column_names
        else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)
