"""What a slot of a stream entry becomes: a row that can land, or a refusal with its reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

__all__ = [
    "MAX_AGAIN_BYTES",
    "MAX_DEPTH",
    "MAX_ENTRY_BYTES",
    "MAX_EVENTS",
    "MAX_EVENT_BYTES",
    "MAX_IDENTITY_BYTES",
    "ORIGINS",
    "REASONS",
    "LandedRow",
    "Refused",
    "Slots",
]

MAX_EVENT_BYTES: Final = 256 * 1024
MAX_AGAIN_BYTES: Final = MAX_EVENT_BYTES + 4 * 1024
"""Of an event whose drporigin is `replay`. It was accepted once, and what the platform then adds to it (origin,
trace, time, a number spelt otherwise) must not keep it from coming back."""
MAX_ENTRY_BYTES: Final = 8 * 1024 * 1024
MAX_EVENTS: Final = 10_000
"""An entry holds at most so many events: each of its slots costs a row, whatever stands in it."""
MAX_DEPTH: Final = 32
"""Nested arrays and objects of an event; its own object counts as one, the entry's array does not."""
MAX_IDENTITY_BYTES: Final = 1024
"""source and id together: they are a key in Postgres, whose index holds no more than 2,704 bytes."""

ORIGINS: Final = ("live", "backfill", "replay", "redrive")

REASONS: Final = MappingProxyType(
    {
        "undecodable": "the bytes are no JSON",
        "not_an_event": "JSON, but no CloudEvent: an attribute of the envelope is missing or wrong",
        "unreadable": "a line of a file that `drp publish` could not read",
        "field_missing": "a required field of the contract is absent or null",
        "wrong_type": "a field holds another type than the contract says",
        "not_exact": "a number has more digits than its column; it is never rounded",
        "nul_byte": "a string contains U+0000, which Postgres cannot store",
        "bad_utf8": "a string is not valid Unicode",
        "too_large": f"an event above {MAX_EVENT_BYTES} bytes ({MAX_AGAIN_BYTES} for a replayed one), "
        f"or an entry above {MAX_ENTRY_BYTES} bytes or {MAX_EVENTS} events",
        "too_deep": f"nested more than {MAX_DEPTH} deep",
        "unknown_version": "a specversion or dataschema that this contract is not",
        "conflict": "an event with this source and id landed before, with another payload",
        "unstorable": "Postgres cannot store it although the contract allows it",
        "undeliverable": "handling it kept failing or killing the ingestor; dead-lettered",
    }
)
"""Every reason code that quarantine knows, with its meaning. conflict and undeliverable are decided later."""

LandedRow = tuple[Any, ...]
"""A row for COPY, in the order of raw_copy_columns(dataset); raw_payload and extensions are JSON as str."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A slot that cannot land. original is its exact bytes; detail says why without quoting the payload; the
    identity is what could be read of it, free of U+0000."""

    position: int
    reason: str
    detail: str
    original: bytes
    field: str | None = None
    source_system: str | None = None
    event_id: str | None = None
    dataschema: str | None = None
    traceparent: str | None = None


@dataclass(slots=True)
class Slots:
    """An entry's slots, at least one: count = len(rows) + len(refused). Positions count from 0."""

    count: int
    rows: list[LandedRow] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
