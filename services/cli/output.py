"""What a command prints: data on stdout, everything said to the person on stderr."""

from __future__ import annotations

import io
import re
import select
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import date, datetime
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = [
    "INTERRUPTED",
    "PROBLEMS",
    "UNREACHABLE",
    "USAGE",
    "Json",
    "builtins",
    "counted",
    "exact_text",
    "heading",
    "number",
    "print_text",
    "reader_is_gone",
    "redrawn",
    "say",
    "say_too_large",
    "show",
    "show_columns",
    "show_record",
    "show_rows",
    "write_json",
    "write_json_line",
]

USAGE: Final = 2
"""Exit code: the command was not called as it must be."""
PROBLEMS: Final = 3
"""Exit code: the command ran and found problems (a gate that failed, a ledger out of balance)."""
UNREACHABLE: Final = 5
"""Exit code: a server could not be reached, or the time was up."""
INTERRUPTED: Final = 130
"""Exit code: Ctrl-C."""

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]

Record = Mapping[str, object]

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_BREAKS: Final = str.maketrans({"\n": "\\n", "\t": "\\t"})


def say(message: str) -> None:
    """Tell the person something; never mixed with the data."""
    print(_harmless(message), file=sys.stderr, flush=True)  # noqa: T201 - this is the place that prints


def say_too_large(events: int) -> None:
    """Of what was published again, how much could not be; nothing for none."""
    if events:
        were = number(events, "event was", "events were")
        say(
            f"NOT published: {were} left out, larger than an event may be. What the archive has of it stays there"
        )


def print_text(text: str) -> None:
    """A line of data."""
    sys.stdout.write(f"{text}\n")


def builtins(document: Any) -> Any:
    """The document as rows and JSON are made of: no structs; moments, ids and bytes stay."""
    return msgspec.to_builtins(document, builtin_types=(bytes, datetime, uuid.UUID))


def number(count: int, one: str, many: str) -> str:
    """A count with its noun."""
    return f"{count:,} {one if count == 1 else many}"


def heading(text: str) -> None:
    """What the table below it shows."""
    print_text(f"\n{text}")


def write_json(document: object) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(document, enc_hook=_encode), indent=2))
    sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


def write_json_line(document: object) -> None:
    """One of several documents: each on a line of its own, there as soon as it is written."""
    sys.stdout.flush()
    sys.stdout.buffer.write(msgspec.json.encode(document, enc_hook=_encode) + b"\n")
    sys.stdout.buffer.flush()


def show_rows(rows: Sequence[Record], *, as_json: bool, columns: Sequence[str], empty: str) -> None:
    """A table of the named columns, or all fields as a JSON array. An empty table says what to do, on stderr."""
    if as_json:
        write_json([dict(row) for row in rows])
    elif not rows:
        say(empty)
    else:
        values = [[row.get(name) for row in rows] for name in columns]
        titles = [name.replace("_", " ") for name in columns]
        show_columns(titles, values, text=_text)


def show_columns(
    titles: Sequence[str], columns: Sequence[Sequence[object]], *, text: Callable[[object], str]
) -> None:
    """A table, column by column; numbers stand at the right.

    Args:
        text: how a value is written.
    """
    right = [all(isinstance(value, int | float | Decimal) for value in column) for column in columns]
    cells = [[text(value).translate(_BREAKS) for value in column] for column in columns]
    if sys.stdout.isatty():
        _draw(titles, cells, right)
    else:
        _write([_harmless(title) for title in titles], cells, right)


def show_record(record: Record, *, as_json: bool) -> None:
    """Name and value, one a line, or one JSON object."""
    if as_json:
        write_json(dict(record))
        return
    width = max(map(len, record), default=0)
    for name, value in record.items():
        lines = _text(value).splitlines() or [""]
        print_text(f"{name.replace('_', ' '):<{width}}  {lines[0]}".rstrip())
        for line in lines[1:]:
            print_text(f"{'':<{width}}  {line}")


def show(what: RenderableType) -> None:
    """Anything that Rich draws; as wide as it wants to be where no terminal limits it."""
    from rich.console import Console

    # Drawn first, written then: of a reader that has left, Rich would make an exit code of its own.
    if sys.stdout.isatty():
        console = Console(highlight=False)
        with console.capture() as drawn:
            console.print(what)
        sys.stdout.write(drawn.get())
        return
    console = Console(file=io.StringIO(), highlight=False, width=500)
    with console.capture() as drawn:
        console.print(what)
    for line in drawn.get().splitlines():
        print_text(line.rstrip())


@contextmanager
def redrawn() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Draw what a function shows and says: in the place of what it showed last on a terminal, below it elsewhere."""
    if not sys.stdout.isatty():
        yield _below
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(highlight=False), auto_refresh=False, vertical_overflow="ellipsis") as live:

        def draw(shows: Callable[[], None]) -> None:
            drawn = _Drawn()
            with redirect_stdout(drawn), redirect_stderr(drawn):
                shows()
            live.update(Text.from_ansi(drawn.getvalue().rstrip("\n")), refresh=True)

        yield draw


def _below(shows: Callable[[], None]) -> None:
    shows()
    print_text("")
    sys.stdout.flush()


class _Drawn(io.StringIO):
    """What is written for a terminal, before it is seen there."""

    def isatty(self) -> bool:
        return True


def exact_text(value: object) -> str:
    """Every digit of a value, as it can be pasted into SQL again."""
    match value:
        case None:
            return "NULL"
        case Decimal():
            return f"{value:f}"
        case bool():
            return str(value).lower()
        case datetime():
            return value.isoformat(sep=" ")
        case bytes():
            return value.hex()
        case list() | tuple() | dict():
            return _harmless(msgspec.json.encode(value, enc_hook=_encode).decode())
    return _harmless(str(value))


@contextmanager
def counted(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar with its rate on a terminal, silent elsewhere: tell it how many are done, of how many."""
    if not sys.stderr.isatty():
        yield lambda _done, _of: None
        return
    with _bar(what) as update:
        yield update


def reader_is_gone(stream: IO[str]) -> bool:
    """Whether stream is a pipe whose reader (head, less) has left."""
    poll = select.poll()
    try:
        poll.register(stream.fileno(), 0)
        return any(events & select.POLLERR for _, events in poll.poll(0))
    except (OSError, ValueError):
        return False


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int | None], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
    from rich.text import Text

    class Count(ProgressColumn):
        def render(self, task: Task) -> Text:
            of = f" of {task.total:,.0f}" if task.total else ""
            return Text(f"{task.completed:,.0f}{of} {what}")

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.finished_speed or task.speed or 0:,.0f} a second")

    columns = (BarColumn(), Count(), Rate(), TimeElapsedColumn(), TextColumn(""))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def _draw(titles: Sequence[str], columns: Sequence[Sequence[str]], right: Sequence[bool]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, is_right in zip(titles, right, strict=True):
        table.add_column(Text(title), justify="right" if is_right else "left", overflow="fold")
    for row in zip(*columns, strict=True):
        table.add_row(*map(Text, row))
    show(table)


def _write(titles: Sequence[str], columns: Sequence[Sequence[str]], right: Sequence[bool]) -> None:
    """Piped output is read by programs: a row is a line, however long."""
    aligned = []
    for title, column, is_right in zip(titles, columns, right, strict=True):
        width = max(len(title), *map(len, column)) if column else len(title)
        align = str.rjust if is_right else str.ljust
        aligned.append([align(cell, width) for cell in (title, *column)])
    for row in zip(*aligned, strict=True):
        print_text("  ".join(row).rstrip())


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
            return _harmless(msgspec.json.encode(value, enc_hook=_encode).decode())
    return _harmless(str(value))


def _harmless(text: str) -> str:
    """What producers sent may steer a terminal: control characters are shown, not obeyed."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", text)


def _encode(value: object) -> object:
    match value:
        case uuid.UUID() | Decimal() | date():
            return str(value)
        case bytes():
            return value.decode("utf-8", "replace")
        case Mapping():
            return dict(value)
    return str(value)
