"""From the bytes of a stream entry to rows for COPY and refusals with a reason. Never raises on any bytes.

Three ways, each tried when the one before is not sure:
1. the whole array in two passes of msgspec: envelopes, then the structs of the contract;
2. event by event, the same structs;
3. the exact reader, which takes what is right but unusual and says precisely what is wrong with the rest.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

import msgspec

from libs.datasets.model import ColumnType, Dataset
from libs.datasets.records import record_type
from libs.pipeline import jsontext
from libs.pipeline.exact import BROKEN, ExactReader
from libs.pipeline.refusals import (
    MAX_DEPTH,
    MAX_ENTRY_BYTES,
    MAX_EVENT_BYTES,
    MAX_EVENTS,
    MAX_IDENTITY_BYTES,
    ORIGINS,
    REASONS,
    LandedRow,
    Refused,
    Slots,
)

__all__ = ["REASONS", "Decoder", "LandedRow", "Refused", "Slots", "raw_copy_columns"]

_Text = Annotated[str, msgspec.Meta(min_length=1)]
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_LATEST_MILLISECONDS: Final = 253_370_764_800_000  # the year 9999
_SHORT_IDENTITY: Final = MAX_IDENTITY_BYTES // 4
_MANY_COMMAS: Final = 200_000
_DATA_DEPTH: Final = MAX_DEPTH - 1
_DecodeAll = Callable[[bytes], list[Any]]
_raws: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode


class _Unsure(Exception):
    """The fast path leaves this event to the exact reader."""


def raw_copy_columns(dataset: Dataset) -> tuple[str, ...]:
    """The columns of a LandedRow, in order. The ingestor adds batch_id."""
    return (
        "event_id",
        *(column.name for column in dataset.columns),
        "source_system",
        "raw_payload",
        "event_time",
        "event_type",
        "subject",
        "dataschema",
        "traceparent",
        "origin",
        "extensions",
        "stream_entry_id",
        "stream_position",
    )


class Decoder:
    """Decodes the entries of one dataset's stream. It keeps nothing between entries."""

    def __init__(self, dataset: Dataset) -> None:
        envelope: Any = _envelope_type(dataset.dataschema)
        self._exact = ExactReader(dataset)
        self._envelope = msgspec.json.Decoder(envelope).decode
        self._envelopes = msgspec.json.Decoder(list[envelope]).decode
        closed: Any = record_type(dataset.columns, closed=True)
        open_: Any = record_type(dataset.columns, closed=False)
        self._closed = msgspec.json.Decoder(closed).decode
        self._open = msgspec.json.Decoder(open_).decode
        closed_holder: Any = msgspec.defstruct("Holder", [("data", closed)], gc=False)
        open_holder: Any = msgspec.defstruct("Holder", [("data", open_)], gc=False)
        self._closed_all: _DecodeAll = msgspec.json.Decoder(list[closed_holder]).decode
        self._open_all: _DecodeAll = msgspec.json.Decoder(list[open_holder]).decode
        self._conversions = tuple(
            (index, _conversion(column.type, column.precision or 0, column.scale or 0))
            for index, column in enumerate(dataset.columns)
            if column.type in {ColumnType.NUMBER, ColumnType.TIMESTAMP, ColumnType.DATE}
        )

    def decode(self, entry_data: bytes, *, entry_id: str) -> Slots:
        """The entry's slots: at least one, each a row or a refusal."""
        if len(entry_data) > MAX_ENTRY_BYTES:
            detail = f"{len(entry_data)} bytes, an entry has at most {MAX_ENTRY_BYTES}"
            return Slots(1, refused=[Refused(0, "too_large", detail, entry_data)])
        entry = _Entry(entry_id)
        if not entry_data.lstrip(b" \t\r\n").startswith(b"["):
            slots = Slots(1)
            self._read(entry_data, 0, entry, slots)
            return slots
        return self._decode_all(entry_data, entry) or self._decode_each(entry_data, entry)

    def _decode_all(self, data: bytes, entry: _Entry) -> Slots | None:
        """The array in one go; None if any event needs a closer look than single values do."""
        if b"\\u0000" in data:
            return None
        try:
            envelopes = self._envelopes(data)
            if len(data) > MAX_EVENT_BYTES and any(len(raw) > MAX_EVENT_BYTES for raw in _raws(data)):
                return None
            records, is_open = self._records(data)
        except BROKEN:
            return None
        if not 0 < len(envelopes) <= MAX_EVENTS:
            return None
        slots = Slots(len(envelopes))
        originals: Sequence[Any] = ()
        for position, (envelope, record) in enumerate(zip(envelopes, records, strict=True)):
            try:
                slots.rows.append(self._row(envelope, record.data, position, entry, is_open=is_open))
            except (_Unsure, UnicodeDecodeError):
                originals = originals or _raws(data)
                self._settle(bytes(originals[position]), position, entry, slots)
        return slots

    def _records(self, data: bytes) -> tuple[Sequence[Any], bool]:
        try:
            return self._closed_all(data), False
        except msgspec.ValidationError:
            return self._open_all(data), True

    def _decode_each(self, data: bytes, entry: _Entry) -> Slots:
        originals = _split(data)
        if originals is None or not originals or len(originals) > MAX_EVENTS:
            return Slots(1, refused=[_refused_entry(data, originals)])
        slots = Slots(len(originals))
        for position, original in enumerate(originals):
            self._read(original, position, entry, slots)
        return slots

    def _read(self, original: bytes, position: int, entry: _Entry, slots: Slots) -> None:
        """One event: by the structs if they take it, else exactly."""
        if len(original) <= MAX_EVENT_BYTES and b"\\u0000" not in original:
            try:
                envelope = self._envelope(original)
                record, is_open = self._record(envelope.data)
                slots.rows.append(self._row(envelope, record, position, entry, is_open=is_open))
            except (_Unsure, *BROKEN):
                pass
            else:
                return
        self._settle(original, position, entry, slots)

    def _record(self, data: msgspec.Raw) -> tuple[Any, bool]:
        try:
            return self._closed(data), False
        except msgspec.ValidationError:
            return self._open(data), True

    def _settle(self, original: bytes, position: int, entry: _Entry, slots: Slots) -> None:
        found = self._exact.read(original, position, entry_id=entry.id, entry_time=entry.time)
        if isinstance(found, Refused):
            slots.refused.append(found)
        else:
            slots.rows.append(found)

    def _row(self, envelope: Any, record: Any, position: int, entry: _Entry, *, is_open: bool) -> LandedRow:
        source, event_id = envelope.source, envelope.id
        if len(source) + len(event_id) > _SHORT_IDENTITY:
            raise _Unsure
        if is_open:
            _check_unknown_fields(bytes(envelope.data))
        values = list(msgspec.structs.astuple(record))
        for index, convert in self._conversions:
            values[index] = convert(values[index])
        return (
            event_id,
            *values,
            source,
            str(envelope.data, "utf-8"),
            entry.time_or_unsure() if envelope.time is None else _moment(envelope.time),
            envelope.type,
            envelope.subject,
            envelope.dataschema,
            envelope.traceparent,
            envelope.drporigin,
            _extensions(envelope.datacontenttype, envelope.tracestate),
            entry.id,
            position,
        )


class _Entry:
    """The entry's id, and the time in it: None if it holds none (`*` ids always do)."""

    __slots__ = ("id", "time")

    def __init__(self, entry_id: str) -> None:
        milliseconds = entry_id.partition("-")[0]
        self.id = entry_id
        self.time: dt.datetime | None = None
        is_number = milliseconds.isascii() and milliseconds.isdigit() and len(milliseconds) <= 15
        if is_number and int(milliseconds) < _LATEST_MILLISECONDS:
            self.time = _EPOCH + dt.timedelta(milliseconds=int(milliseconds))

    def time_or_unsure(self) -> dt.datetime:
        if self.time is None:
            raise _Unsure
        return self.time


def _envelope_type(dataschema: str) -> type[msgspec.Struct]:
    """The attributes the fast path knows; an event with others is read exactly."""
    return msgspec.defstruct(
        "Envelope",
        [
            ("specversion", Literal["1.0"]),
            ("id", _Text),
            ("source", _Text),
            ("type", _Text),
            ("data", msgspec.Raw),
            ("time", dt.datetime | None, None),
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


def _extensions(datacontenttype: str | None, tracestate: str | None) -> str | None:
    """As the exact reader writes them, for the two that producers send all the time."""
    if datacontenttype is None and tracestate is None:
        return None
    both = {"datacontenttype": datacontenttype, "tracestate": tracestate}
    return msgspec.json.encode({name: text for name, text in both.items() if text is not None}).decode()


def _check_unknown_fields(data: bytes) -> None:
    """msgspec skips the fields it does not know; jsonb will not."""
    if jsontext.may_be_deeper(data, _DATA_DEPTH):
        raise _Unsure
    if jsontext.may_hold_wild_number(data) and jsontext.wild_number(data) is not None:
        raise _Unsure


def _conversion(type_: ColumnType, precision: int, scale: int) -> Callable[[Any], object]:
    if type_ is ColumnType.NUMBER:
        return _decimal_reader(precision, scale)
    return _moment if type_ is ColumnType.TIMESTAMP else _day


def _decimal_reader(precision: int, scale: int) -> Callable[[msgspec.Raw], Decimal]:
    """Takes plainly written decimals that fit; anything else is left to the exact reader."""
    whole = rb"0" if precision == scale else rb"(?:0|[1-9][0-9]{0,%d})" % (precision - scale - 1)
    fraction = rb"(?:\.[0-9]{1,%d}0*)?" % scale if scale else b""
    plain = rb"(-?" + whole + fraction + b")"
    match = re.compile(b'"' + plain + b'"|' + plain).fullmatch

    def read(token: msgspec.Raw) -> Decimal:
        found = match(token)
        if found is None:
            raise _Unsure
        value = Decimal(str(found[1] or found[2], "ascii"))
        return value or Decimal(0)

    return read


def _moment(moment: dt.datetime | None) -> dt.datetime | None:
    if moment is None or (moment.tzinfo is dt.UTC and 1 < moment.year < 9999):
        return moment
    if not 1 < moment.year < 9999:
        raise _Unsure
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)


def _day(day: dt.date | None) -> dt.date | None:
    if day is not None and not 1 < day.year < 9999:
        raise _Unsure
    return day


def _split(data: bytes) -> list[bytes] | None:
    """The elements of an array as they stand, None if it is no JSON.

    JSON whose strings cannot be Unicode or that is nested very deep is split all the same, so that the
    neighbours of such an event land.
    """
    if data.count(b",") <= _MANY_COMMAS:
        try:
            return [bytes(raw) for raw in _raws(data)]
        except BROKEN:
            pass
    found = jsontext.elements(data, MAX_EVENTS)
    if found is None or len(found) > MAX_EVENTS:
        return found
    return found if all(_is_grammatical(element) for element in found) else None


def _is_grammatical(element: bytes) -> bool:
    try:
        msgspec.json.decode(jsontext.without_lone_surrogates(element), type=msgspec.Raw)
    except RecursionError:
        return True
    except BROKEN:
        return False
    return True


def _refused_entry(data: bytes, originals: Sequence[bytes] | None) -> Refused:
    """An array that holds no slots of its own is one slot."""
    if originals is None:
        return Refused(0, "undecodable", _why_undecodable(data), data)
    if not originals:
        return Refused(0, "not_an_event", "the array is empty", data)
    return Refused(0, "too_large", f"more than {MAX_EVENTS} events in one entry", data)


def _why_undecodable(data: bytes) -> str:
    try:
        _raws(data)
    except RecursionError:
        return "its brackets do not match up"
    except BROKEN as error:
        return str(error)[:300]
    return "it is no JSON"
