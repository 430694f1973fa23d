"""Writing a query's rows: for people (table), for programs (json, jsonl, csv, parquet)."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, BinaryIO, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cogdata.errors import CogError, unknown

_SHOWN_ITEMS: Final = 4
_SHOWN_CHARACTERS: Final = 120
_UNLIMITED_WIDTH: Final = 100_000
_ENOUGH_WIDTH: Final = 8
"""Characters per column below which rows are shown one below the other instead."""


def write_result(table: pa.Table, format: str, out: BinaryIO) -> None:
    """Write rows in one of :data:`FORMATS`.

    Args:
        table: From :func:`catalog.query.run_query`.
        format: "table", "json", "jsonl", "csv" or "parquet".
        out: Binary stream, for example ``sys.stdout.buffer``; UTF-8 is written.

    Raises:
        CogError: Unknown format; Parquet to a terminal; a column that Parquet cannot hold.
    """
    check_format(format)
    FORMATS[format](table, out)
    out.flush()


def check_format(format: str) -> None:
    """Refuse a format that is not in :data:`FORMATS`.

    Args:
        format: What was typed.

    Raises:
        CogError: It is unknown.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)


def _text(write: Callable[[pa.Table, io.TextIOWrapper], None]) -> Callable[[pa.Table, BinaryIO], None]:
    def run(table: pa.Table, out: BinaryIO) -> None:
        stream = io.TextIOWrapper(out, encoding="utf-8", newline="\n", write_through=True)
        try:
            write(table, stream)
        finally:
            stream.detach()

    return run


# --- values ----------------------------------------------------------------------------------------------


def _rows(table: pa.Table) -> Iterator[list[Any]]:
    """Rows of plain JSON values, numbers of 32 bits with the digits that they have."""
    columns = [_plain_column(table.column(number)) for number in range(table.num_columns)]
    yield from (list(row) for row in zip(*columns, strict=True))


def _plain_column(column: pa.ChunkedArray) -> list[Any]:
    single = pa.types.is_float32(column.type) or (
        pa.types.is_list(column.type) and pa.types.is_float32(column.type.value_type)
    )
    return [_plain(value, single=single) for value in column.to_pylist()]


def _plain(value: Any, *, single: bool = False) -> Any:  # noqa: ANN401 - any SQL value
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return float(str(np.float32(value))) if single else value
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, list):
        return [_plain(item, single=single) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, pa.MonthDayNano):
        return f"{value.months} months {value.days} days {value.nanoseconds / 1e9:g} s"
    if isinstance(value, tuple):  # an entry of a MAP
        return [_plain(item) for item in value]
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return str(value)


def _cell(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """A value for people: lists and texts shortened, floats to six digits."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        shown = [_cell(item) for item in value[:_SHOWN_ITEMS]]
        rest = f", … {len(value)} in all" if len(value) > _SHOWN_ITEMS else ""
        return f"[{', '.join(shown)}{rest}]"
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"


# --- formats ---------------------------------------------------------------------------------------------


def _write_table(table: pa.Table, stream: io.TextIOWrapper) -> None:
    console = Console(file=stream, highlight=False)
    if not console.is_terminal:
        console = Console(file=stream, highlight=False, width=_UNLIMITED_WIDTH)
    rows = [[_cell(value) for value in row] for row in _rows(table)]
    names = table.column_names
    if table.num_rows and console.width < _ENOUGH_WIDTH * len(names):
        _write_records(names, rows, console)
        return
    grid = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for field in table.schema:
        number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        grid.add_column(Text(field.name), justify="right" if number else "left", overflow="fold")
    for row in rows:
        grid.add_row(*map(Text, row))
    console.print(grid)


def _write_records(names: list[str], rows: list[list[str]], console: Console) -> None:
    """One line per value: for rows too wide for the terminal."""
    width = max(map(len, names))
    for number, row in enumerate(rows, 1):
        console.print(Text(f"row {number}", style="bold"))
        for name, cell in zip(names, row, strict=True):
            console.print(Text(f"  {name:<{width}}  {cell}"))


def _objects(table: pa.Table) -> Iterator[str]:
    for row in _rows(table):
        yield json.dumps(dict(zip(table.column_names, row, strict=True)), ensure_ascii=False, allow_nan=False)


def _write_json(table: pa.Table, stream: io.TextIOWrapper) -> None:
    objects = ",\n ".join(_objects(table))
    stream.write(f"[{objects}]\n")


def _write_jsonl(table: pa.Table, stream: io.TextIOWrapper) -> None:
    for line in _objects(table):
        stream.write(f"{line}\n")


def _write_csv(table: pa.Table, stream: io.TextIOWrapper) -> None:
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(table.column_names)
    for row in _rows(table):
        writer.writerow([_csv_cell(value) for value in row])


def _csv_cell(value: Any) -> str:  # noqa: ANN401 - any JSON value
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _write_parquet(table: pa.Table, out: BinaryIO) -> None:
    if out.isatty():
        raise CogError("parquet is not for a terminal: redirect it into a file, for example > result.parquet")
    sink = pa.BufferOutputStream()
    try:
        pq.write_table(table, sink, compression="zstd")
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise CogError(f"parquet cannot hold a column ({error}): cast it in the query") from None
    out.write(memoryview(sink.getvalue()))


FORMATS: Final[dict[str, Callable[[pa.Table, BinaryIO], None]]] = {
    "table": _text(_write_table),
    "json": _text(_write_json),
    "jsonl": _text(_write_jsonl),
    "csv": _text(_write_csv),
    "parquet": _write_parquet,
}
