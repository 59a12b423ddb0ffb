"""drp why: where something is, why, and what to do."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from services.cli import completing
from services.cli.output import Json, builtins, print_text, say, write_json
from services.cli.settings import operator

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    app.command("why")(explain)


def explain(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            autocompletion=completing.things,
            help="A batch, a generation, an event's id or key, or quarantine:N.",
        ),
    ],
    as_json: Json = False,
) -> None:
    """Say why something is where it is.

    In plain sentences, with what operators did about it and which commands come next.
    """

    async def run() -> None:
        from libs.operations.why import why

        async with operator() as platform:
            found = await why(await platform.postgres(), platform.datasets, what)
        if as_json:
            write_json(builtins(found))
            return
        for one in found:
            print_text(f"{one.subject.replace(':', ' ')} is {one.state}")
            for sentence in one.sentences:
                print_text(f"  {sentence}")
            for action in one.actions:
                when = f"{action['at']:%Y-%m-%d %H:%M:%S}"
                print_text(f"  {when} {action['actor']}: {action['action']} ({action['reason']})")
            for command in one.next:
                say(f"  Try: {command}")

    asyncio.run(run())
