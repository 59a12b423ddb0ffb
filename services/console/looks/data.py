"""A mart of the generation that readers see: its rows, its plot, and what else there is to ask."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from libs.adapters.warehouse import Database, write_stream
from libs.datasets import Dataset, quoted
from libs.errors import Permanent
from libs.operations import reading
from services.console.doors import Doors, Missing, Seen
from services.console.looks.kept import Form, kept
from services.console.looks.mart import MartPlot, current_file, numbers, plot_of
from services.console.looks.rows import Rows, read, rows_of

__all__ = [
    "AT_ONCE",
    "DataPage",
    "Mart",
    "MartChoice",
    "Relation",
    "chosen_dataset",
    "chosen_mart",
    "current",
    "elsewhere",
    "look_at_data",
    "mart_file",
    "relations",
]

AT_ONCE: Final = 25
_SHOWN_SCHEMAS: Final = ("analytics", "staging", "meta")

_COLUMNS: Final = """
-- one row per column of the generation
SELECT schema_name, table_name, column_name, data_type FROM duckdb_columns()
WHERE database_name = 'warehouse' ORDER BY schema_name, table_name, column_index
"""


class MartChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Which mart, in which order: what the page's address says. plot: the column over time; None: the telling one."""

    dataset: str
    mart: str
    sort: str | None = None
    descending: bool = True
    page: int = 1
    plot: str | None = None


class Relation(msgspec.Struct, frozen=True, kw_only=True):
    """A table of the generation, and its columns' types by name."""

    schema: str
    name: str
    columns: dict[str, str]


class Mart(msgspec.Struct, frozen=True, kw_only=True):
    """What a generation's file says. total: rows of the mart. types: as DuckDB calls them, by column."""

    file: str
    generation: int
    total: int
    types: dict[str, str]
    shown: Rows
    more: bool
    plottable: list[str]
    plot: MartPlot | None
    relations: list[Relation]


class DataPage(msgspec.Struct, frozen=True, kw_only=True):
    """What the page shows; mart is None where nothing is published, or the files couldn't be read."""

    at: datetime
    missing: list[Missing]
    choice: MartChoice
    datasets: dict[str, list[str]]
    generation: dict[str, Any] | None
    mart: Mart | None


async def look_at_data(doors: Doors, choice: MartChoice) -> DataPage:
    """
    Raises:
        Permanent: the mart has no such column.
    """
    refused: list[Permanent] = []

    async def found() -> Mart | None:
        path = current_file(doors, choice.dataset)
        if path is None:
            return None
        try:
            return await read(path, lambda generation: _mart(generation, path, choice))
        except _NoSuchColumn as error:
            refused.append(error)
            return None

    at = datetime.now(UTC)
    seen, told = await asyncio.gather(
        doors.look("warehouse", found), doors.look("postgres", lambda: current(doors, choice.dataset))
    )
    if refused:
        raise refused[0]
    missing = [one.missing for one in (seen, told) if one.missing is not None]
    if seen.missing is not None and told.missing is None and told.value is None:
        missing.remove(seen.missing)  # nothing is published, so that there is no folder yet
    if seen == Seen() and told.value is not None:
        missing.append(elsewhere(told.value))
    return DataPage(
        at=at,
        missing=missing,
        choice=choice,
        datasets={dataset.name: list(dataset.marts) for dataset in doors.datasets.values()},
        generation=told.value,
        mart=seen.value,
    )


def elsewhere(generation: Mapping[str, Any]) -> Missing:
    """What is said of a generation that is published, of which this machine's warehouse has no file."""
    return Missing(
        server="warehouse",
        why=f"generation {generation['number']} is published, and its file is not here",
        next="DRP_HOME, with the transformer's folder",
    )


async def current(doors: Doors, dataset: str) -> dict[str, Any] | None:
    """The generation that readers of the dataset see, as Postgres tells it; None if nothing is published."""
    every = await reading.current_generations(await doors.postgres())
    return next((one for one in every if one["dataset"] == dataset), None)


class _NoSuchColumn(Permanent):
    """What the address names is not in the mart."""


def _mart(generation: Database, path: Path, choice: MartChoice) -> Mart:
    relation = f"analytics.{quoted(choice.mart)}"
    types = generation.columns(relation)
    if not types:
        raise Permanent(
            f"generation {_number(path)} has no mart {choice.mart}",
            fix=f"drp rebuild --dataset {choice.dataset}",
        )
    plottable = numbers(types)
    if choice.sort is not None and choice.sort not in types:
        raise _NoSuchColumn(f"{choice.mart} has no such column to sort by", why=f"it has {', '.join(types)}")
    if choice.plot is not None and choice.plot not in plottable:
        raise _NoSuchColumn(f"{choice.mart} has no such number to plot", why=f"it has {', '.join(plottable)}")
    table = generation.arrow(
        f"SELECT * FROM {relation} ORDER BY {_order(choice, types)} "
        f"LIMIT {AT_ONCE + 1} OFFSET {(choice.page - 1) * AT_ONCE}"
    ).read_all()
    return Mart(
        file=path.name,
        generation=_number(path),
        total=generation.value(f"SELECT count(*) FROM {relation}"),
        types=types,
        shown=rows_of(table.slice(0, AT_ONCE)),
        more=table.num_rows > AT_ONCE,
        plottable=plottable,
        plot=plot_of(generation, choice.dataset, choice.mart, path.name, choice.plot),
        relations=relations(generation),
    )


def _order(choice: MartChoice, types: dict[str, str]) -> str:
    """By the chosen column, then by all from the left, so that a row is on one page only."""
    way = "DESC" if choice.descending else "ASC"
    first = choice.sort or next(iter(types))
    rest = "".join(f", {quoted(name)} {way}" for name in types if name != first)
    return f"{quoted(first)} {way} NULLS LAST{rest}"


def _number(path: Path) -> int:
    return int(path.name.split("-")[1])


def relations(generation: Database) -> list[Relation]:
    """The generation's tables, the marts first."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for schema, table, column, kind in generation.rows(_COLUMNS):
        found.setdefault((schema, table), {})[column] = kind
    every = [Relation(schema=schema, name=name, columns=columns) for (schema, name), columns in found.items()]
    order = {schema: place for place, schema in enumerate(_SHOWN_SCHEMAS)}
    return sorted(every, key=lambda one: order.get(one.schema, len(order)))


async def mart_file(path: Path, mart: str, form: Form) -> tuple[IO[bytes], int]:
    """The whole mart in a file without a name, at its beginning; and its size in bytes.

    Raises:
        Permanent: there is no such mart, or it has what the form has not.
        Transient: it could not be read.
    """

    def written(generation: Database) -> tuple[IO[bytes], int]:
        if not generation.columns(f"analytics.{quoted(mart)}"):
            raise Permanent(f"generation {_number(path)} has no mart {mart}", fix="drp rebuild")
        stream = generation.arrow(f"SELECT * FROM analytics.{quoted(mart)}")
        return kept(form, lambda sink: write_stream(stream, sink, form))

    return await read(path, written)


def chosen_dataset(doors: Doors, name: str) -> Dataset:
    """The dataset of that name, or the first if the name is empty.

    Raises:
        Permanent: there is none.
    """
    dataset = doors.datasets.get(name) if name else next(iter(doors.datasets.values()), None)
    if dataset is None:
        raise Permanent("there is no such dataset", why=f"there are {', '.join(doors.datasets)}")
    return dataset


def chosen_mart(dataset: Dataset, name: str) -> str:
    """The dataset's mart of that name, or its first if the name is empty.

    Raises:
        Permanent: there is none.
    """
    mart = next((mart for mart in dataset.marts if name in ("", mart)), None)
    if mart is None:
        raise Permanent(f"{dataset.name} has no such mart", why=f"it has {', '.join(dataset.marts)}")
    return mart
