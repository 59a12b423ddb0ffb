"""drp sql: ask the generation that readers see."""

from __future__ import annotations

import asyncio
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from libs.errors import DrpError, Permanent
from services.cli import completing
from services.cli.output import exact_text, say, show_columns
from services.cli.settings import operator

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["register"]

_SHOWN: Final = 1_000
"""Rows on a terminal; more scroll away unread."""


class Format(StrEnum):
    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"


_WRITTEN: Final[dict[Format, Literal["csv", "json", "parquet"]]] = {
    Format.csv: "csv",
    Format.json: "json",
    Format.parquet: "parquet",
}

_UNWRITABLE: Final = (ArithmeticError, ValueError, NotImplementedError)
"""What Arrow raises for a value that a format doesn't have; an infinite moment, say."""


def register(app: typer.Typer) -> None:
    app.command("sql")(sql)


def sql(
    statement: Annotated[str, typer.Argument(metavar="QUERY", help="Over staging.* and analytics.*.")],
    output: Annotated[
        Format | None,
        typer.Option("--format", help="By default a table; in a file, what its name ends with, else csv."),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            autocompletion=completing.datasets,
            help="The dataset; `orders` if there are several.",
        ),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="A file instead of stdout.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Query the generation that readers see.

    It is opened read-only, and the query sees nothing outside its file.
    """
    form = _format(output, to, as_json=as_json)
    table = asyncio.run(_ask(statement, dataset))
    try:
        _answer(table, form, to)
    except _UNWRITABLE as error:
        raise Permanent(
            f"the answer can not be written as {form}", why=str(error), fix="cast the column to VARCHAR"
        ) from error


def _answer(table: pa.Table, form: Format, to: Path | None) -> None:
    if form is Format.table:
        _show(table)
        return
    from libs.adapters.warehouse import distinct, write_result

    write_result(distinct(table), to or sys.stdout.buffer, _WRITTEN[form])
    if to is not None:
        say(f"wrote {table.num_rows:,} rows to {to}")


async def _ask(statement: str, dataset: str | None) -> pa.Table:
    from libs.adapters.warehouse import query

    async with operator() as platform:
        current = platform.current_file(dataset)
    try:
        return await asyncio.to_thread(query, current, statement)
    except DrpError as error:
        error.fix = error.fix or 'drp sql "SHOW ALL TABLES"'
        raise


def _format(asked: Format | None, to: Path | None, *, as_json: bool) -> Format:
    if as_json and asked not in (None, Format.json):
        raise typer.BadParameter(f"--json and --format {asked} are two answers: choose one")
    if as_json:
        return Format.json
    if to is not None:
        if asked is Format.table:
            raise typer.BadParameter("a table is for reading: --format csv, json or parquet in a file")
        by_name = {".json": Format.json, ".parquet": Format.parquet}
        return asked or by_name.get(to.suffix.lower(), Format.csv)
    if asked is Format.parquet and sys.stdout.isatty():
        raise typer.BadParameter("parquet is bytes, no text: --output FILE, or a pipe")
    return asked or Format.table


def _show(table: pa.Table) -> None:
    if not table.num_rows:
        say("(no rows)")
        return
    shown = table.slice(0, _SHOWN) if sys.stdout.isatty() else table
    show_columns(table.column_names, [_values(column) for column in shown.columns], text=exact_text)
    if shown.num_rows < table.num_rows:
        say(f"{shown.num_rows:,} of {table.num_rows:,} rows. All of them: --format csv")


def _values(column: pa.ChunkedArray) -> list[object]:
    """The column's values; its moments as text, for Arrow would make them by way of pandas, a second to import."""
    import pyarrow as pa

    if pa.types.is_timestamp(column.type):
        texts = column.cast(pa.string()).to_pylist()
        return [None if text is None else text.replace(".000000", "") for text in texts]
    values: list[object] = column.to_pylist()
    return values
