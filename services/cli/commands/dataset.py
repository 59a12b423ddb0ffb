"""drp dataset: is a contract folder right?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from libs.datasets import BUILT_IN, check
from services.cli.output import PROBLEMS, Json, say, write_json

app = typer.Typer(help="Datasets: folders with a contract, staging and marts.", no_args_is_help=True)


@app.command("check")
def check_folder(
    folder: Annotated[
        Path | None, typer.Argument(help="A dataset's folder; all built-in ones if left out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check contract, staging and marts without starting anything. Exit 3 if something is wrong."""
    folders = [folder] if folder else sorted(path.parent for path in BUILT_IN.glob("*/contract.yaml"))
    problems = [str(problem) for each in folders for problem in check(each)]
    if as_json:
        write_json(problems)
    else:
        for problem in problems:
            say(problem)
        if not problems:
            say(f"{', '.join(each.name for each in folders)}: fine")
    raise typer.Exit(PROBLEMS if problems else 0)
