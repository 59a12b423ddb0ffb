"""drp sql: ask the generation that readers see."""

from __future__ import annotations

import asyncio
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from libs.adapters.warehouse import Warehouse, query, write_result
from libs.errors import Permanent
from services.cli.output import show_rows
from services.cli.settings import operator

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["register"]

_WRITTEN: Final[dict[str, Literal["csv", "json", "parquet"]]] = {
    "table": "csv",
    "csv": "csv",
    "json": "json",
    "parquet": "parquet",
}


class Format(StrEnum):
    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"


def register(app: typer.Typer) -> None:
    app.command("sql")(sql)


def sql(
    statement: Annotated[str, typer.Argument(help="A query over staging.* and analytics.*.")],
    output: Annotated[Format, typer.Option("--format", help="How the answer is written.")] = Format.table,
    dataset: Annotated[str | None, typer.Option(help="The dataset; `orders` if there are several.")] = None,
    to: Annotated[Path | None, typer.Option("--output", "-o", help="A file instead of stdout.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Query the current generation; it is opened read-only and sees nothing outside its file."""

    async def run() -> pa.Table:
        async with operator() as platform:
            chosen = platform.dataset(dataset)
            current = Warehouse(platform.settings.home / "warehouse", chosen.name).current()
        if current is None:
            raise Permanent("nothing is published yet", fix="drp batches ls")
        return await asyncio.to_thread(query, current, statement)

    table = asyncio.run(run())
    form = Format.json if as_json else output
    if form is Format.table and to is None:
        show_rows(table.to_pylist(), as_json=False, columns=table.column_names, empty="(no rows)")
        return
    write_result(table, to or sys.stdout.buffer, _WRITTEN[form])
