"""The ledger counted again: it balances, and each way in which it could not is found."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from libs.adapters.bus import Bus, Entry
from libs.operations.ledger import LedgerReport, verify_ledger
from tests.integration.archiver.works import Works, an_event, orders_placed

GROUP = "ingestor"


async def report(works: Works, bus: Bus) -> LedgerReport:
    (one,) = await verify_ledger(works.postgres, bus, {"orders": works.dataset})
    return one


async def published(bus: Bus, *entries: Sequence[Any]) -> list[str]:
    return await bus.publish("orders", [json.dumps(list(entry)).encode() for entry in entries])


async def landed(works: Works, redis_url: str, *, acknowledge: bool = True, close: bool = True) -> None:
    """What the ingestor does with all that is unread."""
    async with Redis.from_url(redis_url) as redis:
        found: Any = await redis.xreadgroup(GROUP, "one", {"orders": ">"}, count=1_000)
        for _, entries in found:
            taken = [
                Entry("orders", entry_id.decode(), fields[b"data"], None, 1, fields)
                for entry_id, fields in entries
            ]
            await works.ingestor.land(*taken)
            if acknowledge:
                await redis.xack("orders", GROUP, *(entry.id for entry in taken))
    if close:
        await works.ingestor.landing.drain()


async def test_every_published_slot_is_accounted_for(works: Works, bus: Bus, redis_url: str) -> None:
    again = an_event("o-again")
    conflict = {**again, "data": {**again["data"], "amount": "1.00"}}
    await published(bus, orders_placed(10), [again, again, conflict], [an_event(amount="NaN")])
    await landed(works, redis_url)
    await published(bus, [again], orders_placed(3, start=20))
    await landed(works, redis_url, close=False)

    found = await report(works, bus)

    assert found.problems == []
    assert (found.accepted, found.duplicate, found.quarantined, found.conflicts) == (14, 2, 2, 1)
    assert (found.published, found.in_flight, found.unaccounted) == (18, 0, 0)
    assert (found.entries_added, found.entries_landed) == (5, 5)


async def test_what_waits_is_in_flight_slot_by_slot(works: Works, bus: Bus, redis_url: str) -> None:
    await published(bus, orders_placed(4))
    await landed(works, redis_url)
    await published(bus, orders_placed(7, start=10), [an_event("o-99")])
    await bus.publish("orders", [b"no json"])

    found = await report(works, bus)

    assert found.problems == []
    assert (found.in_flight, found.entries_in_flight, found.published) == (9, 3, 13)


async def test_what_landed_and_is_not_acknowledged_counts_once(
    works: Works, bus: Bus, redis_url: str
) -> None:
    await published(bus, orders_placed(4))
    await landed(works, redis_url, acknowledge=False)

    found = await report(works, bus)

    assert (found.problems, found.in_flight, found.published) == ([], 0, 4)


async def test_it_balances_after_trimming(works: Works, bus: Bus, redis_url: str) -> None:
    await published(bus, orders_placed(2), orders_placed(2, start=5))
    await landed(works, redis_url)
    await bus.trim({"orders": (GROUP,)})
    assert await bus.length("orders") <= 1
    await published(bus, orders_placed(1, start=50))

    found = await report(works, bus)

    assert (found.problems, found.entries_added, found.entries_in_flight) == ([], 3, 1)


async def test_it_balances_while_traffic_goes_on(works: Works, bus: Bus, redis_url: str) -> None:
    stop = asyncio.Event()

    async def traffic() -> int:
        start = 0
        while not stop.is_set():
            await published(bus, orders_placed(3, start=start), [an_event()])
            await landed(works, redis_url, close=start % 9 == 0)
            start += 3
        return start

    running = asyncio.create_task(traffic())
    found = [await report(works, bus) for _ in range(10)]
    stop.set()

    assert await running > 0
    assert [one.problems for one in found] == [[]] * 10


async def test_an_entry_deleted_before_it_was_read_is_unaccounted(
    works: Works, bus: Bus, redis_url: str
) -> None:
    first, _ = await published(bus, orders_placed(2), orders_placed(2, start=5))
    async with Redis.from_url(redis_url) as redis:
        await redis.xdel("orders", first)
    await landed(works, redis_url)

    found = await report(works, bus)

    assert found.unaccounted == 1
    assert "1 of 2 entries of stream orders are unaccounted" in found.problems[0]


async def test_a_stream_that_was_recreated_is_recognised(works: Works, bus: Bus, redis_url: str) -> None:
    await published(bus, orders_placed(2), orders_placed(2, start=5))
    await landed(works, redis_url)
    async with Redis.from_url(redis_url) as redis:
        await redis.delete("orders")
    (gone,) = (await report(works, bus)).problems
    await bus.ensure_groups({"orders": (GROUP,)})
    await published(bus, orders_placed(2, start=10))
    await landed(works, redis_url)
    (back,) = (await report(works, bus)).problems

    assert "was recreated, or Redis lost data" in gone
    assert "counts 1 entries in all, and 3 have landed" in back


async def test_a_row_missing_from_raw_is_found(works: Works, bus: Bus, redis_url: str) -> None:
    await published(bus, orders_placed(3))
    await landed(works, redis_url)
    await works.postgres.execute("DELETE FROM raw.orders_raw WHERE source_order_id = 'o-1'")

    batch = (await works.batch())["id"]
    assert (await report(works, bus)).problems == [f"batch {batch}: accepted, and rows in RAW: 3 and 2"]


async def test_a_row_missing_from_quarantine_is_found(works: Works, bus: Bus, redis_url: str) -> None:
    await published(bus, [an_event(amount="NaN"), an_event()])
    await landed(works, redis_url)
    await works.postgres.execute("DELETE FROM raw.quarantine")

    batch = (await works.batch())["id"]
    assert (await report(works, bus)).problems == [
        f"batch {batch}: quarantined, and rows in quarantine: 1 and 0"
    ]


async def test_entries_that_say_something_else_than_their_batch_are_found(
    works: Works, bus: Bus, redis_url: str
) -> None:
    await published(bus, orders_placed(3))
    await landed(works, redis_url)
    await works.postgres.execute("UPDATE ops.entries SET accepted = 2, duplicate = 1")

    (problem,) = (await report(works, bus)).problems
    assert "accepted, and by its entries: 3 and 2; duplicate, and by its entries: 0 and 1" in problem


async def test_rows_of_no_batch_are_found(works: Works, bus: Bus, redis_url: str) -> None:
    await published(bus, orders_placed(3))
    await landed(works, redis_url)
    batch = (await works.batch())["id"]
    await works.postgres.execute("DELETE FROM ops.batches")

    found = await report(works, bus)

    assert f"batch {batch} has rows or entries, and is not in the ledger" in found.problems
    assert "3 slots landed, the batches count 0" in found.problems


async def test_what_readers_see_is_made_of_the_batches_that_say_so(
    works: Works, bus: Bus, redis_url: str
) -> None:
    batches = []
    for start in range(3):
        await published(bus, orders_placed(2, start=start * 10))
        await landed(works, redis_url)
        batches.append((await works.batch())["id"])
        await works.publish()
    assert (await report(works, bus)).problems == []

    await works.postgres.execute("UPDATE ops.batches SET generation = NULL WHERE id = $1", batches[0])
    assert (await report(works, bus)).problems == ["generation 3 has 1 batches that are not called published"]
    await works.postgres.execute("UPDATE ops.batches SET generation = 1 WHERE id = $1", batches[0])
    await works.postgres.execute("UPDATE ops.generations SET raw_rows = 5 WHERE number = 3")
    assert (await report(works, bus)).problems == [
        "generation 3 was built from 5 rows, its batches have 6",
        "generation 3: 5 rows became 6 staged, rejected and superseded ones",
    ]


async def test_a_held_batch_is_counted_as_held(works: Works, bus: Bus, redis_url: str) -> None:
    await published(bus, orders_placed(3))
    await landed(works, redis_url)
    await works.postgres.execute("UPDATE ops.batches SET held_at = now()")

    found = await report(works, bus)

    assert (found.problems, found.held, found.accepted) == ([], 3, 3)


async def test_an_empty_platform_balances(works: Works, bus: Bus) -> None:
    found = await report(works, bus)

    assert (found.problems, found.published, found.batches) == ([], 0, 0)
