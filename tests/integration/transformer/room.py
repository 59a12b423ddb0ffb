"""The transformer's room on a real Postgres: batches land by SQL, and a test gives the verdicts."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from libs.adapters.postgres import Postgres, Row
from libs.adapters.postgres.arrow import read_arrow
from libs.adapters.warehouse import Warehouse
from libs.contracts.events import PipelineEvent, decode_event
from libs.datasets import Dataset
from services.transformer.builder import Builder, ReadRaw
from services.transformer.domain import holder_of
from services.transformer.handlers import Transformer
from services.transformer.store import TransformerStore

__all__ = ["MORNING", "Order", "Room", "orders"]

MORNING = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)

_LAND = """
INSERT INTO raw.orders_raw (event_id, source_order_id, customer_id, amount, order_created_at, batch_id,
    source_system, raw_payload, event_time, stream_entry_id, stream_position)
SELECT gen_random_uuid()::text, o.id, 'c-1', o.amount::numeric, $2, $1, 'urn:shop', '{}'::jsonb, o.event_time,
    '1-1', o.position
FROM unnest($3::text[], $4::text[], $5::timestamptz[]) WITH ORDINALITY AS o (id, amount, event_time, position)
"""


@dataclass(frozen=True)
class Order:
    id: str
    amount: str = "10.00"
    minute: int = 0


def orders(*ids: str) -> list[Order]:
    return [Order(one) for one in ids]


@dataclass
class Room:
    postgres: Postgres
    dataset: Dataset
    root: Path
    archive: str = "on"
    keep: int = 5
    landed: int = 0
    main: Transformer = field(init=False)

    def __post_init__(self) -> None:
        self.main = self.transformer()

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.root, self.dataset.name)

    def store(
        self, *, consumer: str = "t-1", process: uuid.UUID | None = None, lease: float = 15
    ) -> TransformerStore:
        holder = holder_of(consumer, process or uuid.uuid4())
        return TransformerStore(self.postgres, self.dataset.name, holder=holder, lease=lease)

    def transformer(
        self,
        *,
        consumer: str = "t-1",
        read_raw: ReadRaw | None = None,
        dataset: Dataset | None = None,
        lease: float = 15,
        stopping: Callable[[], bool] = lambda: False,
    ) -> Transformer:
        """A replica, or another life of one."""
        store = self.store(consumer=consumer, lease=lease)
        builder = Builder(
            dataset or self.dataset,
            self.warehouse,
            store,
            read_raw=read_raw or partial(read_arrow, self.postgres.url),
            memory_limit="500MB",
            lease=lease,
            stopping=stopping,
        )
        return Transformer(
            dataset or self.dataset,
            self.warehouse,
            store,
            builder,
            consumer=consumer,
            keep=self.keep,
            archive=self.archive,
        )

    async def land(self, *landed: Order, traceparent: str | None = None, archived: bool = False) -> uuid.UUID:
        """A closed batch with these rows in RAW."""
        batch = uuid.uuid4()
        self.landed += 1
        closed_at = MORNING + timedelta(seconds=self.landed)
        async with self.postgres.transaction() as connection:
            await connection.execute(
                """
                INSERT INTO ops.batches (id, dataset, state, opened_by, closed_at, close_reason, received, accepted,
                                         traceparent, archived_at)
                VALUES ($1, $2, 'closed', 'test', $3, 'age', $4, $4, $5, CASE WHEN $6 THEN now() END)
                """,
                batch,
                self.dataset.name,
                closed_at,
                len(landed),
                traceparent,
                archived,
            )
            await connection.execute(
                _LAND,
                batch,
                MORNING,
                [order.id for order in landed],
                [order.amount for order in landed],
                [MORNING + timedelta(minutes=order.minute) for order in landed],
            )
        return batch

    async def judge(self, verdict: str = "pass") -> int:
        """Give the waiting candidate its verdict, as the validator does; its number."""
        number: int | None = await self.postgres.fetchval(
            """
            UPDATE ops.generations SET verdict = $1, verdict_at = clock_timestamp(),
                   state = CASE WHEN $1 = 'pass' THEN 'passed' ELSE 'blocked' END
            WHERE dataset = $2 AND state = 'built' RETURNING number
            """,
            verdict,
            self.dataset.name,
        )
        assert number is not None, "no candidate waits for its verdict"
        return number

    async def publish(self, *batches: list[Order]) -> int:
        """Land, build, judge and publish; the generation."""
        for batch in batches:
            await self.land(*batch)
        await self.main.tend()
        number = await self.judge()
        await self.main.tend()
        assert await self.current() == number
        return number

    async def current(self) -> int | None:
        found: int | None = await self.postgres.fetchval(
            "SELECT generation FROM ops.warehouse_pointer WHERE dataset = $1", self.dataset.name
        )
        return found

    async def generation(self, number: int | None = None) -> Row:
        """A generation's row, the newest's if no number is given."""
        row = await self.postgres.fetchrow(
            "SELECT * FROM ops.generations WHERE $1::bigint IS NULL OR number = $1 ORDER BY number DESC LIMIT 1",
            number,
        )
        assert row is not None
        return row

    async def states(self) -> list[str]:
        """Of all generations, in the order of their numbers."""
        rows = await self.postgres.fetch("SELECT state FROM ops.generations ORDER BY number")
        return [row["state"] for row in rows]

    async def batches_of(self, number: int) -> set[uuid.UUID]:
        rows = await self.postgres.fetch(
            "SELECT batch_id FROM ops.generation_batches WHERE generation = $1", number
        )
        return {row["batch_id"] for row in rows}

    async def carrier(self, batch: uuid.UUID) -> int | None:
        """The generation that the ledger says carries the batch to readers."""
        found: int | None = await self.postgres.fetchval(
            "SELECT generation FROM ops.batches WHERE id = $1", batch
        )
        return found

    async def announced(self, kind: type[PipelineEvent]) -> list[Any]:
        rows = await self.postgres.fetch(
            "SELECT document FROM ops.outbox WHERE type = $1 ORDER BY id", kind.type
        )
        return [decode_event(row["document"])[1] for row in rows]

    async def seen(self) -> list[str]:
        """The orders that readers see, through the link."""
        return await asyncio.to_thread(self._seen)

    def _seen(self) -> list[str]:
        with self.warehouse.connect_read_only() as reader:
            return [
                row[0]
                for row in reader.rows(f"SELECT source_order_id FROM {self.dataset.staging_table} ORDER BY 1")
            ]

    async def long_ago(self) -> None:
        """Let the pauses of whatever was tried be over."""
        await self.postgres.execute(
            "UPDATE ops.generations SET verdict_at = verdict_at - interval '1 hour', "
            "lease_until = lease_until - interval '1 hour' WHERE state IN ('abandoned', 'blocked')"
        )
