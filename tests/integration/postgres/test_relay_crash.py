"""A relay that dies between the sending and the mark: the event comes again, and its consumer knows it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from libs.adapters.bus import Bus, Entry
from libs.adapters.postgres import Postgres
from libs.contracts.events import BatchHeld, batch_subject, decode_event
from libs.errors import Transient
from libs.pipeline.outbox import Relay, announce, remember
from libs.testing.waiting import until

NOW = datetime(2026, 1, 2, tzinfo=UTC)
STREAM = "drp.batches"
RELAY = "relay-that-dies"


class DiesOnceSent:
    """The bus of a relay whose connection to Postgres is cut as soon as Redis has the events."""

    def __init__(self, bus: Bus, witness: Postgres) -> None:
        self._bus = bus
        self._witness = witness

    async def publish(self, stream: str, documents: Sequence[bytes]) -> list[str]:
        entry_ids = await self._bus.publish(stream, documents)
        killed = await self._witness.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE '%' || $1",
            RELAY,
        )
        assert killed
        return entry_ids


@pytest.fixture
async def postgres(postgres_url: str) -> AsyncIterator[Postgres]:
    opened = await Postgres.open(postgres_url, service="test")
    yield opened
    await opened.close()


@pytest.fixture
async def dying(postgres_url: str) -> AsyncIterator[Postgres]:
    opened = await Postgres.open(postgres_url, service=RELAY, max_size=1)
    yield opened
    await opened.close()


@pytest.fixture
async def bus(redis_url: str) -> AsyncIterator[Bus]:
    opened = await Bus.connect(redis_url, service="test", consumer="test-1")
    await opened.ensure_groups({STREAM: ["audit"]})
    yield opened
    await opened.stop()


async def tell(postgres: Postgres) -> UUID:
    batch = uuid4()
    event = BatchHeld(dataset="orders", started_at=NOW, ended_at=NOW, records=1, batch_id=batch, reason="r")
    async with postgres.transaction() as connection:
        return await announce(connection, event, cause=batch, subject=batch_subject(batch), traceparent=None)


async def test_what_was_sent_but_not_marked_is_sent_again_under_its_id_and_handled_once(
    postgres: Postgres, dying: Postgres, bus: Bus
) -> None:
    told = [await tell(postgres) for _ in range(3)]

    with pytest.raises(Transient):
        await Relay(dying, DiesOnceSent(bus, postgres)).send_pending()
    assert await bus.length(STREAM) == 3
    assert await postgres.fetchval("SELECT count(*) FROM ops.outbox WHERE published_at IS NULL") == 3

    assert await Relay(postgres, bus).send_pending() == 3
    assert await Relay(postgres, bus).send_pending() == 0

    entries = [entry async for entry in bus.unhandled(STREAM, "audit")]
    assert [id_of(entry) for entry in entries] == told * 2
    handled: list[UUID] = []

    async def handle(given: Sequence[Entry]) -> None:
        async with postgres.transaction() as connection:
            new = await remember(connection, "audit", [id_of(entry) for entry in given])
        handled.extend(sorted(new))

    async def refused(_: Entry, why: str) -> None:
        raise AssertionError(why)

    bus.subscribe(STREAM, "audit", handle, on_poison=refused, max_records=1)
    await bus.start()
    await until(lambda: all_handled(bus))
    assert sorted(handled) == sorted(told)


async def all_handled(bus: Bus) -> bool:
    return not [entry async for entry in bus.unhandled(STREAM, "audit")]


def id_of(entry: Entry) -> UUID:
    return decode_event(entry.data)[0].id
