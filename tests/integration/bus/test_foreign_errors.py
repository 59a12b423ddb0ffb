"""Errors that are neither of the house's two: refused like any other, and never quoted."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from libs.adapters.bus import Entry
from libs.testing.waiting import until
from tests.integration.bus.landing import Connect, Landing, RawRedis, Subscribe, eventually
from tests.integration.bus.test_delivery import settled


async def test_an_error_that_quotes_the_payload_reaches_neither_the_reason_nor_the_log(
    redis_url: str,
    raw: RawRedis,
    connect: Connect,
    reading: Subscribe,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def quote(entries: Sequence[Entry]) -> None:
        int(entries[0].data)

    landing = Landing(before=quote)
    bus = await connect(redis_url)
    await bus.publish("orders", [b"alice@secret.example"])
    await reading(bus, landing)

    await until(lambda: landing.buried)
    await eventually(lambda: settled(raw))
    ((_, reason),) = landing.buried
    assert reason == "ValueError"
    assert "ValueError" in caplog.text
    assert "alice" not in caplog.text


@pytest.mark.parametrize("error", [FileNotFoundError, PermissionError, ConnectionResetError])
async def test_an_error_of_the_handlers_own_files_and_sockets_is_no_outage_of_redis(
    redis_url: str, raw: RawRedis, connect: Connect, reading: Subscribe, error: type[OSError]
) -> None:
    async def lose_a_file(_: Sequence[Entry]) -> None:
        raise error("/secret/orders.txt")

    landing = Landing(before=lose_a_file)
    bus = await connect(redis_url)
    await bus.publish("orders", [b"1"])
    await reading(bus, landing)

    await until(lambda: landing.buried)
    await eventually(lambda: settled(raw))
    assert [reason for _, reason in landing.buried] == [error.__name__]
