"""What is published is handled: FastStream's traps between an entry and its acknowledgement, answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from libs.adapters.bus import Entry, Tuning
from libs.errors import Permanent, Transient
from libs.testing.servers import RestartableRedis
from libs.testing.waiting import until
from tests.integration.bus.landing import HURRIED, Connect, Landing, RawRedis, Subscribe, eventually


async def settled(client: RawRedis) -> bool:
    """The group was given everything and has acknowledged it."""
    (group,) = await client.xinfo_groups("orders")
    return bool(group["pending"] == 0 and group["lag"] == 0)


async def test_events_published_before_the_first_start_are_delivered(
    redis_url: str, raw: RawRedis, connect: Connect, reading: Subscribe, landing: Landing
) -> None:
    await raw.xadd("orders", {"data": "early"})
    await reading(await connect(redis_url), landing)

    await until(lambda: landing.data == [b"early"])
    await eventually(lambda: settled(raw))


async def test_a_plain_xadd_from_any_client_is_an_entry(
    redis_url: str, raw: RawRedis, connect: Connect, reading: Subscribe, landing: Landing
) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    entry_id = await raw.xadd("orders", {"data": '{"id": "ä"}', "traceparent": parent, "note": "x"})
    await reading(await connect(redis_url), landing)

    (entry,) = await until(lambda: landing.landed)
    assert entry.id == entry_id.decode()
    assert entry.data == '{"id": "ä"}'.encode()
    assert entry.traceparent == parent
    assert entry.deliveries == 1
    assert entry.fields[b"note"] == b"x"


async def test_entries_that_look_like_a_faststream_envelope_arrive_as_they_were_sent(
    redis_url: str, raw: RawRedis, connect: Connect, reading: Subscribe, landing: Landing
) -> None:
    odd = [
        b'{"data": "inner", "headers": {}}',
        b"\x89BIN\r\n\x1a\n\x00\x01garbage",
        b"\xff\xfe",
        b"",
        b"[1,",
    ]
    for document in odd:
        await raw.xadd("orders", {"data": document})
    await raw.xadd("orders", {"nothing": "that we read"})
    await reading(await connect(redis_url), landing)

    await until(lambda: len(landing.landed) == len(odd) + 1)
    assert landing.data == sorted([*odd, b""])
    assert {entry.deliveries for entry in landing.landed} == {1}
    assert landing.buried == []


async def test_a_batch_is_never_larger_than_asked_for(
    redis_url: str, connect: Connect, reading: Subscribe
) -> None:
    sizes: list[int] = []

    async def remember(entries: Sequence[Entry]) -> None:
        sizes.append(len(entries))

    landing = Landing(before=remember)
    bus = await connect(redis_url)
    await bus.publish("orders", [b"{}"] * 1000)
    await reading(bus, landing, max_records=50)

    await until(lambda: len(landing.landed) == 1000)
    assert max(sizes) == 50


async def test_a_batch_of_large_entries_is_cut_by_its_bytes(
    redis_url: str, connect: Connect, reading: Subscribe
) -> None:
    sizes: list[int] = []

    async def remember(entries: Sequence[Entry]) -> None:
        sizes.append(sum(len(entry.data) for entry in entries))

    landing = Landing(before=remember)
    bus = await connect(redis_url)
    await bus.publish("orders", [b"x" * 1000] * 100)
    await reading(bus, landing, max_bytes=4_500)

    await until(lambda: len(landing.landed) == 100)
    assert max(sizes) == 4000


async def test_nothing_is_acknowledged_before_the_handler_returned(
    redis_url: str, raw: RawRedis, connect: Connect, reading: Subscribe
) -> None:
    go_on = asyncio.Event()

    async def wait(_: Sequence[Entry]) -> None:
        await go_on.wait()

    landing = Landing(before=wait)
    bus = await connect(redis_url)
    await bus.publish("orders", [b"1"])
    await reading(bus, landing)

    await until(lambda: landing.calls)
    assert (await raw.xpending("orders", "ingestor"))["pending"] == 1
    go_on.set()
    await eventually(lambda: settled(raw))


async def test_a_handler_that_raises_is_given_the_entry_again(
    redis_url: str, raw: RawRedis, connect: Connect, reading: Subscribe
) -> None:
    async def fail_twice(_: Sequence[Entry]) -> None:
        if landing.calls < 3:
            raise RuntimeError("a bug that comes and goes")

    landing = Landing(before=fail_twice)
    bus = await connect(redis_url)
    await bus.publish("orders", [b"1"])
    await reading(bus, landing)

    await until(lambda: landing.data == [b"1"])
    await eventually(lambda: settled(raw))
    assert landing.buried == []


async def test_a_transient_failure_waits_in_place_and_never_makes_a_dead_letter(
    either_redis: RestartableRedis, either: RawRedis, connect: Connect, reading: Subscribe
) -> None:
    async def away(_: Sequence[Entry]) -> None:
        if landing.calls <= 3 * HURRIED.deliveries:
            raise Transient("the database is away")

    landing = Landing(before=away)
    bus = await connect(either_redis.url)
    await bus.publish("orders", [b"1", b"2"])
    await reading(bus, landing)

    await until(lambda: landing.calls > HURRIED.deliveries)
    pending = await either.xpending_range("orders", "ingestor", "-", "+", 10)
    assert {entry["times_delivered"] for entry in pending} <= {0, 1}
    await until(lambda: landing.data == [b"1", b"2"])
    await eventually(lambda: settled(either))
    assert landing.buried == []


async def test_an_entry_whose_handler_takes_long_is_not_taken_for_abandoned(
    either_redis: RestartableRedis, connect: Connect, reading: Subscribe
) -> None:
    done = asyncio.Event()

    async def take_long(_: Sequence[Entry]) -> None:
        await done.wait()

    slow, other = Landing(before=take_long), Landing()
    bus = await reading(await connect(either_redis.url), slow)
    await bus.publish("orders", [b"1"])
    await until(lambda: slow.calls)
    await reading(await connect(either_redis.url, consumer="two"), other)

    await asyncio.sleep(3 * HURRIED.abandoned_after)  # the time that passes is what is tested
    done.set()
    await until(lambda: slow.data == [b"1"])
    assert other.calls == 0
    assert slow.calls == 1


async def test_one_refused_entry_does_not_sink_its_neighbours(
    redis_url: str, raw: RawRedis, connect: Connect, reading: Subscribe
) -> None:
    async def refuse(entries: Sequence[Entry]) -> None:
        if any(entry.data == b"013" for entry in entries):
            raise Permanent("no order", why="thirteen")

    landing = Landing(before=refuse)
    bus = await connect(redis_url)
    await bus.publish("orders", [b"%03d" % number for number in range(100)])
    await reading(bus, landing)

    await until(lambda: landing.buried)
    await eventually(lambda: settled(raw))
    assert landing.data == [b"%03d" % number for number in range(100) if number != 13]
    assert {entry.deliveries for entry in landing.landed} == {1}
    ((poison, reason),) = landing.buried
    assert poison.data == b"013"
    assert "thirteen" in reason


async def test_poison_that_cannot_be_stored_stays_pending(
    redis_url: str, raw: RawRedis, connect: Connect
) -> None:
    tries: list[str] = []

    async def refuse(_: Sequence[Entry]) -> None:
        raise Permanent("no order")

    async def fail(_: Entry, reason: str) -> None:
        tries.append(reason)
        raise Permanent("quarantine is broken too")

    bus = await connect(redis_url)
    bus.subscribe("orders", "ingestor", refuse, on_poison=fail)
    await bus.publish("orders", [b"1"])
    await bus.start()

    await until(lambda: len(tries) > HURRIED.deliveries)
    assert (await raw.xpending("orders", "ingestor"))["pending"] == 1
    assert bus.healthy() is None


async def test_a_transient_failure_to_store_poison_is_waited_for(
    redis_url: str, raw: RawRedis, connect: Connect
) -> None:
    tries: list[str] = []

    async def refuse(_: Sequence[Entry]) -> None:
        raise Permanent("no order")

    async def fail_twice(_: Entry, reason: str) -> None:
        tries.append(reason)
        if len(tries) < 3:
            raise Transient("the database is away")

    bus = await connect(redis_url)
    bus.subscribe("orders", "ingestor", refuse, on_poison=fail_twice)
    await bus.publish("orders", [b"1"])
    await bus.start()

    await until(lambda: len(tries) == 3)
    await eventually(lambda: settled(raw))


async def test_own_entries_left_pending_are_finished_at_start(
    either_redis: RestartableRedis, either: RawRedis, connect: Connect, reading: Subscribe, landing: Landing
) -> None:
    patient = Tuning(abandoned_after=600)
    bus = await connect(either_redis.url, tuning=patient)
    await bus.ensure_groups({"orders": ["ingestor"]})
    await bus.publish("orders", [b"1", b"2"])
    await either.xreadgroup("ingestor", "one", {"orders": ">"})

    await reading(bus, landing)

    await until(lambda: landing.data == [b"1", b"2"])
    await eventually(lambda: settled(either))
    assert {entry.deliveries for entry in landing.landed} == {2}


async def test_entries_of_a_dead_consumer_are_taken_over(
    either_redis: RestartableRedis, either: RawRedis, connect: Connect, reading: Subscribe, landing: Landing
) -> None:
    bus = await connect(either_redis.url)
    await bus.ensure_groups({"orders": ["ingestor"]})
    await bus.publish("orders", [b"1", b"2"])
    await either.xreadgroup("ingestor", "the dead", {"orders": ">"})

    await reading(bus, landing)

    await until(lambda: landing.data == [b"1", b"2"])
    await eventually(lambda: settled(either))


async def test_an_entry_never_finished_is_tried_alone_and_then_buried_as_undeliverable(
    either_redis: RestartableRedis, either: RawRedis, connect: Connect, reading: Subscribe, landing: Landing
) -> None:
    bus = await connect(either_redis.url)
    await bus.ensure_groups({"orders": ["ingestor"]})
    (guilty,) = await bus.publish("orders", [b"1"])
    await either.xreadgroup("ingestor", "the dead", {"orders": ">"})
    await either.xclaim("orders", "ingestor", "the dead", 0, [guilty], retrycount=HURRIED.deliveries)

    await reading(bus, landing)

    await until(lambda: landing.buried)
    ((entry, reason),) = landing.buried
    assert entry.deliveries == HURRIED.deliveries + 1
    assert reason.startswith("undeliverable")
    assert landing.calls == 0
    await eventually(lambda: settled(either))


async def test_replicas_share_the_entries(redis_url: str, connect: Connect, reading: Subscribe) -> None:
    async def a_little(_: Sequence[Entry]) -> None:
        await asyncio.sleep(0.005)

    landings = [Landing(before=a_little), Landing(before=a_little)]
    for consumer, landing in zip(("one", "two"), landings, strict=True):
        await reading(await connect(redis_url, consumer=consumer), landing, max_records=10)
    producer = await connect(redis_url, consumer="producer")
    await producer.publish("orders", [b"%04d" % number for number in range(1000)])

    await until(lambda: sum(len(landing.landed) for landing in landings) == 1000)
    assert sorted(landings[0].data + landings[1].data) == [b"%04d" % number for number in range(1000)]
    assert min(len(landing.landed) for landing in landings) > 200


async def test_a_handler_has_one_batch_at_a_time_also_beside_the_reaper(
    redis_url: str, raw: RawRedis, connect: Connect, reading: Subscribe
) -> None:
    at_once: list[int] = []
    inside = 0

    async def count(_: Sequence[Entry]) -> None:
        nonlocal inside
        inside += 1
        at_once.append(inside)
        await asyncio.sleep(0.01)
        inside -= 1

    landing = Landing(before=count)
    bus = await connect(redis_url)
    await bus.ensure_groups({"orders": ["ingestor"]})
    await bus.publish("orders", [b"%d" % number for number in range(300)])
    await raw.xreadgroup("ingestor", "the dead", {"orders": ">"}, count=100)
    await reading(bus, landing, max_records=5)

    await until(lambda: len(landing.landed) == 300)
    assert max(at_once) == 1


async def test_a_consumer_long_unheard_of_is_forgotten_unless_it_has_entries_pending(
    either_redis: RestartableRedis, either: RawRedis, connect: Connect, reading: Subscribe, landing: Landing
) -> None:
    bus = await connect(either_redis.url, tuning=Tuning(abandoned_after=4, forgotten_after=0.5))
    await bus.ensure_groups({"orders": ["ingestor"]})
    await bus.publish("orders", [b"1"])
    await either.xreadgroup("ingestor", "stuck", {"orders": ">"})
    await either.xgroup_createconsumer("orders", "ingestor", "gone")

    async def consumers() -> set[bytes]:
        return {consumer["name"] for consumer in await either.xinfo_consumers("orders", "ingestor")}

    assert await consumers() == {b"stuck", b"gone"}
    await reading(bus, landing)

    await eventually(lambda: _gone(consumers), wait=3.5)
    assert b"stuck" in await consumers()
    await until(lambda: landing.data == [b"1"])


async def _gone(consumers: Callable[[], Awaitable[set[bytes]]]) -> bool:
    return b"gone" not in await consumers()


async def test_large_abandoned_entries_are_taken_over_a_batch_of_bytes_at_a_time(
    either_redis: RestartableRedis, either: RawRedis, connect: Connect, reading: Subscribe
) -> None:
    """A crash while the first are tried counts against those alone, and nobody holds all of them at once."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(_: Sequence[Entry]) -> None:
        begun.set()
        await go_on.wait()

    landing = Landing(before=wait)
    bus = await connect(either_redis.url, tuning=Tuning(abandoned_after=600))
    await bus.ensure_groups({"orders": ["ingestor"]})
    documents = [b"%02d" % number + b"x" * 1000 for number in range(40)]
    await bus.publish("orders", documents)
    await either.xreadgroup("ingestor", "one", {"orders": ">"})

    starting = asyncio.create_task(reading(bus, landing, max_bytes=3 * 1002))
    await begun.wait()
    pending = await either.xpending_range("orders", "ingestor", min="-", max="+", count=100)
    assert [entry["times_delivered"] for entry in pending] == [2] * 3 + [1] * 37

    go_on.set()
    await starting
    await until(lambda: landing.data == documents)
    await eventually(lambda: settled(either))


async def test_an_abandoned_entry_that_was_deleted_is_forgotten(
    either_redis: RestartableRedis, either: RawRedis, connect: Connect, reading: Subscribe, landing: Landing
) -> None:
    bus = await connect(either_redis.url)
    await bus.ensure_groups({"orders": ["ingestor"]})
    gone, _ = await bus.publish("orders", [b"1", b"2"])
    await either.xreadgroup("ingestor", "the dead", {"orders": ">"})
    await either.xdel("orders", gone)

    await reading(bus, landing)

    await until(lambda: landing.data == [b"2"])
    await eventually(lambda: settled(either))
