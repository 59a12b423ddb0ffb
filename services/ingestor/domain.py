"""What the ingestor knows without asking anybody: which slot got which disposition, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain
from operator import itemgetter
from typing import Final, Protocol, TypeVar

import msgspec

from libs.pipeline.jsontext import elements
from libs.pipeline.refusals import MAX_ENTRY_BYTES, MAX_EVENTS, LandedRow, Refused

__all__ = [
    "CONFLICT",
    "MAX_PRODUCERS",
    "NOT_AN_EVENT",
    "UNDELIVERABLE",
    "UNSTORABLE",
    "Arrived",
    "Layout",
    "Leftover",
    "Tally",
    "WithData",
    "arrived_without_data",
    "conflicts_of",
    "dead_letter",
    "in_landing_order",
    "original_of",
    "producers_of",
    "slices",
    "split",
    "storable_text",
    "tallied",
    "without",
]

CONFLICT: Final = "conflict"
NOT_AN_EVENT: Final = "not_an_event"
UNSTORABLE: Final = "unstorable"
UNDELIVERABLE: Final = "undeliverable"

MAX_PRODUCERS: Final = 64
_LONGEST_TEXT: Final = 1_000
_SLOT_WEIGHT: Final = 24


class WithData(Protocol):
    @property
    def data(self) -> bytes: ...


T = TypeVar("T", bound=WithData)

_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Layout:
    """Where in a landed row the values stand that the ingestor itself looks at."""

    source: int
    event_id: int
    traceparent: int
    dataschema: int
    entry_id: int
    position: int

    @classmethod
    def of(cls, columns: Sequence[str]) -> Layout:
        at = columns.index
        return cls(
            at("source_system"),
            at("event_id"),
            at("traceparent"),
            at("dataschema"),
            at("stream_entry_id"),
            at("stream_position"),
        )


@dataclass(frozen=True, slots=True)
class Arrived:
    """One stream entry whose slots are known: each is in exactly one of rows, refused and dead."""

    id: str
    data: bytes
    traceparent: str | None
    rows: Sequence[LandedRow]
    refused: Sequence[Refused] = ()
    dead: Sequence[Refused] = ()

    @property
    def events(self) -> int:
        return len(self.rows) + len(self.refused) + len(self.dead)


@dataclass(frozen=True, slots=True)
class Leftover:
    """What of an entry's rows RAW had before: how many as duplicates, and at which positions in conflict."""

    entry_id: str
    duplicates: int
    conflicts: Sequence[int]


@dataclass(frozen=True, slots=True)
class Tally:
    """Slots of one landing by disposition. conflicts are among the quarantined."""

    accepted: int = 0
    duplicate: int = 0
    quarantined: int = 0
    conflicts: int = 0
    dead_lettered: int = 0
    first_event_time: datetime | None = field(default=None, compare=False)
    last_event_time: datetime | None = field(default=None, compare=False)

    @property
    def received(self) -> int:
        return self.accepted + self.duplicate + self.quarantined


def tallied(
    arrived: Sequence[Arrived],
    leftovers: Sequence[Leftover],
    *,
    first_event_time: datetime | None,
    last_event_time: datetime | None,
) -> Tally:
    duplicate = sum(leftover.duplicates for leftover in leftovers)
    conflicts = sum(len(leftover.conflicts) for leftover in leftovers)
    return Tally(
        accepted=sum(len(entry.rows) for entry in arrived) - duplicate - conflicts,
        duplicate=duplicate,
        quarantined=sum(len(entry.refused) for entry in arrived) + conflicts,
        conflicts=conflicts,
        dead_lettered=sum(len(entry.dead) for entry in arrived),
        first_event_time=first_event_time,
        last_event_time=last_event_time,
    )


def in_landing_order(arrived: Iterable[Arrived], layout: Layout) -> list[LandedRow]:
    """All rows in the one order in which every replica takes identities, so that no two wait for each other.

    Of the same identity the earliest in the stream comes first, and so is the one accepted.
    """
    rows = list(chain.from_iterable(entry.rows for entry in arrived))
    # twice by one text each, stably: half the time of once by both
    rows.sort(key=itemgetter(layout.event_id))
    rows.sort(key=itemgetter(layout.source))
    return rows


def producers_of(arrived: Iterable[Arrived], layout: Layout) -> list[str]:
    """The traceparents of up to MAX_PRODUCERS producers' spans: their events', their entry's."""
    candidates = (
        traceparent
        for entry in arrived
        for traceparent in (*(row[layout.traceparent] for row in entry.rows), entry.traceparent)
        if traceparent
    )
    found: dict[str, None] = {}
    for traceparent in candidates:
        found[traceparent] = None
        if len(found) == MAX_PRODUCERS:
            break
    return list(found)


def split(data: bytes) -> list[bytes] | None:
    """The events of an entry as the bytes they were sent as; None if the entry is a single slot."""
    if len(data) > MAX_ENTRY_BYTES or not data.lstrip(b" \t\r\n").startswith(b"["):
        return None
    try:
        events: list[bytes] | None = [bytes(event) for event in _ARRAY.decode(data)]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        events = elements(data, MAX_EVENTS)
    return events if events and len(events) <= MAX_EVENTS else None


def original_of(entry: Arrived, position: int) -> bytes:
    """The bytes of the event at position."""
    events = split(entry.data)
    return entry.data if events is None else events[position]


def dead_letter(position: int, why: str, original: bytes) -> Refused:
    """A slot that is given up without having been read, since reading it may be what kills."""
    return Refused(position, UNDELIVERABLE, why, original)


def conflicts_of(entry: Arrived, positions: Sequence[int], layout: Layout) -> list[Refused]:
    """The rows at positions, whose identity RAW holds with another payload, as slots for quarantine."""
    return _refused_rows(
        entry,
        dict.fromkeys(positions, "RAW holds another payload under this source and id"),
        layout,
        reason=CONFLICT,
    )


def without(entry: Arrived, unstorable: dict[int, str], layout: Layout) -> Arrived:
    """The entry with the rows at these positions refused, each with the reason Postgres gave."""
    if not unstorable:
        return entry
    return replace(
        entry,
        rows=[row for row in entry.rows if row[layout.position] not in unstorable],
        refused=[*entry.refused, *_refused_rows(entry, unstorable, layout, reason=UNSTORABLE)],
    )


def arrived_without_data(entry_id: str, traceparent: str | None, fields: Mapping[bytes, bytes]) -> Arrived:
    """An entry that has no field `data`: one slot, its fields kept as JSON."""
    shown = {
        name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, value in fields.items()
    }
    names = ", ".join(shown) or "none"
    refused = Refused(
        position=0,
        reason=NOT_AN_EVENT,
        detail=f"the entry has no field `data` (its fields: {names})",
        original=msgspec.json.encode(shown),
        field="data",
    )
    return Arrived(entry_id, b"", traceparent, (), (refused,))


def _refused_rows(entry: Arrived, details: dict[int, str], layout: Layout, *, reason: str) -> list[Refused]:
    events = split(entry.data)
    return [
        Refused(
            position=row[layout.position],
            reason=reason,
            detail=details[row[layout.position]],
            source_system=row[layout.source],
            event_id=row[layout.event_id],
            dataschema=row[layout.dataschema],
            traceparent=row[layout.traceparent],
            original=entry.data if events is None else events[row[layout.position]],
        )
        for row in entry.rows
        if row[layout.position] in details
    ]


def storable_text(text: str | None, *, longest: int = _LONGEST_TEXT) -> str | None:
    """text as Postgres and its indexes can take it: no NUL, no lone surrogate, not too long."""
    if text is None:
        return None
    return text[:longest].replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def slices(entries: Sequence[T], *, max_weight: int) -> Iterator[Sequence[T]]:
    """The entries in order, cut so that each part weighs at most max_weight, or is one entry.

    An entry weighs its bytes, or what its slots will, should it hold very many small ones.
    """
    first = total = 0
    for position, entry in enumerate(entries):
        weight = max(len(entry.data), _SLOT_WEIGHT * min(entry.data.count(b","), MAX_EVENTS))
        if total and total + weight > max_weight:
            yield entries[first:position]
            first, total = position, 0
        total += weight
    if first < len(entries):
        yield entries[first:]
