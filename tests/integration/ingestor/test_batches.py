"""When a batch is closed, by whom, and what is told of it, on a real Postgres."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from libs.adapters.postgres import Postgres
from libs.adapters.telemetry import trace_id_of
from libs.contracts.events import BatchClosed, decode_event
from libs.datasets import Dataset
from libs.errors import Transient
from libs.testing.waiting import until
from services.ingestor.store import RawStore
from tests.integration.ingestor.room import Room, an_entry, an_event, open_room

NEVER = 3600.0


def a_trace(number: int) -> str:
    return f"00-{number + 1:032x}-{number + 1:016x}-01"


async def test_a_batch_is_closed_by_size_with_the_landing_that_fills_it(
    postgres: Postgres, orders: Dataset
) -> None:
    room = await open_room(postgres, orders, batch_max_events=5, batch_max_age=NEVER)
    await room.land(an_entry(an_event(), an_event(), b"17"))
    await room.land(an_entry(an_event(), an_event()))
    await room.land(an_entry(an_event()))

    full, rest = await room.batches()
    assert (full["state"], full["close_reason"], full["received"]) == ("closed", "size", 5)
    assert full["first_event_time"] <= full["last_event_time"]
    assert (rest["state"], rest["received"]) == ("open", 1)
    (told,) = await room.told()
    envelope, event = decode_event(told["document"])
    assert isinstance(event, BatchClosed)
    assert (event.batch_id, event.received, event.accepted, event.quarantined) == (full["id"], 5, 4, 1)
    assert (event.started_at, event.ended_at) == (full["opened_at"], full["closed_at"])
    assert envelope.subject == f"batch:{full['id']}"
    assert envelope.traceparent == full["traceparent"]
    assert trace_id_of(full["traceparent"])


async def test_nothing_is_closed_before_its_age(postgres: Postgres, orders: Dataset) -> None:
    room = await open_room(postgres, orders, batch_max_age=NEVER)
    await room.land(an_entry(an_event()))
    await room.landing.close_overdue()

    assert [batch["state"] for batch in await room.batches()] == ["open"]


async def test_a_batch_is_closed_by_age_without_traffic(postgres: Postgres, orders: Dataset) -> None:
    room = await open_room(postgres, orders, batch_max_age=0.05)
    await room.land(an_entry(an_event()))

    async def closed() -> bool:
        await room.landing.close_overdue()
        return str((await room.batches())[0]["state"]) == "closed"

    await until(closed)
    await room.land(an_entry(an_event()))
    first, second = await room.batches()
    assert (first["close_reason"], first["received"]) == ("age", 1)
    assert second["state"] == "open"
    assert len(await room.told()) == 1


async def test_the_batch_of_a_replica_that_died_is_closed_by_another(
    postgres: Postgres, orders: Dataset
) -> None:
    dead = await open_room(postgres, orders, consumer="ingestor-1", batch_max_age=0.05)
    alive = await open_room(postgres, orders, consumer="ingestor-2", batch_max_age=0.05)
    await dead.land(an_entry(an_event()))
    await alive.landing.close_overdue()
    assert [batch["state"] for batch in await alive.batches()] == ["open"], "not before the grace is over"

    await postgres.execute("UPDATE ops.batches SET opened_at = opened_at - interval '10 s'")
    await alive.landing.close_overdue()

    (batch,) = await alive.batches()
    assert (batch["state"], batch["close_reason"], batch["opened_by"]) == ("closed", "age", "ingestor-1")
    assert len(await alive.told()) == 1


async def test_a_batch_overdue_for_all_is_closed_and_told_once(postgres: Postgres, orders: Dataset) -> None:
    rooms = [await open_room(postgres, orders, consumer=f"i-{n}", batch_max_age=0.05) for n in range(4)]
    for room in rooms:
        await room.land(an_entry(an_event()))
    await postgres.execute("UPDATE ops.batches SET opened_at = opened_at - interval '10 s'")
    await asyncio.gather(*(room.landing.close_overdue() for room in rooms))

    assert {batch["state"] for batch in await rooms[0].batches()} == {"closed"}
    assert len(await rooms[0].told()) == 4


async def test_a_batch_in_the_middle_of_a_landing_is_left_to_its_owner(
    postgres: Postgres, orders: Dataset
) -> None:
    room = await open_room(postgres, orders, batch_max_age=0.05)
    await room.land(an_entry(an_event()))
    await postgres.execute("UPDATE ops.batches SET opened_at = opened_at - interval '10 s'")
    async with postgres.transaction() as landing:
        await landing.execute("UPDATE ops.batches SET received = received")
        await asyncio.wait_for(room.landing.close_overdue(), 240)

    assert [batch["state"] for batch in await room.batches()] == ["open"]


async def test_a_landing_whose_batch_is_closed_under_it_is_rolled_back_and_lands_in_a_new_one(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    await room.land(an_entry(an_event()))
    (first,) = await room.batches()
    write = RawStore.land
    seen: list[UUID] = []

    async def closed_meanwhile(self: RawStore, connection, rows, batch_id):  # type: ignore[no-untyped-def]
        landed = await write(self, connection, rows, batch_id)
        seen.append(batch_id)
        await room.postgres.execute(
            "UPDATE ops.batches SET state = 'closed', closed_at = now() WHERE state = 'open'"
        )
        return landed

    monkeypatch.setattr(RawStore, "land", closed_meanwhile)
    await room.land(an_entry(an_event(), an_event()))

    closed, opened = await room.batches()
    assert seen == [first["id"], opened["id"]]
    assert (closed["received"], opened["received"]) == (1, 2)
    assert [row["batch_id"] for row in await room.raw()] == [closed["id"], opened["id"], opened["id"]]
    assert await room.balanced()


async def test_a_replica_that_drains_closes_its_own_batch_and_no_other(
    postgres: Postgres, orders: Dataset
) -> None:
    rooms = [await open_room(postgres, orders, consumer=f"i-{n}", batch_max_age=NEVER) for n in range(2)]
    for room in rooms:
        await room.land(an_entry(an_event()))
    await rooms[0].landing.drain()
    await rooms[0].landing.drain()

    states = {
        batch["opened_by"]: (batch["state"], batch["close_reason"]) for batch in await rooms[0].batches()
    }
    assert states == {"i-0": ("closed", "drain"), "i-1": ("open", None)}


async def test_a_batch_that_an_operator_asks_to_close_is_closed_whoever_fills_it(
    postgres: Postgres, orders: Dataset
) -> None:
    owner = await open_room(postgres, orders, consumer="ingestor-1", batch_max_age=NEVER)
    other = await open_room(postgres, orders, consumer="ingestor-2", batch_max_age=NEVER)
    await owner.land(an_entry(an_event()))
    await postgres.execute("UPDATE ops.batches SET close_reason = 'requested' WHERE state = 'open'")
    await other.landing.close_overdue()
    await owner.land(an_entry(an_event()))

    closed, opened = await owner.batches()
    assert (closed["state"], closed["close_reason"], closed["received"]) == ("closed", "requested", 1)
    assert (opened["state"], opened["received"]) == ("open", 1)


async def test_an_empty_batch_is_removed_and_not_told(postgres: Postgres, orders: Dataset) -> None:
    room = await open_room(postgres, orders)
    await postgres.execute(
        "INSERT INTO ops.batches (id, dataset, opened_by, opened_at) "
        "VALUES (gen_random_uuid(), 'orders', 'gone', now() - interval '1 h')"
    )
    await room.landing.close_overdue()

    assert await room.batches() == []
    assert await room.told() == []


async def test_a_batch_knows_at_most_64_of_its_producers(room: Room) -> None:
    for first in range(0, 100, 20):
        events = [an_event() | {"traceparent": a_trace(first + n % 30)} for n in range(60)]
        await room.land(an_entry(*events, traceparent=a_trace(0)))

    (batch,) = await room.batches()
    assert len(batch["producers"]) == len(set(batch["producers"])) == 64


async def test_a_landing_that_postgres_interrupts_leaves_no_trace_and_can_be_repeated(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = an_entry(an_event(), b"17")
    count = RawStore.quarantine

    async def cut(self: RawStore, connection, slots, batch_id, disposition):  # type: ignore[no-untyped-def]
        await count(self, connection, slots, batch_id, disposition)
        await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with monkeypatch.context() as patched:
        patched.setattr(RawStore, "quarantine", cut)
        with pytest.raises(Transient):
            await room.land(entry)
    assert await room.counts() == {}
    assert await room.raw() == []

    await room.land(entry)
    assert await room.counts() == {"received": 2, "accepted": 1, "quarantined": 1}
    assert await room.balanced()


async def test_the_ledgers_checks_hold_against_wrong_sums(room: Room) -> None:
    """What would break the balance can't be written at all."""
    await room.land(an_entry(an_event()))
    for wrong in ("received = received + 1", "conflicts = 1", "state = 'closed'"):
        with pytest.raises(Exception, match="batches"):
            await room.postgres.execute(f"UPDATE ops.batches SET {wrong}")
    with pytest.raises(Exception, match="entries"):
        await room.postgres.execute("UPDATE ops.entries SET duplicate = 1")
