"""The exact reading of one JSON value as one column: slow, and never silent about what is wrong.

The decoder's fast path takes what it is sure of; everything else comes here.
"""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from typing import Final

import msgspec

from libs.datasets.model import Column, ColumnType
from libs.datasets.records import BIGINT_MAX, BIGINT_MIN

__all__ = ["Unreadable", "read_moment", "read_value"]

_DECIMAL: Final = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?")
_NOT_FINITE: Final = re.compile(r"[+-]?(?:s?nan|inf(?:inity)?)", re.IGNORECASE)
_INTEGER: Final = re.compile(rb"-?(?:0|[1-9][0-9]*)")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_LEAP: Final = re.compile(r"(.*[Tt ][0-9]{2}:[0-9]{2}):60((?:\.0+)?(?:[Zz]|[+-][0-9]{2}:?[0-9]{2})?)")
_EXPONENT_DIGITS: Final = 9
_KINDS: Final = {
    b"{": "an object",
    b"[": "an array",
    b'"': "text",
    b"t": "a boolean",
    b"f": "a boolean",
    b"n": "null",
}
_INFINITE: Final = (
    dt.datetime.min.replace(tzinfo=dt.UTC),
    dt.datetime.max.replace(tzinfo=dt.UTC),
)
_INFINITE_DATES: Final = (dt.date.min, dt.date.max)


class Unreadable(Exception):
    """The value is not what the contract says. detail never holds the value itself."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def read_value(token: bytes, column: Column) -> object:
    """The value of one valid JSON token (not null) as the column's Python type.

    Raises:
        Unreadable: wrong_type, not_exact.
    """
    match column.type:
        case ColumnType.STRING:
            return _text(token, "text")
        case ColumnType.INTEGER:
            return _integer(token)
        case ColumnType.NUMBER:
            return _decimal(token, column.precision or 0, column.scale or 0)
        case ColumnType.BOOLEAN:
            if token not in {b"true", b"false"}:
                raise Unreadable("wrong_type", f"true or false is wanted, not {_kind(token)}")
            return token == b"true"
        case ColumnType.DATE:
            return _date(_text(token, "a date as text"))
        case ColumnType.TIMESTAMP:
            return read_moment(_text(token, "a timestamp as text"))


def _kind(token: bytes) -> str:
    return _KINDS.get(token[:1], "a number")


def _text(token: bytes, wanted: str) -> str:
    if token[:1] != b'"':
        raise Unreadable("wrong_type", f"{wanted} is wanted, not {_kind(token)}")
    return msgspec.json.decode(token, type=str)


def _integer(token: bytes) -> int:
    if not _INTEGER.fullmatch(token):
        kind = "a number with a point or an exponent" if _kind(token) == "a number" else _kind(token)
        raise Unreadable("wrong_type", f"a whole number is wanted, not {kind}")
    if len(token) > 20 or not BIGINT_MIN <= int(token) <= BIGINT_MAX:
        raise Unreadable("not_exact", "the whole number is beyond bigint (64 bits)")
    return int(token)


def _decimal(token: bytes, precision: int, scale: int) -> Decimal:
    if token[:1] in b"{[tfn":
        raise Unreadable("wrong_type", f"a decimal is wanted, as number or text, not {_kind(token)}")
    text = _text(token, "a decimal") if token[:1] == b'"' else token.decode("ascii")
    match = _DECIMAL.fullmatch(text)
    if match is None:
        what = (
            "NaN and infinity are no decimals"
            if _NOT_FINITE.fullmatch(text.strip())
            else "the text is no decimal"
        )
        raise Unreadable("wrong_type", what)
    sign, whole, fraction, exponent_text = match[1], match[2], match[3] or "", match[4] or "0"
    digits = (whole + fraction).lstrip("0")
    significant = digits.rstrip("0")
    if not significant:
        return Decimal(0)
    if len(exponent_text.lstrip("+-0")) > _EXPONENT_DIGITS:
        raise Unreadable("not_exact", f"the exponent is beyond numeric({precision},{scale})")
    exponent = int(exponent_text) - len(fraction) + len(digits) - len(significant)
    before = len(significant) + exponent
    if -exponent > scale or before > precision - scale:
        count, side, held = (
            (-exponent, "after", scale) if -exponent > scale else (before, "before", precision - scale)
        )
        what = f"{count} digits {side} the point, numeric({precision},{scale}) holds {held}"
        raise Unreadable("not_exact", what)
    return Decimal(f"{sign}{significant}E{exponent}")


def _date(text: str) -> dt.date:
    try:
        day = dt.date.fromisoformat(text) if _DATE.fullmatch(text) else None
    except ValueError as error:
        raise Unreadable("wrong_type", "there is no such day") from error
    if day is None:
        raise Unreadable("wrong_type", "a date is written YYYY-MM-DD")
    if day in _INFINITE_DATES:
        raise Unreadable("wrong_type", f"{day} cannot be told from infinity in Postgres")
    return day


def read_moment(text: str) -> dt.datetime:
    """A timestamp in RFC 3339, in UTC: without offset it is UTC, a bare date is midnight, a leap second is
    the second after it, digits beyond microseconds are rounded.

    Raises:
        Unreadable: wrong_type.
    """
    leap = _LEAP.fullmatch(text)
    if leap is not None:
        text = f"{leap[1]}:59{leap[2]}"
    if _DATE.fullmatch(text):
        text += "T00:00:00Z"
    try:
        moment = msgspec.convert(text, dt.datetime)
        moment = moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)
        moment += dt.timedelta(seconds=1 if leap is not None else 0)
    except (msgspec.ValidationError, ValueError) as error:
        raise Unreadable(
            "wrong_type", "a timestamp is written 2024-01-31T12:34:56.789Z (RFC 3339)"
        ) from error
    except OverflowError as error:
        raise Unreadable("wrong_type", "the timestamp lies outside the years 1 to 9999 in UTC") from error
    if moment in _INFINITE:
        raise Unreadable("wrong_type", "the timestamp cannot be told from infinity in Postgres")
    return moment
