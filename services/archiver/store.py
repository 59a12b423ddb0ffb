"""The archiver's SQL: what is not archived yet, the rows that go into documents, and what was stored."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from libs.adapters.postgres import Connection, Postgres
from libs.contracts.events import (
    ArchiveStored,
    BatchClosed,
    StepFailed,
    WarehousePublished,
    batch_subject,
    derived_id,
    generation_subject,
)
from libs.datasets import Dataset
from libs.pipeline.archive import accepted_lines, quarantined_lines
from libs.pipeline.outbox import announce, remember

__all__ = ["CONSUMER", "ArchiveStore", "Batch", "Generation", "Sink", "StoredObject"]

CONSUMER: Final = "archiver"

_TURN: Final = 60.0
"""Seconds after which a paused archiver's work is another's. Put twice, it is stored once."""

Sink = Callable[[bytes], Coroutine[Any, Any, None]]

_BATCHES: Final = """
-- one row per closed batch that isn't archived, oldest first
SELECT id, dataset, opened_at, closed_at, first_event_time, last_event_time, traceparent,
       received, accepted, duplicate, quarantined, conflicts, dead_lettered
FROM ops.batches
WHERE state = 'closed' AND archived_at IS NULL AND dataset = ANY($1::text[]) AND NOT id = ANY($2::uuid[])
ORDER BY closed_at, id LIMIT $3
"""

_GENERATIONS: Final = """
-- one row per dataset: of the generations to be archived the one that readers see, else the newest
SELECT DISTINCT ON (g.dataset)
       g.number, g.dataset, g.file, g.sha256, g.published_at, g.watermark, g.traceparent, g.cause,
       g.number IS NOT DISTINCT FROM p.generation AS current
FROM ops.generations g
LEFT JOIN ops.warehouse_pointer p ON p.dataset = g.dataset
WHERE g.archive_state = 'pending' AND g.published_at IS NOT NULL
  AND g.dataset = ANY($1::text[]) AND NOT g.number = ANY($2::bigint[])
ORDER BY g.dataset, g.number IS NOT DISTINCT FROM p.generation DESC, g.number DESC
"""

_BATCH_WAITS: Final = """
SELECT EXISTS (SELECT FROM ops.batches WHERE id = $1 AND archived_at IS NULL)
"""

_GENERATION_WAITS: Final = """
SELECT EXISTS (SELECT FROM ops.generations WHERE number = $1 AND archive_state = 'pending')
"""

_SUPERSEDE: Final = """
-- one row per generation that waits in vain: another of its dataset is archived in its place
UPDATE ops.generations SET archive_state = 'superseded'
WHERE dataset = $1 AND archive_state = 'pending' AND published_at <= $2 AND number <> $3
RETURNING number
"""

_TURN_OFF: Final = """
-- one row per generation that is not to be archived
UPDATE ops.generations SET archive_state = 'off'
WHERE archive_state = 'pending' AND published_at IS NOT NULL
RETURNING number
"""

_OBJECTS: Final = """
INSERT INTO ops.archive_objects (key, dataset, kind, batch_id, generation, bytes, records, sha256)
SELECT key, $1, kind, $2, $3, bytes, records, sha256
FROM unnest($4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::text[])
    AS o (key, kind, bytes, records, sha256)
ON CONFLICT (key) DO UPDATE SET bytes = EXCLUDED.bytes, records = EXCLUDED.records, sha256 = EXCLUDED.sha256
"""

# Neither character can stand in JSON, so nothing is ever quoted: what comes out are the lines themselves.
_QUOTE: Final = "\x01"
_DELIMITER: Final = "\x02"


@dataclass(frozen=True, slots=True)
class Batch:
    """A closed batch that isn't archived. Counts as in the ledger."""

    id: uuid.UUID
    dataset: str
    opened_at: datetime
    closed_at: datetime
    first_event_time: datetime | None
    last_event_time: datetime | None
    traceparent: str | None
    received: int
    accepted: int
    duplicate: int
    quarantined: int
    conflicts: int
    dead_lettered: int

    @property
    def refused(self) -> int:
        """Slots that stand in quarantine."""
        return self.quarantined + self.dead_lettered


@dataclass(frozen=True, slots=True)
class Generation:
    """A published generation that isn't archived. current: it is what readers see."""

    number: int
    dataset: str
    file: str
    sha256: str
    published_at: datetime
    watermark: datetime | None
    traceparent: str | None
    cause: uuid.UUID
    current: bool


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A row of ops.archive_objects."""

    key: str
    kind: str
    bytes: int
    records: int
    sha256: str


class ArchiveStore:
    def __init__(self, postgres: Postgres, datasets: Sequence[str]) -> None:
        self._postgres = postgres
        self._datasets = list(datasets)

    async def batches(self, *, without: Sequence[uuid.UUID] = (), limit: int = 20) -> list[Batch]:
        rows = await self._postgres.fetch(_BATCHES, self._datasets, list(without), limit)
        return [Batch(**dict(row)) for row in rows]

    async def generations(self, *, without: Sequence[int] = ()) -> list[Generation]:
        """At most one a dataset."""
        rows = await self._postgres.fetch(_GENERATIONS, self._datasets, list(without))
        return [Generation(**dict(row)) for row in rows]

    @asynccontextmanager
    async def turn(self, work: Batch | Generation) -> AsyncIterator[bool]:
        """Whether it still waits and is in no other archiver's hands; none takes it up until the block ends."""
        key, waits = (work.id, _BATCH_WAITS) if isinstance(work, Batch) else (work.number, _GENERATION_WAITS)
        async with self._postgres.turn(f"archive {key}", at_most=_TURN) as ours:
            yield ours and await self._postgres.fetchval(waits, key)

    async def turn_off(self) -> list[int]:
        """Say of every generation that waits that it will not be archived."""
        return [row["number"] for row in await self._postgres.fetch(_TURN_OFF)]

    async def accepted(self, dataset: Dataset, batch_id: uuid.UUID, sink: Sink) -> None:
        """Hand the lines of the batch's document to sink, in pieces; the next waits until one is taken."""
        await self._copy(accepted_lines(dataset, "batch_id = $1"), batch_id, sink)

    async def refused(self, batch_id: uuid.UUID, sink: Sink) -> None:
        """The same of the batch's quarantine document."""
        await self._copy(quarantined_lines("batch_id = $1"), batch_id, sink)

    async def _copy(self, sql: str, batch_id: uuid.UUID, sink: Sink) -> None:
        async with self._postgres.connection() as connection:
            await connection.copy_from_query(
                sql, batch_id, output=sink, format="csv", delimiter=_DELIMITER, quote=_QUOTE
            )

    async def batch_stored(
        self, batch: Batch, stored: ArchiveStored, objects: Sequence[StoredObject], *, traceparent: str
    ) -> bool:
        """The batch is archived: its objects, the mark, the inbox and the event; False if it was before."""
        cause = derived_id(batch.id, BatchClosed.type, batch_subject(batch.id))
        async with self._postgres.transaction() as connection:
            marked = await connection.fetchval(
                """
                -- one row, if it was not archived before
                UPDATE ops.batches SET archived_at = clock_timestamp()
                WHERE id = $1 AND archived_at IS NULL RETURNING id
                """,
                batch.id,
            )
            if marked is None:
                return False
            await _keep(connection, batch.dataset, batch.id, None, objects)
            await remember(connection, CONSUMER, [cause])
            await announce(
                connection, stored, cause=cause, subject=batch_subject(batch.id), traceparent=traceparent
            )
        return True

    async def snapshot_stored(
        self,
        generation: Generation,
        stored: ArchiveStored,
        objects: Sequence[StoredObject],
        *,
        traceparent: str,
    ) -> bool:
        """The generation is archived, in place of the others that wait; False if it was before."""
        subject = generation_subject(generation.number)
        cause = derived_id(generation.cause, WarehousePublished.type, subject)
        async with self._postgres.transaction() as connection:
            marked = await connection.fetchval(
                """
                -- one row, if it was not archived before
                UPDATE ops.generations SET archive_state = 'stored', archived_at = clock_timestamp()
                WHERE number = $1 AND archive_state = 'pending' RETURNING number
                """,
                generation.number,
            )
            if marked is None:
                return False
            await _keep(connection, generation.dataset, None, generation.number, objects)
            await connection.execute(
                _SUPERSEDE, generation.dataset, generation.published_at, generation.number
            )
            await remember(connection, CONSUMER, [cause])
            await announce(connection, stored, cause=cause, subject=subject, traceparent=traceparent)
        return True

    async def supersede(self, generation: Generation) -> bool:
        """A generation that readers no longer see, and whose file is gone, is not archived any more."""
        marked = await self._postgres.fetchval(
            """
            -- one row, if it still waits
            UPDATE ops.generations SET archive_state = 'superseded'
            WHERE number = $1 AND archive_state = 'pending' RETURNING number
            """,
            generation.number,
        )
        return marked is not None

    async def failed(self, failure: StepFailed, *, cause: uuid.UUID, traceparent: str | None) -> None:
        """Announce it, once for a batch or generation however often it is tried."""
        if failure.batch_id is not None:
            subject = batch_subject(failure.batch_id)
        else:
            subject = generation_subject(failure.generation or 0)
        async with self._postgres.transaction() as connection:
            await announce(connection, failure, cause=cause, subject=subject, traceparent=traceparent)


async def _keep(
    connection: Connection,
    dataset: str,
    batch_id: uuid.UUID | None,
    generation: int | None,
    objects: Sequence[StoredObject],
) -> None:
    await connection.execute(
        _OBJECTS,
        dataset,
        batch_id,
        generation,
        [each.key for each in objects],
        [each.kind for each in objects],
        [each.bytes for each in objects],
        [each.records for each in objects],
        [each.sha256 for each in objects],
    )
