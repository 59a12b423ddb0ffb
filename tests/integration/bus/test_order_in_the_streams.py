"""Trimming, back-pressure and looking: what keeps the streams short and never costs an entry."""

from __future__ import annotations

import asyncio
import tracemalloc

import pytest

from libs.adapters.bus import RoomExceeded
from libs.errors import Transient
from libs.testing.servers import RestartableRedis
from libs.testing.waiting import until
from tests.integration.bus.landing import Connect, Landing, RawRedis, Subscribe, eventually

BOTH = {"orders": ["ingestor", "audit"]}


async def read(client: RawRedis, group: str, count: int, *, acknowledge: bool = True) -> list[bytes]:
    """Entry ids that a consumer of the group read and, unless told, acknowledged."""
    answer = await client.xreadgroup(group, "somebody", {"orders": ">"}, count=count)
    ids = [entry_id for _, entries in answer for entry_id, _ in entries]
    if acknowledge and ids:
        await client.xack("orders", group, *ids)
    return ids


async def left(client: RawRedis) -> list[bytes]:
    found = await client.xrange("orders")
    return [entry_id for entry_id, _ in found]


async def test_nothing_is_trimmed_while_a_declared_group_is_missing(
    redis_url: str, raw: RawRedis, connect: Connect
) -> None:
    bus = await connect(redis_url)
    await bus.ensure_groups({"orders": ["ingestor"]})
    await bus.publish("orders", [b"1", b"2"])
    await read(raw, "ingestor", 2)

    assert await bus.trim(BOTH) == {}
    assert await bus.trim({"no such stream": ["ingestor"]}) == {}
    assert len(await left(raw)) == 2


async def test_trimming_stops_at_what_the_slowest_group_has_not_read(
    either_redis: RestartableRedis, either: RawRedis, connect: Connect
) -> None:
    bus = await connect(either_redis.url)
    await bus.ensure_groups(BOTH)
    ids = await bus.publish("orders", [b"%d" % number for number in range(10)])
    await read(either, "ingestor", 10)
    await read(either, "audit", 4)

    assert await bus.trim(BOTH) == {"orders": 4}
    assert [entry_id.decode() for entry_id in await left(either)] == ids[4:]
    assert len(await read(either, "audit", 10)) == 6


async def test_trimming_stops_at_the_oldest_pending_entry(
    either_redis: RestartableRedis, either: RawRedis, connect: Connect
) -> None:
    bus = await connect(either_redis.url)
    await bus.ensure_groups(BOTH)
    await bus.publish("orders", [b"%d" % number for number in range(10)])
    await read(either, "ingestor", 10)
    await read(either, "audit", 3)
    (pending,) = await read(either, "audit", 1, acknowledge=False)
    await read(either, "audit", 6)

    assert await bus.trim(BOTH) == {"orders": 3}
    assert (await left(either))[0] == pending


async def test_trimming_keeps_nothing_that_every_group_has_finished(
    either_redis: RestartableRedis, either: RawRedis, connect: Connect
) -> None:
    bus = await connect(either_redis.url)
    await bus.ensure_groups(BOTH)
    await bus.publish("orders", [b"%d" % number for number in range(150)])
    await read(either, "ingestor", 150)
    await read(either, "audit", 120)

    assert await bus.trim(BOTH) == {"orders": 120}
    await read(either, "audit", 240)
    assert await bus.trim(BOTH) == {"orders": 30}
    assert await bus.length("orders") == 0
    (entry_id,) = await bus.publish("orders", [b"next"])
    assert [found.decode() for found in await read(either, "audit", 1)] == [entry_id]


async def test_trimming_beside_consumers_at_work_loses_nothing(
    redis_url: str, connect: Connect, reading: Subscribe, landing: Landing
) -> None:
    groups = {"orders": ["ingestor"]}
    bus = await connect(redis_url)
    await bus.ensure_groups(groups)
    await reading(bus, landing, max_records=20)
    documents = [b"%05d" % number for number in range(5000)]
    trimmed = 0
    for first in range(0, 5000, 100):
        await bus.publish("orders", documents[first : first + 100])
        trimmed += (await bus.trim(groups))["orders"]

    await until(lambda: len(landing.landed) >= 5000)
    assert landing.data == documents
    assert trimmed > 0


async def test_a_producer_waits_until_there_is_room(redis_url: str, raw: RawRedis, connect: Connect) -> None:
    bus = await connect(redis_url)
    await bus.publish("orders", [b"1", b"2", b"3"])

    waiting = asyncio.create_task(bus.wait_for_room("orders", limit=3, timeout=240))
    await eventually(lambda: raw.xlen("orders"))
    assert not waiting.done()
    await raw.xtrim("orders", maxlen=2, approximate=False)
    await waiting


async def test_a_producer_without_room_is_refused(redis_url: str, connect: Connect) -> None:
    bus = await connect(redis_url)
    await bus.wait_for_room("orders", limit=3, timeout=0)
    await bus.publish("orders", [b"1", b"2", b"3"])

    with pytest.raises(RoomExceeded, match="3 entries wait") as refused:
        await bus.wait_for_room("orders", limit=3, timeout=0)
    assert isinstance(refused.value, Transient)


async def test_looking_never_steals(
    either_redis: RestartableRedis, either: RawRedis, connect: Connect
) -> None:
    bus = await connect(either_redis.url)
    await bus.ensure_groups(BOTH)
    ids = await bus.publish("orders", [b"%d" % number for number in range(5)])
    await read(either, "ingestor", 1)
    await read(either, "ingestor", 2, acknowledge=False)
    before = await either.xinfo_groups("orders")

    (stream,) = await bus.overview(BOTH)
    seen = [entry async for entry in bus.unhandled("orders", "ingestor")]

    assert [entry.id for entry in seen] == ids[1:]
    assert [entry.deliveries for entry in seen] == [1, 1, 0, 0]
    assert (stream.length, stream.entries_added) == (5, 5)
    assert (stream.first_id, stream.last_id) == (ids[0], ids[4])
    ingestor, audit = stream.groups
    assert (ingestor.pending, ingestor.lag, ingestor.consumers) == (2, 2, ("somebody",))
    assert ingestor.oldest_pending_idle is not None
    assert ingestor.oldest_pending_idle < 5
    assert (audit.pending, audit.lag, audit.oldest_pending_idle) == (0, 5, None)
    assert await either.xinfo_groups("orders") == before
    assert len(await read(either, "ingestor", 10)) == 2


async def test_each_consumer_is_shown_with_what_is_in_its_own_hands(
    either_redis: RestartableRedis, either: RawRedis, connect: Connect
) -> None:
    bus = await connect(either_redis.url)
    await bus.ensure_groups(BOTH)
    await bus.publish("orders", [b"%d" % number for number in range(3)])
    for name, count in (("first", 2), ("second", 1)):
        await either.xreadgroup("ingestor", name, {"orders": ">"}, count=count)
    ids = [one["message_id"] for one in await either.xpending_range("orders", "ingestor", "-", "+", 3)]
    await either.xclaim("orders", "ingestor", "first", 0, ids[:2], idle=60_000)
    await either.xgroup_createconsumer("orders", "ingestor", "idle")

    first, second, idle = await bus.consumers({"orders": ["ingestor"]})

    assert [(one.name, one.pending) for one in (first, second, idle)] == [
        ("first", 2),
        ("second", 1),
        ("idle", 0),
    ]
    assert first.oldest is not None
    assert second.oldest is not None
    assert first.oldest >= 60 > second.oldest
    assert idle.oldest is None


async def test_after_a_restart_nothing_is_unread_that_was_given_out(
    either_redis: RestartableRedis, either: RawRedis, connect: Connect
) -> None:
    """What was given out since the append-only file was rewritten counts as unread then, for Redis, for good."""
    bus = await connect(either_redis.url)
    await bus.ensure_groups(BOTH)
    await bus.publish("orders", [b"%d" % number for number in range(5)])
    await read(either, "ingestor", 1)
    await read(either, "audit", 1)
    await either.bgrewriteaof()
    await eventually(lambda: _rewritten(either))
    await read(either, "ingestor", 2)
    await read(either, "audit", 4)
    either_redis.restart()

    (stream,) = await bus.overview(BOTH)
    ingestor, audit = stream.groups

    assert (audit.pending, audit.lag) == (0, 0)
    assert ingestor.lag is None or 2 <= ingestor.lag <= stream.length
    assert [entry.id for entry in [each async for each in bus.unhandled("orders", "audit")]] == []
    assert len([each async for each in bus.unhandled("orders", "ingestor")]) == 2


async def test_a_stream_or_group_that_does_not_exist_yet_is_shown_as_missing(
    redis_url: str, raw: RawRedis, connect: Connect
) -> None:
    await raw.xadd("orders", {"data": "1"})
    bus = await connect(redis_url)

    orders, nothing = await bus.overview({"orders": ["ingestor"], "other": ["audit"]})

    assert (orders.length, orders.groups[0].exists) == (1, False)
    assert (nothing.length, nothing.first_id, nothing.groups[0].exists) == (0, None, False)
    assert [entry.data async for entry in bus.unhandled("orders", "ingestor")] == [b"1"]
    assert [entry async for entry in bus.unhandled("other", "audit")] == []


async def test_unhandled_entries_are_found_through_many_pages(
    redis_url: str, raw: RawRedis, connect: Connect
) -> None:
    bus = await connect(redis_url)
    await bus.ensure_groups({"orders": ["ingestor"]})
    documents = [b"%04d" % number for number in range(1000)]
    await bus.publish("orders", documents)
    await read(raw, "ingestor", 500, acknowledge=False)

    assert [entry.data async for entry in bus.unhandled("orders", "ingestor")] == documents


async def test_the_oldest_entry_that_a_group_has_not_handled_is_named(
    either_redis: RestartableRedis, either: RawRedis, connect: Connect
) -> None:
    bus = await connect(either_redis.url)
    await bus.ensure_groups(BOTH)
    ids = await bus.publish("orders", [b"%d" % number for number in range(4)])
    await read(either, "ingestor", 1)
    await read(either, "ingestor", 1, acknowledge=False)
    await read(either, "audit", 3)

    (stream,) = await bus.overview(BOTH)
    assert [group.first_unhandled for group in stream.groups] == [ids[1], ids[3]]
    await read(either, "audit", 1)
    (stream,) = await bus.overview(BOTH)
    assert [group.first_unhandled for group in stream.groups] == [ids[1], None]


async def test_a_look_asks_for_few_whole_entries_at_a_time(
    redis_url: str, raw: RawRedis, connect: Connect
) -> None:
    bus = await connect(redis_url)
    await bus.ensure_groups({"orders": ["ingestor"]})
    await bus.publish("orders", [b"x" * 2**16] * 400)
    await read(raw, "ingestor", 200, acknowledge=False)

    tracemalloc.start()
    try:
        seen = 0
        async for _ in bus.unhandled("orders", "ingestor"):
            seen += 1
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert seen == 400
    assert most < 60 * 2**16, "two hundred entries at a time would be 13 MB"


async def test_what_every_group_has_finished_keeps_no_producer_waiting(
    redis_url: str, raw: RawRedis, connect: Connect
) -> None:
    bus = await connect(redis_url)
    await bus.ensure_groups({"orders": ["ingestor", "audit"]})
    await bus.publish("orders", [b"1", b"2", b"3"])
    for group in ("ingestor", "audit"):
        with pytest.raises(RoomExceeded):
            await bus.wait_for_room("orders", limit=3, timeout=0)
        found = await raw.xreadgroup(group, "test", {"orders": ">"}, count=3)
        await raw.xack("orders", group, *(entry_id for entry_id, _ in found[0][1]))

    assert await bus.length("orders") == 3
    await bus.wait_for_room("orders", limit=1, timeout=0)


async def _rewritten(client: RawRedis) -> bool:
    about = await client.info("persistence")
    return not about["aof_rewrite_in_progress"] and not about["aof_rewrite_scheduled"]
