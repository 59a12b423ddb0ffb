"""What is stuck before a batch is even closed, or after it was published, is told: once for each trouble."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis

from libs.adapters import metrics
from libs.adapters.bus import Bus
from libs.adapters.bus.overview import GroupOverview, StreamOverview
from libs.adapters.postgres import Postgres, Row
from services.audit.domain import Step
from services.audit.handlers import measure_streams, watch_archive, watch_deadline, watch_streams
from services.audit.store import AuditStore

GROUPS = {"orders": ("ingestor",), "drp.batches": ("transformer", "audit")}


@pytest.fixture
async def bus(redis_url: str) -> AsyncIterator[Bus]:
    opened = await Bus.connect(redis_url, service="test", consumer="test")
    await opened.ensure_groups(GROUPS)
    yield opened
    await opened.stop()


async def told(postgres: Postgres) -> list[Row]:
    return await postgres.fetch(
        "SELECT a.flow_name, a.flow_run_id, a.status, a.error_message, a.metadata, l.error_message AS alert "
        "FROM ops.pipeline_flow_audit a LEFT JOIN ops.alerts l "
        "ON l.dedupe_key = 'deadline.missed:' || a.event_id ORDER BY a.id"
    )


async def an_open_batch(postgres: Postgres, *, age: float, accepted: int = 7, dead: int = 0) -> UUID:
    batch = uuid4()
    await postgres.execute(
        "INSERT INTO ops.batches (id, dataset, opened_by, opened_at, received, accepted, dead_lettered) "
        "VALUES ($1, 'orders', 'ingestor-1', now() - make_interval(secs => $2), $3, $3, $4)",
        batch,
        age,
        accepted,
        dead,
    )
    return batch


async def a_published_batch(postgres: Postgres, *, closed: float, archived: bool = False) -> UUID:
    batch = uuid4()
    await postgres.execute(
        "INSERT INTO ops.batches (id, dataset, state, opened_by, closed_at, received, accepted, generation, "
        "archived_at) VALUES ($1, 'orders', 'closed', 't', clock_timestamp() - make_interval(secs => $2), 7, 7, 1, "
        "CASE WHEN $3 THEN now() END)",
        batch,
        closed,
        archived,
    )
    return batch


async def a_while_passes(postgres: Postgres, seconds: float) -> None:
    """As if: whatever is there gets older."""
    await postgres.execute(
        "UPDATE ops.batches SET closed_at = closed_at - make_interval(secs => $1)", seconds
    )
    await postgres.execute(
        "UPDATE ops.pipeline_flow_audit SET ended_at = ended_at - make_interval(secs => $1)", seconds
    )


async def look(store: AuditStore, bus: Bus, *, deadline: float = 300) -> list[Step]:
    return await watch_streams(
        store=store, bus=bus, groups=GROUPS, datasets={"orders": "orders"}, deadline=deadline
    )


async def test_a_batch_that_nobody_closes_is_told_once(postgres: Postgres, store: AuditStore) -> None:
    batch = await an_open_batch(postgres, age=400)

    await asyncio.gather(*(watch_deadline(store=store, deadline=300, max_age=2) for _ in range(4)))
    await watch_deadline(store=store, deadline=300, max_age=2)

    (row,) = await told(postgres)
    assert (row["flow_name"], row["flow_run_id"], row["status"]) == ("deadline-open", str(batch), "failed")
    assert "is still open 400 s after it was opened" in row["error_message"]
    assert "ingestor-1 opened it, and no ingestor closes it" in row["error_message"]
    assert row["alert"] == row["error_message"]
    assert row["metadata"]["batches"] == [str(batch)]
    assert metrics.BATCHES_OVERDUE.labels("orders")._value.get() == 1


async def test_an_open_batch_is_late_after_its_age_and_the_deadline(
    postgres: Postgres, store: AuditStore
) -> None:
    await an_open_batch(postgres, age=400, accepted=0)
    young = await an_open_batch(postgres, age=400)
    dead_letters = await an_open_batch(postgres, age=950, accepted=0, dead=1)

    steps = await watch_deadline(store=store, deadline=300, max_age=600)
    assert [step.run_id for step in steps] == [str(dead_letters)]
    steps = await watch_deadline(store=store, deadline=300, max_age=60)
    assert [step.run_id for step in steps] == [str(young)]


async def test_a_batch_closed_late_and_then_not_published_is_told_again(
    postgres: Postgres, store: AuditStore
) -> None:
    batch = await an_open_batch(postgres, age=900)
    await watch_deadline(store=store, deadline=300)
    await postgres.execute(
        "UPDATE ops.batches SET state = 'closed', closed_at = now() - interval '400 s' WHERE id = $1", batch
    )
    await watch_deadline(store=store, deadline=300)

    rows = await told(postgres)
    assert [(row["flow_name"], row["flow_run_id"]) for row in rows] == [
        ("deadline-open", str(batch)),
        ("deadline", str(batch)),
    ]
    assert all(row["alert"] for row in rows)


async def test_a_store_that_is_away_is_one_alert_for_all_the_batches_that_wait(
    postgres: Postgres, store: AuditStore
) -> None:
    await a_published_batch(postgres, closed=900, archived=True)
    oldest, younger = [await a_published_batch(postgres, closed=age) for age in (800, 400)]
    await a_published_batch(postgres, closed=200)

    await asyncio.gather(*(watch_archive(store=store, deadline=300) for _ in range(4)))
    await a_while_passes(postgres, 200)
    await watch_archive(store=store, deadline=300)

    (row,) = await told(postgres)
    assert (row["flow_name"], row["flow_run_id"]) == ("deadline-archive", "archive/orders")
    assert row["metadata"]["batches"] == [str(oldest), str(younger)]
    assert f"2 closed batches of orders (14 rows) are not archived; the oldest, {oldest}" in row["alert"]
    assert "drp status --health" in row["alert"]


async def test_what_is_not_archived_later_is_told_again(postgres: Postgres, store: AuditStore) -> None:
    """Also if a batch of the former trouble can never be archived."""
    await a_published_batch(postgres, closed=400)
    await watch_archive(store=store, deadline=300)
    await a_while_passes(postgres, 500)
    later = await a_published_batch(postgres, closed=400)

    (step,) = await watch_archive(store=store, deadline=300)

    assert step.metadata["batches"] == [str(later)]
    assert len([row for row in await told(postgres) if row["alert"]]) == 2


async def test_an_entry_that_nobody_takes_is_told_once(
    postgres: Postgres, store: AuditStore, bus: Bus, redis_url: str
) -> None:
    now = await postgres.fetchval("SELECT extract(epoch FROM clock_timestamp()) * 1000")
    old = f"{int(now) - 400_000}-0"
    async with Redis.from_url(redis_url) as client:
        await client.xadd("orders", {"data": "1"}, id=old)
    await bus.publish("orders", [b"2"])
    await bus.publish("drp.batches", [b"of another kind"])

    await asyncio.gather(*(look(store, bus) for _ in range(4)))
    await look(store, bus)

    (row,) = await told(postgres)
    assert (row["flow_name"], row["flow_run_id"], row["status"]) == (
        "deadline-stream",
        "orders/ingestor",
        "failed",
    )
    assert f"entry {old} of stream orders waits for the ingestor since 400 s (deadline 300 s)" in row["alert"]
    assert "0 taken and not finished, 2 not taken" in row["alert"]
    assert row["metadata"]["dataset"] == "orders"


async def test_an_entry_that_is_taken_and_never_finished_is_told(
    postgres: Postgres, store: AuditStore, bus: Bus, redis_url: str
) -> None:
    """And once it is finished, the entries that came before that alert are not told again; later ones are."""
    now = int(await postgres.fetchval("SELECT extract(epoch FROM clock_timestamp()) * 1000"))
    ids = [f"{now - age}-0" for age in (900_000, 800_000, 400_000)]
    async with Redis.from_url(redis_url) as client:
        await client.xadd("orders", {"data": "1"}, id=ids[0])
        await client.xadd("orders", {"data": "2"}, id=ids[1])
        await client.xreadgroup("ingestor", "somebody", {"orders": ">"})
        (step,) = await look(store, bus)
        assert (step.metadata["entry"], step.metadata["pending"]) == (ids[0], 2)

        await client.xack("orders", "ingestor", ids[0])
        assert await look(store, bus) == []

        await client.xack("orders", "ingestor", ids[1])
        await client.xadd("orders", {"data": "3"}, id=ids[2])
        assert await look(store, bus) == [], "it came before people were told"
        await postgres.execute("UPDATE ops.pipeline_flow_audit SET ended_at = ended_at - interval '600 s'")
        (again,) = await look(store, bus)
        assert again.metadata["entry"] == ids[2]

        await client.xreadgroup("ingestor", "somebody", {"orders": ">"})
        await client.xack("orders", "ingestor", ids[2])
        assert await look(store, bus, deadline=0.0) == []


async def test_an_id_that_is_no_time_alarms_nobody(store: AuditStore, bus: Bus, redis_url: str) -> None:
    async with Redis.from_url(redis_url) as client:
        await client.xadd("orders", {"data": "1"}, id=f"{2**64 - 2}-0")
    assert await look(store, bus) == []


async def test_how_long_streams_are_and_how_far_their_groups_is_measured(
    store: AuditStore, bus: Bus, redis_url: str
) -> None:
    await bus.publish("orders", [b"1", b"2", b"3"])
    await bus.publish("drp.batches", [b"1"])
    async with Redis.from_url(redis_url) as client:
        await client.xreadgroup("ingestor", "somebody", {"orders": ">"}, count=1)

    await look(store, bus)

    assert metrics.STREAM_LENGTH.labels("orders")._value.get() == 3
    assert metrics.STREAM_PENDING.labels("orders", "ingestor")._value.get() == 1
    assert metrics.STREAM_LAG.labels("orders", "ingestor")._value.get() == 2
    assert metrics.STREAM_LAG.labels("drp.batches", "transformer")._value.get() == 1


def test_a_lag_that_redis_cannot_tell_is_not_a_number() -> None:
    group = GroupOverview(name="g", exists=True, pending=0, lag=None, oldest_pending_idle=None, consumers=())
    stream = StreamOverview(
        stream="s", length=0, entries_added=0, first_id=None, last_id=None, groups=(group,)
    )
    measure_streams([stream])
    assert math.isnan(metrics.STREAM_LAG.labels("s", "g")._value.get())
