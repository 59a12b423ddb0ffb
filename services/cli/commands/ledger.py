"""drp ledger: published = accepted + duplicate + quarantined + dead-lettered + in flight."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

import typer

from libs.operations import reading
from services.cli import completing
from services.cli.output import PROBLEMS, Json, say, show_record, show_rows, write_json
from services.cli.settings import operator

app = typer.Typer(help="Where every event is, in numbers.", no_args_is_help=True, rich_markup_mode=None)

_LANDED: Final = (
    "dataset",
    "batches",
    "landed",
    "accepted",
    "duplicate",
    "quarantined",
    "dead_lettered",
    "held",
    "unpublished",
)
_COUNTED: Final = (
    "dataset",
    "published",
    "accepted",
    "duplicate",
    "quarantined",
    "dead_lettered",
    "in_flight",
    "unaccounted",
)


@app.command("show")
def show(
    batch: Annotated[
        str | None,
        typer.Argument(
            metavar="BATCH",
            autocompletion=completing.batches,
            help="Only this one: its id, the start of it, or `last`.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the dispositions of all that landed, or of one batch.

    Of a batch: received = accepted + duplicate + quarantined, beside the rows that are there. Exit 3 if they differ.
    """
    raise typer.Exit(
        asyncio.run(_show(as_json=as_json) if batch is None else _show_batch(batch, as_json=as_json))
    )


async def _show(*, as_json: bool) -> int:
    async with operator() as platform:
        rows = await reading.ledger(await platform.postgres())
    show_rows(rows, as_json=as_json, columns=_LANDED, empty="Nothing has landed yet.")
    return 0


async def _show_batch(name: str, *, as_json: bool) -> int:
    from libs.operations.batch_ledger import batch_ledger

    async with operator() as platform:
        postgres = await platform.postgres()
        batch_id = await reading.find_batch_id(postgres, name)
        ledger = await batch_ledger(postgres, platform.datasets, batch_id)
    values = {name: getattr(ledger, name) for name in ledger.__struct_fields__}
    if not as_json:
        del values["problems"]
    show_record(values, as_json=as_json)
    for problem in ledger.problems:
        say(f"problem: {problem}")
    return PROBLEMS if ledger.problems else 0


@app.command("verify")
def verify(as_json: Json = False) -> None:
    """Count again, and compare.

    The stream, RAW and quarantine are counted against what the batches say. Exit 3 if anything is unaccounted.
    """

    async def run() -> int:
        import msgspec

        from libs.operations.ledger import verify_ledger

        async with operator() as platform:
            reports = await verify_ledger(await platform.postgres(), await platform.bus(), platform.datasets)
        rows = [msgspec.to_builtins(report) for report in reports]
        if as_json:
            write_json(rows)
        else:
            show_rows(rows, as_json=False, columns=_COUNTED, empty="No dataset.")
        problems = [problem for report in reports for problem in report.problems]
        for problem in problems:
            say(f"problem: {problem}")
        if not problems:
            say("The ledger balances.")
        return PROBLEMS if problems else 0

    raise typer.Exit(asyncio.run(run()))
