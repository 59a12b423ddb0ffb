"""drp trace: what happened to a batch, when, and where."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from services.cli import completing
from services.cli.output import Json, show, write_json
from services.cli.settings import operator

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    app.command("trace")(trace)


def trace(
    batch: Annotated[
        str,
        typer.Argument(
            metavar="BATCH",
            autocompletion=completing.batches,
            help="A batch id, the start of one, or `last`.",
        ),
    ],
    as_json: Json = False,
) -> None:
    """Print the waterfall of a batch.

    From its closing to its audit rows, with links to who published it.
    """

    async def run() -> None:
        from libs.operations import reading
        from libs.operations.trace import batch_trace, rendered

        async with operator() as platform:
            postgres = await platform.postgres()
            batch_id = await reading.find_batch_id(postgres, batch)
            found = await batch_trace(postgres, platform.settings.traces_url, batch_id)
        if as_json:
            write_json(found)
        else:
            show(rendered(found))

    asyncio.run(run())
