"""What the fast ways decode into: msgspec structs made from a contract, and what their values become.

What a way takes, it takes with the same result as the exact reader; what it is not sure of, it leaves to it.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, Final, Literal

import msgspec

from libs.datasets.model import Column, ColumnType, Dataset
from libs.datasets.records import record_type
from libs.pipeline.refusals import ORIGINS
from libs.pipeline.values import Unreadable, read_moment

__all__ = ["Unsure", "Way"]

_Text = Annotated[str, msgspec.Meta(min_length=1)]
_MOMENTS_KEPT: Final = 65_536
_LONGEST_KEPT: Final = 40


class Unsure(Exception):
    """The fast path leaves this event to the exact reader."""


class Way:
    """Decodes events of one dataset whose moments are written in one of two manners.

    plain: as RFC 3339 has them, msgspec reads them itself. Otherwise they are text, read as the exact reader
    reads them: bare dates, of which files are full, and leap seconds.
    """

    def __init__(self, dataset: Dataset, *, plain: bool) -> None:
        moment: Any = dt.datetime if plain else str
        envelope: Any = _envelope_type(dataset.dataschema, moment)
        closed: Any = record_type(dataset.columns, closed=True, moment=moment)
        open_: Any = record_type(dataset.columns, closed=False, moment=moment)
        self.envelope: Callable[[Any], Any] = msgspec.json.Decoder(envelope).decode
        self.envelopes: Callable[[bytes], list[Any]] = msgspec.json.Decoder(list[envelope]).decode
        self._closed: Callable[[Any], Any] = msgspec.json.Decoder(closed).decode
        self._open: Callable[[Any], Any] = msgspec.json.Decoder(open_).decode
        self._closed_all = _all_data_decoder(closed)
        self._open_all = _all_data_decoder(open_)
        self.moment: Callable[[Any], dt.datetime | None] = _moment if plain else _written_moment
        self.conversions = tuple(
            (index, _conversion(column, self.moment))
            for index, column in enumerate(dataset.columns)
            if column.type in {ColumnType.NUMBER, ColumnType.TIMESTAMP, ColumnType.DATE}
        )

    def records(self, array: bytes) -> tuple[Sequence[Any], bool]:
        """Each event's record as its `.data`; and whether they may hold fields the contract does not name."""
        try:
            return self._closed_all(array), False
        except msgspec.ValidationError:
            return self._open_all(array), True

    def record(self, data: msgspec.Raw) -> tuple[Any, bool]:
        """As records, of one event's data."""
        try:
            return self._closed(data), False
        except msgspec.ValidationError:
            return self._open(data), True


def _all_data_decoder(record: Any) -> Callable[[bytes], list[Any]]:
    holder: Any = msgspec.defstruct("Holder", [("data", record)], gc=False)
    return msgspec.json.Decoder(list[holder]).decode


def _envelope_type(dataschema: str, moment: Any) -> type[msgspec.Struct]:
    """The attributes the fast ways know; an event with others is read exactly."""
    return msgspec.defstruct(
        "Envelope",
        [
            ("specversion", Literal["1.0"]),
            ("id", _Text),
            ("source", _Text),
            ("type", _Text),
            ("data", msgspec.Raw),
            ("time", moment | None, None),
            ("subject", str | None, None),
            ("dataschema", Literal[dataschema] | None, None),
            ("traceparent", str | None, None),
            ("datacontenttype", str | None, None),
            ("tracestate", str | None, None),
            ("drporigin", Literal[ORIGINS], ORIGINS[0]),
        ],
        forbid_unknown_fields=True,
        kw_only=True,
        gc=False,
    )


def _conversion(column: Column, moment: Callable[[Any], object]) -> Callable[[Any], object]:
    if column.type is ColumnType.NUMBER:
        return _decimal_reader(column.precision or 0, column.scale or 0)
    return moment if column.type is ColumnType.TIMESTAMP else _day


def _decimal_reader(precision: int, scale: int) -> Callable[[msgspec.Raw], Decimal]:
    """Takes plainly written decimals that fit; anything else is left to the exact reader."""
    whole = rb"0" if precision == scale else rb"(?:0|[1-9][0-9]{0,%d})" % (precision - scale - 1)
    fraction = rb"(?:\.[0-9]{1,%d}0*)?" % scale if scale else b""
    plain = rb"(-?" + whole + fraction + b")"
    match = re.compile(b'"' + plain + b'"|' + plain).fullmatch

    def read(token: msgspec.Raw) -> Decimal:
        found = match(token)
        if found is None:
            raise Unsure
        value = Decimal(str(found[1] or found[2], "ascii"))
        return value or Decimal(0)

    return read


def _moment(moment: dt.datetime | None) -> dt.datetime | None:
    if moment is None or (moment.tzinfo is dt.UTC and 1 < moment.year < 9999):
        return moment
    if not 1 < moment.year < 9999:
        raise Unsure
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)


def _written_moment(text: str | None) -> dt.datetime | None:
    if text is None:
        return None
    if len(text) > _LONGEST_KEPT:
        raise Unsure
    try:
        return _kept_moment(text)
    except Unreadable:
        raise Unsure from None


_kept_moment: Final = lru_cache(_MOMENTS_KEPT)(read_moment)
"""Files say the same days again and again."""


def _day(day: dt.date | None) -> dt.date | None:
    if day is not None and not 1 < day.year < 9999:
        raise Unsure
    return day
