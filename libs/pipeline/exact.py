"""The slow reading of one event: the precise reason, or a row that the fast path was not sure of."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Final

import msgspec

from libs.datasets.model import Column, Dataset
from libs.pipeline import jsontext
from libs.pipeline.refusals import (
    MAX_AGAIN_BYTES,
    MAX_DEPTH,
    MAX_EVENT_BYTES,
    MAX_IDENTITY_BYTES,
    ORIGINS,
    LandedRow,
    Refused,
)
from libs.pipeline.values import Unreadable, read_moment, read_value

__all__ = ["BROKEN", "ExactReader"]

BROKEN: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises on bytes it does not take."""

_OWN_COLUMNS: Final = frozenset(
    {
        "specversion",
        "id",
        "source",
        "type",
        "time",
        "subject",
        "dataschema",
        "traceparent",
        "drporigin",
        "data",
    }
)
_WRAP: Final = 'wrap it as {"specversion":"1.0","id":…,"source":…,"type":…,"data":{…}}'
_objects: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_anything: Final = msgspec.json.Decoder(msgspec.Raw).decode


class _Refusal(Exception):
    def __init__(self, reason: str, detail: str, field: str | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.field = field


class ExactReader:
    """Reads any bytes as one event of the dataset."""

    def __init__(self, dataset: Dataset) -> None:
        self._columns = dataset.columns
        self._dataschema = dataset.dataschema

    def read(
        self, original: bytes, position: int, *, entry_id: str, entry_time: dt.datetime | None
    ) -> LandedRow | Refused:
        """The row, or why there is none. entry_time stands in for an absent `time`."""
        attributes: Mapping[str, bytes] = {}
        try:
            _check_size(original)
            _check_text(original)
            attributes = _attributes(original)
            return self._row(original, attributes, position, entry_id, entry_time)
        except _Refusal as refusal:
            return Refused(
                position,
                refusal.reason,
                refusal.detail,
                original,
                refusal.field,
                **_identity(attributes or _glance(original)),
            )

    def _row(
        self,
        original: bytes,
        attributes: Mapping[str, bytes],
        position: int,
        entry_id: str,
        entry_time: dt.datetime | None,
    ) -> LandedRow:
        self._check_envelope(attributes)
        identity = [_attribute(attributes, name) for name in ("source", "id")]
        if sum(len(part.encode()) for part in identity) > MAX_IDENTITY_BYTES:
            raise _Refusal(
                "not_an_event", f"source and id are longer than {MAX_IDENTITY_BYTES} bytes together", "id"
            )
        event_type = _attribute(attributes, "type")
        data = _data(attributes)
        if jsontext.has_nul(original):
            raise _Refusal("nul_byte", "a string contains U+0000", self._field_with_nul(data))
        values = [_value(data, column) for column in self._columns]
        wild = jsontext.wild_number(original) if jsontext.may_hold_wild_number(original) else None
        if wild is not None:
            raise _Refusal("unstorable", wild)
        return (
            identity[1],
            *values,
            identity[0],
            attributes["data"].decode(),
            _event_time(attributes, entry_time),
            event_type,
            _optional(attributes, "subject"),
            _optional(attributes, "dataschema"),
            _optional(attributes, "traceparent"),
            _origin(attributes),
            _extensions(attributes),
            entry_id,
            position,
        )

    def _check_envelope(self, attributes: Mapping[str, bytes]) -> None:
        if "drpunreadable" in attributes:
            why = _string(attributes["drpunreadable"]) or "the line could not be read"
            raise _Refusal("unreadable", _clean(why)[:1000])
        version = _string(attributes.get("specversion", b""))
        if version is None:
            raise _Refusal("not_an_event", f"no specversion: no CloudEvent; {_WRAP}", "specversion")
        if version != "1.0":
            raise _Refusal("unknown_version", "specversion is not 1.0", "specversion")
        schema = _optional(attributes, "dataschema")
        if schema is not None and schema != self._dataschema:
            raise _Refusal("unknown_version", f"dataschema is not {self._dataschema}", "dataschema")

    def _field_with_nul(self, data: Mapping[str, bytes]) -> str | None:
        return next((c.field for c in self._columns if jsontext.has_nul(data.get(c.field, b""))), None)


def _check_size(original: bytes) -> None:
    if len(original) <= MAX_EVENT_BYTES:
        return
    replayed = len(original) <= MAX_AGAIN_BYTES and _glance(original).get("drporigin") == b'"replay"'
    if not replayed:
        raise _Refusal("too_large", f"{len(original)} bytes, an event has at most {MAX_EVENT_BYTES}")


def _check_text(original: bytes) -> None:
    """That it is JSON of valid text and of bounded depth."""
    try:
        original.decode()
    except UnicodeDecodeError as error:
        raise _Refusal("bad_utf8", f"byte {error.start} is not UTF-8") from error
    if jsontext.may_be_deeper(original, MAX_DEPTH) and jsontext.is_deeper(original, MAX_DEPTH):
        raise _Refusal("too_deep", f"nested more than {MAX_DEPTH} deep")
    try:
        _anything(original)
    except BROKEN as error:
        if original[:3] == b"\xef\xbb\xbf":
            raise _Refusal(
                "undecodable", "it starts with a byte order mark: send UTF-8 without one"
            ) from error
        if _parses(jsontext.without_lone_surrogates(original)):
            raise _Refusal("bad_utf8", "an escaped half of a surrogate pair stands alone") from error
        raise _Refusal(
            "undecodable", str(error)[:300] if original.strip() else "there is nothing in it"
        ) from error


def _parses(text: bytes) -> bool:
    try:
        _anything(text)
    except BROKEN:
        return False
    return True


def _attributes(original: bytes) -> Mapping[str, bytes]:
    try:
        attributes = _objects(original)
    except BROKEN as error:
        raise _Refusal("not_an_event", f"an event is a JSON object; {_WRAP}") from error
    return {name: bytes(value) for name, value in attributes.items()}


def _data(attributes: Mapping[str, bytes]) -> Mapping[str, bytes]:
    data = attributes.get("data")
    if data is None or data[:1] != b"{":
        what = "data is missing" if data is None else "data is no JSON object"
        raise _Refusal("not_an_event", what, "data")
    return {name: bytes(value) for name, value in _objects(data).items()}


def _attribute(attributes: Mapping[str, bytes], name: str) -> str:
    value = _string(attributes.get(name, b""))
    if not value:
        what = "missing" if name not in attributes else "empty or no text"
        raise _Refusal("not_an_event", f"the attribute {name} is {what}", name)
    return value


def _optional(attributes: Mapping[str, bytes], name: str) -> str | None:
    token = attributes.get(name, b"null")
    if token == b"null":
        return None
    value = _string(token)
    if value is None:
        raise _Refusal("not_an_event", f"the attribute {name} is no text", name)
    return value


def _string(token: bytes) -> str | None:
    return msgspec.json.decode(token, type=str) if token[:1] == b'"' else None


def _value(data: Mapping[str, bytes], column: Column) -> object:
    token = data.get(column.field, b"null")
    if token == b"null":
        if column.required:
            what = "is null" if column.field in data else "is missing"
            raise _Refusal("field_missing", f"{column.field} {what}", column.field)
        return None
    try:
        return read_value(token, column)
    except Unreadable as error:
        raise _Refusal(error.reason, f"{column.field}: {error.detail}", column.field) from error


def _event_time(attributes: Mapping[str, bytes], entry_time: dt.datetime | None) -> dt.datetime:
    text = _optional(attributes, "time")
    if text is None and entry_time is not None:
        return entry_time
    if text is None:
        raise _Refusal("not_an_event", "no time, and the entry's id holds none", "time")
    try:
        return read_moment(text)
    except Unreadable as error:
        raise _Refusal("not_an_event", f"time: {error.detail}", "time") from error


def _origin(attributes: Mapping[str, bytes]) -> str:
    origin = _optional(attributes, "drporigin") or ORIGINS[0]
    if origin not in ORIGINS:
        raise _Refusal("not_an_event", f"drporigin is one of {', '.join(ORIGINS)}", "drporigin")
    return origin


def _extensions(attributes: Mapping[str, bytes]) -> str | None:
    """The attributes that have no column of their own, as JSON text."""
    others = {
        name: msgspec.Raw(value)
        for name, value in attributes.items()
        if name not in _OWN_COLUMNS and value != b"null"
    }
    return msgspec.json.encode(others).decode() if others else None


def _glance(original: bytes) -> Mapping[str, bytes]:
    """The attributes of an event that was refused before they were read, if they can be read at all."""
    try:
        return {name: bytes(value) for name, value in _objects(original).items()}
    except BROKEN:
        return {}


def _identity(attributes: Mapping[str, bytes]) -> dict[str, str | None]:
    columns = {
        "source_system": "source",
        "event_id": "id",
        "dataschema": "dataschema",
        "traceparent": "traceparent",
    }
    found: dict[str, str | None] = {}
    for column, name in columns.items():
        try:
            text = _string(attributes.get(name, b""))
        except BROKEN:
            text = None
        found[column] = None if text is None else _clean(text)[:MAX_IDENTITY_BYTES]
    return found


def _clean(text: str) -> str:
    return text.replace("\x00", "\ufffd")
