"""The batches of one dataset: opened with a landing, counted into by landings, closed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from libs.adapters.postgres import Connection, Row
from libs.datasets import Dataset
from libs.errors import Transient
from services.ingestor.domain import MAX_PRODUCERS, Tally

__all__ = ["Batch", "BatchStore"]

BATCH_COLUMNS: Final = """
    id, dataset, opened_at, closed_at, close_reason, producers,
    received, accepted, duplicate, quarantined, conflicts, dead_lettered
"""


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as its row says. closed_at is None while it is open; close_reason may then be `requested`."""

    id: UUID
    dataset: str
    opened_at: datetime
    closed_at: datetime | None
    close_reason: str | None
    received: int
    accepted: int
    duplicate: int
    quarantined: int
    conflicts: int
    dead_lettered: int
    producers: Sequence[str]

    @property
    def slots(self) -> int:
        return self.received + self.dead_lettered


class BatchStore:
    """Methods take the transaction they are part of."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    async def open(
        self, connection: Connection, batch_id: UUID, tally: Tally, producers: Sequence[str], opened_by: str
    ) -> Batch:
        """Begin a batch with its first landing."""
        row = await connection.fetchrow(
            f"""
            INSERT INTO ops.batches (id, dataset, opened_by, opened_at, producers, received, accepted,
                duplicate, quarantined, conflicts, dead_lettered, first_event_time, last_event_time)
            VALUES ($1, $2, $3, now(), $4, $5, $6, $7, $8, $9, $10, $11, $12)
            RETURNING {BATCH_COLUMNS}
            """,
            batch_id,
            self.dataset.name,
            opened_by,
            list(producers),
            *_counts(tally),
        )
        return _one(row)

    async def add(
        self, connection: Connection, batch_id: UUID, tally: Tally, producers: Sequence[str]
    ) -> Batch | None:
        """Count a landing into its batch; None if that is not open any more."""
        row = await connection.fetchrow(
            f"""
            UPDATE ops.batches SET
                producers = CASE WHEN cardinality(producers) >= {MAX_PRODUCERS} THEN producers ELSE (
                    ARRAY(SELECT DISTINCT unnest(producers || $2::text[])))[1:{MAX_PRODUCERS}] END,
                received = received + $3, accepted = accepted + $4, duplicate = duplicate + $5,
                quarantined = quarantined + $6, conflicts = conflicts + $7,
                dead_lettered = dead_lettered + $8,
                first_event_time = least(first_event_time, $9),
                last_event_time = greatest(last_event_time, $10)
            WHERE id = $1 AND state = 'open'
            RETURNING {BATCH_COLUMNS}
            """,
            batch_id,
            list(producers),
            *_counts(tally),
        )
        return None if row is None else _batch(row)

    async def lock_open(self, connection: Connection, batch_id: UUID) -> Batch | None:
        """The batch, kept as it is until the transaction ends; None if it is not open any more."""
        row = await connection.fetchrow(
            f"SELECT {BATCH_COLUMNS} FROM ops.batches WHERE id = $1 AND state = 'open' FOR UPDATE", batch_id
        )
        return None if row is None else _batch(row)

    async def lock_overdue(
        self, connection: Connection, *, opened_by: str, age: float, grace: float
    ) -> list[Batch]:
        """Open batches older than age (of others: and grace; in seconds of the database's clock), and those an
        operator asked to close by setting their close_reason to `requested`, locked.

        One in the middle of a landing is left out: its owner is alive.
        """
        rows = await connection.fetch(
            f"""
            SELECT {BATCH_COLUMNS} FROM ops.batches
            WHERE state = 'open' AND dataset = $1 AND (close_reason = 'requested' OR
                opened_at <= clock_timestamp() - make_interval(
                    secs => CASE WHEN opened_by = $2 THEN $3::float8 ELSE $4::float8 END))
            ORDER BY opened_at LIMIT 50 FOR UPDATE SKIP LOCKED
            """,
            self.dataset.name,
            opened_by,
            age,
            age + grace,
        )
        return [_batch(row) for row in rows]

    async def close(self, connection: Connection, batch_id: UUID, *, reason: str, traceparent: str) -> Batch:
        """Close a batch that the transaction has locked."""
        row = await connection.fetchrow(
            f"""
            UPDATE ops.batches
            SET state = 'closed', closed_at = clock_timestamp(), close_reason = $2, traceparent = $3
            WHERE id = $1 AND state = 'open'
            RETURNING {BATCH_COLUMNS}
            """,
            batch_id,
            reason,
            traceparent,
        )
        return _one(row)

    async def drop_empty(self, connection: Connection, batch_id: UUID) -> None:
        """Remove a batch that holds nothing, not even a dead letter."""
        await connection.execute(
            "DELETE FROM ops.batches WHERE id = $1 AND received = 0 AND dead_lettered = 0", batch_id
        )


def _counts(tally: Tally) -> tuple[object, ...]:
    return (
        tally.received,
        tally.accepted,
        tally.duplicate,
        tally.quarantined,
        tally.conflicts,
        tally.dead_lettered,
        tally.first_event_time,
        tally.last_event_time,
    )


def _one(row: Row | None) -> Batch:
    if row is None:
        raise Transient("a batch changed while it was locked")
    return _batch(row)


def _batch(row: Row) -> Batch:
    return Batch(**dict(row))
