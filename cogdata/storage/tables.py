"""The Parquet files of a part, as bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cogdata.schema import PREDICATES


def steps_parquet(episode_ids: Sequence[str], batches: Sequence[pa.RecordBatch]) -> bytes:
    """Join the step arrays of episodes; a predicate that a scene lacks is null.

    Args:
        episode_ids: Name of each episode.
        batches: Step arrays of each, from :func:`cogdata.storage.samples.steps_batch`.
    """
    tables = []
    for name, batch in zip(episode_ids, batches, strict=True):
        table = pa.Table.from_batches([batch]).replace_schema_metadata(None)
        ids = pa.array([name] * len(table), pa.string())
        t = pa.array(np.arange(len(table), dtype=np.int32))
        tables.append(table.add_column(0, "t", t).add_column(0, "episode_id", ids))
    joined = pa.concat_tables(tables)
    for name in (name for name in PREDICATES if name not in joined.column_names):
        joined = joined.append_column(name, pa.nulls(len(joined), pa.bool_()))
    phase = joined.column("phase").cast(pa.string())
    return to_parquet(joined.set_column(joined.schema.get_field_index("phase"), "phase", phase))


def to_parquet(table: pa.Table) -> bytes:
    """Write a table; floats split by byte and zstd: physics noise compresses no better than that."""
    floats = [
        field.name + (".list.element" if pa.types.is_fixed_size_list(field.type) else "")
        for field in table.schema
        if pa.types.is_fixed_size_list(field.type)
    ]
    encoding = {"use_byte_stream_split": floats, "use_dictionary": [
        field.name for field in table.schema if pa.types.is_string(field.type)
    ]}  # fmt: skip
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", compression_level=6, store_schema=False,
                   write_statistics=False, **encoding)  # fmt: skip
    return bytes(sink.getvalue())
