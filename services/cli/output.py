"""What a command prints: data on stdout, everything said to the person on stderr."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

__all__ = ["PROBLEMS", "UNREACHABLE", "Json", "counted", "say", "show_record", "show_rows", "write_json"]

PROBLEMS: Final = 3
"""Exit code: the command ran and found problems (a gate that failed, a ledger out of balance)."""
UNREACHABLE: Final = 5
"""Exit code: a server could not be reached, or the time was up."""

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]

Record = Mapping[str, object]


def say(message: str) -> None:
    """Tell the person something; never mixed with the data."""
    Console(stderr=True, highlight=False).print(message, markup=False, soft_wrap=True)


def write_json(document: object) -> None:
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(document, enc_hook=_encode), indent=2))
    sys.stdout.buffer.write(b"\n")
    sys.stdout.flush()


def show_rows(rows: Sequence[Record], *, as_json: bool, columns: Sequence[str], empty: str) -> None:
    """A table of the named columns, or all fields as a JSON array. An empty table says what to do, on stderr."""
    if as_json:
        write_json([dict(row) for row in rows])
        return
    if not rows:
        say(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        numeric = all(isinstance(row.get(name), int | float | Decimal) for row in rows)
        table.add_column(name.replace("_", " "), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_text(row.get(name)) for name in columns))
    _stdout().print(table)


def show_record(record: Record, *, as_json: bool) -> None:
    """Name and value, one a line, or one JSON object."""
    if as_json:
        write_json(dict(record))
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in record.items():
        table.add_row(name.replace("_", " "), _text(value))
    _stdout().print(table)


@contextmanager
def counted(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal, silent elsewhere: tell it how many are done, of how many."""
    columns = (
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} " + what),
        TimeElapsedColumn(),
    )
    with Progress(
        *columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
    ) as bar:
        task = bar.add_task(what, total=0)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def _stdout() -> Console:
    # Piped output is read by programs: it is never folded to the width of a terminal that isn't there.
    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 250)


def _text(value: object) -> str:
    match value:
        case None:
            return "–"
        case datetime():
            return value.strftime("%Y-%m-%d %H:%M:%S")
        case float():
            return f"{value:,.3f}"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case list() | tuple():
            return ", ".join(_text(item) for item in value) or "–"
        case dict():
            return msgspec.json.encode(value, enc_hook=_encode).decode()
    return str(value)


def _encode(value: object) -> object:
    match value:
        case uuid.UUID() | Decimal() | date():
            return str(value)
        case bytes():
            return value.decode("utf-8", "replace")
        case Mapping():
            return dict(value)
    return str(value)
