"""Hand-over without loss: what a service did and the event that tells it commit together, and are sent later.

Delivery is at least once: a crash between the sending and the mark sends an event again, under the same id,
which its consumers' inbox recognises.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Final, Protocol
from uuid import UUID

import msgspec

from libs.adapters import metrics
from libs.adapters.postgres import Connection, Postgres, Row
from libs.contracts.events import CloudEvent, PipelineEvent, decode_event, encode_event
from libs.contracts.streams import STREAMS
from libs.errors import Permanent, Transient

if TYPE_CHECKING:
    from libs.adapters.bus import Entry

__all__ = ["Publisher", "Relay", "announce", "read_event", "remember"]

log = logging.getLogger(__name__)

_AT_A_TIME: Final = 200
_POLL: Final = 1.0
_LONGEST_PAUSE: Final = 10.0


async def announce(
    connection: Connection, event: PipelineEvent, *, cause: UUID, subject: str, traceparent: str | None
) -> UUID:
    """Put the event in the outbox, in the caller's transaction; returns its id.

    The same cause, type and subject are the same event: announced twice, it is sent once.
    """
    event_id, document = encode_event(event, cause=cause, subject=subject, traceparent=traceparent)
    await connection.execute(
        """
        INSERT INTO ops.outbox (event_id, stream, type, subject, document) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (event_id) DO NOTHING
        """,
        event_id,
        STREAMS[type(event)],
        event.type,
        subject,
        document,
    )
    return event_id


async def remember(connection: Connection, consumer: str, event_ids: Sequence[UUID]) -> set[UUID]:
    """Note in the caller's transaction that consumer handled these; returns those it hadn't handled before.

    Waits for another transaction that is handling one of them.
    """
    rows = await connection.fetch(
        """
        INSERT INTO ops.inbox (consumer, event_id)
        SELECT $1, event_id FROM unnest($2::uuid[]) AS given (event_id) ORDER BY event_id
        ON CONFLICT DO NOTHING
        RETURNING event_id
        """,
        consumer,
        list(event_ids),
    )
    return {row["event_id"] for row in rows}


def read_event(entry: Entry) -> tuple[CloudEvent, PipelineEvent]:
    """The pipeline event that an entry carries, and its envelope.

    Raises:
        Permanent: it carries none that this version knows; what it carries instead is not quoted.
    """
    try:
        return decode_event(entry.data)
    except (msgspec.MsgspecError, KeyError) as error:
        raise Permanent(
            f"entry {entry.id} of {entry.stream} is no pipeline event", why=type(error).__name__
        ) from error


class Publisher(Protocol):
    """What the relay needs of the bus."""

    async def publish(self, stream: str, documents: Sequence[bytes]) -> list[str]: ...


class Relay:
    """Sends what stands in the outbox, whoever put it there. Any number may run at once."""

    def __init__(self, postgres: Postgres, bus: Publisher, *, poll: float = _POLL) -> None:
        self._postgres = postgres
        self._bus = bus
        self._poll = poll
        self._nudged = asyncio.Event()

    def nudge(self) -> None:
        """There is something to send: don't wait for the next look."""
        self._nudged.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Send until stop is set, then once more. Errors are logged and waited out; none ends the loop."""
        pause = self._poll
        while not stop.is_set():
            if await self._sent_all():
                pause = self._poll
                await self._wait(stop, pause)
            else:
                pause = min(pause * 2, _LONGEST_PAUSE)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), pause)
        await self._sent_all()

    async def send_pending(self) -> int:
        """Send what is pending now and not in another relay's hands; returns how many.

        Raises:
            Transient, Permanent: from Postgres or the bus; what was sent before it stays sent.
        """
        sent = 0
        await self._count()
        while True:
            batch = await self._send_some()
            sent += batch
            if batch < _AT_A_TIME:
                break
        if sent:
            await self._count()
        return sent

    async def _count(self) -> None:
        """Rows in another relay's hands, too: they are not published yet."""
        pending = await self._postgres.fetchval("SELECT count(*) FROM ops.outbox WHERE published_at IS NULL")
        metrics.OUTBOX_PENDING.set(pending)

    async def _sent_all(self) -> bool:
        self._nudged.clear()
        try:
            await self.send_pending()
        except Transient as error:
            log.warning("the outbox waits: %s", error)
            return False
        except Permanent as error:
            log.error(
                "an event in the outbox could not be sent, it stays there and is tried again: %s", error
            )
            return False
        return True

    async def _send_some(self) -> int:
        async with self._postgres.transaction() as connection:
            rows = await connection.fetch(
                """
                -- one row per event to send; rows in another relay's hands are skipped
                SELECT id, stream, type, document FROM ops.outbox
                WHERE published_at IS NULL ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
                """,
                _AT_A_TIME,
            )
            if rows:
                await self._publish(rows)
                await connection.execute(
                    "UPDATE ops.outbox SET published_at = clock_timestamp() WHERE id = ANY($1::bigint[])",
                    [row["id"] for row in rows],
                )
        for row in rows:
            metrics.OUTBOX_PUBLISHED.labels(row["type"]).inc()
        return len(rows)

    async def _publish(self, rows: Sequence[Row]) -> None:
        for stream, group in groupby(rows, key=itemgetter("stream")):
            await self._bus.publish(stream, [row["document"] for row in group])

    async def _wait(self, stop: asyncio.Event, seconds: float) -> None:
        waits = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(self._nudged.wait())]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
