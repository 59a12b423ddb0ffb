"""Is anything still on its way? Each thing that may be, alone; blocked batches wait for a person, not for time."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from libs.adapters.bus import Bus
from libs.adapters.warehouse import Warehouse
from libs.contracts.streams import BATCHES
from libs.errors import Transient
from libs.operations.settled import Unsettled, unsettled, wait_for_link, wait_until_settled
from libs.operations.warehouse import request_rebuild
from tests.integration.archiver.works import Works, an_entry, an_event, orders_placed

NOTHING = Unsettled(in_flight=0, open=0, unpublished=0, unarchived=0, outbox=0, blocked=0)


async def look(works: Works, bus: Bus, *, archive: bool = True) -> Unsettled:
    return await unsettled(works.postgres, bus, {"orders": works.dataset}, archive=archive)


async def told(works: Works) -> None:
    """The outbox is sent."""
    await works.postgres.execute("UPDATE ops.outbox SET published_at = now()")


async def test_an_empty_platform_is_settled(works: Works, bus: Bus) -> None:
    found = await look(works, bus)
    assert found == NOTHING
    assert (found.waiting, str(found)) == (False, "nothing on its way")


async def test_an_entry_is_in_flight_until_it_is_acknowledged(works: Works, bus: Bus, redis_url: str) -> None:
    await bus.publish("orders", [json.dumps(orders_placed(3)).encode(), json.dumps(an_event()).encode()])
    assert await look(works, bus) == Unsettled(
        in_flight=2, open=0, unpublished=0, unarchived=0, outbox=0, blocked=0
    )

    async with Redis.from_url(redis_url) as redis:
        read: Any = await redis.xreadgroup("ingestor", "one", {"orders": ">"}, count=10)
        assert (await look(works, bus)).in_flight == 2
        await redis.xack("orders", "ingestor", *(entry_id for entry_id, _ in read[0][1]))
    assert await look(works, bus) == NOTHING


async def test_the_slowest_group_of_a_stream_counts(works: Works, bus: Bus, redis_url: str) -> None:
    await bus.publish(BATCHES, [b"{}", b"{}", b"{}"])
    async with Redis.from_url(redis_url) as redis:
        for group, taken in (("transformer", 3), ("archiver", 2), ("audit", 1)):
            await redis.xreadgroup(group, "one", {BATCHES: ">"}, count=taken, noack=True)
    assert (await look(works, bus)).in_flight == 2


async def test_entries_are_counted_where_redis_can_not_tell(works: Works, bus: Bus, redis_url: str) -> None:
    """After an XDEL in the midst of what is unread, XINFO has no lag."""
    ids = await bus.publish("orders", [b"{}"] * 4)
    async with Redis.from_url(redis_url) as redis:
        await redis.xdel("orders", ids[2])
        await redis.xreadgroup("ingestor", "one", {"orders": ">"}, count=1, noack=True)
        (group,) = await redis.xinfo_groups("orders")
        assert group["lag"] is None
    assert (await look(works, bus)).in_flight == 2


async def test_a_stream_whose_group_is_missing_is_all_in_flight(
    works: Works, bus: Bus, redis_url: str
) -> None:
    await bus.publish("orders", [b"{}", b"{}"])
    async with Redis.from_url(redis_url) as redis:
        await redis.xgroup_destroy("orders", "ingestor")
    assert (await look(works, bus)).in_flight == 2


async def test_a_batch_goes_from_open_to_published_and_archived(works: Works, bus: Bus) -> None:
    await works.ingestor.land(an_entry(*orders_placed(2)))
    assert (await look(works, bus)).open == 1

    await works.ingestor.landing.drain()
    found = await look(works, bus)
    assert (found.open, found.unpublished, found.unarchived, found.outbox) == (0, 1, 1, 1)
    assert str(found) == "1 to publish, 1 to archive, 1 to announce"

    await works.archive()
    await works.transformer.main.tend()
    assert (await look(works, bus)).unpublished == 2  # the batch, and its candidate
    await works.transformer.judge()
    assert (await look(works, bus)).unpublished == 2
    await works.transformer.main.tend()
    await told(works)
    found = await look(works, bus)
    assert (found.unpublished, found.unarchived) == (0, 1)  # the snapshot
    assert not (await look(works, bus, archive=False)).waiting

    await works.archive()
    await told(works)
    assert await look(works, bus) == NOTHING


async def test_a_batch_with_nothing_for_readers_is_archived_all_the_same(works: Works, bus: Bus) -> None:
    await works.land(an_event(amount="NaN"))
    await told(works)
    found = await look(works, bus)
    assert (found.unpublished, found.unarchived) == (0, 1)


async def test_blocked_and_held_batches_are_not_waited_for(works: Works, bus: Bus) -> None:
    batch = (await works.land(*orders_placed(2)))["id"]
    await works.archive()
    await works.transformer.main.tend()
    await works.transformer.judge("fail")
    await told(works)

    found = await look(works, bus)
    assert (found.blocked, found.waiting, str(found)) == (1, False, "1 blocked")

    await works.postgres.execute("UPDATE ops.batches SET held_at = now() WHERE id = $1", batch)
    assert await look(works, bus) == NOTHING


async def test_a_rebuild_that_was_asked_for_is_waited_for(works: Works, bus: Bus) -> None:
    async with works.postgres.transaction() as connection:
        await request_rebuild(connection, "orders", full=True, actor="ann")
    assert (await look(works, bus)).unpublished == 1


async def test_waiting_tells_what_is_left_and_ends_when_all_is_done(works: Works, bus: Bus) -> None:
    await works.land(*orders_placed(2))
    seen: list[Unsettled] = []
    waiting = asyncio.create_task(
        wait_until_settled(
            works.postgres, bus, {"orders": works.dataset}, timeout=30, archive=False, on_progress=seen.append
        )
    )
    await works.publish()
    await told(works)

    assert await waiting == NOTHING
    assert seen[0].waiting
    assert seen[-1] == NOTHING


async def test_when_the_time_is_up_it_says_what_was_left(works: Works, bus: Bus) -> None:
    await works.land(*orders_placed(2))
    with pytest.raises(
        Transient, match=r"not settled within 0.1 s: 1 to publish, 1 to archive, 1 to announce"
    ):
        await wait_until_settled(works.postgres, bus, {"orders": works.dataset}, timeout=0.1)


async def test_readers_whose_link_has_yet_to_follow_the_pointer_are_waited_for(
    works: Works, bus: Bus, tmp_path: Path
) -> None:
    warehouse = Warehouse(tmp_path, "orders")
    for file in ("gen-000001-1.duckdb", "gen-000002-1.duckdb"):
        warehouse.prepare(file).write_bytes(b"")
    warehouse.point_current_at("gen-000001-1.duckdb")
    await works.postgres.execute(
        """
        WITH made AS (
            INSERT INTO ops.generations (number, dataset, state, kind, plan_hash, cause, file, archive_state)
            VALUES (2, 'orders', 'published', 'full', 'p', gen_random_uuid(), 'gen-000002-1.duckdb', 'stored')
            RETURNING number, dataset
        )
        INSERT INTO ops.warehouse_pointer (dataset, generation, version) SELECT dataset, number, 1 FROM made
        """
    )
    datasets = {"orders": works.dataset}

    found = await unsettled(works.postgres, bus, datasets, archive=True, warehouses=tmp_path)
    assert (found.waiting, str(found)) == (True, "1 to link")
    with pytest.raises(Transient, match="no transformer has moved the link"):
        await wait_for_link(works.postgres, tmp_path, timeout=0.1)
    waiting = asyncio.create_task(wait_for_link(works.postgres, tmp_path))
    warehouse.point_current_at("gen-000002-1.duckdb")
    await waiting
    assert await unsettled(works.postgres, bus, datasets, archive=True, warehouses=tmp_path) == NOTHING
