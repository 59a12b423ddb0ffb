"""Publishing quarantined events again: the fix if there is one, else the original if the contract takes it by now.

A redriven event has the identity it had, or one that follows from its slot, so RAW recognises it: redriving
twice, after a crash say, adds nothing. It is a new slot in the ledger; the old one keeps its disposition.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from libs.operations.quarantine import SELECTED, Selection, count_slots, pages, quarantine_subject
from libs.pipeline.refusals import MAX_ENTRY_BYTES, MAX_EVENT_BYTES

__all__ = ["Planned", "Redrive", "redrive"]

ROOM_WITHIN: Final = 600.0
AT_ONCE: Final = 200
BYTES_AT_ONCE: Final = MAX_ENTRY_BYTES
KEPT: Final = 1_000
"""Slots of which is told what became of each; of more they are counted only."""
_LINKS: Final = 64
_NO_TRACE: Final = f"00-{'0' * 32}-{'0' * 16}-00"

_LOCKED: Final = """
-- one row per slot, kept from changing until the transaction ends
SELECT id, dataset, stream, stream_entry_id, stream_position, reason, source_system, event_id, state,
       fixed IS NOT NULL AS is_fixed, coalesce(fixed, original) AS document
FROM raw.quarantine WHERE id = ANY($1::bigint[]) ORDER BY id FOR UPDATE
"""

_TRACES: Final = f"""
-- one row per traceparent: of the batches that the selected slots came in, and of those who published them
SELECT DISTINCT traceparent FROM (
    SELECT unnest(ARRAY[b.traceparent,
        (SELECT p FROM unnest(b.producers) AS p WHERE split_part(p, '-', 2) = q.trace_id LIMIT 1)]) AS traceparent
    FROM (SELECT DISTINCT batch_id, trace_id FROM raw.quarantine WHERE {SELECTED}) q
    JOIN ops.batches b ON b.id = q.batch_id
) AS found WHERE traceparent IS NOT NULL LIMIT {_LINKS}
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
    """What was published, or with dry_run would have been; stay counts those that could not be.

    outcomes counts the selected slots by what became of them. events are the first KEPT that went and the first KEPT
    that did not, in the order they came; more counts the others.
    """

    dry_run: bool
    published: int
    stay: int
    outcomes: dict[str, int]
    traceparent: str | None
    events: list[Planned]
    more: int


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
    slots = await count_slots(postgres, selection)
    traces = await postgres.fetch(_TRACES, *selection.arguments)
    run = _Run(bus, datasets, because, actor)
    tally = _Tally()
    with ExitStack() as stack:
        if not dry_run and slots.count:
            links, about = [row["traceparent"] for row in traces], {"drp.slots": slots.count}
            run.traceparent = stack.enter_context(
                span("redrive", root=True, links=links, attributes=about)
            ).traceparent
        async for page in pages(postgres, selection, until=slots.last, at_once=AT_ONCE):
            for part in _parts(page):
                if not dry_run:
                    await run.wait_for_room(part, limit)
                async with acting(postgres, dry_run=dry_run) as connection:
                    rows = await connection.fetch(_LOCKED, [row["id"] for row in part])
                    tally.take(await run.redrive(connection, rows))
                on_progress(tally.outcomes.total(), slots.count)
    done = tally.told(dry_run=dry_run, traceparent=run.traceparent)
    if not dry_run:
        PRODUCED_EVENTS.labels("redrive").inc(done.published)
    return done


class _Tally:
    """What became of the slots so far: counted all, kept few."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self._events: list[Planned] = []
        self._kept: Counter[bool] = Counter()

    def take(self, planned: Iterable[Planned]) -> None:
        for each in planned:
            self.outcomes[each.outcome] += 1
            if self._kept[each.goes] < KEPT:
                self._kept[each.goes] += 1
                self._events.append(each)

    def told(self, *, dry_run: bool, traceparent: str | None) -> Redrive:
        return Redrive(
            dry_run=dry_run,
            published=self.outcomes["accepted"] + self.outcomes["duplicate"],
            stay=self.outcomes["refused"] + self.outcomes["conflict"],
            outcomes=dict(self.outcomes),
            traceparent=traceparent,
            events=self._events,
            more=self.outcomes.total() - len(self._events),
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


def _parts(page: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Cut so that each part has few bytes, or is one slot."""
    first = size = 0
    for position, row in enumerate(page):
        if position > first and size + row["bytes"] > BYTES_AT_ONCE:
            yield page[first:position]
            first, size = position, 0
        size += row["bytes"]
    yield page[first:]
