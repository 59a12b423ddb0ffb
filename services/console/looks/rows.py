"""An answer of the warehouse as a page shows it: columns with their types, and rows of plain values."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from libs.adapters.warehouse import Database
from libs.errors import DrpError, Permanent

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Column", "Rows", "read", "rows_of"]

T = TypeVar("T")

_MEMORY: Final = "256MB"
_NO_FRACTION: Final = re.compile(r"\.0+(?=Z?$)")
_UNSHOWABLE: Final = (ArithmeticError, ValueError, NotImplementedError)
"""What Arrow raises for a value that Python doesn't have; an infinite day, say."""


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """type: as Arrow calls it. number: it stands on the right."""

    name: str
    type: str
    number: bool


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """Values as JSON has them: decimals as exact text, moments as ISO 8601 in UTC."""

    columns: list[Column]
    rows: list[list[Any]]


async def read(path: Path, work: Callable[[Database], T]) -> T:
    """What the work finds in a generation, in a thread; when the caller is cancelled its statement is, too.

    Raises:
        Transient, Permanent: as Database says.
    """
    opened: list[Database] = []

    def in_thread() -> T:
        with Database.generation(path, memory_limit=_MEMORY) as generation:
            opened.append(generation)
            return work(generation)

    try:
        return await asyncio.to_thread(in_thread)
    except asyncio.CancelledError:
        for generation in opened:
            with suppress(DrpError, RuntimeError):
                generation.interrupt()
        raise


def rows_of(table: pa.Table) -> Rows:
    """
    Raises:
        Permanent: a value can not be shown.
    """
    try:
        columns = [_values(column) for column in table.columns]
    except _UNSHOWABLE as error:
        raise Permanent(
            "a value can not be shown", why=str(error), fix="cast its column to VARCHAR"
        ) from None
    return Rows(
        columns=[_column(field) for field in table.schema],
        rows=[list(row) for row in zip(*columns, strict=True)],
    )


def _column(field: pa.Field) -> Column:
    import pyarrow as pa

    kind = field.type
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    return Column(name=field.name, type=str(kind), number=number)


def _values(column: pa.ChunkedArray) -> list[Any]:
    """Moments by way of text: Arrow would make them with pandas, a second to import."""
    import pyarrow as pa

    if pa.types.is_timestamp(column.type):
        return [None if text is None else _moment(text) for text in column.cast(pa.string()).to_pylist()]
    return [_plain(value) for value in column.to_pylist()]


def _moment(text: str) -> str:
    """As Arrow writes it, in any of its units, without a fraction of nought.

    Raises:
        ValueError: it has no day that Arrow knows.
    """
    if text.startswith("<"):
        raise ValueError(text.strip("<>"))
    return _NO_FRACTION.sub("", text.replace(" ", "T"))


def _plain(value: object) -> Any:
    return str(value) if isinstance(value, Decimal) else msgspec.to_builtins(value, enc_hook=str)
