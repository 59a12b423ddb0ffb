"""drp warehouse: generations, where the current one lies, back to an earlier one and on again."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

import typer

from libs.operations import reading
from services.cli import completing
from services.cli.asking import DryRun, Why, Yes, actor, confirmed
from services.cli.output import Json, print_text, say, show_rows, write_json
from services.cli.settings import operator

app = typer.Typer(
    help="Generations: list, find, roll back, resume.", no_args_is_help=True, rich_markup_mode=None
)

DatasetName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", autocompletion=completing.datasets, help="The dataset; `orders` if there are several."
    ),
]

_COLUMNS: Final = (
    "number",
    "dataset",
    "state",
    "current",
    "kind",
    "verdict",
    "staged",
    "rejected",
    "superseded",
    "published_at",
    "error",
)


@app.command("ls")
def ls(
    dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME", autocompletion=completing.datasets, help="Only this dataset."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="At most so many.")] = 20,
    as_json: Json = False,
) -> None:
    """List generations, newest first. The one that readers see is current."""

    async def run() -> None:
        async with operator() as platform:
            rows = await reading.generations(
                await platform.postgres(), dataset=platform.only(dataset), limit=limit
            )
        empty = "No generation yet. See what is on its way: drp batches ls"
        show_rows(rows, as_json=as_json, columns=_COLUMNS, empty=empty)
        for row in rows:
            if row["pinned"]:
                say(
                    f"{row['dataset']} was rolled back to {row['number']} ({row['pinned']}), and nothing is "
                    "published until: drp warehouse resume"
                )

    asyncio.run(run())


@app.command("path")
def path(dataset: DatasetName = None, as_json: Json = False) -> None:
    """Print the file that readers open.

    It is a link to the current generation, moved when another is published.
    """

    async def run() -> None:
        async with operator() as platform:
            file = platform.current_file(dataset)
            warehouse = platform.warehouse(dataset)
        link = warehouse.current_link.absolute()
        if as_json:
            write_json({"dataset": warehouse.dataset, "path": str(link), "generation_file": str(file)})
        else:
            print_text(str(link))

    asyncio.run(run())


@app.command("rollback")
def rollback_warehouse(
    reason: Why,
    to: Annotated[
        int | None,
        typer.Option(
            metavar="GENERATION",
            autocompletion=completing.generations,
            help="The one before the current if left out.",
        ),
    ] = None,
    dataset: DatasetName = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Show readers an earlier generation.

    Nothing is published from then on, until `drp warehouse resume`. Exit 5 if what readers open has not followed: the
    transformer moves it.
    """

    async def run() -> bool:
        from libs.operations.actions import acting
        from libs.operations.settled import wait_for_link
        from libs.operations.warehouse import rollback

        async with operator() as platform:
            chosen = platform.dataset(dataset).name
            postgres = await platform.postgres()
            target = "the generation before the current one" if to is None else f"generation {to}"
            if not dry_run and not await confirmed(f"Show readers of {chosen} {target}?", yes=yes):
                return False
            async with acting(postgres, dry_run=dry_run) as connection:
                number = await rollback(connection, chosen, reason=reason, actor=actor(), to=to)
            will = "would" if dry_run else "will"
            say(
                f"Readers of {chosen} {will} see generation {number}, and nothing is published until: "
                "drp warehouse resume"
            )
            if not dry_run and (warehouses := platform.warehouses) is not None:
                await wait_for_link(postgres, warehouses, dataset=chosen)
                say("They see it now.")
        if as_json:
            done = {"dataset": chosen, "generation": number, "pinned": True}
            write_json(done | ({"dry_run": True} if dry_run else {}))
        return True

    raise typer.Exit(0 if asyncio.run(run()) else 1)


@app.command("resume")
def resume_warehouse(
    dataset: DatasetName = None,
    reason: Why = "publishing goes on",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Let generations be published again after a rollback.

    The next build applies every batch that the current generation lacks.
    """

    async def run() -> None:
        from libs.operations.actions import acting
        from libs.operations.warehouse import resume

        async with operator() as platform:
            chosen = platform.dataset(dataset).name
            postgres = await platform.postgres()
            async with acting(postgres, dry_run=dry_run) as connection:
                resumed = await resume(connection, chosen, actor=actor(), reason=reason)
        goes_on = f"{chosen} {'would be' if dry_run else 'is'} published again."
        say(goes_on if resumed else f"Nothing keeps {chosen} from being published.")
        if as_json:
            write_json({"dataset": chosen, "resumed": resumed} | ({"dry_run": True} if dry_run else {}))

    asyncio.run(run())
