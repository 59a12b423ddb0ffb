"""drp quality: what the gate decided, and on which rows; and how a person overrides it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Final

import typer

from libs.errors import Permanent
from libs.operations import reading
from services.cli import completing
from services.cli.asking import DryRun, Why, Yes, actor, confirmed
from services.cli.output import Json, heading, say, show_rows, write_json
from services.cli.settings import operator

if TYPE_CHECKING:
    from libs.adapters.postgres import Postgres

app = typer.Typer(
    help="The quality gate: verdicts, failing rows, override.", no_args_is_help=True, rich_markup_mode=None
)

_JUDGED: Final = (
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
_RULES: Final = (
    "rule",
    "kind",
    "status",
    "expectation",
    "tolerance",
    "observed",
    "unexpected",
    "evaluated",
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
    """List judged generations, newest first."""

    async def run() -> None:
        async with operator() as platform:
            rows = await reading.judged_generations(
                await platform.postgres(), dataset=platform.only(dataset), limit=limit
            )
        show_rows(rows, as_json=as_json, columns=_JUDGED, empty="No generation was judged yet.")

    asyncio.run(run())


@app.command("show")
def show(
    generation: Annotated[
        int | None,
        typer.Argument(
            metavar="GENERATION",
            autocompletion=completing.generations,
            help="The newest judged one if left out.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=0, metavar="N", help="At most so many failing rows.")] = 20,
    as_json: Json = False,
) -> None:
    """Show how each rule was judged, and which rows broke one."""

    async def run() -> None:
        async with operator() as platform:
            postgres = await platform.postgres()
            number = generation if generation is not None else await _newest(postgres)
            await reading.generation(postgres, number)
            rules = await reading.quality_results(postgres, number)
            rows = await reading.quality_failures(postgres, number, limit=limit)
        if as_json:
            write_json({"generation": number, "rules": rules, "failures": rows})
            return
        say(f"generation {number}")
        show_rows(rules, as_json=False, columns=_RULES, empty="Not judged (yet).")
        if rows:
            heading("rows that broke a rule")
            show_rows(rows, as_json=False, columns=("rule", "business_key", "event_id", "observed"), empty="")

    asyncio.run(run())


@app.command("accept")
def accept_generation(
    generation: Annotated[
        int,
        typer.Argument(metavar="GENERATION", autocompletion=completing.generations, help="A blocked one."),
    ],
    reason: Why,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Have a blocked generation published all the same.

    It is an override, kept with who and why. What could not be judged is never published. While a rollback pins what
    readers see, this one waits for drp warehouse resume.
    """

    async def run() -> bool:
        from libs.operations.actions import acting
        from libs.operations.warehouse import accept

        async with operator() as platform:
            postgres = await platform.postgres()
            question = f"Show readers generation {generation}, which the gate blocked?"
            await reading.generation(postgres, generation)
            if not dry_run and not await confirmed(question, yes=yes):
                return False
            async with acting(postgres, dry_run=dry_run) as connection:
                pinned = await accept(connection, generation, reason=reason, actor=actor())
            after = await reading.generation(postgres, generation)
        say(_accepted(generation, pinned, dry_run=dry_run))
        if as_json:
            write_json(after | ({"dry_run": True} if dry_run else {}))
        return True

    raise typer.Exit(0 if asyncio.run(run()) else 1)


def _accepted(generation: int, pinned: str | None, *, dry_run: bool) -> str:
    said = f"Generation {generation} {'would be' if dry_run else 'is'} accepted"
    if pinned is not None:
        return (
            f"{said}, and published after drp warehouse resume: a rollback pins what readers see ({pinned})."
        )
    return (
        f"{said}." if dry_run else f"{said}, and about to be published. Wait for it: drp batches wait --all"
    )


async def _newest(postgres: Postgres) -> int:
    rows = await reading.judged_generations(postgres, limit=1)
    if not rows:
        raise Permanent("no generation was judged yet", fix="drp batches ls")
    return int(str(rows[0]["generation"]))
