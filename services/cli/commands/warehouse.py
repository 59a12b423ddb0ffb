"""drp warehouse: generations, and where the current one lies."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from libs.adapters.warehouse import Warehouse
from libs.errors import Permanent
from libs.operations import reading
from services.cli.output import Json, show_rows, write_json
from services.cli.settings import operator

app = typer.Typer(help="Generations of the warehouse.", no_args_is_help=True)

DatasetName = Annotated[str | None, typer.Option(help="The dataset; `orders` if there are several.")]


@app.command("ls")
def ls(
    dataset: DatasetName = None, limit: Annotated[int, typer.Option(min=1)] = 20, as_json: Json = False
) -> None:
    """List generations, newest first; the one that readers see is marked current."""

    async def run() -> None:
        async with operator() as platform:
            rows = await reading.generations(await platform.postgres(), dataset=dataset, limit=limit)
        columns = (
            "number",
            "dataset",
            "state",
            "current",
            "kind",
            "verdict",
            "staged",
            "rejected",
            "published_at",
        )
        show_rows(rows, as_json=as_json, columns=columns, empty="No generation yet.")

    asyncio.run(run())


@app.command("path")
def path(dataset: DatasetName = None, as_json: Json = False) -> None:
    """The file that readers open: current.duckdb, a link to the current generation."""

    async def run() -> None:
        async with operator() as platform:
            chosen = platform.dataset(dataset)
            warehouse = Warehouse(platform.settings.home / "warehouse", chosen.name)
            if warehouse.current() is None:
                raise Permanent("nothing is published yet", fix="drp batches ls")
        if as_json:
            write_json(
                {
                    "dataset": chosen.name,
                    "path": warehouse.current_link,
                    "generation_file": warehouse.current(),
                }
            )
        else:
            typer.echo(warehouse.current_link)

    asyncio.run(run())
