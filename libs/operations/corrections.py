"""Correcting a quarantined event without touching its original. Pure: bytes in, bytes out.

A document is what a stream entry carries: one CloudEvent, or an array of them. Values stay the text they were
written as; what is not changed comes out as it went in. A field is named as the contract names it; an
attribute of the envelope as `ce-` and its name (`ce-type`), as CloudEvents' own HTTP headers do.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

import msgspec

from libs.datasets import ColumnType, Dataset
from libs.errors import Permanent
from libs.pipeline.exact import BROKEN

__all__ = [
    "ATTRIBUTE",
    "Correction",
    "Difference",
    "Slot",
    "base_of",
    "completed",
    "corrected",
    "differences",
    "each_event",
]

ATTRIBUTE: Final = "ce-"
_FILE: Final = "give the whole event: drp quarantine fix ID --file event.json"
_SOURCE: Final = "urn:drp:quarantine"
_INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]*)")

_Tokens = dict[str, msgspec.Raw]
_tokens: Final = msgspec.json.Decoder(_Tokens).decode
_events: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What to change. Names are fields, or attributes with `ce-` before them; a name is set or removed once.

    texts: values as they are typed; the contract's type decides whether they become text, a number or a truth
    value. documents: values as JSON. document: a whole event (or several), in place of all that was there.
    wrap: the document is the data of an event and lacks its envelope. new_id: an identity of its own, and the
    present as its time.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    documents: Mapping[str, str] = field(default_factory=dict)
    remove: Sequence[str] = ()
    document: bytes | None = None
    wrap: bool = False
    new_id: bool = False

    @property
    def names(self) -> list[str]:
        return [*self.texts, *self.documents, *self.remove]


@dataclass(frozen=True, slots=True)
class Slot:
    """What the ledger knows of the event: where it stood in the stream, and what could be read of its identity."""

    stream: str
    entry_id: str
    position: int
    source: str | None
    event_id: str | None

    def derived_id(self, event: int | None) -> str:
        """The id of an event that has none, always the same: a second redrive is recognised by it."""
        name = f"urn:drp:quarantine:{self.stream}/{self.entry_id}/{self.position}"
        return str(uuid.uuid5(uuid.NAMESPACE_URL, name if event is None else f"{name}/{event}"))


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One field or attribute that differs; before and after are JSON text, None where there is none."""

    field: str
    before: str | None
    after: str | None


def base_of(original: bytes, reason: str) -> bytes:
    """What a correction starts from. Of a file's line that was no row only the envelope is of use."""
    if reason != "unreadable":
        return original
    attributes = _object(original)
    attributes.pop("drpunreadable", None)
    return msgspec.json.encode({**attributes, "data": {}})


def corrected(base: bytes, change: Correction, dataset: Dataset, slot: Slot, *, now: datetime) -> bytes:
    """The document with the changes made and its envelope completed.

    Raises:
        Permanent: the base can't be changed field by field, a value is no JSON, or a name is not there.
    """
    document = base if change.document is None else change.document
    if change.wrap:  # what was read as its identity stood in the data
        document = msgspec.json.encode({"specversion": "1.0", "data": msgspec.Raw(_bare(document))})
        slot = replace(slot, source=None, event_id=None)
    if change.names or change.new_id:
        document = _changed(document, change, dataset, slot, now)
    return completed(document, dataset, slot)


def completed(document: bytes, dataset: Dataset, slot: Slot) -> bytes:
    """The document with what its events' envelopes lack: the slot's identity, or else one derived from it."""

    def complete(event: bytes, number: int | None) -> bytes:
        try:
            attributes = _tokens(event)
        except BROKEN:
            return event
        if "specversion" not in attributes and "data" not in attributes:
            return event  # no envelope that could be completed
        known = number is None
        found = {
            "specversion": "1.0",
            "id": (slot.event_id if known else None) or slot.derived_id(number),
            "source": (slot.source if known else None) or _SOURCE,
            "type": f"{dataset.name}.corrected",
        }
        lacking = {
            name: msgspec.Raw(msgspec.json.encode(value))
            for name, value in found.items()
            if bytes(attributes.get(name, b"null")) in (b"null", b'""')
        }
        return msgspec.json.encode({**lacking, **{k: v for k, v in attributes.items() if k not in lacking}})

    return each_event(document, complete)


def each_event(document: bytes, change: Callable[[bytes, int | None], bytes]) -> bytes:
    """The document with each of its events changed. An event of an array is told its number in it."""
    if not document.lstrip(b" \t\r\n").startswith(b"["):
        return change(document, None)
    try:
        events = _events(document)
    except BROKEN:
        return document
    return b"[" + b",".join(change(bytes(event), number) for number, event in enumerate(events)) + b"]"


def differences(before: bytes, after: bytes) -> list[Difference]:
    """Field by field, the order of after; the whole if either is no single event."""
    try:
        old, new = _named(before), _named(after)
    except BROKEN:
        return [] if before == after else [Difference(field="*", before=_text(before), after=_text(after))]
    return [
        Difference(field=name, before=old.get(name), after=new.get(name))
        for name in dict.fromkeys([*new, *old])
        if old.get(name) != new.get(name)
    ]


def _named(document: bytes) -> dict[str, str]:
    """Every field by the name that changes it."""
    attributes = _tokens(document)
    data = attributes.pop("data", None)
    found = {f"{ATTRIBUTE}{name}": _text(bytes(token)) for name, token in attributes.items()}
    if data is not None:
        found |= {name: _text(bytes(token)) for name, token in _tokens(data).items()}
    return found


def _changed(base: bytes, change: Correction, dataset: Dataset, slot: Slot, now: datetime) -> bytes:
    names = change.names
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise Permanent(f"{twice} is changed twice", fix="each name once")
    attributes = _object(base)
    data = _data(attributes)
    for name in change.remove:
        _put(attributes, data, name, None)
    for name, text in change.texts.items():
        _put(attributes, data, name, _typed(name, text, dataset))
    for name, text in change.documents.items():
        _put(attributes, data, name, _json(name, text))
    attributes["data"] = msgspec.Raw(msgspec.json.encode(data))
    if change.new_id:
        own = {"id": slot.derived_id(None), "time": now.astimezone(UTC).isoformat().replace("+00:00", "Z")}
        for name, value in own.items():
            if f"{ATTRIBUTE}{name}" not in names:
                attributes[name] = msgspec.Raw(msgspec.json.encode(value))
    return msgspec.json.encode(attributes)


def _put(attributes: _Tokens, data: _Tokens, name: str, value: msgspec.Raw | None) -> None:
    holder, key = (attributes, name.removeprefix(ATTRIBUTE)) if name.startswith(ATTRIBUTE) else (data, name)
    if value is not None:
        holder[key] = value
    elif holder.pop(key, None) is None:
        raise Permanent(f"there is no {name} to remove", fix="drp quarantine show ID")


def _typed(name: str, text: str, dataset: Dataset) -> msgspec.Raw:
    """Text as the contract wants the field: numbers stay text where that is read exactly."""
    column = next((column for column in dataset.columns if column.field == name), None)
    kind = None if column is None else column.type
    is_token = (kind is ColumnType.INTEGER and _INTEGER.fullmatch(text) is not None) or (
        kind is ColumnType.BOOLEAN and text in ("true", "false")
    )
    try:
        return msgspec.Raw(text.encode() if is_token else msgspec.json.encode(text))
    except UnicodeEncodeError as error:
        raise Permanent(f"the value of {name} is not valid Unicode") from error


def _json(name: str, text: str) -> msgspec.Raw:
    try:
        document = text.encode()
        msgspec.json.decode(document)
    except (UnicodeEncodeError, *BROKEN) as error:
        raise Permanent(f"the value of {name} is no JSON", why=str(error)[:200]) from error
    return msgspec.Raw(document)


def _data(attributes: _Tokens) -> _Tokens:
    token = attributes.get("data")
    if token is None and "specversion" not in attributes:
        raise Permanent(
            "the document has no envelope", why="it holds neither specversion nor data", fix="--wrap"
        )
    try:
        return {} if token is None else _tokens(token)
    except BROKEN as error:
        raise Permanent("its data is no JSON object", fix=_FILE) from error


def _object(document: bytes) -> _Tokens:
    try:
        return _tokens(document)
    except BROKEN as error:
        raise Permanent(
            "the event can't be changed field by field", why=str(error)[:200], fix=_FILE
        ) from error


def _bare(document: bytes) -> bytes:
    if "specversion" in _object(document):
        raise Permanent("the document has an envelope: there is nothing to wrap", fix="leave out --wrap")
    return document


def _text(token: bytes) -> str:
    return token.decode("utf-8", "backslashreplace")
