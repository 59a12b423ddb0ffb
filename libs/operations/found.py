"""What is found of an event: values only, as the command line and the console show them."""

from __future__ import annotations

import uuid
from datetime import datetime

import msgspec

__all__ = ["Found", "FoundBatch", "Life", "Refusal"]


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """One accepted event, from its producer to its readers.

    published_at: when its stream entry was written, as the entry's id says; landed_at: when the entry landed.
    producer_trace: of whoever published it, if the event says so; trace: its batch's, from the closing on.
    place: `open` (its batch takes more), `waiting` (readers don't see the batch yet), `held`, `superseded` (by the
    event named), `staged`, `rejected` (by the rules named) or `applied` (one of the two: the generation's file is
    not on this machine). generation: the first that carried it to readers.
    """

    dataset: str
    key: str
    source: str
    event_id: str
    type: str | None
    event_time: datetime
    origin: str
    producer_trace: str | None
    stream: str
    entry: str
    position: int
    published_at: datetime | None
    landed_at: datetime | None
    raw_id: int
    ingested_at: datetime
    batch: uuid.UUID
    batch_status: str
    batch_closed_at: datetime | None
    trace: str | None
    place: str
    rules: list[str]
    superseded_by: str | None
    generation: int | None
    generation_published_at: datetime | None
    object: str | None
    archived_at: datetime | None


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A slot that RAW could not have: quarantined, or dead-lettered. number is what `drp quarantine` knows it by."""

    number: int
    dataset: str
    disposition: str
    reason: str
    detail: str
    field: str | None
    state: str
    source: str | None
    event_id: str | None
    producer_trace: str | None
    stream: str
    entry: str
    position: int
    published_at: datetime | None
    landed_at: datetime
    batch: uuid.UUID
    batch_status: str
    batch_closed_at: datetime | None
    trace: str | None
    object: str | None
    archived_at: datetime | None


class FoundBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch that was named, or that a trace leads to: received = accepted + duplicate + quarantined."""

    id: uuid.UUID
    dataset: str
    status: str
    received: int
    accepted: int
    duplicate: int
    quarantined: int
    conflicts: int
    dead_lettered: int
    opened_at: datetime
    closed_at: datetime | None
    generation: int | None
    last_generation: int | None
    verdict: str | None
    archived_at: datetime | None
    trace_id: str | None
    objects: list[str] | None


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What the text names, each list empty if nothing of its kind.

    more: there are more events, or refused slots, than were read. searched: so many of the newest refused slots were
    searched for the text as a key, and older ones were not; None: all were.
    """

    text: str
    events: list[Life]
    refused: list[Refusal]
    batches: list[FoundBatch]
    more: bool
    searched: int | None

    def __bool__(self) -> bool:
        return bool(self.events or self.refused or self.batches)
