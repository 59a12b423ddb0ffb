"""drp archive: what the object store holds, whether it still holds it, and one object of it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from services.cli import completing
from services.cli.output import PROBLEMS, Json, counted, say, show_record, show_rows, write_json
from services.cli.settings import operator

app = typer.Typer(
    help="The archive: raw batches and snapshots in the object store.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

DatasetName = Annotated[
    str | None, typer.Option(metavar="NAME", autocompletion=completing.datasets, help="Only this dataset.")
]


@app.command("ls")
def ls(
    dataset: DatasetName = None,
    batch: Annotated[
        str | None, typer.Option(metavar="BATCH", autocompletion=completing.batches, help="Only this batch.")
    ] = None,
    generation: Annotated[
        int | None,
        typer.Option(metavar="N", autocompletion=completing.generations, help="Only this generation."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="At most so many.")] = 50,
    as_json: Json = False,
) -> None:
    """List objects, newest first."""

    async def run() -> None:
        from libs.operations import archive, reading

        async with operator() as platform:
            postgres = await platform.postgres()
            batch_id = await reading.find_batch_id(postgres, batch) if batch else None
            rows = await archive.ls(
                postgres, dataset=platform.only(dataset), batch=batch_id, generation=generation, limit=limit
            )
        columns = ("key", "kind", "records", "bytes", "stored_at")
        empty = "No such object." if batch_id or dataset or generation else "Nothing is archived yet."
        show_rows(rows, as_json=as_json, columns=columns, empty=empty)

    asyncio.run(run())


@app.command("verify")
def verify(dataset: DatasetName = None, as_json: Json = False) -> None:
    """Read every object again, and compare.

    Bytes, counts and manifests. Exit 3 if one is not as it should be.
    """

    async def run() -> int:
        import msgspec

        from libs.operations import archive

        async with operator() as platform:
            with counted("objects") as on_progress:
                report = await archive.verify_archive(
                    await platform.postgres(),
                    await platform.objects(),
                    dataset=platform.only(dataset),
                    on_progress=on_progress,
                )
        document = msgspec.to_builtins(report)
        if as_json:
            write_json(document)
        else:
            problems = document.pop("problems")
            show_record(document, as_json=False)
            for problem in problems:
                say(f"problem: {problem}")
            if not problems:
                say("The archive is what it should be, byte for byte.")
        return PROBLEMS if report.problems else 0

    raise typer.Exit(asyncio.run(run()))


@app.command("get")
def get(
    key: Annotated[str, typer.Argument(metavar="KEY", help="As `drp archive ls` shows it.")],
    to: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="A file instead of stdout.")
    ] = None,
) -> None:
    """Fetch one object as it is stored."""

    async def run() -> None:
        from libs.operations import archive

        async with operator() as platform:
            objects = await platform.objects()
            if to is None:
                await archive.fetch(objects, key, sys.stdout.buffer)
                return
            with to.open("wb") as file:
                await archive.fetch(objects, key, file)

    asyncio.run(run())
