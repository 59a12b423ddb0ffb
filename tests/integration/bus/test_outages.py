"""Redis away: before the boot, in between, killed. The process lives on and nothing is lost."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from libs.adapters.bus import Bus, Tuning
from libs.errors import Permanent, Transient
from libs.runtime.processes import free_port
from libs.testing.servers import RestartableRedis
from libs.testing.waiting import until
from tests.integration.bus.landing import Connect, Landing, RawRedis, Subscribe, eventually


async def test_a_boot_waits_for_redis(redis_server: RestartableRedis, connect: Connect) -> None:
    redis_server.stop()
    boot = asyncio.create_task(connect(redis_server.url))
    await asyncio.sleep(0.3)  # some tries that fail
    assert not boot.done()
    redis_server.start()

    bus = await asyncio.wait_for(boot, 240)
    assert await bus.publish("orders", [b"1"])


async def test_a_boot_that_may_not_wait_says_that_redis_is_unreachable() -> None:
    with pytest.raises(Transient, match="cannot reach Redis"):
        await Bus.connect(f"redis://127.0.0.1:{free_port()}", service="test", consumer="one", timeout=0.5)


async def test_a_wrong_password_is_not_waited_for(redis_server: RestartableRedis) -> None:
    wrong = redis_server.url.replace("redis://default:", "redis://default:not")
    with pytest.raises(Permanent, match="DRP_REDIS_URL"):
        await asyncio.wait_for(Bus.connect(wrong, service="test", consumer="one"), 240)


async def test_the_first_publish_after_a_restart_succeeds(
    redis_server: RestartableRedis, connect: Connect
) -> None:
    bus = await connect(redis_server.url)
    await bus.publish("orders", [b"1"])
    redis_server.restart()

    await bus.publish("orders", [b"2"])
    assert await bus.length("orders") == 2


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_reading_goes_on_after_redis_was_away(
    how: str,
    either_redis: RestartableRedis,
    connect: Connect,
    reading: Subscribe,
    landing: Landing,
) -> None:
    bus = await reading(await connect(either_redis.url), landing)
    await bus.publish("orders", [b"1"])
    await until(lambda: landing.data == [b"1"])

    either_redis.stop() if how == "stop" else either_redis.kill()
    either_redis.start()
    await bus.publish("orders", [b"2"])

    await until(lambda: landing.data == [b"1", b"2"])
    assert bus.healthy() is None
    async with Redis.from_url(either_redis.url) as client:
        await eventually(lambda: _nothing_pending(client))


async def test_a_commit_whose_acknowledgement_redis_missed_is_acknowledged_later(
    redis_server: RestartableRedis, connect: Connect, reading: Subscribe
) -> None:
    async def redis_goes_away(_: object) -> None:
        await asyncio.to_thread(redis_server.kill)

    landing = Landing(before=redis_goes_away)
    bus = await connect(redis_server.url)
    await bus.publish("orders", [b"1"])
    await reading(bus, landing)

    await until(lambda: landing.landed)
    landing.before = None
    redis_server.start()
    async with Redis.from_url(redis_server.url) as client:
        await eventually(lambda: _nothing_pending(client), wait=60)
    assert bus.healthy() is None
    assert landing.buried == []


async def test_stopping_while_a_handler_backs_off_does_not_wait_for_it(
    redis_url: str, raw: RawRedis, connect: Connect, reading: Subscribe
) -> None:
    async def away(_: object) -> None:
        raise Transient("the database is away")

    landing = Landing(before=away)
    bus = await connect(redis_url)
    await bus.publish("orders", [b"1"])
    await reading(bus, landing)
    await until(lambda: landing.calls > 1)

    await asyncio.wait_for(bus.stop(), 10)
    (pending,) = await raw.xpending_range("orders", "ingestor", "-", "+", 10)
    assert pending["times_delivered"] == 0


async def test_a_bus_that_is_stopped_while_it_starts_leaves_no_connection(
    redis_server: RestartableRedis,
    own_redis: RawRedis,
    connect: Connect,
    reading: Subscribe,
    landing: Landing,
) -> None:
    """At whichever step of the event loop: FastStream has to be started before it can be stopped."""
    for steps in range(80):
        bus = await reading(await connect(redis_server.url), landing)
        for _ in range(steps):
            await asyncio.sleep(0)
        await bus.stop()
        left = [client["lib-name"] for client in await own_redis.client_list()]
        assert "faststream" not in left, f"stopped after {steps} steps"


async def test_a_drained_bus_reads_no_more_and_can_still_publish(
    redis_url: str, raw: RawRedis, connect: Connect, reading: Subscribe, landing: Landing
) -> None:
    bus = await reading(await connect(redis_url), landing)
    await bus.publish("orders", [b"1"])
    await until(lambda: landing.data == [b"1"])

    await bus.drain()
    await bus.publish("orders", [b"2"])
    (group,) = await raw.xinfo_groups("orders")
    assert (group["pending"], group["lag"]) == (0, 1)
    assert landing.data == [b"1"]
    assert await bus.run_until_broken() is None


async def test_a_handler_that_takes_longer_than_a_stop_may_is_cut_off_and_its_entry_handed_back(
    redis_url: str, raw: RawRedis, connect: Connect, reading: Subscribe
) -> None:
    async def hang(_: object) -> None:
        await asyncio.Event().wait()

    landing = Landing(before=hang)
    bus = await connect(redis_url, tuning=Tuning(graceful=0.2))
    await bus.publish("orders", [b"1"])
    await reading(bus, landing)
    await until(lambda: landing.calls)

    await asyncio.wait_for(bus.stop(), 20)
    (pending,) = await raw.xpending_range("orders", "ingestor", "-", "+", 10)
    assert pending["times_delivered"] == 0
    assert pending["time_since_delivered"] >= 30_000
    assert landing.landed == []


async def test_a_full_redis_refuses_to_publish_while_a_consumer_can_still_come_up_and_make_room(
    either_redis: RestartableRedis, either: RawRedis, connect: Connect, reading: Subscribe, landing: Landing
) -> None:
    groups = {"orders": ["ingestor"]}
    bus = await connect(either_redis.url)
    await bus.ensure_groups(groups)
    await bus.publish("orders", [b"x" * 500_000] * 8)
    await either.config_set("maxmemory", "3mb")
    with pytest.raises(Transient, match="cannot publish to orders"):
        await bus.publish("orders", [b"1"])

    await bus.ensure_groups(groups)
    await reading(bus, landing)
    await until(lambda: len(landing.landed) == 8)
    await eventually(lambda: _nothing_pending(either))
    assert await bus.trim(groups) == {"orders": 8}
    await bus.publish("orders", [b"1"])
    await until(lambda: len(landing.landed) == 9)


async def test_settings_that_break_the_promise_are_named(
    redis_server: RestartableRedis, own_redis: RawRedis, connect: Connect
) -> None:
    bus = await connect(redis_server.url)
    assert await bus.check_durability() == []

    await own_redis.config_set("appendfsync", "everysec")
    await own_redis.config_set("maxmemory-policy", "allkeys-lru")
    first, second = await bus.check_durability()
    assert "appendfsync is 'everysec', not 'always'" in first
    assert "maxmemory-policy" in second


async def _nothing_pending(client: RawRedis) -> bool:
    return bool((await client.xpending("orders", "ingestor"))["pending"] == 0)
