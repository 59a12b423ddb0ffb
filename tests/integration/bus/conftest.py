"""A bus in a hurry, a raw client beside it, and a handler that remembers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from redis.asyncio import Redis

from libs.adapters.bus import Bus, Tuning
from libs.testing.servers import RestartableRedis
from tests.integration.bus.landing import HURRIED, Connect, Landing, RawRedis, Subscribe


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Opens a bus that is stopped when the test ends."""
    async with AsyncExitStack() as stack:

        async def connected(url: str, *, consumer: str = "one", tuning: Tuning = HURRIED) -> Bus:
            bus = await Bus.connect(url, service="test", consumer=consumer, timeout=240, tuning=tuning)
            stack.push_async_callback(bus.stop)
            return bus

        yield connected


@pytest.fixture
def reading() -> Subscribe:
    """Has the bus read stream `orders` for group `ingestor` into a landing."""

    async def subscribe(bus: Bus, landing: Landing, **options: Any) -> Bus:
        bus.subscribe("orders", "ingestor", landing.land, on_poison=landing.bury, **options)
        await bus.start()
        return bus

    return subscribe


@pytest.fixture
def landing() -> Landing:
    return Landing()


@pytest.fixture
async def own_redis(redis_server: RestartableRedis) -> AsyncIterator[RawRedis]:
    """A client of the test's own server."""
    async with Redis.from_url(redis_server.url) as client:
        yield client


@pytest.fixture
async def either(either_redis: RestartableRedis) -> AsyncIterator[RawRedis]:
    """A client of a server of either engine."""
    async with Redis.from_url(either_redis.url) as client:
        yield client


@pytest.fixture
async def raw(redis_url: str) -> AsyncIterator[RawRedis]:
    """A client of the shared server, empty."""
    async with Redis.from_url(redis_url) as client:
        yield client
