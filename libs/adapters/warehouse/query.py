"""One question to a generation, and its answer in the formats people ask for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Literal

import msgspec

from libs.adapters.warehouse.database import Database
from libs.errors import Permanent

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["query", "write_result"]

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
    if form == "parquet":
        import pyarrow.parquet as pq

        pq.write_table(table, sink)
    elif form == "csv":
        import pyarrow.csv as pacsv

        pacsv.write_csv(_flat(table), sink)
    else:
        for piece in _json(table):
            sink.write(piece)


def _json(table: pa.Table) -> Iterator[bytes]:
    separator = b"["
    for batch in table.to_batches(max_chunksize=_ROWS):
        for row in batch.to_pylist():
            yield separator + msgspec.json.encode(row)
            separator = b",\n"
    yield b"[]\n" if separator == b"[" else b"]\n"


def _flat(table: pa.Table) -> pa.Table:
    """Every nested value, and every time, as the text that csv should show."""
    import pyarrow as pa

    for index, field in enumerate(table.schema):
        if pa.types.is_nested(field.type) or pa.types.is_timestamp(field.type):
            values = table.column(index).to_pylist()
            text = [_text(msgspec.json.encode(value)) if value is not None else None for value in values]
            table = table.set_column(index, field.name, pa.array(text, pa.string()))
    return table


def _text(document: bytes) -> str:
    text = document.decode()
    return text[1:-1] if text.startswith('"') else text
