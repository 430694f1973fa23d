"""What freezing keeps of the steps while it reads them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from catalog.mixtures.contents import _Rows


def test_a_batch_is_let_go_of_as_soon_as_its_rows_are_taken() -> None:
    before = pa.total_allocated_bytes()
    narrow = {"number": pa.int32(), "t": pa.int32(), "collected": pa.float32(), "frozen": pa.float32()}
    columns = [pa.array(np.arange(1000), pa.int64()).cast(kind) for kind in narrow.values()]
    batch = pa.record_batch(columns, names=list(narrow))
    assert pa.total_allocated_bytes() - before >= 16_000  # 1000 rows of 4 x 4 bytes
    rows = _Rows.of(batch)
    del batch, columns
    assert pa.total_allocated_bytes() == before
    np.testing.assert_array_equal(rows.t, np.arange(1000))
