"""The Parquet files of a part, as bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def steps_parquet(
    episode_ids: Sequence[str], batches: Sequence[pa.RecordBatch], predicates: Sequence[str] = ()
) -> bytes:
    """Join the step arrays of episodes.

    Args:
        episode_ids: Name of each episode.
        batches: Step arrays of each, from :func:`cogdata.storage.samples.steps_batch`.
        predicates: Columns that are null where a scene lacks them.
    """
    tables = []
    for name, batch in zip(episode_ids, batches, strict=True):
        table = pa.Table.from_batches([batch]).replace_schema_metadata(None)
        ids = pa.array([name] * len(table), pa.string())
        t = pa.array(np.arange(len(table), dtype=np.int32))
        tables.append(table.add_column(0, "t", t).add_column(0, "episode_id", ids))
    joined = pa.concat_tables(tables)
    for name in (name for name in predicates if name not in joined.column_names):
        joined = joined.append_column(name, pa.nulls(len(joined), pa.bool_()))
    return to_parquet(joined.cast(pa.schema([_as_parquet(field) for field in joined.schema])))


def _as_parquet(field: pa.Field) -> pa.Field:
    """Texts as texts, and float16, which few readers know, as float32."""
    kind = field.type
    if pa.types.is_dictionary(kind):
        return pa.field(field.name, pa.string())
    if kind == pa.float16():
        return pa.field(field.name, pa.float32())
    if pa.types.is_fixed_size_list(kind) and kind.value_type == pa.float16():
        return pa.field(field.name, pa.list_(pa.float32(), kind.list_size))
    return field


def to_parquet(table: pa.Table) -> bytes:
    """Write a table; floats split by byte and zstd: physics noise compresses no better than that."""
    floats = [
        field.name + (".list.element" if pa.types.is_fixed_size_list(field.type) else "")
        for field in table.schema
        if pa.types.is_fixed_size_list(field.type) and pa.types.is_floating(field.type.value_type)
    ]
    encoding = {"use_byte_stream_split": floats, "use_dictionary": [
        field.name for field in table.schema if pa.types.is_string(field.type)
    ]}  # fmt: skip
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", compression_level=6, store_schema=False,
                   write_statistics=False, **encoding)  # fmt: skip
    return bytes(sink.getvalue())
