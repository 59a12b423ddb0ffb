"""drp publish: the rows of a file, of what is piped in, or the records at an address become events."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from libs.errors import DrpError
from services.cli import completing
from services.cli.commands.pulling import WAIT, Headers, Rows, Wanted, pair, publishing, pull, seconds_of
from services.cli.output import PROBLEMS, Json, counted, number, say, say_too_large, write_json

__all__ = ["register"]

_MOMENTS: Final = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]
_STDIN: Final = Path("-")


class Form(StrEnum):
    csv = "csv"
    jsonl = "jsonl"
    parquet = "parquet"


def register(app: typer.Typer) -> None:
    app.command("publish")(publish)


def publish(
    given: Annotated[Path | None, typer.Argument(metavar="FILE", help="The same as --file.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", "-f", metavar="FILE", help="CSV, JSON Lines or Parquet; gzip too. - is stdin."
        ),
    ] = None,
    form: Annotated[
        Form | None,
        typer.Option("--format", help="What the file holds, where its name and first bytes don't say."),
    ] = None,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="A JSON API, asked with GET, instead of a file.")
    ] = None,
    records: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Where the answer has its array: `records`, or `data.items`."),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Ask again 30s, 5m or 1h after each round, until Ctrl-C; see above."
        ),
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Sent along. May be repeated.")
    ] = None,
    header_env: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VARIABLE", help="Its value is in the environment: for secrets."),
    ] = None,
    header_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="`NAME: VALUE` a line: for secrets, too.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="For a whole answer.")] = 30.0,
    max_size: Annotated[
        float, typer.Option(min=0.001, metavar="MIB", help="A larger answer is refused.")
    ] = 64.0,
    mapping: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="FIELD=COLUMN", help="The row's column for a field of the contract."),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(metavar="URN", help="The events' source, a part of their identity; see above."),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            autocompletion=completing.datasets,
            help="The dataset; `orders` if there are several.",
        ),
    ] = None,
    time: Annotated[
        datetime | None,
        typer.Option(
            metavar="TIME", formats=_MOMENTS, help="The events' time where a row has none of its own."
        ),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.1, metavar="N", help="Events a second, at most.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Publish rows as events: of a file, of stdin, or of a JSON API.

    Published twice they add nothing: an event is known by its source and its row. The source is --source, or
    urn:drp:file:NAME, or urn:drp:stdin, or the URL without its query. So two pipes that bring the same row bring
    one event, unless each names a source of its own.

    A line that is no row goes to quarantine, and the rest is published. A batch from the archive (drp archive get)
    is published as it was, each event with the identity it had; exit 3 if one is too large and was left out.

    With --every a round that fails is told, and the next one is tried. Exit 1 if the first can't work (401, 404, a
    wrong --records), or three later ones without a good one between them. SIGTERM ends it after the round that is
    under way: exit 3 if that, the last one, failed.
    """
    file = file or given
    if (file is None) == (url is None):
        raise typer.BadParameter("say what to publish: --file FILE, --file -, or --url URL")
    rows = Rows(dict(pair(each, "--map") for each in mapping or ()), source, dataset, time, rate)
    headers = Headers(header or [], header_env or [], header_file)
    if file is not None:
        if records or every or headers.given:
            raise typer.BadParameter("--records, --every and --header are for --url")
        raise typer.Exit(asyncio.run(_publish(file, rows, form=form, as_json=as_json)))
    if url is not None:
        if form is not None:
            raise typer.BadParameter("--format is for --file")
        wanted = Wanted(url, records, seconds_of(every), headers.read(), timeout, max_size)
        raise typer.Exit(asyncio.run(pull(wanted, rows, as_json=as_json)))


async def _publish(file: Path, rows: Rows, *, form: Form | None, as_json: bool) -> int:
    from libs.operations.publish import STDIN, publish_file

    with _opened(file) as path:
        async with publishing(rows) as (bus, dataset):
            expected = _Expected(path)
            with counted("events") as update:
                done = await publish_file(
                    bus,
                    dataset,
                    path,
                    form=None if form is None else form.value,
                    mapping=rows.mapping,
                    source=rows.source or (STDIN if file == _STDIN else None),
                    time=rows.time,
                    rate=rows.rate,
                    on_progress=lambda events: update(events, expected.rows),
                )
    if as_json:
        write_json(done)
    pace = done.events / done.seconds if done.seconds else 0
    events = number(done.events, "event", "events")
    source = done.source or "what they were in the archive"
    say(f"published {events} in {done.seconds:.1f} s ({pace:,.0f} a second) as {source}")
    if done.unreadable:
        lines = number(done.unreadable, "line is no row", "lines are no rows")
        say(f"{lines}. See: drp quarantine ls --reason unreadable")
    say_too_large(done.too_large)
    say(WAIT)
    return PROBLEMS if done.too_large else 0


@contextmanager
def _opened(file: Path) -> Iterator[Path]:
    """The file; of stdin a copy, for a pipe can be read only once."""
    if file != _STDIN:
        yield file
        return
    from libs.adapters.files import spooled

    if sys.stdin.isatty():
        say("reading stdin to its end (Ctrl-D)")
    with spooled(sys.stdin.buffer, "stdin") as path:
        yield path


class _Expected:
    """How many rows the file has: counted beside the publishing, for the progress bar alone."""

    def __init__(self, file: Path) -> None:
        self.rows: int | None = None
        if sys.stderr.isatty():
            threading.Thread(target=self._count, args=(file,), daemon=True).start()

    def _count(self, file: Path) -> None:
        from libs.adapters.files import rows_expected

        try:
            self.rows = rows_expected(file)
        except (DrpError, OSError, EOFError):  # the publishing meets it too, and says so
            return
