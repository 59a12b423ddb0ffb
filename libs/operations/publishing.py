"""The way from rows to a stream that files, stdin and a pulled address share.

An event's id is uuid5(NAMESPACE_URL, source + row), the row as JSON with its fields in the order of their
names: a row published twice under one source adds nothing. Values are published as they are written; the
contract judges them, not this.
"""

from __future__ import annotations

import asyncio
import itertools
import time as clock
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from libs.adapters.bus import Bus
from libs.adapters.files import Chunk, Form, Layout, Unreadable, row_id
from libs.adapters.metrics import PRODUCED_EVENTS
from libs.adapters.telemetry import span
from libs.datasets import ColumnType, Dataset
from libs.errors import Permanent

__all__ = [
    "LIMIT",
    "ROOM_WITHIN",
    "Entries",
    "Progress",
    "Published",
    "keep_pace",
    "layout_of",
    "publish_rows",
]

LIMIT: Final = 1_000
"""Entries that may wait in the stream before publishing waits."""
ROOM_WITHIN: Final = 600.0
"""Seconds that publishing waits for room."""
PER_ENTRY: Final = 500
ENTRY_BYTES: Final = 1024 * 1024
PER_TRIP: Final = 20
ORIGIN: Final = "backfill"

Progress = Callable[[int], None]
"""Told how many events the stream has so far."""
Entries = Callable[[Sequence[str]], None]
"""Told the ids of the stream's entries, as it acknowledges them."""


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """events: how many the stream has acknowledged; unreadable: how many of them are lines that were no rows.
    entries: of the stream, up to PER_ENTRY events each. source: the events'; None if each has kept its own.
    too_large: archived events that are larger than one published again may be; they were not published."""

    source: str | None
    events: int
    unreadable: int
    entries: int
    seconds: float
    too_large: int = 0


async def publish_rows(
    bus: Bus,
    dataset: Dataset,
    chunks: Iterator[Chunk],
    *,
    source: str,
    time: datetime | None,
    rate: float | None,
    limit: int,
    kind: str,
    attributes: Mapping[str, str],
    on_progress: Progress | None,
    on_entries: Entries | None = None,
) -> Published:
    """Publish what a layout has made of rows, in a trace of its own.

    Args:
        kind: `file` or `url`: what the rows come out of.
        attributes: what the span of the publishing shall tell, beside the dataset.

    Raises:
        Permanent: the rows can't be read (any further); a first part may be published.
        Transient: Redis is away, or the stream stays full. Publishing again adds nothing twice.
    """
    envelope = Envelope.of(dataset, source, time)
    began = clock.monotonic()
    events = unreadable = entries = 0
    told = {"drp.dataset": dataset.name, **attributes}
    with span("publish", root=True, attributes=told) as this:
        async with aclosing(_read_ahead(chunks)) as ahead:
            async for chunk in ahead:
                for documents in _trips(envelope.documents(chunk)):
                    await bus.wait_for_room(dataset.stream, limit=limit, timeout=ROOM_WITHIN)
                    entry_ids = await bus.publish(
                        dataset.stream, [one for one, _ in documents], traceparent=this.traceparent
                    )
                    events += sum(count for _, count in documents)
                    entries += len(entry_ids)
                    if on_progress is not None:
                        on_progress(events)
                    if on_entries is not None:
                        on_entries(entry_ids)
                    await keep_pace(rate, events, began)
                unreadable += len(chunk.unreadable)
        this.set({"drp.events": events, "drp.unreadable": unreadable})
    PRODUCED_EVENTS.labels(kind).inc(events)
    return Published(
        source=source,
        events=events,
        unreadable=unreadable,
        entries=entries,
        seconds=clock.monotonic() - began,
    )


def layout_of(dataset: Dataset, mapping: Mapping[str, str], source: str, time: datetime | None) -> Layout:
    """What a row becomes.

    Args:
        mapping: the row's column for a field of the contract, where the names differ.
        source: the events'.
        time: the events' time where a row has none of its own (the contract's event time).

    Raises:
        Permanent: the mapping makes no sense, or no time is to be had.
    """
    _check_fields(dataset, mapping)
    moment = None if dataset.event_time is None else dataset.event_time.field
    if moment is None and time is None:
        raise Permanent(
            f"the contract of {dataset.name} names no event time, so a row does not say when it happened",
            fix="--time 2026-01-01T00:00:00Z",
        )
    forms: dict[ColumnType, Form] = {ColumnType.INTEGER: "integer", ColumnType.BOOLEAN: "boolean"}
    return Layout(
        name=source,
        fields={column: field for field, column in mapping.items()},
        forms={column.field: forms[column.type] for column in dataset.columns if column.type in forms},
        time=moment,
    )


async def _read_ahead(chunks: Iterator[Chunk]) -> AsyncGenerator[Chunk, None]:
    """The chunks, the next one being read in a thread while this one is published."""
    reading = asyncio.create_task(asyncio.to_thread(next, chunks, None))
    try:
        while (chunk := await reading) is not None:
            reading = asyncio.create_task(asyncio.to_thread(next, chunks, None))
            yield chunk
    finally:
        await asyncio.wait({reading})
        if not reading.cancelled():
            reading.exception()  # seen, whoever failed first


@dataclass(frozen=True)
class Envelope:
    """What stands around each row's JSON."""

    source: str
    before_id: str
    between: str
    time: str | None

    @classmethod
    def of(cls, dataset: Dataset, source: str, time: datetime | None) -> Envelope:
        kind = msgspec.json.encode(f"{dataset.name}.imported").decode()
        return cls(
            source=source,
            before_id='{"specversion":"1.0","id":"',
            between=f'","source":{msgspec.json.encode(source).decode()},"type":{kind},'
            f'"dataschema":"{dataset.dataschema}","drporigin":"{ORIGIN}",',
            time=None if time is None else _text(time),
        )

    def documents(self, chunk: Chunk) -> Iterator[tuple[bytes, int]]:
        """Entries, as JSON arrays, and how many events each holds."""
        events = [
            f'{self.before_id}{event_id}{self.between}{self._time(moment)}"data":{data}}}'
            for event_id, moment, data in zip(chunk.ids, chunk.times, chunk.data, strict=True)
        ]
        events += [self._unreadable(line) for line in chunk.unreadable]
        for first in range(0, len(events), PER_ENTRY):
            yield from _packed(events[first : first + PER_ENTRY])

    def _time(self, moment: str | None) -> str:
        chosen = moment or self.time
        return "" if chosen is None else f'"time":"{chosen}",'

    def _unreadable(self, line: Unreadable) -> str:
        """The event that stands for a line that is no row: the decoder refuses it, quarantine keeps it."""
        data = {"line": line.line, "text": line.text, "error": line.error}
        written = msgspec.json.encode(data).decode()
        why = msgspec.json.encode(f"line {line.line}: {line.error}").decode()
        event_id = row_id(self.source + written)
        return f'{self.before_id}{event_id}{self.between}"drpunreadable":{why},"data":{written}}}'


def _packed(events: Sequence[str]) -> Iterator[tuple[bytes, int]]:
    """One entry if it is small enough, else halves; an event too large for any entry goes alone."""
    document = f"[{','.join(events)}]".encode()
    if len(document) <= ENTRY_BYTES or len(events) == 1:
        yield document, len(events)
        return
    middle = len(events) // 2
    yield from _packed(events[:middle])
    yield from _packed(events[middle:])


def _trips(documents: Iterator[tuple[bytes, int]]) -> Iterator[list[tuple[bytes, int]]]:
    """As many entries as one round trip takes."""
    while trip := list(itertools.islice(documents, PER_TRIP)):
        yield trip


def _check_fields(dataset: Dataset, mapping: Mapping[str, str]) -> None:
    known = {column.field for column in dataset.columns}
    if unknown := sorted(mapping.keys() - known):
        fix = f"one of {', '.join(sorted(known))}"
        raise Permanent(f"{dataset.name} has no field {unknown[0]!r} to map to", fix=fix)
    if len(set(mapping.values())) < len(mapping):
        raise Permanent("two fields are mapped to one column", fix="name a column of its own for each")


async def keep_pace(rate: float | None, events: int, began: float) -> None:
    """Wait until so many events are due. rate is in events a second, began of time.monotonic()."""
    if rate is not None and (early := began + events / rate - clock.monotonic()) > 0:
        await asyncio.sleep(early)


def _text(moment: datetime) -> str:
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat().replace("+00:00", "Z")
