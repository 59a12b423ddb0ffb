"""Events into quarantine through the stream, and out of it again, as operators do it."""

from __future__ import annotations

import json
from typing import Any

from redis.asyncio import Redis

from libs.adapters.bus import Bus, Entry
from libs.operations.actions import acting
from libs.operations.corrections import Correction
from libs.operations.ledger import verify_ledger
from libs.operations.quarantine import Fix, Selection, fix
from libs.operations.redriving import Redrive, redrive
from tests.integration.archiver.works import Works

__all__ = ["balanced", "fixed", "landed", "published", "redriven", "row_of"]


async def fixed(
    works: Works, number: int, *, dry_run: bool = False, afresh: bool = False, **change: Any
) -> Fix:
    async with acting(works.postgres, dry_run=dry_run) as connection:
        return await fix(
            connection, {"orders": works.dataset}, number, Correction(**change), afresh=afresh, actor="ann"
        )


async def redriven(works: Works, bus: Bus, *ids: int, **options: Any) -> Redrive:
    selection = options.pop("selection", Selection(ids=ids or None))
    told = {"because": "a test", "actor": "ann"} | options
    return await redrive(works.postgres, bus, {"orders": works.dataset}, selection, **told)


async def landed(works: Works, redis_url: str) -> list[Entry]:
    """All that is unread lands, as the ingestor does it, and its batch is closed."""
    async with Redis.from_url(redis_url) as redis:
        found: Any = await redis.xreadgroup("ingestor", "one", {"orders": ">"}, count=1_000)
        entries = [
            Entry(
                "orders",
                entry_id.decode(),
                fields[b"data"],
                fields.get(b"traceparent", b"").decode() or None,
                1,
                fields,
            )
            for _, each in found
            for entry_id, fields in each
        ]
        await works.ingestor.land(*entries)
        await works.ingestor.landing.drain()
        await redis.xack("orders", "ingestor", *(entry.id for entry in entries))
    return entries


def _traceparent(fields: dict[bytes, bytes]) -> str | None:
    return fields[b"traceparent"].decode() if b"traceparent" in fields else None


async def published(works: Works, bus: Bus, redis_url: str, *events: Any) -> list[Any]:
    """The events through the stream into quarantine, or wherever they belong; quarantine's rows."""
    documents = [event if isinstance(event, bytes) else json.dumps(event).encode() for event in events]
    await bus.publish("orders", documents)
    await landed(works, redis_url)
    return await works.ingestor.quarantine()


async def balanced(works: Works, bus: Bus) -> bool:
    (report,) = await verify_ledger(works.postgres, bus, {"orders": works.dataset})
    assert report.problems == []
    return await works.ingestor.balanced()


async def row_of(works: Works, number: int) -> dict[str, Any]:
    return next(dict(row) for row in await works.ingestor.quarantine() if row["id"] == number)
