"""drp dataset: make a contract folder, is one right, and what may a producer send?"""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.output import PROBLEMS, Json, number, print_text, say, show_rows, write_json
from services.cli.settings import operator

if TYPE_CHECKING:
    from libs.operations.scaffold import Scaffolded

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


@app.command("init")
def init(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the dataset: payments.")],
    sample: Annotated[
        Path,
        typer.Option("--from", metavar="FILE", help="Rows as they will come: CSV, JSON Lines or Parquet."),
    ],
    into: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Where the dataset's own folder is made.")
    ] = Path("datasets"),
    key: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="What names a row; a unique column if left out.")
    ] = None,
    event_time: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="When it happened; a timestamp, or a date, if left out."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the files that are there.")] = False,
    as_json: Json = False,
) -> None:
    """Make a dataset's folder from a sample.

    It writes a contract with comments, staging.sql and a first mart, and says what it took the columns for. The
    folder passes drp dataset check, and the sample was tried on it.
    """
    from libs.operations.scaffold import init_dataset

    done = init_dataset(name, sample, into, key=key, event_time=event_time, force=force)
    if as_json:
        write_json(done)
    else:
        rows = [
            {"column": column, "type": kind, "": _use(done, column)} for column, kind in done.columns.items()
        ]
        show_rows(rows, as_json=False, columns=("column", "type", ""), empty="")
    _tell(done, sample)


def _use(done: Scaffolded, column: str) -> str:
    uses = [use for use, of in (("key", done.key), ("event time", done.event_time)) if of == column]
    return ", ".join(uses)


def _tell(done: Scaffolded, sample: Path) -> None:
    of = f"the first {done.rows:,} rows" if done.more else number(done.rows, "row", "rows")
    say(f"wrote {', '.join(done.files)} into {done.folder}, from {of} of {sample}")
    if done.key_repeats:
        say(f"{done.key} repeats in {number(done.key_repeats, 'row', 'rows')}: of these the latest counts")
    if done.left_out:
        say(f"nested or of several types, and so in raw_payload only: {', '.join(done.left_out)}")
    for reason, rows in done.refused.items():
        say(f"the contract would refuse {number(rows, 'row', 'rows')} of the sample: {reason}")
    time = "" if done.event_time else " --time 2026-01-01T00:00:00Z"
    folder = shlex.quote(str(done.folder))
    commands = (
        f"drp dataset check {folder}",
        f"export DRP_DATASETS_DIR={shlex.quote(str(done.folder.parent.absolute()))}",
        "drp down; drp up --detach    # services read their datasets when they start",
        f"drp publish --dataset {done.dataset} --file {shlex.quote(str(sample))}{time}",
        "drp batches wait --all",
        f'drp sql --dataset {done.dataset} "SELECT * FROM analytics.{done.mart}"',
    )
    say("Read it, then:\n" + "\n".join(f"  {command}" for command in commands))
