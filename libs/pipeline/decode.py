"""From the bytes of a stream entry to rows for COPY and refusals with a reason. Never raises on any bytes.

Three ways, each tried when the one before is not sure:
1. the whole array in two passes of msgspec: envelopes, then the structs of the contract; if timestamps in it
   are right but not as msgspec reads them, the same with timestamps as text;
2. event by event, the same structs;
3. the exact reader, which takes what is right but unusual and says precisely what is wrong with the rest.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from libs.datasets.model import Dataset
from libs.pipeline import jsontext
from libs.pipeline.exact import BROKEN, ExactReader
from libs.pipeline.refusals import (
    MAX_DEPTH,
    MAX_ENTRY_BYTES,
    MAX_EVENT_BYTES,
    MAX_EVENTS,
    MAX_IDENTITY_BYTES,
    REASONS,
    LandedRow,
    Refused,
    Slots,
)
from libs.pipeline.structs import Unsure, Way

__all__ = ["REASONS", "Decoder", "LandedRow", "Refused", "Slots", "raw_copy_columns"]

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_LATEST_MILLISECONDS: Final = 253_370_764_800_000  # the year 9999
_SHORT_IDENTITY: Final = MAX_IDENTITY_BYTES // 4
_MANY_COMMAS: Final = 200_000
_DATA_DEPTH: Final = MAX_DEPTH - 1
_raws: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode


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
        self._exact = ExactReader(dataset)
        self._ways = (Way(dataset, plain=True), Way(dataset, plain=False))

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
        for way in self._ways:
            try:
                envelopes = way.envelopes(data)
                records, is_open = way.records(data)
                if len(data) > MAX_EVENT_BYTES and any(len(raw) > MAX_EVENT_BYTES for raw in _raws(data)):
                    return None
            except BROKEN:
                continue
            if not 0 < len(envelopes) <= MAX_EVENTS:
                return None
            slots = Slots(len(envelopes))
            originals: Sequence[Any] = ()
            for position, (envelope, record) in enumerate(zip(envelopes, records, strict=True)):
                try:
                    slots.rows.append(_row(way, envelope, record.data, position, entry, is_open=is_open))
                except (Unsure, UnicodeDecodeError):
                    originals = originals or _raws(data)
                    self._settle(bytes(originals[position]), position, entry, slots)
            return slots
        return None

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
            for way in self._ways:
                try:
                    envelope = way.envelope(original)
                    record, is_open = way.record(envelope.data)
                    slots.rows.append(_row(way, envelope, record, position, entry, is_open=is_open))
                except (Unsure, *BROKEN):
                    continue
                return
        self._settle(original, position, entry, slots)

    def _settle(self, original: bytes, position: int, entry: _Entry, slots: Slots) -> None:
        found = self._exact.read(original, position, entry_id=entry.id, entry_time=entry.time)
        if isinstance(found, Refused):
            slots.refused.append(found)
        else:
            slots.rows.append(found)


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
            raise Unsure
        return self.time


def _row(way: Way, envelope: Any, record: Any, position: int, entry: _Entry, *, is_open: bool) -> LandedRow:
    source, event_id = envelope.source, envelope.id
    if len(source) + len(event_id) > _SHORT_IDENTITY:
        raise Unsure
    if is_open:
        _check_unknown_fields(bytes(envelope.data))
    values = list(msgspec.structs.astuple(record))
    for index, convert in way.conversions:
        values[index] = convert(values[index])
    return (
        event_id,
        *values,
        source,
        str(envelope.data, "utf-8"),
        entry.time_or_unsure() if envelope.time is None else way.moment(envelope.time),
        envelope.type,
        envelope.subject,
        envelope.dataschema,
        envelope.traceparent,
        envelope.drporigin,
        _extensions(envelope.datacontenttype, envelope.tracestate),
        entry.id,
        position,
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
        raise Unsure
    if jsontext.may_hold_wild_number(data) and jsontext.wild_number(data) is not None:
        raise Unsure


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
