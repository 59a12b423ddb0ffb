"""drp ledger: published = accepted + duplicate + quarantined + dead-lettered + in flight."""

from __future__ import annotations

import asyncio

import msgspec
import typer
from libs.operations.ledger import verify_ledger

from libs.operations import reading
from services.cli.output import PROBLEMS, Json, say, show_rows, write_json
from services.cli.settings import operator

app = typer.Typer(help="Where every event is, in numbers.", no_args_is_help=True)


@app.command("show")
def show(as_json: Json = False) -> None:
    """The dispositions of all that landed, per dataset."""

    async def run() -> None:
        async with operator() as platform:
            rows = await reading.ledger(await platform.postgres())
        columns = (
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
        show_rows(rows, as_json=as_json, columns=columns, empty="Nothing has landed yet.")

    asyncio.run(run())


@app.command("verify")
def verify(as_json: Json = False) -> None:
    """Count again, from the stream, RAW and quarantine, and compare. Exit 3 if anything is unaccounted."""

    async def run() -> int:
        async with operator() as platform:
            reports = await verify_ledger(await platform.postgres(), await platform.bus(), platform.datasets)
        rows = [msgspec.to_builtins(report) for report in reports]
        if as_json:
            write_json(rows)
        else:
            columns = (
                "dataset",
                "published",
                "accepted",
                "duplicate",
                "quarantined",
                "dead_lettered",
                "in_flight",
                "unaccounted",
            )
            show_rows(rows, as_json=False, columns=columns, empty="No dataset.")
        problems = [problem for report in reports for problem in report.problems]
        for problem in problems:
            say(f"problem: {problem}")
        if not problems and not as_json:
            say("The ledger balances.")
        return PROBLEMS if problems else 0

    raise typer.Exit(asyncio.run(run()))
