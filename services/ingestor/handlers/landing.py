"""From a micro-batch of stream entries to RAW, quarantine and ledger, in one transaction."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Final
from uuid import UUID, uuid4

from libs.adapters import metrics
from libs.adapters.bus import Entry
from libs.adapters.postgres import Connection, Postgres, PostgresRefused
from libs.errors import Permanent
from libs.pipeline.decode import Decoder, LandedRow, Refused
from services.ingestor.domain import (
    Arrived,
    Layout,
    Tally,
    arrived_without_data,
    conflicts_of,
    in_landing_order,
    producers_of,
    slices,
    tallied,
    without,
)
from services.ingestor.handlers.closing import Closing
from services.ingestor.store import Batch, BatchStore, RawStore

__all__ = ["Landing"]

_SLICE: Final = 4 * 1024 * 1024
"""Weight landed in one transaction, about its bytes; while Postgres works on a slice the next is decoded."""


class Landing:
    """Lands the entries of one dataset's stream. Fills one open batch at a time, this replica's own."""

    def __init__(
        self,
        decoder: Decoder,
        *,
        postgres: Postgres,
        raw: RawStore,
        batches: BatchStore,
        closing: Closing,
        consumer: str,
        max_events: int,
    ) -> None:
        self.layout = Layout.of(raw.columns)
        self._decoder = decoder
        self._postgres = postgres
        self._raw = raw
        self._batches = batches
        self._closing = closing
        self._consumer = consumer
        self._max_events = max_events
        self._dataset = raw.dataset.name
        self._open: UUID | None = None
        self._turn = asyncio.Lock()

    async def land(self, entries: Sequence[Entry]) -> None:
        """Give every event of the entries its disposition. When it returns, that is committed.

        Entries that landed before count nothing.

        Raises:
            Transient: Postgres could not do it now; what was committed of it stays.
            Permanent: it will refuse these entries again.
        """
        distinct = list({entry.id: entry for entry in entries}.values())
        parts = list(slices(distinct, max_weight=_SLICE))
        ahead = [self._decoding(part) for part in parts[:1]]
        for following in range(1, len(parts) + 1):
            arrived = await ahead.pop()
            ahead = [self._decoding(part) for part in parts[following : following + 1]]
            try:
                await self.land_arrived(arrived)
            except BaseException:
                for decoding in ahead:
                    decoding.cancel()
                raise

    async def land_arrived(self, arrived: Sequence[Arrived]) -> None:
        """As land, of entries whose slots are known."""
        async with self._turn:
            try:
                await self._commit(arrived)
            except PostgresRefused as refused:
                if not refused.blames_data:
                    raise
                await self._commit(await self._without_unstorable(arrived, refused))

    async def close_overdue(self) -> None:
        """Close the open batch once it is old enough, and those that other replicas left behind."""
        async with self._turn:
            if self._open in await self._closing.close_overdue():
                self._open = None

    async def drain(self) -> None:
        """Close the open batch: this replica adds nothing more to it."""
        async with self._turn:
            if self._open is not None:
                await self._closing.close_one(self._open, reason="drain")
                self._open = None

    async def probe(self, rows: Sequence[LandedRow]) -> None:
        """See whether Postgres takes the rows, and undo it.

        Raises:
            PostgresRefused: it doesn't.
        """
        await self._raw.probe(self._postgres, rows)

    def _decoding(self, entries: Sequence[Entry]) -> asyncio.Future[list[Arrived]]:
        return asyncio.get_running_loop().run_in_executor(None, self._decode, entries)

    def _decode(self, entries: Sequence[Entry]) -> list[Arrived]:
        return [self._arrived(entry) for entry in entries]

    def _arrived(self, entry: Entry) -> Arrived:
        if not entry.data and b"data" not in entry.fields:
            return arrived_without_data(entry.id, entry.traceparent, entry.fields)
        slots = self._decoder.decode(entry.data, entry_id=entry.id)
        return Arrived(entry.id, entry.data, entry.traceparent, slots.rows, slots.refused)

    async def _commit(self, arrived: Sequence[Arrived]) -> None:
        began = time.monotonic()
        landed = await self._try(arrived, self._open)
        if landed is None:
            # Somebody closed our batch: all of it was rolled back. A new one nobody else has seen.
            self._open = None
            landed = await self._try(arrived, None)
        if landed is None:
            raise Permanent("a batch that was just opened is not open")
        metrics.LANDING_SECONDS.labels(self._dataset).observe(time.monotonic() - began)
        self._count(landed)

    async def _try(self, arrived: Sequence[Arrived], batch_id: UUID | None) -> Tally | None:
        """One landing transaction; None if it was rolled back because the batch is not open."""
        chosen = batch_id or uuid4()
        closed: Batch | None = None
        with ExitStack() as spans:
            try:
                async with self._postgres.transaction() as connection:
                    tally, new = await self._write(connection, arrived, chosen)
                    if not new:
                        return tally
                    batch = await self._counted(connection, new, tally, batch_id, chosen)
                    if batch.slots >= self._max_events:
                        closed = await self._closing.close(connection, batch, reason="size", spans=spans)
            except _BatchGoneError:
                return None
        self._open = chosen if closed is None else None
        if closed is not None:
            self._closing.tell(closed, "size")
        return tally

    async def _write(
        self, connection: Connection, arrived: Sequence[Arrived], batch_id: UUID
    ) -> tuple[Tally, list[Arrived]]:
        """RAW, quarantine and the entries' rows; says how many slots went where, of which entries."""
        claimed = await self._raw.claim(connection, arrived, batch_id)
        new = [entry for entry in arrived if entry.id in claimed]
        if not new:
            return Tally(), []
        rows = in_landing_order(new, self.layout)
        landed = await self._raw.land(connection, rows, batch_id)
        leftovers = []
        if landed.accepted < len(rows):
            leftovers = await self._raw.leftovers(connection, len(rows) - landed.accepted)
            await self._raw.settle(connection, leftovers)
        by_id = {entry.id: entry for entry in new}
        refused = [(entry, slot) for entry in new for slot in entry.refused] + [
            (by_id[leftover.entry_id], slot)
            for leftover in leftovers
            if leftover.conflicts
            for slot in conflicts_of(by_id[leftover.entry_id], leftover.conflicts, self.layout)
        ]
        dead = [(entry, slot) for entry in new for slot in entry.dead]
        await self._keep(connection, refused, batch_id, "quarantined")
        await self._keep(connection, dead, batch_id, "dead_lettered")
        tally = tallied(
            new, leftovers, first_event_time=landed.first_event_time, last_event_time=landed.last_event_time
        )
        return tally, new

    async def _keep(
        self,
        connection: Connection,
        slots: Sequence[tuple[Arrived, Refused]],
        batch_id: UUID,
        disposition: str,
    ) -> None:
        if slots:
            await self._raw.quarantine(connection, slots, batch_id, disposition)

    async def _counted(
        self,
        connection: Connection,
        new: Iterable[Arrived],
        tally: Tally,
        batch_id: UUID | None,
        chosen: UUID,
    ) -> Batch:
        producers = producers_of(new, self.layout)
        if batch_id is None:
            return await self._batches.open(connection, chosen, tally, producers, self._consumer)
        batch = await self._batches.add(connection, batch_id, tally, producers)
        if batch is None:
            raise _BatchGoneError
        return batch

    async def _without_unstorable(
        self, arrived: Sequence[Arrived], refusal: PostgresRefused
    ) -> list[Arrived]:
        """The entries, what Postgres refuses of them moved to quarantine; raises refusal if it is nothing."""
        rows = in_landing_order(arrived, self.layout)
        guilty = await self._guilty(rows)
        if not guilty:
            raise refusal
        by_entry: dict[str, dict[int, str]] = {}
        for row, why in guilty:
            by_entry.setdefault(row[self.layout.entry_id], {})[row[self.layout.position]] = why
        return [without(entry, by_entry.get(entry.id, {}), self.layout) for entry in arrived]

    async def _guilty(self, rows: Sequence[LandedRow]) -> list[tuple[LandedRow, str]]:
        """The rows that Postgres refuses, found by halving, with what it said."""
        try:
            await self.probe(rows)
        except PostgresRefused as refused:
            if not refused.blames_data:
                raise
            if len(rows) == 1:
                return [(rows[0], refused.why or refused.what)]
            middle = len(rows) // 2
            return await self._guilty(rows[:middle]) + await self._guilty(rows[middle:])
        return []

    def _count(self, tally: Tally) -> None:
        for disposition, events in (
            ("accepted", tally.accepted),
            ("duplicate", tally.duplicate),
            ("quarantined", tally.quarantined),
            ("dead_lettered", tally.dead_lettered),
        ):
            if events:
                metrics.EVENTS.labels(self._dataset, disposition).inc(events)


class _BatchGoneError(Exception):
    """The batch was closed under the landing: roll back."""
