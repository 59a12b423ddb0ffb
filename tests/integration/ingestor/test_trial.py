"""Poison: the event that kills is found, kept and counted; its neighbours land. On a real Postgres."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from libs.adapters.postgres import Postgres, PostgresRefused, PostgresUnavailable
from libs.datasets import Dataset
from libs.pipeline.decode import Decoder, Slots
from tests.integration.ingestor.room import Room, an_entry, an_event, open_room


class Died(BaseException):
    """Stands for the death of the process: nothing after it runs, as nothing may catch it."""


class Mortal(Decoder):
    """Dies of events that hold the word, chokes on others."""

    def decode(self, entry_data: bytes, *, entry_id: str) -> Slots:
        if b"KILLS" in entry_data:
            raise Died
        if b"CHOKES" in entry_data:
            raise AttributeError
        return super().decode(entry_data, entry_id=entry_id)


async def a_process(postgres: Postgres, orders: Dataset) -> Room:
    """A new process, so to speak: nothing is remembered but what Postgres holds."""
    room = await open_room(postgres, orders)
    room.trial._decoder = Mortal(orders)
    return room


async def test_the_event_that_kills_is_dead_lettered_and_the_others_land(
    postgres: Postgres, orders: Dataset
) -> None:
    poison = an_event(customer_id="KILLS")
    entry = an_entry(
        an_event(), an_event(amount="x"), poison, an_event(), poison | {"id": "second"}, an_event()
    )
    deaths = 0
    while True:
        room = await a_process(postgres, orders)
        try:
            await room.trial.bury(entry, "undeliverable: delivered 5 times")
        except Died:
            deaths += 1
            assert deaths < 10
        else:
            break

    assert deaths == 4, "each poison event is given two tries"
    assert {row["stream_position"] for row in await room.raw()} == {0, 3, 5}
    kept = {row["stream_position"]: row for row in await room.quarantine()}
    assert {at: (row["disposition"], row["reason"]) for at, row in kept.items()} == {
        1: ("quarantined", "wrong_type"),
        2: ("dead_lettered", "undeliverable"),
        4: ("dead_lettered", "undeliverable"),
    }
    assert kept[2]["original"] == json.dumps(poison).encode()
    assert await room.counts() == {"received": 4, "accepted": 3, "quarantined": 1, "dead_lettered": 2}
    assert await room.balanced()
    assert await postgres.fetch("SELECT * FROM ops.attempts") == []


async def test_an_entry_that_was_only_unlucky_lands_whole(postgres: Postgres, orders: Dataset) -> None:
    room = await a_process(postgres, orders)
    await room.trial.bury(an_entry(an_event(), an_event()), "undeliverable: delivered 5 times")

    assert await room.counts() == {"received": 2, "accepted": 2}
    assert await postgres.fetch("SELECT * FROM ops.attempts") == []


async def test_an_entry_that_landed_and_was_never_acknowledged_is_left_as_it_is(
    postgres: Postgres, orders: Dataset
) -> None:
    room = await a_process(postgres, orders)
    entry = an_entry(an_event())
    await room.land(entry)
    await room.trial.bury(entry, "undeliverable: delivered 5 times")

    assert await room.counts() == {"received": 1, "accepted": 1}


async def test_a_single_event_that_kills_is_one_dead_letter(postgres: Postgres, orders: Dataset) -> None:
    entry = an_entry(an_event(customer_id="KILLS"))
    for _ in range(2):
        with pytest.raises(Died):
            await (await a_process(postgres, orders)).trial.bury(entry, "undeliverable")
    room = await a_process(postgres, orders)
    await room.trial.bury(entry, "undeliverable")

    (kept,) = await room.quarantine()
    assert (kept["disposition"], kept["original"]) == ("dead_lettered", entry.data)
    assert await room.counts() == {"dead_lettered": 1}
    (batch,) = await room.batches()
    assert batch["received"] == 0


async def test_an_event_that_the_decoder_chokes_on_is_dead_lettered_at_once(
    postgres: Postgres, orders: Dataset
) -> None:
    room = await a_process(postgres, orders)
    await room.trial.bury(an_entry(an_event(), an_event(customer_id="CHOKES")), "AttributeError")

    assert await room.counts() == {"received": 1, "accepted": 1, "dead_lettered": 1}
    assert await room.balanced()


async def test_an_entry_that_kills_when_it_is_landed_together_is_dead_lettered_whole(
    postgres: Postgres, orders: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = an_entry(an_event(), an_event())
    for _ in range(2):
        room = await a_process(postgres, orders)

        async def die(_arrived: object) -> None:
            raise Died

        monkeypatch.setattr(room.landing, "land_arrived", die)
        with pytest.raises(Died):
            await room.trial.bury(entry, "undeliverable")
    room = await a_process(postgres, orders)
    await room.trial.bury(entry, "undeliverable")

    assert await room.counts() == {"dead_lettered": 2}
    assert await room.balanced()


async def test_an_outage_in_the_middle_of_a_trial_condemns_nobody(
    postgres: Postgres, orders: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = await a_process(postgres, orders)
    entry = an_entry(an_event(), an_event())
    probe = room.landing.probe
    failures = 5

    async def shaky(rows):  # type: ignore[no-untyped-def]
        nonlocal failures
        if failures:
            failures -= 1
            raise PostgresUnavailable("Postgres did not answer", why="gone", sqlstate=None)
        await probe(rows)

    monkeypatch.setattr(room.landing, "probe", shaky)
    for _ in range(5):
        with pytest.raises(PostgresUnavailable):
            await room.trial.bury(entry, "undeliverable")
    await room.trial.bury(entry, "undeliverable")

    assert await room.counts() == {"received": 2, "accepted": 2}


async def test_a_refusal_that_lies_in_no_event_condemns_nobody(postgres: Postgres, orders: Dataset) -> None:
    room = await a_process(postgres, orders)
    await postgres.execute("ALTER TABLE raw.orders_raw RENAME TO orders_away")

    with pytest.raises(PostgresRefused):
        await room.trial.bury(an_entry(an_event(), an_event()), "PostgresRefused")
    assert await room.counts() == {}


async def test_an_event_that_is_an_array_is_one_slot_also_on_trial(
    postgres: Postgres, orders: Dataset
) -> None:
    inner = json.dumps([an_event(), an_event()]).encode()
    entry = an_entry(an_event(), inner)
    room = await a_process(postgres, orders)
    await room.trial.bury(entry, "undeliverable")
    await room.land(replace(an_entry(an_event(), inner)))

    assert await room.counts() == {"received": 4, "accepted": 2, "quarantined": 2}
    assert [row["stream_position"] for row in await room.quarantine()] == [1, 1]
