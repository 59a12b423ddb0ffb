"""Published again, through the same path: every event is recognised, and what was lost comes back."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

import msgspec
import pytest
from redis.asyncio import Redis

from libs.adapters.bus import Bus, Entry
from libs.adapters.bus.publishing import RoomExceeded
from libs.adapters.telemetry import trace_id_of
from libs.adapters.warehouse import Database
from libs.errors import Permanent
from libs.operations.comparison import LIVE, Landings
from libs.operations.replay import Replayed, Selection, Source, replay
from libs.pipeline.hashing import landed_hash_columns, relation_hash
from tests.integration.archiver.works import Works, an_event, orders_placed


async def replayed(works: Works, bus: Bus, **options: Any) -> Replayed:
    return await replay(works.postgres, bus, {"orders": works.dataset}, objects=works.objects, **options)


async def entries(redis_url: str) -> list[Entry]:
    async with Redis.from_url(redis_url) as redis:
        found: Any = await redis.xrange("orders")
    return [
        Entry("orders", entry_id.decode(), fields[b"data"], fields[b"traceparent"].decode(), 1, fields)
        for entry_id, fields in found
    ]


async def events(redis_url: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for entry in await entries(redis_url):
        document = msgspec.json.decode(entry.data)
        found += document if isinstance(document, list) else [document]
    return found


@pytest.mark.parametrize("source", ["archive", "raw"])
async def test_a_replay_adds_no_row_that_is_there(
    works: Works, bus: Bus, redis_url: str, source: Source
) -> None:
    odd = {**an_event("o-odd", note={"b": [1, 2.50]}), "region": "eu", "subject": "s"}
    await works.land(*orders_placed(1_200), odd)
    await works.land(an_event("o-last"))
    await works.archive()
    before = await works.ingestor.raw()

    done = await replayed(works, bus, source=source)
    await works.ingestor.land(*await entries(redis_url))

    assert (done.batches, done.events, done.entries, done.too_large) == (2, 1_202, 4, 0)
    assert await works.ingestor.raw() == before
    assert await works.ingestor.counts() == {"received": 2_404, "accepted": 1_202, "duplicate": 1_202}


@pytest.mark.parametrize("source", ["archive", "raw"])
async def test_events_come_back_as_they_were_but_for_where_they_come_from(
    works: Works, bus: Bus, redis_url: str, source: Source
) -> None:
    event = {**an_event("o-1", note="ü\\n", pairs=[[1, 2]]), "region": "eu", "subject": "s"}
    await works.land(event)
    await works.archive()

    done = await replayed(works, bus, source=source)

    (again,) = await events(redis_url)
    assert done.traceparent == again.pop("traceparent")
    assert again == {**event, "time": "2026-01-02T03:04:05.000000Z", "drporigin": "replay"}


async def test_what_was_lost_from_raw_comes_back(works: Works, bus: Bus, redis_url: str) -> None:
    await works.land(*orders_placed(10))
    await works.archive()
    kept = "event_id, source_system, source_order_id, amount, raw_payload, event_time, subject"
    before = await works.postgres.fetch(f"SELECT {kept} FROM raw.orders_raw ORDER BY event_id")
    await works.postgres.execute("TRUNCATE raw.orders_raw")

    await replayed(works, bus)
    await works.ingestor.land(*await entries(redis_url))

    assert await works.postgres.fetch(f"SELECT {kept} FROM raw.orders_raw ORDER BY event_id") == before


async def test_a_dry_run_plans_the_same_and_publishes_nothing(works: Works, bus: Bus, redis_url: str) -> None:
    await works.land(*orders_placed(600))
    await works.land(b"{}")
    await works.archive()

    planned = await replayed(works, bus, dry_run=True)
    assert await bus.length("orders") == 0
    done = await replayed(works, bus)

    assert (planned.batches, planned.events, planned.entries) == (1, 600, 2)
    assert (done.batches, done.events, done.entries) == (1, 600, 2)
    assert len(await events(redis_url)) == 600


@pytest.mark.parametrize("source", ["archive", "raw"])
async def test_batches_are_chosen_by_id_or_by_when_they_closed(
    works: Works, bus: Bus, source: Source
) -> None:
    first = await works.land(*orders_placed(1))
    await works.postgres.execute(
        "UPDATE ops.batches SET closed_at = '2026-01-01T12:00:00Z' WHERE id = $1", first["id"]
    )
    second = await works.land(*orders_placed(2, start=10))
    await works.archive()
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)

    async def count(selection: Selection) -> int:
        return (await replayed(works, bus, source=source, dry_run=True, selection=selection)).events

    assert await count(Selection()) == 3
    assert await count(Selection(batches=[second["id"]])) == 2
    assert await count(Selection(since=noon, until=noon + timedelta(seconds=1))) == 1
    assert await count(Selection(since=datetime(2026, 1, 1, 12, 0, 1))) == 2  # noqa: DTZ001 - naive is UTC
    assert await count(Selection(until=noon)) == 0
    with pytest.raises(Permanent, match="is not"):
        await count(Selection(batches=[uuid4()]))


async def test_the_archive_alone_is_enough(works: Works, bus: Bus, redis_url: str) -> None:
    """With a Postgres that lost everything."""
    await works.land(*orders_placed(5))
    await works.archive()
    await works.postgres.execute(
        "TRUNCATE raw.orders_raw, ops.batches, ops.entries, ops.archive_objects CASCADE"
    )

    await replayed(works, bus)
    await works.ingestor.land(*await entries(redis_url))

    assert await works.ingestor.counts() == {"received": 5, "accepted": 5}


async def test_it_is_a_trace_of_its_own(works: Works, bus: Bus, redis_url: str) -> None:
    batch = await works.land(*orders_placed(5))
    await works.archive()

    done = await replayed(works, bus)

    assert {entry.traceparent for entry in await entries(redis_url)} == {done.traceparent}
    assert trace_id_of(done.traceparent) not in {None, trace_id_of(batch["traceparent"])}


async def test_it_waits_for_room(works: Works, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    await works.land(*orders_placed(5))
    await works.archive()
    monkeypatch.setattr("libs.operations.again.ROOM_WITHIN", 0.2)
    await bus.publish("orders", [b"{}", b"{}"])

    with pytest.raises(RoomExceeded):
        await replayed(works, bus, limit=2)
    assert await bus.length("orders") == 2


NOTES: Final = {
    "spaces": {f"k{number}": 1 for number in range(20_000)},
    "zeros": [msgspec.Raw(b"1e131071")] * 500 + [msgspec.Raw(b"-1.5e-99")] * 10_000,
    "few zeros": [msgspec.Raw(b"1e19"), msgspec.Raw(b"12e-9")] * 20_000,
    "nothing": None,
}
"""What jsonb writes longer than it came."""


def as_large_as_may_be(note: object) -> bytes:
    """The platform itself adds a time, an origin and a trace to it."""
    event = an_event("o-big", note=note, padding="")
    del event["time"]
    event["data"]["padding"] = "x" * (256 * 1024 - len(msgspec.json.encode(event)))
    text = msgspec.json.encode(event)
    assert len(text) == 256 * 1024
    return text


@pytest.mark.parametrize("note", NOTES.values(), ids=NOTES)
@pytest.mark.parametrize("source", ["archive", "raw"])
async def test_an_event_as_large_as_may_be_is_recognised(
    works: Works, bus: Bus, redis_url: str, note: object, source: Source
) -> None:
    await works.land(as_large_as_may_be(note))
    await works.archive()

    done = await replayed(works, bus, source=source)
    await works.ingestor.land(*await entries(redis_url))

    assert (done.events, done.too_large) == (1, 0)
    assert await works.ingestor.counts() == {"received": 2, "accepted": 1, "duplicate": 1}


@pytest.mark.parametrize("note", NOTES.values(), ids=NOTES)
async def test_an_event_as_large_as_may_be_comes_back_into_an_empty_platform(
    works: Works, bus: Bus, redis_url: str, note: object
) -> None:
    await works.land(as_large_as_may_be(note), an_event("o-small"))
    await works.archive()
    before = await content(works)
    await works.postgres.execute(
        "TRUNCATE raw.orders_raw, ops.batches, ops.entries, ops.archive_objects CASCADE"
    )

    await replayed(works, bus)
    await works.ingestor.land(*await entries(redis_url))
    await works.ingestor.landing.drain()

    assert await works.ingestor.counts() == {"received": 2, "accepted": 2}
    assert await content(works) == before


async def content(works: Works) -> str:
    """The content hash of RAW, with the payloads."""
    batches = [row["id"] for row in await works.ingestor.batches()]

    def hashed() -> str:
        with Database.memory() as database:
            landings = Landings(database, works.dataset)
            landings.load_live(works.postgres.url, batches, lambda _: None)
            assert landings.count(LIVE) == 2
            return relation_hash(database, LIVE, [*landed_hash_columns(works.dataset), "raw_payload"])

    return await asyncio.to_thread(hashed)


async def test_what_is_too_large_all_the_same_is_left_out_and_counted(
    works: Works, bus: Bus, redis_url: str
) -> None:
    """No ingestor has accepted such an event: somebody else wrote the document."""
    await works.land(an_event("o-1"), an_event("o-2"))
    await works.postgres.execute(
        "UPDATE raw.orders_raw SET raw_payload = raw_payload || jsonb_build_object('x', repeat('x', 270000)) "
        "WHERE source_order_id = 'o-1'"
    )
    await works.archive()

    done = await replayed(works, bus)

    assert (done.events, done.too_large) == (1, 1)
    assert [event["data"]["order_id"] for event in await events(redis_url)] == ["o-2"]


async def test_progress_is_told(works: Works, bus: Bus) -> None:
    await works.land(*orders_placed(600))
    await works.archive()
    told: list[tuple[int, int]] = []

    await replayed(works, bus, on_progress=lambda *at: told.append(at))

    assert told[-1] == (600, 600)


async def test_refused_events_stay_in_the_archive_and_are_counted(
    works: Works, bus: Bus, redis_url: str
) -> None:
    await works.land(b"{}", an_event("o-1"))
    await works.land(b"no JSON")
    await works.archive()

    done = await replayed(works, bus)

    assert (done.events, done.refused, len(done.refused_documents)) == (1, 2, 2)
    assert all([await works.objects.get(key) for key in done.refused_documents])
    assert len(await events(redis_url)) == 1
    from_raw = await replayed(works, bus, source="raw", dry_run=True)
    assert (from_raw.refused, from_raw.refused_documents) == (0, [])
