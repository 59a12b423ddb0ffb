"""A batch's end: closed, its trace begun and its event announced, in one transaction."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from uuid import UUID

from libs.adapters import metrics
from libs.adapters.postgres import Connection, Postgres
from libs.adapters.telemetry import span
from libs.contracts.events import BatchClosed, batch_subject
from libs.pipeline.outbox import Relay, announce
from services.ingestor.store import Batch, BatchStore

__all__ = ["Closing"]

log = logging.getLogger(__name__)


class Closing:
    """Closes batches of one dataset: this replica's own, and those that others left open."""

    def __init__(
        self, store: BatchStore, postgres: Postgres, relay: Relay, *, consumer: str, max_age: float
    ) -> None:
        self._store = store
        self._postgres = postgres
        self._relay = relay
        self._consumer = consumer
        self._age = max_age
        self._grace = max(1.0, max_age)

    async def close(
        self, connection: Connection, batch: Batch, *, reason: str, spans: ExitStack
    ) -> Batch | None:
        """Close a batch that the transaction has locked; None if it held nothing and was removed.

        Its root span `ingest` lasts until spans ends, which is to be after the commit.
        """
        if not batch.slots:
            await self._store.drop_empty(connection, batch.id)
            return None
        root = spans.enter_context(
            span("ingest", root=True, start_time=batch.opened_at, links=batch.producers)
        )
        closed = await self._store.close(connection, batch.id, reason=reason, traceparent=root.traceparent)
        event = _closed_event(closed, reason)
        await announce(
            connection, event, cause=closed.id, subject=batch_subject(closed.id), traceparent=root.traceparent
        )
        root.set(
            {
                "drp.dataset": closed.dataset,
                "drp.batch": str(closed.id),
                "drp.reason": reason,
                "drp.received": closed.received,
                "drp.accepted": closed.accepted,
                "drp.duplicate": closed.duplicate,
                "drp.quarantined": closed.quarantined,
                "drp.dead_lettered": closed.dead_lettered,
            }
        )
        root.end_at(event.ended_at)
        return closed

    def tell(self, closed: Batch, reason: str) -> None:
        """After the commit: have the event sent, and say that it happened."""
        self._relay.nudge()
        metrics.BATCHES_CLOSED.labels(closed.dataset, reason).inc()
        metrics.BATCH_EVENTS.labels(closed.dataset).observe(closed.slots)
        log.info(
            "closed batch %s of %s (%s): %d received", closed.id, closed.dataset, reason, closed.received
        )

    async def close_one(self, batch_id: UUID, *, reason: str) -> None:
        """Close the batch if it is still open."""
        with ExitStack() as spans:
            async with self._postgres.transaction() as connection:
                batch = await self._store.lock_open(connection, batch_id)
                if batch is None:
                    return
                closed = await self.close(connection, batch, reason=reason, spans=spans)
        if closed is not None:
            self.tell(closed, reason)

    async def close_overdue(self) -> set[UUID]:
        """Close this replica's batches that have reached their age, and those of others that should have been
        closed a while ago; returns their ids."""
        done: set[UUID] = set()
        closed: list[Batch] = []
        with ExitStack() as spans:
            async with self._postgres.transaction() as connection:
                overdue = await self._store.lock_overdue(
                    connection, opened_by=self._consumer, age=self._age, grace=self._grace
                )
                for batch in overdue:
                    done.add(batch.id)
                    reason = batch.close_reason or "age"
                    after = await self.close(connection, batch, reason=reason, spans=spans)
                    closed += [] if after is None else [after]
        for batch in closed:
            self.tell(batch, batch.close_reason or "age")
        return done


def _closed_event(closed: Batch, reason: str) -> BatchClosed:
    return BatchClosed(
        dataset=closed.dataset,
        started_at=closed.opened_at,
        ended_at=closed.closed_at or closed.opened_at,
        records=closed.slots,
        batch_id=closed.id,
        reason=reason,
        received=closed.received,
        accepted=closed.accepted,
        duplicate=closed.duplicate,
        quarantined=closed.quarantined,
        conflicts=closed.conflicts,
        dead_lettered=closed.dead_lettered,
    )
