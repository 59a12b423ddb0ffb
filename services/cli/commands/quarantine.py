"""drp quarantine: what the platform could not take, why, and the bytes as they came."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated, Final

import typer

from libs.operations import reading
from services.cli.output import Json, say, show_record, show_rows
from services.cli.settings import operator

app = typer.Typer(
    help="Events that were refused, in conflict or undeliverable.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_COLUMNS: Final = ("id", "reason", "field", "detail", "event_id", "disposition", "state", "created_at")


@app.command("ls")
def ls(
    dataset: Annotated[str | None, typer.Option(metavar="NAME", help="Only this dataset.")] = None,
    reason: Annotated[str | None, typer.Option(metavar="CODE", help="Only this reason.")] = None,
    batch: Annotated[str | None, typer.Option(metavar="BATCH", help="Only this batch.")] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="At most so many.")] = 20,
    as_json: Json = False,
) -> None:
    """List quarantined events, newest first."""

    async def run() -> None:
        async with operator() as platform:
            postgres = await platform.postgres()
            batch_id = await reading.find_batch_id(postgres, batch) if batch else None
            rows = await reading.quarantine(
                postgres, dataset=platform.only(dataset), reason=reason, batch_id=batch_id, limit=limit
            )
        selected = dataset or reason or batch
        empty = "No such event is quarantined." if selected else "Nothing is quarantined."
        show_rows(rows, as_json=as_json, columns=_COLUMNS, empty=empty)

    asyncio.run(run())


@app.command("show")
def show(
    number: Annotated[int, typer.Argument(metavar="ID", help="As `drp quarantine ls` shows it.")],
    original: Annotated[
        bool, typer.Option("--original", help="Only the bytes, exactly as they came.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show one quarantined event, with its original bytes."""
    if original and as_json:
        raise typer.BadParameter("bytes are no JSON: leave out --json or --original")

    async def run() -> None:
        async with operator() as platform:
            record = await reading.quarantined_event(await platform.postgres(), number)
        content: bytes = record["original"]
        if original:
            sys.stdout.buffer.write(content)
            return
        record["original"] = content.decode("utf-8", "backslashreplace")
        show_record(record, as_json=as_json)
        say(f"\nThe exact bytes: drp quarantine show {number} --original")

    asyncio.run(run())
