"""One event's life, found by whatever somebody has of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from libs.adapters.postgres import Postgres
from libs.datasets import Dataset, load_dataset
from libs.operations.finding import find
from libs.operations.found import Found
from libs.testing.builders import a_payment, encoded
from tests.integration.archiver.works import Works, an_entry, an_event
from tests.integration.ingestor.room import open_room

PAYMENTS = Path(__file__).parents[3] / "data" / "datasets" / "payments"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


async def found(works: Works, text: object, *, here: bool = True) -> Found:
    datasets = {works.dataset.name: works.dataset}
    return await find(works.postgres, datasets, str(text), warehouses=works.root if here else None)


def versions(found: Found) -> list[tuple[str, str]]:
    return [(life.event_id, life.place) for life in found.events]


async def test_an_order_is_told_from_its_producer_to_its_readers(works: Works) -> None:
    event = {**an_event("o-1", event_id="e-1"), "traceparent": PARENT}
    await works.ingestor.land(
        an_entry(event, an_event("o-2"), entry_id="1767323045123-7", traceparent=PARENT)
    )
    await works.ingestor.landing.drain()
    number = await works.publish()
    await works.archive()
    batch = await works.batch()

    (life,) = (await found(works, "o-1")).events

    assert (life.dataset, life.key, life.source, life.event_id) == ("orders", "o-1", "urn:test:shop", "e-1")
    assert (life.stream, life.entry, life.position) == ("orders", "1767323045123-7", 0)
    assert life.published_at is not None
    assert life.published_at.isoformat() == "2026-01-02T03:04:05.123000+00:00"
    assert life.producer_trace == TRACE
    assert life.landed_at is not None
    (raw,) = [row for row in await works.ingestor.raw() if row["event_id"] == "e-1"]
    assert (life.raw_id, life.ingested_at) == (raw["id"], raw["ingested_at"])
    assert (life.batch, life.batch_status, life.batch_closed_at) == (
        batch["id"],
        "published",
        batch["closed_at"],
    )
    assert life.trace == batch["traceparent"].split("-")[1]
    assert (life.place, life.rules, life.superseded_by) == ("staged", [], None)
    assert (life.generation, life.generation_published_at is not None) == (number, True)
    assert life.object == await works.key(f"batch_id={batch['id']}.jsonl.gz")


@pytest.mark.parametrize("text", ["e-1", "urn:test:shop/e-1", "o-1"])
async def test_it_is_found_by_its_id_with_or_without_its_source_and_by_its_key(
    works: Works, text: str
) -> None:
    await works.land(an_event("o-1", event_id="e-1"), an_event("o-2", event_id="e-2"))
    assert [life.event_id for life in (await found(works, text)).events] == ["e-1"]


async def test_ids_with_slashes_are_ids(works: Works) -> None:
    await works.land({**an_event("o/1", event_id="a/b"), "source": "https://shop/x"})
    for text in ("o/1", "a/b", "https://shop/x/a/b"):
        assert [life.event_id for life in (await found(works, text)).events] == ["a/b"]


async def test_all_versions_of_an_order_are_told_oldest_first(works: Works) -> None:
    def at(hour: int, name: str) -> dict[str, Any]:
        return {**an_event("o-1", event_id=name), "time": f"2026-01-02T{hour:02}:00:00Z"}

    await works.land(at(5, "second"), at(9, "last"))
    await works.publish()
    await works.land(at(1, "first"), at(7, "third"))
    assert versions(await found(works, "o-1")) == [
        ("first", "waiting"),
        ("second", "superseded"),
        ("third", "waiting"),
        ("last", "staged"),
    ]
    await works.publish()
    found_now = await found(works, "o-1")
    assert versions(found_now) == [
        ("first", "superseded"),
        ("second", "superseded"),
        ("third", "superseded"),
        ("last", "staged"),
    ]
    assert {life.superseded_by for life in found_now.events[:3]} == {"last"}
    (one,) = (await found(works, "third")).events
    assert (one.place, one.superseded_by) == ("superseded", "last")


async def test_a_version_counts_until_readers_see_a_later_one(works: Works) -> None:
    await works.land({**an_event("o-1", event_id="old"), "time": "2026-01-02T01:00:00Z"})
    await works.publish()
    await works.land({**an_event("o-1", event_id="new"), "time": "2026-01-02T02:00:00Z"})
    assert versions(await found(works, "o-1")) == [("old", "staged"), ("new", "waiting")]


async def test_a_row_that_breaks_a_rule_stands_with_its_rules(works: Works) -> None:
    await works.land(an_event("o-1", amount="-1.00"), *(an_event() for _ in range(99)))
    await works.publish()
    (life,) = (await found(works, "o-1")).events
    assert (life.place, life.rules) == ("rejected", ["amount_not_negative"])


async def test_without_the_warehouse_s_files_it_is_applied(works: Works) -> None:
    await works.land(an_event("o-1"))
    await works.publish()
    assert [place for _, place in versions(await found(works, "o-1", here=False))] == ["applied"]


async def test_an_open_and_a_held_batch_say_so(works: Works) -> None:
    await works.ingestor.land(an_entry(an_event("o-1")))
    assert [place for _, place in versions(await found(works, "o-1"))] == ["open"]
    await works.ingestor.landing.drain()
    async with works.postgres.transaction() as connection:
        await connection.execute("UPDATE ops.batches SET held_at = now(), held_reason = 'a test'")
    assert [place for _, place in versions(await found(works, "o-1"))] == ["held"]


async def test_what_was_refused_is_found_by_id_and_by_the_key_in_its_bytes(works: Works) -> None:
    bad = an_event("o-bad", event_id="e-bad", amount="ten")
    other = an_event("o-1", amount="ten", note="o-bad")
    batch = await works.land(an_event("o-2"), bad, other)
    await works.archive()
    for text in ("o-bad", "e-bad", "urn:test:shop/e-bad"):
        this = await found(works, text)
        (slot,) = this.refused
        assert (slot.reason, slot.field, slot.event_id, slot.position) == ("wrong_type", "amount", "e-bad", 1)
        assert this.events == []
        assert (slot.batch, slot.batch_status) == (
            batch["id"],
            "empty" if not batch["accepted"] else "closed",
        )
        assert slot.object == await works.key(".quarantine.jsonl.gz")


async def test_bytes_that_no_one_can_read_are_found_by_the_key_in_them(works: Works) -> None:
    await works.land(b'{"specversion": "1.0", "data": {"order_id": "o-torn", ')
    (slot,) = (await found(works, "o-torn")).refused
    assert slot.reason == "undecodable"
    assert not await found(works, "torn")


async def test_a_conflict_is_told_beside_the_event_that_stands(works: Works) -> None:
    await works.land(an_event("o-1", event_id="e-1"))
    await works.land(an_event("o-1", event_id="e-1", amount="99.00"))
    this = await found(works, "e-1")
    assert len(this.events) == 1
    assert [slot.reason for slot in this.refused] == ["conflict"]


async def test_a_batch_is_found_by_its_id_with_what_it_counted(works: Works) -> None:
    batch = await works.land(an_event("o-1", event_id="e-1"), an_event("o-1", event_id="e-1"))
    await works.archive()
    this = await found(works, batch["id"])
    (only,) = this.batches
    assert (only.id, only.received, only.accepted, only.duplicate) == (batch["id"], 2, 1, 1)
    assert only.objects is not None
    assert len(only.objects) == 2
    assert this.events == []


async def test_a_trace_leads_to_its_batches_and_a_producer_s_to_its_events(works: Works) -> None:
    mine = {**an_event("o-1", event_id="e-1"), "traceparent": PARENT}
    bad = {**an_event("o-2", event_id="e-2", amount="ten"), "traceparent": PARENT}
    await works.ingestor.land(an_entry(mine, bad, an_event("o-3"), traceparent=PARENT))
    await works.ingestor.landing.drain()
    batch = await works.batch()
    await works.land(an_event("o-4"))

    own = await found(works, batch["traceparent"].split("-")[1])
    assert ([one.id for one in own.batches], own.events, own.refused) == ([batch["id"]], [], [])

    this = await found(works, TRACE)
    assert [one.id for one in this.batches] == [batch["id"]]
    assert [life.event_id for life in this.events] == ["e-1"]
    assert [slot.event_id for slot in this.refused] == ["e-2"]


async def test_a_key_that_is_a_number_is_asked_for_as_one(postgres_url: str) -> None:
    payments = load_dataset(PAYMENTS)
    postgres = await Postgres.open(postgres_url, service="test")
    try:
        room = await open_room(postgres, payments)
        await room.land(an_entry(encoded(a_payment(id="e-1", payment_id=17))))
        for text, events in (("17", ["e-1"]), ("e-1", ["e-1"]), ("170", []), ("9" * 30, [])):
            this = await find(postgres, {"payments": payments}, text)
            assert [life.event_id for life in this.events] == events
    finally:
        await postgres.close()


@pytest.mark.parametrize(
    "text", ["o-2", "", "\0", "\ud800", "%", "' OR true --", TRACE, str(UUID(int=7)), "/"]
)
async def test_what_is_not_there_is_not_found(works: Works, text: str) -> None:
    await works.land(an_event("o-1"))
    this = await found(works, text)
    assert not this
    assert (this.text, this.events, this.refused, this.batches) == (text, [], [], [])


async def test_more_events_than_are_asked_for_are_owned_up_to(works: Works) -> None:
    await works.land(*(an_event("o-1") for _ in range(3)))
    this = await find(works.postgres, {"orders": works.dataset}, "o-1", limit=2)
    assert (len(this.events), this.more) == (2, True)


async def test_more_slots_than_are_asked_for_are_owned_up_to(works: Works) -> None:
    """Those that only mention the key don't count, however many they are."""
    await works.land(*(an_event("o-1", event_id=f"e-{n}", amount="ten") for n in range(3)))
    await works.land(*(an_event(amount="ten", note="o-1") for _ in range(150)))
    for limit, ids, more in ((2, ["e-2", "e-1"], True), (3, ["e-2", "e-1", "e-0"], False)):
        this = await find(works.postgres, {"orders": works.dataset}, "o-1", limit=limit)
        assert ([slot.event_id for slot in this.refused], this.more) == (ids, more)
    await works.land(*(an_event("o-2", event_id="e-9", amount=f"ten{n}") for n in range(3)))
    this = await find(works.postgres, {"orders": works.dataset}, "e-9", limit=2)
    assert (len(this.refused), this.more) == (2, True)


async def test_how_many_slots_were_searched_for_a_key_is_owned_up_to(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("libs.operations.finding.QUARANTINE_LOOKED_AT", 2)
    await works.land(
        *(an_event(f"o-{n}", event_id=f"e-{n}", amount="ten") for n in range(2)),
        an_event("o-0", event_id="e-2"),
    )
    this = await found(works, "o-0")
    assert ([slot.event_id for slot in this.refused], this.searched) == (["e-0"], None)
    await works.land(an_event("o-3", amount="ten"))
    this = await found(works, "o-0")
    assert ([life.event_id for life in this.events], this.refused, this.searched) == (["e-2"], [], 2)
    assert [slot.event_id for slot in (await found(works, "o-1")).refused] == ["e-1"]
    assert [slot.event_id for slot in (await found(works, "e-0")).refused] == ["e-0"]


async def test_a_dataset_that_nothing_has_landed_of_is_no_trouble(works: Works) -> None:
    await works.land(an_event("o-1"))
    datasets: dict[str, Dataset] = {"payments": load_dataset(PAYMENTS), "orders": works.dataset}
    assert len((await find(works.postgres, datasets, "o-1")).events) == 1
