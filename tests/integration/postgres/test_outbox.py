"""The outbox and the inbox, on a real Postgres; the bus is a list."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from libs.adapters import metrics
from libs.adapters.postgres import Postgres
from libs.contracts.events import BatchHeld, batch_subject, decode_event
from libs.errors import Transient
from libs.pipeline.outbox import Relay, announce, remember
from libs.testing.waiting import until

NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Heard:
    """A bus that keeps what it is given, and is down for the first so many calls."""

    def __init__(self, *, down_for: int = 0) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self._down_for = down_for

    async def publish(self, stream: str, documents: Sequence[bytes]) -> list[str]:
        if self._down_for:
            self._down_for -= 1
            raise Transient("the bus is down")
        self.sent += [(stream, document) for document in documents]
        return ["0-1"] * len(documents)


@pytest.fixture
async def postgres(postgres_url: str) -> AsyncIterator[Postgres]:
    opened = await Postgres.open(postgres_url, service="test", max_size=8)
    yield opened
    await opened.close()


async def tell(postgres: Postgres, batch_id: UUID) -> UUID:
    event = BatchHeld(
        dataset="orders", started_at=NOW, ended_at=NOW, records=1, batch_id=batch_id, reason="r"
    )
    async with postgres.transaction() as connection:
        return await announce(
            connection, event, cause=batch_id, subject=batch_subject(batch_id), traceparent=None
        )


async def test_what_is_announced_is_sent_once_in_order(postgres: Postgres) -> None:
    bus = Heard()
    relay = Relay(postgres, bus)
    told = [await tell(postgres, uuid4()) for _ in range(3)]

    assert await relay.send_pending() == 3
    assert await relay.send_pending() == 0
    assert [stream for stream, _ in bus.sent] == ["drp.batches"] * 3
    assert [decode_event(document)[0].id for _, document in bus.sent] == told


async def test_a_fact_announced_twice_is_one_event(postgres: Postgres) -> None:
    batch = uuid4()

    assert await tell(postgres, batch) == await tell(postgres, batch)
    assert await Relay(postgres, Heard()).send_pending() == 1


async def test_what_was_rolled_back_was_never_announced(postgres: Postgres) -> None:
    async def fail() -> None:
        async with postgres.transaction() as connection:
            event = BatchHeld(
                dataset="orders", started_at=NOW, ended_at=NOW, records=1, batch_id=uuid4(), reason="r"
            )
            await announce(connection, event, cause=uuid4(), subject="batch:x", traceparent=None)
            raise Transient("no")

    with pytest.raises(Transient):
        await fail()
    assert await Relay(postgres, Heard()).send_pending() == 0


async def test_several_relays_send_each_event_once(postgres: Postgres) -> None:
    bus = Heard()
    for _ in range(20):
        await tell(postgres, uuid4())
    await asyncio.gather(*(Relay(postgres, bus).send_pending() for _ in range(4)))

    assert len(bus.sent) == len(set(bus.sent)) == 20


async def test_a_bus_that_is_down_delays_and_loses_nothing(postgres: Postgres) -> None:
    bus = Heard(down_for=2)
    relay = Relay(postgres, bus, poll=0.02)
    stop = asyncio.Event()
    running = asyncio.create_task(relay.run(stop))
    await tell(postgres, uuid4())
    relay.nudge()

    await until(lambda: bus.sent)
    stop.set()
    await asyncio.wait_for(running, 240)
    assert len(bus.sent) == 1


async def test_a_nudge_is_not_lost_and_needs_no_poll(postgres: Postgres) -> None:
    bus = Heard()
    relay = Relay(postgres, bus, poll=3600)
    stop = asyncio.Event()
    running = asyncio.create_task(relay.run(stop))
    for expected in range(1, 4):
        await tell(postgres, uuid4())
        relay.nudge()
        await until(lambda expected=expected: len(bus.sent) == expected)  # type: ignore[misc]
    await tell(postgres, uuid4())
    stop.set()
    await asyncio.wait_for(running, 240)

    assert len(bus.sent) == 4, "what is announced before the stop is sent before the end"


async def test_a_consumer_remembers_what_it_handled(postgres: Postgres) -> None:
    first, second = uuid4(), uuid4()
    async with postgres.transaction() as connection:
        assert await remember(connection, "audit", [first]) == {first}
    async with postgres.transaction() as connection:
        assert await remember(connection, "audit", [first, second]) == {second}
        assert await remember(connection, "archiver", [first]) == {first}


async def test_what_waits_is_counted_whoever_has_it_in_hand(postgres: Postgres) -> None:
    for _ in range(250):
        await tell(postgres, uuid4())
    pending = metrics.OUTBOX_PENDING._value
    with pytest.raises(Transient):
        await Relay(postgres, Heard(down_for=1)).send_pending()
    assert pending.get() == 250

    async with postgres.transaction() as another:
        await another.fetch("SELECT FROM ops.outbox ORDER BY id LIMIT 30 FOR UPDATE")
        assert await Relay(postgres, Heard()).send_pending() == 220
        assert pending.get() == 30
    assert await Relay(postgres, Heard()).send_pending() == 30
    assert pending.get() == 0
