"""One question to a generation, and its answer in the formats people ask for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Literal

import msgspec

from libs.adapters.warehouse.database import Database
from libs.errors import Permanent

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["distinct", "query", "write_result", "write_stream"]

Format = Literal["csv", "json", "parquet"]
_ROWS: Final = 10_000


def query(path: Path, sql: str) -> pa.Table:
    """Ask a generation. The SQL can write nothing and reach nothing outside the file.

    Raises:
        Permanent: the SQL is wrong, or there is no such file.
    """
    if not path.is_file():
        raise Permanent(f"there is no {path}", fix="drp warehouse ls")
    with Database.generation(path, frank=True) as generation:
        return generation.arrow(sql).read_all()


def write_result(table: pa.Table, sink: Path | IO[bytes], form: Format) -> None:
    """Write an answer: csv with a header (lists as JSON), one JSON array of objects, or Parquet.

    DECIMALs are written as exact text in csv and json, times as ISO 8601 in UTC.

    Raises:
        OSError: the sink could not be written.
    """
    if isinstance(sink, Path):
        with sink.open("wb") as file:
            write_result(table, file, form)
        return
    if form == "json":
        for piece in _json(table):
            sink.write(piece)
        return
    # What csv can't say is found before the first byte is written: half an answer looks like an answer.
    whole = _flat(table) if form == "csv" else table
    write_stream(whole.to_reader(), sink, form)


def write_stream(reader: pa.RecordBatchReader, sink: IO[bytes], form: Literal["csv", "parquet"]) -> int:
    """The same of an answer that is never whole in memory; its rows.

    Raises:
        OSError: the sink could not be written.
    """
    import pyarrow as pa
    import pyarrow.csv as pacsv
    import pyarrow.parquet as pq

    flat = _flat if form == "csv" else _as_it_is
    schema = flat(reader.schema.empty_table()).schema
    rows = 0
    with pacsv.CSVWriter(sink, schema) if form == "csv" else pq.ParquetWriter(sink, schema) as writer:
        for batch in reader:
            writer.write_table(flat(pa.Table.from_batches([batch])))
            rows += batch.num_rows
    return rows


def _as_it_is(table: pa.Table) -> pa.Table:
    return table


def distinct(table: pa.Table) -> pa.Table:
    """Every column under a name of its own: in JSON and Parquet the second of one name would hide the first."""
    names: list[str] = []
    for name in table.column_names:
        candidates = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(1)))
        names.append(next(each for each in candidates if each not in names))
    return table.rename_columns(names)


def _json(table: pa.Table) -> Iterator[bytes]:
    separator = b"["
    for batch in table.to_batches(max_chunksize=_ROWS):
        for row in batch.to_pylist():
            yield separator + _encoded(row)
            separator = b",\n"
    yield b"[]\n" if separator == b"[" else b"]\n"


def _flat(table: pa.Table) -> pa.Table:
    """Every nested value, and every time, as the text that csv should show."""
    import pyarrow as pa

    for index, field in enumerate(table.schema):
        if pa.types.is_nested(field.type) or pa.types.is_timestamp(field.type):
            values = table.column(index).to_pylist()
            text = [_text(_encoded(value)) if value is not None else None for value in values]
            table = table.set_column(index, field.name, pa.array(text, pa.string()))
    return table


def _moment(value: object) -> str:
    """Of Arrow's Python values JSON lacks one: a moment with nanoseconds, which is pandas's kind of datetime."""
    return value.isoformat() if isinstance(value, datetime) else str(value)


_encoded: Final = msgspec.json.Encoder(enc_hook=_moment).encode


def _text(document: bytes) -> str:
    text = document.decode()
    return text[1:-1] if text.startswith('"') else text
