"""A mart as a plot: a number over time, read from the generation that readers see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from libs.adapters.warehouse import Database, Warehouse
from libs.datasets import Dataset, quoted
from libs.errors import Permanent
from services.console.doors import Doors
from services.console.looks.rows import read

__all__ = ["MartPlot", "Marts", "current_file", "numbers", "plot_of", "published_file"]

POINTS: Final = 1_000
"""The newest of them are plotted,"""
_DAYS: Final = 550
"""and of those what lies within so many days of the newest: an outlier of long ago would hide all else."""
_ENOUGH: Final = 7
"""Where fewer than so many lie there, those days are plotted that hold the most."""
_WHEN: Final = ("DATE", "TIMESTAMP")
_NUMBERS: Final = ("DECIMAL", "DOUBLE", "FLOAT", "BIGINT", "HUGEINT", "INTEGER", "SMALLINT", "UBIGINT")


class MartPlot(msgspec.Struct, frozen=True, kw_only=True):
    """A column of a mart over time. x: seconds since 1970, ascending; y: beside them. file: of the generation."""

    dataset: str
    mart: str
    file: str
    over: str
    column: str
    x: list[float]
    y: list[float | None]
    rows: int


class Marts:
    """What the front page plots of the current generations. A generation never changes, so each is read once."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors
        self._read: dict[str, MartPlot | None] = {}

    async def plots(self) -> list[MartPlot]:
        """
        Raises:
            Permanent: the warehouse's files are not on this machine.
            Transient: they could not be read now.
        """
        found = [await self._plot(dataset) for dataset in self._doors.datasets.values()]
        return [plot for plot in found if plot is not None]

    async def _plot(self, dataset: Dataset) -> MartPlot | None:
        current = current_file(self._doors, dataset.name)
        if current is None:
            return None
        known = self._read.get(dataset.name)
        if known is None or known.file != current.name:
            known = self._read[dataset.name] = await read(current, partial(_first, current.name, dataset))
        return known


def current_file(doors: Doors, dataset: str) -> Path | None:
    """The generation that readers see; None if nothing is published.

    Raises:
        Permanent: the warehouse's files are not on this machine.
    """
    if doors.warehouses is None:
        raise Permanent(
            "the warehouse's files are not here",
            why=f"there is no folder {doors.settings.home / 'warehouse'}",
            fix="publish something, or DRP_HOME, with the transformer's folder",
        )
    return Warehouse(doors.warehouses, dataset).current()


def published_file(doors: Doors, dataset: str) -> Path:
    """The generation that readers see.

    Raises:
        Permanent: nothing is published, or the warehouse's files are not on this machine.
    """
    path = current_file(doors, dataset)
    if path is None:
        raise Permanent(f"nothing of {dataset} is published yet", fix="drp batches ls")
    return path


def plot_of(generation: Database, dataset: str, mart: str, file: str, column: str | None) -> MartPlot | None:
    """That column over the mart's first column of time; None if it has no such columns.

    Args:
        column: None chooses the one that says most.
    """
    relation = f"analytics.{quoted(mart)}"
    columns = generation.columns(relation)
    over = next((name for name, kind in columns.items() if _is(kind, _WHEN)), None)
    choices = numbers(columns)
    chosen = _telling(choices) if column is None else column
    if over is None or chosen not in choices:
        return None
    return _plotted(generation, relation, dataset, mart, file, over, chosen)


def numbers(columns: Mapping[str, str]) -> list[str]:
    """The columns that can be plotted, of those that are given with their types."""
    return [name for name, kind in columns.items() if _is(kind, _NUMBERS)]


def _is(kind: str, kinds: tuple[str, ...]) -> bool:
    """One of the kinds, and no list of it."""
    return kind.startswith(kinds) and not kind.endswith("]")


def _first(file: str, dataset: Dataset, generation: Database) -> MartPlot | None:
    """Of the first mart that has a time and a number; None if none has."""
    plots = (plot_of(generation, dataset.name, mart, file, None) for mart in dataset.marts)
    return next((plot for plot in plots if plot is not None), None)


def _telling(numbers: Sequence[str]) -> str | None:
    """The column that says most: an amount, if there is one."""
    amounts = [name for name in numbers if "amount" in name and "avg" not in name]
    return next(iter([*amounts, *numbers]), None)


def _plotted(
    generation: Database, relation: str, dataset: str, mart: str, file: str, over: str, column: str
) -> MartPlot:
    x, y = quoted(over), quoted(column)
    rows = generation.rows(
        f"SELECT {x}, {y} FROM (SELECT {x}, {y} FROM {relation} WHERE {x} IS NOT NULL "
        f"ORDER BY {x} DESC LIMIT {POINTS}) ORDER BY {x}"
    )
    first, last = _window([_seconds(row[0]) for row in rows])
    rows = rows[first:last]
    return MartPlot(
        dataset=dataset,
        mart=mart,
        file=file,
        over=over,
        column=column,
        x=[_seconds(row[0]) for row in rows],
        y=[_number(row[1]) for row in rows],
        rows=generation.value(f"SELECT count(*) FROM {relation}"),
    )


def _window(moments: Sequence[float]) -> tuple[int, int]:
    """Which of these, ascending, are plotted: from the first index to before the last."""
    length, count = _DAYS * 86_400, len(moments)
    begins = 0
    windows = []
    for index, moment in enumerate(moments):
        while moment - moments[begins] > length:
            begins += 1
        windows.append((begins, index + 1))
    if not windows or count - windows[-1][0] >= min(_ENOUGH, count):
        return windows[-1] if windows else (0, 0)
    return max(reversed(windows), key=lambda window: window[1] - window[0])


def _seconds(value: date | datetime) -> float:
    moment = value if isinstance(value, datetime) else datetime.combine(value, time())
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _number(value: Decimal | float | None) -> float | None:
    return None if value is None else float(value)
