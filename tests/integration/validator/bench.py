"""Candidates as the transformer makes them, from RAW rows in Postgres, and ways to spoil them afterwards."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from libs.adapters.postgres import Postgres, Row
from libs.adapters.postgres.arrow import read_arrow
from libs.adapters.warehouse import Database, Warehouse
from libs.adapters.warehouse.folder import sha256_of
from libs.contracts.events import PipelineEvent, decode_event
from libs.datasets import Dataset
from libs.pipeline.build import Built, Recipe, build_generation, landed_select
from services.validator.handlers import Validator

__all__ = ["NOON", "Bench", "Order", "orders"]

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

_INSERT_RAW = """
INSERT INTO raw.orders_raw (event_id, source_order_id, customer_id, amount, order_created_at, batch_id,
    source_system, raw_payload, event_time, origin, stream_entry_id, stream_position)
SELECT event_id, order_id, customer_id, amount::numeric, event_time, $1, 'shop', payload::jsonb, event_time,
    origin, '1-1', position
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::text[])
    WITH ORDINALITY AS o(event_id, order_id, customer_id, amount, payload, event_time, origin, position)
"""


@dataclass(frozen=True, slots=True)
class Order:
    """An order event as it stands in RAW."""

    order_id: str
    amount: str = "10.00"
    customer_id: str = "c-1"
    time: datetime = NOON
    event_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    origin: str = "live"


def orders(count: int, *, bad: int = 0, start: int = 0, origin: str = "live") -> list[Order]:
    """So many orders, the first `bad` of them with a negative amount."""
    return [
        Order(f"o-{start + n}", amount="-1.00" if n < bad else "10.00", origin=origin) for n in range(count)
    ]


@dataclass(slots=True)
class Bench:
    """A warehouse and a Postgres of the test's own."""

    postgres: Postgres
    dataset: Dataset
    root: Path
    validator: Validator

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.root, self.dataset.name)

    async def land(self, landed: Sequence[Order], *, closed_at: datetime = NOON) -> uuid.UUID:
        """A closed batch of these orders."""
        batch = uuid.uuid4()
        async with self.postgres.transaction() as conn:
            await conn.execute(
                "INSERT INTO ops.batches (id, dataset, state, opened_by, opened_at, closed_at, close_reason, "
                "received, accepted) VALUES ($1, 'orders', 'closed', 'test', $2, $2, 'age', $3, $3)",
                batch,
                closed_at,
                len(landed),
            )
            await conn.execute(
                _INSERT_RAW,
                batch,
                [one.event_id for one in landed],
                [one.order_id for one in landed],
                [one.customer_id for one in landed],
                [one.amount for one in landed],
                [json.dumps({"order_id": one.order_id}) for one in landed],
                [one.time for one in landed],
                [one.origin for one in landed],
            )
        return batch

    async def build(self, *batches: uuid.UUID, parent: int | None = None, kind: str = "full") -> int:
        """A candidate that waits for its verdict; with a parent, as an increment on it."""
        number = int(await self.postgres.fetchval("SELECT nextval('ops.generation_numbers')"))
        clone = None
        if kind == "incremental":
            clone = await self.postgres.fetchval("SELECT file FROM ops.generations WHERE number = $1", parent)
        started = datetime.now(UTC)
        file = Warehouse.file_name(number)
        built = await asyncio.to_thread(self._build, number, parent, kind, batches, file, clone)
        await self.postgres.execute(
            "INSERT INTO ops.generations (number, dataset, state, kind, parent, plan_hash, file, sha256, "
            "cause, watermark, staged, rejected, superseded, started_at, built_at) "
            "VALUES ($1, 'orders', 'built', $2, $3, 'plan', $4, $5, $6, $7, $8, $9, $10, $11, now())",
            number,
            kind,
            parent,
            file,
            built.sha256,
            uuid.uuid4(),
            built.watermark,
            built.staged,
            built.rejected,
            built.superseded,
            started,
        )
        await self.postgres.execute(
            "INSERT INTO ops.generation_batches SELECT $1, unnest($2::uuid[])", number, list(batches)
        )
        return number

    def _build(
        self,
        number: int,
        parent: int | None,
        kind: str,
        batches: Sequence[uuid.UUID],
        file: str,
        clone: str | None,
    ) -> Built:
        sql = landed_select(self.dataset, "batch_id = ANY(string_to_array($1, ',')::uuid[])")
        recipe = Recipe(dataset=self.dataset, generation=number, parent=parent, kind=kind, batches=batches)
        with read_arrow(self.postgres.url, sql, [",".join(map(str, batches))]) as landed:
            return build_generation(self.warehouse, recipe, landed, file=file, clone_of=clone)

    async def publish(self, number: int, *, override: str | None = None) -> None:
        """Make it what readers see."""
        async with self.postgres.transaction() as conn:
            await conn.execute(
                "UPDATE ops.generations SET state = 'published', published_at = now(), override_reason = $2 "
                "WHERE number = $1",
                number,
                override,
            )
            await conn.execute(
                "UPDATE ops.batches SET generation = $1 WHERE generation IS NULL AND id IN "
                "(SELECT batch_id FROM ops.generation_batches WHERE generation = $1)",
                number,
            )
            await conn.execute(
                "INSERT INTO ops.warehouse_pointer (dataset, generation, version) VALUES ('orders', $1, 1) "
                "ON CONFLICT (dataset) DO UPDATE SET generation = $1",
                number,
            )

    async def spoil(self, number: int, *statements: str) -> None:
        """Change the candidate's file as only a wrong model could, and record the sha256 of what came out."""
        file = await self.postgres.fetchval("SELECT file FROM ops.generations WHERE number = $1", number)
        sha256 = await asyncio.to_thread(self._spoil, self.warehouse.path_of(file), statements)
        await self.postgres.execute(
            "UPDATE ops.generations SET sha256 = $2 WHERE number = $1", number, sha256
        )

    async def spoil_sha(self, number: int) -> None:
        """Record the file as it is now for the one that was built."""
        file = await self.postgres.fetchval("SELECT file FROM ops.generations WHERE number = $1", number)
        sha256 = await asyncio.to_thread(sha256_of, self.warehouse.path_of(file))
        await self.postgres.execute(
            "UPDATE ops.generations SET sha256 = $2 WHERE number = $1", number, sha256
        )

    @staticmethod
    def _spoil(path: Path, statements: Sequence[str]) -> str:
        path.chmod(0o644)
        with Database.candidate(path) as database:
            for statement in statements:
                database.run(statement)
            database.run("CHECKPOINT")
        return sha256_of(path)

    async def statuses(self, number: int) -> dict[str, str]:
        """Rule to status, of the rules that didn't pass."""
        rows = await self.postgres.fetch(
            "SELECT rule, status FROM ops.quality_results WHERE generation = $1 AND status <> 'pass'", number
        )
        return {row["rule"]: row["status"] for row in rows}

    async def result(self, number: int, rule: str) -> Row:
        row = await self.postgres.fetchrow(
            "SELECT status, tolerance, observed, evaluated, unexpected, detail, expectation "
            "FROM ops.quality_results WHERE generation = $1 AND rule = $2",
            number,
            rule,
        )
        assert row is not None
        return row

    async def failures(self, number: int, rule: str) -> list[Row]:
        return await self.postgres.fetch(
            "SELECT source_system, event_id, business_key, observed FROM ops.quality_failures "
            "WHERE generation = $1 AND rule = $2 ORDER BY business_key",
            number,
            rule,
        )

    async def generation(self, number: int) -> tuple[str, str | None]:
        row = await self.postgres.fetchrow(
            "SELECT state, verdict FROM ops.generations WHERE number = $1", number
        )
        assert row is not None
        return row["state"], row["verdict"]

    async def announced(self) -> list[PipelineEvent]:
        rows = await self.postgres.fetch("SELECT document FROM ops.outbox ORDER BY id")
        return [decode_event(row["document"])[1] for row in rows]


def a_day(number: int) -> datetime:
    return NOON + timedelta(days=number)
