"""drp quarantine: what the platform could not take, why, and the bytes as they came."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from libs.operations import reading
from services.cli.output import Json, say, show_record, show_rows
from services.cli.settings import operator

app = typer.Typer(help="Events that were refused, in conflict or undeliverable.", no_args_is_help=True)


@app.command("ls")
def ls(
    dataset: Annotated[str | None, typer.Option(help="Only this dataset.")] = None,
    reason: Annotated[str | None, typer.Option(help="Only this reason code.")] = None,
    batch: Annotated[str | None, typer.Option(help="Only this batch.")] = None,
    limit: Annotated[int, typer.Option(min=1)] = 20,
    as_json: Json = False,
) -> None:
    """List quarantined events, newest first."""

    async def run() -> None:
        async with operator() as platform:
            postgres = await platform.postgres()
            batch_id = await reading.find_batch_id(postgres, batch) if batch else None
            rows = await reading.quarantine(
                postgres, dataset=dataset, reason=reason, batch_id=batch_id, limit=limit
            )
        columns = ("id", "reason", "field", "detail", "event_id", "disposition", "state", "created_at")
        show_rows(rows, as_json=as_json, columns=columns, empty="Nothing is quarantined.")

    asyncio.run(run())


@app.command("show")
def show(
    number: Annotated[int, typer.Argument(help="The number that `drp quarantine ls` shows.")],
    original: Annotated[
        bool, typer.Option("--original", help="Only the bytes, exactly as they came.")
    ] = False,
    as_json: Json = False,
) -> None:
    """One quarantined event with its original bytes."""

    async def run() -> None:
        async with operator() as platform:
            record = await reading.quarantined_event(await platform.postgres(), number)
        content: bytes = record["original"]
        if original:
            sys.stdout.buffer.write(content)
            return
        record["original"] = content.decode("utf-8", "backslashreplace")
        show_record(record, as_json=as_json)
        if not as_json:
            say(f"\nThe exact bytes: drp quarantine show {number} --original")

    asyncio.run(run())
