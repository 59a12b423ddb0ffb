"""drp publish: a file's rows become events."""

from __future__ import annotations

import asyncio
import sys
import threading
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from libs.errors import DrpError
from services.cli.output import Json, counted, number, say, write_json
from services.cli.settings import operator

__all__ = ["register"]

_MOMENTS: Final = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]


def register(app: typer.Typer) -> None:
    app.command("publish")(publish)


def publish(
    file: Annotated[
        Path, typer.Option("--file", "-f", metavar="FILE", help="CSV, JSON Lines or Parquet; gzip too.")
    ],
    mapping: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="FIELD=COLUMN", help="The file's column for a field of the contract."),
    ] = None,
    source: Annotated[
        str | None, typer.Option(metavar="URN", help="The events' source; urn:drp:file:NAME if left out.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME", help="The dataset; `orders` if there are several.")
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
    """Publish a file's rows as events.

    Published twice it adds nothing. A line that is no row goes to quarantine, and the rest is published.
    """
    fields = dict(_pair(each) for each in mapping or ())
    asyncio.run(_publish(file, fields, source=source, dataset=dataset, time=time, rate=rate, as_json=as_json))


async def _publish(
    file: Path,
    fields: dict[str, str],
    *,
    source: str | None,
    dataset: str | None,
    time: datetime | None,
    rate: float | None,
    as_json: bool,
) -> None:
    from libs.adapters import telemetry
    from libs.operations.publish import publish_file

    async with operator() as platform:
        chosen = platform.dataset(dataset)
        bus = await platform.bus()
        told = telemetry.setup("drp", endpoint=platform.settings.otlp_endpoint, log_format="text")
        expected = _Expected(file)
        try:
            with counted("events") as update:
                done = await publish_file(
                    bus,
                    chosen,
                    file,
                    mapping=fields,
                    source=source,
                    time=time,
                    rate=rate,
                    on_progress=lambda events: update(events, expected.rows),
                )
        finally:
            told.shutdown()
    if as_json:
        write_json(done)
    pace = done.events / done.seconds if done.seconds else 0
    events = number(done.events, "event", "events")
    say(f"published {events} in {done.seconds:.1f} s ({pace:,.0f} a second) as {done.source}")
    if done.unreadable:
        lines = number(done.unreadable, "line is no row", "lines are no rows")
        say(f"{lines}. See: drp quarantine ls --reason unreadable")
    say("Wait until readers see them: drp batches wait --all")


def _pair(text: str) -> tuple[str, str]:
    field, separator, column = text.partition("=")
    if not separator or not field or not column:
        raise typer.BadParameter(f"{text!r} is not FIELD=COLUMN", param_hint="--map")
    return field, column


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
