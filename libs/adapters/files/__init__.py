"""Files of rows (CSV, JSON Lines, Parquet, gzip too), read in chunks, each value as it is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from libs.adapters.files.lines import chunk_of, line_columns, read_lines
from libs.adapters.files.opening import form_of, opened, spooled
from libs.adapters.files.rows import Chunk, Form, Kind, Layout, Unreadable, row_id
from libs.adapters.files.tables import csv_header, parquet_columns, parquet_rows, read_csv, read_parquet

__all__ = [
    "Chunk",
    "Form",
    "Kind",
    "Layout",
    "Unreadable",
    "chunk_of",
    "columns_of",
    "form_of",
    "opened",
    "read_rows",
    "row_id",
    "rows_expected",
    "spooled",
]


def columns_of(path: Path, form: Kind | None = None) -> list[str]:
    """The file's columns in order; of JSON Lines, those of the first line that can be read. form None: tell it.

    Raises:
        Permanent: there is no header, a name stands in it twice, or the file is broken.
    """
    match form or form_of(path):
        case "parquet":
            return [name for name, _ in parquet_columns(path)]
        case "csv":
            return csv_header(path)[0]
        case "jsonl":
            return line_columns(path)


def rows_expected(path: Path, form: Kind | None = None) -> int:
    """About how many rows there are, for a progress bar: lines without the header."""
    kind = form or form_of(path)
    if kind == "parquet":
        return parquet_rows(path)
    lines = 0
    with opened(path) as file:
        while block := file.read(1 << 20):
            lines += block.count(b"\n")
    return max(0, lines - (kind == "csv"))


def read_rows(path: Path, layout: Layout, form: Kind | None = None) -> Iterator[Chunk]:
    """The rows in order, in chunks. Blocks: call it in a thread. Memory does not grow with the file.

    Raises:
        Permanent: the file cannot be read (any further); what came before stands.
    """
    readers = {"csv": read_csv, "jsonl": read_lines, "parquet": read_parquet}
    return readers[form or form_of(path)](path, layout)
