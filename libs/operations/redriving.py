"""Publishing quarantined events again: the fix if there is one, else the original if the contract takes it by now.

A redriven event has the identity it had, or one that follows from its slot, so RAW recognises it: redriving
twice, after a crash say, adds nothing. It is a new slot in the ledger; the old one keeps its disposition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC
from typing import Final

import msgspec

from libs.adapters.bus import Bus
from libs.adapters.metrics import PRODUCED_EVENTS
from libs.adapters.postgres import Connection, Postgres, Row
from libs.adapters.telemetry import span, trace_id_of
from libs.datasets import Dataset
from libs.operations.actions import acting, record_actions
from libs.operations.corrections import each_event
from libs.operations.prospects import Prospect, Prospector
from libs.operations.quarantine import Selection, chosen_slots, quarantine_subject
from libs.pipeline.refusals import MAX_ENTRY_BYTES, MAX_EVENT_BYTES

__all__ = ["Planned", "Redrive", "redrive"]

ROOM_WITHIN: Final = 600.0
AT_ONCE: Final = 200
BYTES_AT_ONCE: Final = MAX_ENTRY_BYTES
_LINKS: Final = 64
_NO_TRACE: Final = f"00-{'0' * 32}-{'0' * 16}-00"

_LOCKED: Final = """
-- one row per slot, kept from changing until the transaction ends
SELECT id, dataset, stream, stream_entry_id, stream_position, reason, source_system, event_id, state,
       fixed IS NOT NULL AS is_fixed, coalesce(fixed, original) AS document
FROM raw.quarantine WHERE id = ANY($1::bigint[]) ORDER BY id FOR UPDATE
"""

_TRACES: Final = """
-- one row per traceparent: of the batches that the slots came in, and of those who published them
SELECT DISTINCT traceparent FROM (
    SELECT unnest(ARRAY[b.traceparent,
        (SELECT p FROM unnest(b.producers) AS p WHERE split_part(p, '-', 2) = q.trace_id LIMIT 1)]) AS traceparent
    FROM raw.quarantine q JOIN ops.batches b ON b.id = q.batch_id WHERE q.id = ANY($1::bigint[])
) AS found WHERE traceparent IS NOT NULL LIMIT $2
"""

_REDRIVEN: Final = """
UPDATE raw.quarantine q SET state = 'redriven', settled_at = clock_timestamp(), redriven_entry = r.entry
FROM unnest($1::bigint[], $2::text[]) AS r (id, entry) WHERE q.id = r.id
"""


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one selected slot.

    outcome: `accepted` or `duplicate`, which are published; `refused` or `conflict`, which stay; or the state it
    was in. entry is of the stream, once published.
    """

    id: int
    dataset: str
    reason: str
    event_id: str | None
    fixed: bool
    outcome: str
    detail: str | None
    entry: str | None = None

    @property
    def goes(self) -> bool:
        return self.outcome in ("accepted", "duplicate")


class Redrive(msgspec.Struct, frozen=True, kw_only=True):
    """What was published, or with dry_run would have been; stay counts those that could not be."""

    dry_run: bool
    published: int
    stay: int
    traceparent: str | None
    events: list[Planned]


async def redrive(
    postgres: Postgres,
    bus: Bus,
    datasets: Mapping[str, Dataset],
    selection: Selection,
    *,
    because: str,
    actor: str,
    dry_run: bool = False,
    limit: int = 1_000,
    on_progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Redrive:
    """Publish the selected slots' events again, each as an entry of its own; what would be refused stays.

    Each group of them is published, then marked, in one transaction. A crash in between leaves them open: the
    next redrive publishes them once more, and RAW counts duplicates.

    Args:
        dry_run: the same, with nothing published and everything rolled back.
        limit: entries that may wait in the stream; beyond it this waits, ten minutes at most.
        on_progress: told how many slots are done, of how many.

    Raises:
        Permanent: a slot that was named is not there. Nothing was published.
        Transient: a server is away, or the stream stays full. Redriving again adds nothing twice.
    """
    async with postgres.connection() as connection:
        chosen = await chosen_slots(connection, selection)
        traces = await connection.fetch(_TRACES, [row["id"] for row in chosen], _LINKS)
    run = _Run(bus, datasets, because, actor)
    events: list[Planned] = []
    with ExitStack() as stack:
        if not dry_run and chosen:
            links, about = [row["traceparent"] for row in traces], {"drp.slots": len(chosen)}
            run.traceparent = stack.enter_context(
                span("redrive", root=True, links=links, attributes=about)
            ).traceparent
        for part in _parts(chosen):
            if not dry_run:
                await run.wait_for_room(part, limit)
            async with acting(postgres, dry_run=dry_run) as connection:
                rows = await connection.fetch(_LOCKED, [row["id"] for row in part])
                events += await run.redrive(connection, rows)
            on_progress(len(events), len(chosen))
    published = sum(event.goes for event in events)
    if not dry_run:
        PRODUCED_EVENTS.labels("redrive").inc(published)
    return Redrive(
        dry_run=dry_run,
        published=published,
        stay=sum(event.outcome in ("refused", "conflict") for event in events),
        traceparent=run.traceparent,
        events=events,
    )


class _Run:
    """A redrive under way. Without a traceparent it is a plan."""

    def __init__(self, bus: Bus, datasets: Mapping[str, Dataset], because: str, actor: str) -> None:
        self.traceparent: str | None = None
        self._bus = bus
        self._datasets = datasets
        self._because = because
        self._actor = actor

    async def wait_for_room(self, rows: Sequence[Row], limit: int) -> None:
        for name in {row["dataset"] for row in rows} & self._datasets.keys():
            await self._bus.wait_for_room(self._datasets[name].stream, limit=limit, timeout=ROOM_WITHIN)

    async def redrive(self, connection: Connection, rows: Sequence[Row]) -> list[Planned]:
        """Publish what would land and mark it, in the caller's transaction."""
        events: list[Planned] = []
        for name in dict.fromkeys(row["dataset"] for row in rows):
            own = [row for row in rows if row["dataset"] == name]
            if name in self._datasets:
                events += await self._redrive_dataset(connection, self._datasets[name], own)
            else:
                events += [_planned(row, "refused", f"there is no dataset {name} any more") for row in own]
        return events

    async def _redrive_dataset(
        self, connection: Connection, dataset: Dataset, rows: Sequence[Row]
    ) -> list[Planned]:
        is_open = [row for row in rows if row["state"] == "open"]
        asked = [(row["stream_entry_id"], row["document"]) for row in is_open]
        prospects = await Prospector(dataset).ask(connection, asked)
        planned = {row["id"]: _planned(row, row["state"], "take it up again first") for row in rows}
        documents: dict[int, bytes] = {}
        for row, prospect in zip(is_open, prospects, strict=True):
            outcome, detail = prospect.outcome, prospect.detail
            if outcome in ("accepted", "duplicate"):
                document = _for_stream(row["document"], prospect, self.traceparent or _NO_TRACE)
                documents[row["id"]] = document
                if (too_large := _too_large(document)) is not None:
                    outcome, detail = "refused", too_large
                    del documents[row["id"]]
            planned[row["id"]] = _planned(row, outcome, detail)
        if self.traceparent is None or not documents:
            return list(planned.values())
        entries = await self._bus.publish(
            dataset.stream, list(documents.values()), traceparent=self.traceparent
        )
        published = dict(zip(documents, entries, strict=True))
        await self._mark(connection, published)
        return [
            msgspec.structs.replace(each, entry=published.get(number)) for number, each in planned.items()
        ]

    async def _mark(self, connection: Connection, published: Mapping[int, str]) -> None:
        await connection.execute(_REDRIVEN, list(published), list(published.values()))
        trace_id = trace_id_of(self.traceparent)
        await record_actions(
            connection,
            actor=self._actor,
            action="quarantine.redrive",
            subjects={
                quarantine_subject(number): {"entry": entry, "trace_id": trace_id}
                for number, entry in published.items()
            },
            reason=self._because,
        )


def _planned(row: Row, outcome: str, detail: str | None) -> Planned:
    return Planned(
        id=row["id"],
        dataset=row["dataset"],
        reason=row["reason"],
        event_id=row["event_id"],
        fixed=row["is_fixed"],
        outcome=outcome,
        detail=detail,
    )


def _for_stream(document: bytes, prospect: Prospect, traceparent: str) -> bytes:
    """The document as it is published: where it comes from, whose trace it is, and when it happened.

    An event without a time of its own keeps that of its first entry: it must not win against what came since.
    """

    def told(event: bytes, number: int | None) -> bytes:
        attributes = msgspec.json.decode(event, type=dict[str, msgspec.Raw])
        if bytes(attributes.get("time", b"null")) == b"null":
            moment = prospect.times[number or 0].astimezone(UTC).isoformat().replace("+00:00", "Z")
            attributes["time"] = msgspec.Raw(msgspec.json.encode(moment))
        attributes["drporigin"] = msgspec.Raw(b'"redrive"')
        attributes["traceparent"] = msgspec.Raw(msgspec.json.encode(traceparent))
        written = msgspec.json.encode(attributes)
        return written if len(written) <= MAX_EVENT_BYTES else msgspec.json.format(written, indent=-1)

    return each_event(document, told)


def _too_large(document: bytes) -> str | None:
    """Why the document is too large now that it carries its trace; None if it is not."""
    sizes: list[int] = []

    def measure(event: bytes, _: int | None) -> bytes:
        sizes.append(len(event))
        return event

    each_event(document, measure)
    if max(sizes) > MAX_EVENT_BYTES:
        return f"too_large: {max(sizes)} bytes with its trace, an event has at most {MAX_EVENT_BYTES}"
    if len(document) > MAX_ENTRY_BYTES:
        return f"too_large: {len(document)} bytes with its trace, an entry has at most {MAX_ENTRY_BYTES}"
    return None


def _parts(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Cut so that each part has few slots and few bytes, or is one slot."""
    first = size = 0
    for position, row in enumerate(rows):
        if position > first and (position - first >= AT_ONCE or size + row["bytes"] > BYTES_AT_ONCE):
            yield rows[first:position]
            first, size = position, 0
        size += row["bytes"]
    if first < len(rows):
        yield rows[first:]
