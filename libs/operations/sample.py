"""What a sample of rows says of its columns: which type holds every value, which are always there, which are unique.

A type is proposed only if the decoder takes every value of the sample as it.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Final

import msgspec

from libs.adapters.files import Kind, Layout, columns_of, form_of, read_rows
from libs.datasets import Column, ColumnType
from libs.errors import Permanent
from libs.pipeline.values import Unreadable, read_value

__all__ = ["Sample", "SampledColumn", "read_sample"]

CHUNKS: Final = 5
"""Of 20,000 rows each: more say nothing new, and uniqueness is remembered value by value."""
FEW: Final = 12
_PRECISION: Final = 38
_DIGITS_BEFORE: Final = 10
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?")
_BARE: Final = re.compile(rb'"(?:-?(?:0|[1-9][0-9]{0,18})|true|false)"')
_ORDER: Final = (
    ColumnType.BOOLEAN,
    ColumnType.INTEGER,
    ColumnType.NUMBER,
    ColumnType.DATE,
    ColumnType.TIMESTAMP,
    ColumnType.STRING,
)
_rows: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@dataclass(slots=True)
class SampledColumn:
    """One column. type is None if no type holds all of its values, as with objects, arrays or a mixture.

    filled: rows that have a value; distinct: how many different ones. few: the values, if they are few texts.
    least: the smallest number.
    """

    name: str
    filled: int = 0
    before: int = 0
    after: int = 0
    fractions: bool = False
    quoted_numbers: bool = False
    least: Decimal | None = None
    left: set[ColumnType] = field(default_factory=lambda: set(_ORDER))
    values: set[bytes] = field(default_factory=set)

    @property
    def type(self) -> ColumnType | None:
        if not self.filled:
            return ColumnType.STRING
        found = next((kind for kind in _ORDER if kind in self.left), None)
        # Numbers in quotation marks are numbers if they have a fraction; else they are names, and stay text.
        if (
            found is ColumnType.NUMBER
            and self.quoted_numbers
            and not self.fractions
            and ColumnType.STRING in self.left
        ):
            return ColumnType.STRING
        return found

    @property
    def distinct(self) -> int:
        return len(self.values)

    @property
    def few(self) -> list[str]:
        if (
            self.type is not ColumnType.STRING
            or not self.filled
            or self.distinct > FEW
            or self.filled < 5 * self.distinct
        ):
            return []
        return sorted(msgspec.json.decode(value, type=str) for value in self.values)

    @property
    def physical(self) -> str | None:
        """The Postgres type of a number, with room for larger ones."""
        if self.type is not ColumnType.NUMBER:
            return None
        scale = min(self.after, _PRECISION)
        return f"numeric({min(_PRECISION, max(self.before + 3, _DIGITS_BEFORE) + scale)},{scale})"

    def see(self, token: bytes, *, as_text: bool) -> None:
        """Take one value into account. as_text: the form has no types, every value is a text."""
        self.filled += 1
        if token in self.values:
            return
        self.values.add(token)
        plain = _plain(token) if as_text else token
        self.left &= {kind for kind in self.left if self._holds(kind, token, plain)}

    def _holds(self, kind: ColumnType, token: bytes, plain: bytes) -> bool:
        if kind is ColumnType.NUMBER:
            return self._number(token)
        written = plain if kind in (ColumnType.BOOLEAN, ColumnType.INTEGER) else token
        try:
            read_value(written, Column(self.name, "x", kind, required=True))
        except Unreadable:
            return False
        return True

    def _number(self, token: bytes) -> bool:
        is_quoted = token[:1] == b'"'
        text = msgspec.json.decode(token, type=str) if is_quoted else token.decode("ascii", "replace")
        if not _NUMBER.fullmatch(text):
            return False
        number = Decimal(text)
        _, digits, exponent = number.as_tuple()
        after = max(0, -int(exponent))
        self.fractions = self.fractions or after > 0
        self.quoted_numbers = self.quoted_numbers or is_quoted
        self.after, self.before = max(self.after, after), max(self.before, len(digits) + int(exponent))
        self.least = number if self.least is None else min(self.least, number)
        return self.before + self.after <= _PRECISION


@dataclass(frozen=True, slots=True)
class Sample:
    """Its columns in order, how many rows were read, and whether there are more of them."""

    form: Kind
    columns: tuple[SampledColumn, ...]
    rows: int
    more: bool


def read_sample(path: Path) -> Sample:
    """Read the begin of a CSV, JSON Lines or Parquet file. Blocks; lines that are no rows are left out.

    Raises:
        Permanent: it can't be read, or holds no rows.
    """
    form = form_of(path)
    columns = {name: SampledColumn(name) for name in columns_of(path, form)}
    chunks = read_rows(path, Layout(name="", fields={}, forms={}, time=None), form)
    rows = 0
    for chunk in itertools.islice(chunks, CHUNKS):
        rows += len(chunk.data)
        for data in chunk.data:
            for name, value in _rows(data).items():
                if bytes(value) != b"null":
                    column = columns.setdefault(name, SampledColumn(name))
                    column.see(bytes(value), as_text=form != "jsonl")
    if not rows:
        raise Permanent(f"{path} holds no rows", fix="a sample with some")
    return Sample(form, tuple(columns.values()), rows, any(chunk.ids for chunk in chunks))


def _plain(token: bytes) -> bytes:
    """The token as it is published if its column is an integer or a boolean: without quotation marks, if it can be."""
    return token[1:-1] if _BARE.fullmatch(token) else token
