"""drp quarantine: what the platform could not take, why, the bytes as they came, and what to do about it."""

from __future__ import annotations

import asyncio
import sys
from enum import StrEnum
from typing import Annotated, Any, Final

import typer

from libs.operations import reading
from services.cli.commands import fixing, redriving
from services.cli.commands.redriving import Code, Id, InBatch, OfDataset, check_code
from services.cli.output import Json, builtins, heading, say, show_record, show_rows, write_json
from services.cli.settings import operator

app = typer.Typer(
    help="Events that were not taken: see, fix, redrive, discard.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


class State(StrEnum):
    open = "open"
    redriven = "redriven"
    discarded = "discarded"
    all = "all"


_COLUMNS: Final = ("id", "reason", "field", "detail", "event_id", "disposition", "state", "created_at")
_PARTS: Final = {
    "fields": ("what the contract wants", ("field", "wanted", "required", "value", "problem")),
    "differences": ("the fix so far", ("field", "before", "after")),
    "against_raw": (
        "what RAW holds under this identity (before), and this event (after)",
        ("field", "before", "after"),
    ),
    "actions": ("what operators did", ("at", "actor", "action", "reason")),
}


@app.command("ls")
def ls(
    dataset: OfDataset = None,
    reason: Code = None,
    batch: InBatch = None,
    state: Annotated[State, typer.Option(help="Which.")] = State.open,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="At most so many.")] = 20,
    as_json: Json = False,
) -> None:
    """List quarantined events that are open, newest first."""
    check_code(reason)

    async def run() -> None:
        async with operator() as platform:
            postgres = await platform.postgres()
            batch_id = await reading.find_batch_id(postgres, batch) if batch else None
            rows = await reading.quarantine(
                postgres,
                dataset=platform.only(dataset),
                reason=reason,
                batch_id=batch_id,
                state=None if state is State.all else state.value,
                limit=limit,
            )
        selected = dataset or reason or batch or state is not State.open
        empty = "No such event is quarantined." if selected else "Nothing is quarantined and open."
        show_rows(rows, as_json=as_json, columns=_COLUMNS, empty=empty)

    asyncio.run(run())


@app.command("show")
def show(
    event: Id,
    original: Annotated[
        bool, typer.Option("--original", help="Only the bytes, exactly as they came.")
    ] = False,
    fixed: Annotated[bool, typer.Option("--fixed", help="Only the bytes of the fix so far.")] = False,
    as_json: Json = False,
) -> None:
    """Show one quarantined event, and what to do about it.

    Its original bytes, what the contract says of them, the fix so far, and what operators did.
    """
    if original + fixed + as_json > 1:
        raise typer.BadParameter("bytes are no JSON: only one of --json, --original and --fixed")

    async def run() -> None:
        from libs.errors import Permanent
        from libs.operations.examination import examined

        async with operator() as platform:
            record = await examined(await platform.postgres(), platform.datasets, event)
        if original or fixed:
            content: bytes | None = record["original" if original else "fixed"]
            if content is None:
                raise Permanent(f"event {event} has no fix", fix=f"drp quarantine fix {event} -h")
            sys.stdout.buffer.write(content)
            return
        for name in ("original", "fixed"):
            record[name] = None if record[name] is None else record[name].decode("utf-8", "backslashreplace")
        _show(builtins(record), as_json=as_json)

    asyncio.run(run())


def _show(record: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        write_json(record)
        return
    parts = {name: record.pop(name) for name in (*_PARTS, "problems", "next")}
    record["became"] = _became(record["became"])
    show_record(record, as_json=False)
    for name, (title, columns) in _PARTS.items():
        if parts[name]:
            heading(title)
            show_rows(parts[name], as_json=False, columns=columns, empty="")
    say("\nWhat to do:")
    for command in parts["next"]:
        say(f"  {command}")


def _became(entry: dict[str, Any] | None) -> str | None:
    """What became of a redrive's entry, in words."""
    if entry is None:
        return None
    ways = [name for name in ("accepted", "duplicate", "quarantined", "dead_lettered") if entry[name]]
    return f"{', '.join(ways).replace('_', '-')} in batch {entry['batch_id']}"


fixing.register(app)
redriving.register(app)
