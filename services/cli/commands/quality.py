"""drp quality: what the gate decided, and on which rows."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from libs.adapters.postgres import Postgres
from libs.errors import Permanent
from libs.operations import reading
from services.cli.output import Json, say, show_rows, write_json
from services.cli.settings import operator

app = typer.Typer(help="The quality gate: verdicts and failing rows.", no_args_is_help=True)


@app.command("ls")
def ls(
    dataset: Annotated[str | None, typer.Option(help="Only this dataset.")] = None,
    limit: Annotated[int, typer.Option(min=1)] = 20,
    as_json: Json = False,
) -> None:
    """List judged generations, newest first."""

    async def run() -> None:
        async with operator() as platform:
            rows = await reading.judged_generations(await platform.postgres(), dataset=dataset, limit=limit)
        columns = (
            "generation",
            "dataset",
            "state",
            "verdict",
            "passed",
            "failed",
            "not_run",
            "errors",
            "broken",
        )
        show_rows(rows, as_json=as_json, columns=columns, empty="No generation was judged yet.")

    asyncio.run(run())


@app.command("show")
def show(
    generation: Annotated[
        int | None, typer.Argument(help="A generation; the newest judged one if left out.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="At most so many failing rows.")] = 20,
    as_json: Json = False,
) -> None:
    """Every rule judged on a generation, and the rows that broke one."""

    async def run() -> None:
        async with operator() as platform:
            postgres = await platform.postgres()
            number = generation if generation is not None else await _newest(postgres)
            rules = await reading.quality_results(postgres, number)
            rows = await reading.quality_failures(postgres, number, limit=limit)
        if as_json:
            write_json({"generation": number, "rules": rules, "failures": rows})
            return
        say(f"generation {number}")
        columns = (
            "rule",
            "kind",
            "status",
            "expectation",
            "tolerance",
            "observed",
            "unexpected",
            "evaluated",
        )
        show_rows(rules, as_json=False, columns=columns, empty="Not judged (yet).")
        if rows:
            say("\nrows that broke a rule")
            show_rows(rows, as_json=False, columns=("rule", "business_key", "event_id", "observed"), empty="")

    asyncio.run(run())


async def _newest(postgres: Postgres) -> int:
    rows = await reading.judged_generations(postgres, limit=1)
    if not rows:
        raise Permanent("no generation was judged yet", fix="drp batches ls")
    return int(str(rows[0]["generation"]))
