"""An ingestor on a real Postgres, without a bus: entries are handed to it as the bus would."""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

from libs.adapters.bus import Entry
from libs.adapters.postgres import Postgres, Row, ensure_raw
from libs.datasets import Dataset
from libs.runtime.service import Platform
from services.ingestor.app import handlers_of
from services.ingestor.handlers import Landing, Trial
from services.ingestor.settings import IngestorSettings

__all__ = ["Room", "an_entry", "an_event", "open_room"]

SEQUENCE = itertools.count(1)
Event = Mapping[str, Any]


def an_event(order: str | None = None, *, event_id: str | None = None, **changes: object) -> dict[str, Any]:
    """An order placed, as a CloudEvent; changes are fields of its data."""
    data = {
        "order_id": order or f"o-{uuid.uuid4()}",
        "customer_id": "c-1",
        "amount": "12.30",
        "created_at": "2026-01-02T03:04:05Z",
        **changes,
    }
    return {
        "specversion": "1.0",
        "id": event_id or str(uuid.uuid4()),
        "source": "urn:test:shop",
        "type": "order.placed",
        "time": "2026-01-02T03:04:05Z",
        "data": data,
    }


def an_entry(*events: Event | bytes, entry_id: str | None = None, traceparent: str | None = None) -> Entry:
    """One event alone, or several in an array, as the producer's bytes."""
    documents = [event if isinstance(event, bytes) else json.dumps(event).encode() for event in events]
    data = documents[0] if len(documents) == 1 else b"[" + b",".join(documents) + b"]"
    return Entry(
        "orders", entry_id or f"1767323045000-{next(SEQUENCE)}", data, traceparent, 1, {b"data": data}
    )


@dataclass
class Room:
    """What an ingestor does, and what Postgres holds afterwards."""

    postgres: Postgres
    dataset: Dataset
    landing: Landing
    trial: Trial

    async def land(self, *entries: Entry) -> None:
        await self.landing.land(entries)

    async def counts(self) -> dict[str, int]:
        """The ledger's counts over all batches, those that are 0 left out."""
        row = await self.postgres.fetchrow(
            """
            SELECT sum(received) AS received, sum(accepted) AS accepted, sum(duplicate) AS duplicate,
                sum(quarantined) AS quarantined, sum(conflicts) AS conflicts,
                sum(dead_lettered) AS dead_lettered
            FROM ops.batches
            """
        )
        assert row is not None
        return {name: int(count) for name, count in row.items() if count}

    async def raw(self) -> list[Row]:
        return await self.postgres.fetch("SELECT * FROM raw.orders_raw ORDER BY id")

    async def quarantine(self) -> list[Row]:
        return await self.postgres.fetch("SELECT * FROM raw.quarantine ORDER BY id")

    async def batches(self) -> list[Row]:
        return await self.postgres.fetch("SELECT * FROM ops.batches ORDER BY opened_at")

    async def told(self) -> list[Row]:
        return await self.postgres.fetch("SELECT * FROM ops.outbox ORDER BY id")

    async def balanced(self) -> bool:
        """Whether batches, entries, RAW and quarantine tell the same story."""
        row = await self.postgres.fetchrow(
            """
            SELECT
                (SELECT array[sum(accepted), sum(duplicate), sum(quarantined), sum(dead_lettered)]
                    FROM ops.batches) AS batches,
                (SELECT array[sum(accepted), sum(duplicate), sum(quarantined), sum(dead_lettered)]
                    FROM ops.entries) AS entries,
                (SELECT array[(SELECT count(*) FROM raw.orders_raw),
                    (SELECT count(*) FROM raw.quarantine WHERE disposition = 'quarantined'),
                    (SELECT count(*) FROM raw.quarantine WHERE disposition = 'dead_lettered')]) AS kept
            """
        )
        assert row is not None
        accepted, _duplicate, quarantined, dead = row["batches"]
        return bool(row["batches"] == row["entries"] and row["kept"] == [accepted, quarantined, dead])


async def open_room(
    postgres: Postgres, dataset: Dataset, *, consumer: str = "ingestor-1", **settings: Any
) -> Room:
    async with postgres.connection() as connection:
        await ensure_raw(connection, dataset)
    platform = SimpleNamespace(
        postgres=postgres, relay=SimpleNamespace(nudge=lambda: None), consumer=consumer
    )
    landing, trial = handlers_of(dataset, cast("Platform", platform), IngestorSettings(**settings))
    return Room(postgres, dataset, landing, trial)
