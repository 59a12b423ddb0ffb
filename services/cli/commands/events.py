"""drp events: the whole life of one event."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from services.cli import completing
from services.cli.output import Json, heading, number, say, show_record, show_rows, write_json
from services.cli.settings import operator

if TYPE_CHECKING:
    from libs.operations.found import Found

app = typer.Typer(help="Single events: where each one is.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Single events: where each one is."""


@app.command("find")
def find(
    text: Annotated[
        str,
        typer.Argument(
            metavar="TEXT",
            autocompletion=completing.batches,
            help="An order's number (any dataset's key), an event's id or SOURCE/ID, a batch's id, or a trace's.",
        ),
    ],
    as_json: Json = False,
) -> None:
    """Tell an event's life, from its producer to its readers.

    Who published it and when, its stream entry, batch, row in RAW or quarantine, whether its row is staged, rejected
    or superseded by a later version, the generation that brought it to readers, its object in the archive, its trace.
    All versions of an order are told, oldest first. A repeat leaves no row: its entry and its batch count it as a
    duplicate of the event that is shown.

    Exit 1 if nothing is found.
    """
    found = asyncio.run(_find(text))
    if as_json:
        write_json(found)
    else:
        _show(found)
    if not found:
        say(f"Nothing is called {text!r} in RAW or quarantine. Does it still wait? drp ledger verify")
    if found.more:
        say("There are more events than these.")
    if found.searched is not None and not found.batches:
        say(
            f"Of what was refused the newest {found.searched:,} were searched for {text!r} as a key, older ones were "
            "not: an event's id finds those, too."
        )
    if not found:
        raise typer.Exit(1)


async def _find(text: str) -> Found:
    from libs.operations.finding import find

    async with operator() as platform:
        postgres = await platform.postgres()
        return await find(postgres, platform.datasets, text, warehouses=platform.warehouses)


def _show(found: Found) -> None:
    if found.batches:
        columns = (
            "id",
            "dataset",
            "status",
            "received",
            "accepted",
            "duplicate",
            "quarantined",
            "generation",
            "trace_id",
        )
        show_rows(
            [msgspec.to_builtins(one) for one in found.batches], as_json=False, columns=columns, empty=""
        )
    for at, life in enumerate(found.events, start=1):
        which = f" ({at} of {len(found.events)})" if len(found.events) > 1 else ""
        heading(f"{life.dataset} {life.key}{which}")
        show_record(_told(life), as_json=False)
    for slot in found.refused:
        heading(f"{slot.dataset}: not taken, number {slot.number}")
        show_record(_told(slot), as_json=False)
        say(f"More: drp quarantine show {slot.number}")
    if found.events:
        say(f"{number(len(found.events), 'event', 'events')}. More: drp why BATCH, drp trace BATCH")


def _told(one: Any) -> dict[str, object]:
    """What is known of it: what there is nothing of is left out."""
    values = {name: getattr(one, name) for name in one.__struct_fields__ if name not in {"dataset", "key"}}
    return {name: value for name, value in values.items() if value not in (None, [])}
