"""drp dataset: is a contract folder right, and what may a producer send?"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from services.cli.output import PROBLEMS, Json, print_text, say, write_json
from services.cli.settings import operator

app = typer.Typer(
    help="Datasets: folders with a contract, staging and marts.", no_args_is_help=True, rich_markup_mode=None
)


@app.callback()
def group() -> None:
    """Datasets: folders with a contract, staging and marts."""


@app.command("check")
def check_folder(
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="A dataset's; all built-in ones if left out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check contract, staging and marts, without starting anything.

    Exit 3 if something is wrong.
    """
    from libs.datasets import BUILT_IN, check

    folders = [folder] if folder else sorted(path.parent for path in BUILT_IN.glob("*/contract.yaml"))
    problems = [str(problem) for each in folders for problem in check(each)]
    if as_json:
        write_json(problems)
    for problem in problems if not as_json else []:
        print_text(problem)
    if not problems:
        say(f"{', '.join(each.name for each in folders)}: fine")
    raise typer.Exit(PROBLEMS if problems else 0)


@app.command("asyncapi")
def asyncapi_document(as_json: Json = False) -> None:
    """Describe the streams to producers, as an AsyncAPI document.

    The datasets' own, those in DRP_DATASETS_DIR too, and those on which the pipeline tells what it did.
    """
    from libs.operations.asyncapi import asyncapi, asyncapi_yaml

    async def run() -> None:
        async with operator() as platform:
            document = asyncapi(platform.datasets)
        if as_json:
            write_json(document)
        else:
            print_text(asyncapi_yaml(document).rstrip())

    asyncio.run(run())
