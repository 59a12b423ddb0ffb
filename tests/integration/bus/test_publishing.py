"""Publishing in bulk: one round trip for hundreds of entries, hundreds of events in an entry."""

from __future__ import annotations

import json

import pytest

from libs.errors import Permanent, Transient
from libs.testing.servers import RestartableRedis
from tests.integration.bus.landing import Connect, RawRedis


async def test_every_document_is_an_entry_in_its_order(
    redis_url: str, raw: RawRedis, connect: Connect
) -> None:
    bus = await connect(redis_url)
    documents = [b"%04d" % number for number in range(1234)]

    ids = await bus.publish("orders", documents, traceparent="00-a-b-01")

    found = await raw.xrange("orders")
    assert [entry_id.decode() for entry_id, _ in found] == ids
    assert [fields[b"data"] for _, fields in found] == documents
    assert found[0][1][b"traceparent"] == b"00-a-b-01"


async def test_nothing_to_publish_is_no_entry(redis_url: str, connect: Connect) -> None:
    bus = await connect(redis_url)
    assert await bus.publish("orders", []) == []
    assert await bus.publish_events("orders", []) == []
    assert await bus.length("orders") == 0


async def test_events_are_packed_into_arrays(redis_url: str, raw: RawRedis, connect: Connect) -> None:
    bus = await connect(redis_url)
    events = [b'{"id":"%d"}' % number for number in range(1001)]

    ids = await bus.publish_events("orders", events, per_entry=500)

    found = [json.loads(fields[b"data"]) for _, fields in await raw.xrange("orders")]
    assert len(ids) == len(found) == 3
    assert [len(found[0]), len(found[1])] == [500, 500]
    assert found[2] == {"id": "1000"}


async def test_publishing_to_what_is_no_stream_is_a_permanent_error(
    redis_url: str, raw: RawRedis, connect: Connect
) -> None:
    await raw.set("orders", "a string")
    bus = await connect(redis_url)
    with pytest.raises(Permanent, match="cannot publish to orders"):
        await bus.publish("orders", [b"1"])


async def test_a_write_that_redis_refuses_for_now_is_transient_and_quotes_nothing(
    redis_server: RestartableRedis, own_redis: RawRedis, connect: Connect
) -> None:
    bus = await connect(redis_server.url)
    await own_redis.config_set("min-replicas-to-write", 1)
    with pytest.raises(Transient, match="NOREPLICAS") as caught:
        await bus.publish("orders", [b"alice@secret.example"])
    assert "alice" not in str(caught.value)


async def test_bulk_publishing_is_not_one_round_trip_an_entry(
    redis_server: RestartableRedis, own_redis: RawRedis, connect: Connect
) -> None:
    bus = await connect(redis_server.url)
    before = (await own_redis.info("stats"))["total_reads_processed"]
    await bus.publish("orders", [b"x"] * 20_000)
    assert (await own_redis.info("stats"))["total_reads_processed"] - before < 1_000
