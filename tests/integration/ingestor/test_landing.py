"""Every slot gets exactly one disposition, on a real Postgres."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
from decimal import Decimal

import pytest

from libs.adapters.bus import Entry
from libs.adapters.postgres import Postgres, PostgresRefused
from libs.datasets import Column, ColumnType, Dataset
from libs.pipeline.decode import Decoder, Slots
from services.ingestor.store import RawStore
from tests.integration.ingestor.room import Room, an_entry, an_event, open_room

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_an_order_lands_with_its_envelope(room: Room) -> None:
    event = an_event("o-1", note="kept") | {"traceparent": TRACE, "subject": "s", "shard": "7"}
    await room.land(an_entry(event))

    (row,) = await room.raw()
    assert (row["source_order_id"], row["amount"], row["source_system"]) == (
        "o-1",
        Decimal("12.30"),
        event["source"],
    )
    assert (row["event_id"], row["subject"], row["traceparent"]) == (event["id"], "s", TRACE)
    assert row["raw_payload"] == event["data"]
    assert row["extensions"] == {"shard": "7"}
    assert (row["origin"], row["stream_position"]) == ("live", 0)
    assert await room.counts() == {"received": 1, "accepted": 1}


async def test_a_redelivery_counts_nothing(room: Room) -> None:
    entry = an_entry(an_event(), an_event(), b"17")
    await room.land(entry)
    before = (await room.batches())[0]
    await room.land(entry)

    assert await room.batches() == [before]
    assert await room.balanced()


async def test_a_micro_batch_with_a_redelivery_counts_only_what_is_new(room: Room) -> None:
    seen, new = an_entry(an_event()), an_entry(an_event(), an_event())
    await room.land(seen)
    await room.land(seen, new, new)

    assert await room.counts() == {"received": 3, "accepted": 3}
    assert await room.balanced()


async def test_a_re_send_is_a_duplicate_however_its_json_is_written(room: Room) -> None:
    event = an_event()
    rewritten = event | {"data": dict(reversed(event["data"].items())), "time": "2026-02-02T00:00:00Z"}
    await room.land(an_entry(event))
    await room.land(an_entry(rewritten), an_entry(an_event(), rewritten))

    assert await room.counts() == {"received": 4, "accepted": 2, "duplicate": 2}
    assert await room.balanced()


async def test_after_repeats_a_while_passes_before_rows_are_taken_for_new_again(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A landing that RAW refuses half-way is paid for; a stream full of repeats must not pay each time."""
    as_new = RawStore._land_as_new
    assumed: list[bool] = []

    async def seen(self: RawStore, connection, rows, batch_id):  # type: ignore[no-untyped-def]
        landed = await as_new(self, connection, rows, batch_id)
        assumed.append(landed is not None)
        return landed

    monkeypatch.setattr(RawStore, "_land_as_new", seen)
    event = an_event()
    for repeated in (event, event, event):
        await room.land(an_entry(an_event(), repeated))
    assert assumed == [True, False]
    for _ in range(9):
        await room.land(an_entry(an_event()))

    assert assumed == [True, False, True]
    assert await room.counts() == {"received": 15, "accepted": 13, "duplicate": 2}
    assert await room.balanced()


async def test_the_same_identity_with_another_payload_is_a_conflict_with_its_bytes_kept(room: Room) -> None:
    event = an_event("o-1", event_id="same")
    other = json.dumps(an_event("o-1", event_id="same", amount="99.00") | {"traceparent": TRACE}).encode()
    await room.land(an_entry(event))
    await room.land(an_entry(an_event(), b"  " + other + b" ", an_event()))

    (kept,) = await room.quarantine()
    assert kept["original"] == other
    assert (kept["reason"], kept["stream_position"], kept["event_id"]) == ("conflict", 1, "same")
    assert kept["trace_id"] == TRACE.split("-")[1]
    assert await room.counts() == {"received": 4, "accepted": 3, "quarantined": 1, "conflicts": 1}
    assert await room.balanced()


async def test_of_one_identity_within_a_micro_batch_the_first_is_accepted(room: Room) -> None:
    def version(amount: str) -> dict[str, object]:
        return an_event("o-1", event_id="same", amount=amount)

    await room.land(an_entry(version("1.00"), version("1.00"), version("2.00")), an_entry(version("3.00")))

    (row,) = await room.raw()
    assert row["amount"] == Decimal("1.00")
    expected = {"received": 4, "accepted": 1, "duplicate": 1, "quarantined": 2, "conflicts": 2}
    assert await room.counts() == expected
    assert await room.balanced()


async def test_what_the_contract_refuses_is_quarantined_and_its_neighbours_land(room: Room) -> None:
    bad = an_event(amount="twelve")
    nul = an_event(customer_id="a\x00b")
    await room.land(an_entry(an_event(), bad, nul, an_event(), traceparent=TRACE), an_entry(b'{"id":'))

    kept = await room.quarantine()
    assert [row["reason"] for row in kept] == ["wrong_type", "nul_byte", "undecodable"]
    assert kept[0]["original"] == json.dumps(bad).encode()
    assert {row["trace_id"] for row in kept[:2]} == {TRACE.split("-")[1]}
    assert await room.counts() == {"received": 5, "accepted": 2, "quarantined": 3}
    assert await room.balanced()


async def test_an_entry_over_the_limit_is_one_slot(room: Room) -> None:
    await room.land(an_entry(b"[" + b" " * (8 * 1024 * 1024) + b"]"), an_entry(an_event()))

    (kept,) = await room.quarantine()
    assert (kept["reason"], kept["stream_position"]) == ("too_large", 0)
    assert await room.counts() == {"received": 2, "accepted": 1, "quarantined": 1}


async def test_an_entry_without_the_field_data_is_kept_with_its_fields(room: Room) -> None:
    await room.land(Entry("orders", "1-1", b"", None, 1, {b"body": b"{}", b"\xff": b"x"}))

    (kept,) = await room.quarantine()
    assert kept["reason"] == "not_an_event"
    assert json.loads(kept["original"]) == {"body": "{}", "\ufffd": "x"}
    assert await room.balanced()


async def test_replicas_that_land_the_same_events_at_once_accept_each_once(
    postgres: Postgres, orders: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each in an order of its own, starting together, again and again: no deadlock comes out."""
    rooms = [await open_room(postgres, orders, consumer=f"ingestor-{n}") for n in range(3)]
    together = asyncio.Barrier(3)
    land = RawStore.land

    async def at_once(self: RawStore, connection, rows, batch_id):  # type: ignore[no-untyped-def]
        await together.wait()
        return await land(self, connection, rows, batch_id)

    monkeypatch.setattr(RawStore, "land", at_once)
    chance = random.Random(7)
    for _ in range(4):
        events = [an_event() for _ in range(2000)]
        await asyncio.gather(*(room.land(an_entry(*chance.sample(events, len(events)))) for room in rooms))

    assert await rooms[0].counts() == {"received": 24_000, "accepted": 8_000, "duplicate": 16_000}
    assert len(await rooms[0].batches()) == 3
    assert await rooms[0].balanced()


async def test_two_replicas_given_the_same_entry_land_it_once(postgres: Postgres, orders: Dataset) -> None:
    rooms = [await open_room(postgres, orders, consumer=f"ingestor-{n}") for n in range(2)]
    for _ in range(10):
        entries = [an_entry(an_event(), an_event()) for _ in range(5)]
        await asyncio.gather(rooms[0].land(*entries), rooms[1].land(*reversed(entries)))

    assert await rooms[0].counts() == {"received": 100, "accepted": 100}
    assert await rooms[0].balanced()


async def test_the_order_of_arrival_decides_nothing_but_which_slot_was_first(
    postgres: Postgres, orders: Dataset
) -> None:
    room = await open_room(postgres, orders)
    events = [an_event(f"o-{n % 20}", event_id=f"e-{n % 40}") for n in range(200)]
    chance = random.Random(3)
    shuffled = chance.sample(events, len(events))
    await room.land(*(an_entry(event) for event in shuffled))

    assert {row["event_id"] for row in await room.raw()} == {f"e-{n}" for n in range(40)}
    assert await room.counts() == {"received": 200, "accepted": 40, "duplicate": 160}


class Lenient(Decoder):
    """A decoder whose contract is laxer than its table: it lets through what Postgres will refuse."""

    def decode(self, entry_data: bytes, *, entry_id: str) -> Slots:
        slots = super().decode(entry_data, entry_id=entry_id)
        slots.rows = [self._worsened(row) for row in slots.rows]
        return slots

    @staticmethod
    def _worsened(row: tuple[object, ...]) -> tuple[object, ...]:
        event_id, key, customer, amount, *rest = row
        if customer == "bad-null":
            key = None
        amount = {"bad-server": Decimal("1e20"), "bad-client": object()}.get(str(customer), amount)
        return (event_id, key, customer, amount, *rest)


@pytest.mark.parametrize("kind", ["server", "client", "null"])
async def test_an_event_that_postgres_refuses_is_found_and_its_neighbours_land(room: Room, kind: str) -> None:
    room.landing._decoder = Lenient(room.dataset)
    bad = [an_event(customer_id=f"bad-{kind}") for _ in range(2)]
    await room.land(
        an_entry(*[an_event() for _ in range(20)], bad[0], *[an_event() for _ in range(9)]),
        an_entry(bad[1]),
        an_entry(an_event()),
    )

    kept = await room.quarantine()
    assert [(row["reason"], row["stream_position"]) for row in kept] == [
        ("unstorable", 20),
        ("unstorable", 0),
    ]
    assert [row["original"] for row in kept] == [json.dumps(event).encode() for event in bad]
    assert await room.counts() == {"received": 32, "accepted": 30, "quarantined": 2}
    assert await room.balanced()


async def test_a_refusal_that_lies_in_no_event_is_no_events_fault(room: Room) -> None:
    await room.postgres.execute("DROP TABLE raw.quarantine CASCADE")

    with pytest.raises(PostgresRefused, match="quarantine"):
        await room.land(an_entry(an_event(), b"17"))
    assert await room.counts() == {}


async def test_a_column_that_appears_while_it_runs_is_left_empty_until_the_restart(
    room: Room, orders: Dataset, postgres_url: str
) -> None:
    coupon = Column("coupon", "coupon", ColumnType.STRING, required=False)
    grown = dataclasses.replace(orders, columns=(*orders.columns, coupon))
    await room.land(an_entry(an_event(coupon="A")))
    its_own = await Postgres.open(postgres_url, service="test")
    restarted = await open_room(its_own, grown, consumer="ingestor-2")
    await room.land(an_entry(an_event(coupon="B")))
    await restarted.land(an_entry(an_event(coupon="C")))
    await its_own.close()

    assert [row["coupon"] for row in await room.raw()] == [None, None, "C"]
    assert [row["raw_payload"]["coupon"] for row in await room.raw()] == ["A", "B", "C"]


async def test_a_key_of_any_length_lands(room: Room) -> None:
    """As long as the event is small enough: an index on keys must not be what refuses it."""
    key = random.Random(1).randbytes(100_000).hex()
    await room.land(an_entry(an_event(key)))
    assert [row["source_order_id"] == key for row in await room.raw()] == [True]
