"""A quarantined event is published again: once, linked to where it came from, and the ledger balances."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from redis.asyncio import Redis

from libs.adapters import telemetry
from libs.adapters.bus import Bus
from libs.adapters.telemetry import trace_id_of
from libs.errors import Permanent
from libs.operations.actions import actions_on
from libs.operations.corrections import Correction
from libs.operations.examination import examined
from libs.operations.quarantine import Selection, fix, quarantine_subject
from libs.operations.redriving import redrive
from libs.operations.verify import verify_replay
from libs.testing.waiting import until
from tests.integration.archiver.works import Works, an_entry, an_event, orders_placed
from tests.integration.operations.quarantining import balanced, fixed, landed, published, redriven, row_of


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """The spans that have ended."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry._current, "provider", provider)
    yield exporter
    provider.shutdown()


async def test_a_fixed_event_lands_under_its_own_identity_and_its_original_stays(
    works: Works, bus: Bus, redis_url: str
) -> None:
    event = {**an_event("o-1", event_id="e-1", amount="ten"), "time": "2026-01-01T00:00:00Z"}
    (refused,) = await published(works, bus, redis_url, event)

    made = await fixed(works, refused["id"], texts={"amount": "10.00"})
    assert (made.outcome, [each.field for each in made.differences]) == ("accepted", ["amount"])
    assert await bus.length("orders") == 1  # a fix publishes nothing

    done = await redriven(works, bus, refused["id"])
    (entry,) = await landed(works, redis_url)

    after = await row_of(works, refused["id"])
    assert (done.published, done.stay, done.events[0].entry) == (1, 0, entry.id)
    assert (after["state"], after["redriven_entry"], after["original"]) == (
        "redriven",
        entry.id,
        refused["original"],
    )
    assert after["settled_at"] is not None
    assert after["disposition"] == "quarantined"  # the old slot keeps what the ledger says of it
    (row,) = await works.ingestor.raw()
    assert (row["event_id"], row["source_system"], row["amount"]) == ("e-1", event["source"], 10)
    assert (row["origin"], row["event_time"].isoformat()) == ("redrive", "2026-01-01T00:00:00+00:00")
    assert await works.ingestor.counts() == {"received": 2, "accepted": 1, "quarantined": 1}
    assert await balanced(works, bus)


async def test_a_second_redrive_publishes_nothing(works: Works, bus: Bus, redis_url: str) -> None:
    (refused,) = await published(works, bus, redis_url, an_event(amount="ten"))
    await fixed(works, refused["id"], texts={"amount": "10.00"})
    await redriven(works, bus, refused["id"])

    again = await redriven(works, bus, refused["id"])

    assert (again.published, again.events[0].outcome) == (0, "redriven")
    assert (await redriven(works, bus)).events == []  # of all that is open
    assert await bus.length("orders") == 2


async def test_a_crash_between_publishing_and_marking_adds_nothing(
    works: Works, bus: Bus, redis_url: str
) -> None:
    """Also of an event that had no identity of its own."""
    anonymous = {name: value for name, value in an_event().items() if name not in ("id", "source")}
    rows = await published(works, bus, redis_url, an_event(amount="ten"), anonymous)
    await fixed(works, rows[0]["id"], texts={"amount": "10.00"})
    await fixed(works, rows[1]["id"], texts={"ce-type": "order.placed"})

    class Dies:
        async def publish(self, *arguments: Any, **options: Any) -> list[str]:
            await bus.publish(*arguments, **options)
            raise asyncio.CancelledError

        def __getattr__(self, name: str) -> Any:
            return getattr(bus, name)

    with pytest.raises(asyncio.CancelledError):
        await redriven(works, Dies())  # type: ignore[arg-type]  # a bus in all that matters
    assert {row["state"] for row in await works.ingestor.quarantine()} == {"open"}
    actions = await actions_on(works.postgres, quarantine_subject(rows[0]["id"]))
    assert [each["action"] for each in actions] == ["quarantine.fix"]
    await redriven(works, bus)
    await landed(works, redis_url)

    assert await works.ingestor.counts() == {"received": 6, "accepted": 2, "duplicate": 2, "quarantined": 2}
    assert {row["state"] for row in await works.ingestor.quarantine()} == {"redriven"}
    became = (await examined(works.postgres, {"orders": works.dataset}, rows[1]["id"]))["became"]
    assert (became["accepted"], became["duplicate"]) == (0, 1)
    assert await balanced(works, bus)


async def test_two_operators_at_once_publish_it_once(works: Works, bus: Bus, redis_url: str) -> None:
    (refused,) = await published(works, bus, redis_url, an_event(amount="ten"))
    await fixed(works, refused["id"], texts={"amount": "10.00"})
    publishing, may = asyncio.Event(), asyncio.Event()

    class Slow:
        async def publish(self, *arguments: Any, **options: Any) -> list[str]:
            publishing.set()
            await may.wait()
            return await bus.publish(*arguments, **options)

        def __getattr__(self, name: str) -> Any:
            return getattr(bus, name)

    first = asyncio.create_task(redriven(works, Slow()))  # type: ignore[arg-type]  # a bus in all that matters
    await publishing.wait()
    second = asyncio.create_task(redriven(works, bus))

    async def waits() -> bool:
        sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        return second.done() or bool(await works.postgres.fetchval(sql))

    await until(waits)
    may.set()

    assert ((await first).published, (await second).published) == (1, 0)
    assert await bus.length("orders") == 2


async def test_what_would_be_refused_again_is_told_and_stays(works: Works, bus: Bus, redis_url: str) -> None:
    rows = await published(
        works, bus, redis_url, an_event(amount="ten"), b"{nope", an_event(amount=1, order_id=None)
    )
    await fixed(works, rows[0]["id"], texts={"amount": "10.00"})

    planned = await redriven(works, bus, dry_run=True)
    assert await bus.length("orders") == 3
    assert {row["state"] for row in await works.ingestor.quarantine()} == {"open"}
    done = await redriven(works, bus)

    for each in (planned, done):
        assert (each.published, each.stay) == (1, 2)
        assert [event.outcome for event in each.events] == ["accepted", "refused", "refused"]
        assert "undecodable" in str(each.events[1].detail)
        assert each.events[2].detail == "field_missing: order_id is null"
    assert [row["state"] for row in await works.ingestor.quarantine()] == ["redriven", "open", "open"]


async def test_an_event_without_a_time_keeps_that_of_its_first_entry(
    works: Works, bus: Bus, redis_url: str
) -> None:
    """Or an old event would win against what was corrected since."""
    event = {name: value for name, value in an_event("o-1", amount="ten").items() if name != "time"}
    (refused,) = await published(works, bus, redis_url, event)
    await fixed(works, refused["id"], texts={"amount": "10.00"})
    await redriven(works, bus)
    await landed(works, redis_url)

    (row,) = await works.ingestor.raw()
    first = int(refused["stream_entry_id"].partition("-")[0])
    assert round(row["event_time"].timestamp() * 1000) == first
    assert row["stream_entry_id"] != refused["stream_entry_id"]


async def test_a_conflict_stays_one_until_it_goes_under_another_identity(
    works: Works, bus: Bus, redis_url: str
) -> None:
    first = an_event("o-1", event_id="e-1", amount="1.00")
    (conflict,) = await published(
        works, bus, redis_url, first, an_event("o-1", event_id="e-1", amount="2.00")
    )
    assert conflict["reason"] == "conflict"

    seen = await examined(works.postgres, {"orders": works.dataset}, conflict["id"])
    assert [(each.field, each.before, each.after) for each in seen["against_raw"]] == [
        ("amount", '"1.00"', '"2.00"')
    ]
    assert seen["next"][0] == f"drp quarantine fix {conflict['id']} --new-id --redrive"
    stays = await redriven(works, bus)
    assert (stays.published, stays.events[0].outcome) == (0, "conflict")

    made = await fixed(works, conflict["id"], new_id=True)
    assert made.outcome == "accepted"
    await redriven(works, bus)
    await landed(works, redis_url)

    assert (await works.ingestor.counts())["accepted"] == 2
    await works.publish()
    with works.transformer.warehouse.connect_read_only() as reader:
        assert reader.rows("SELECT source_order_id, amount::text FROM staging.orders") == [("o-1", "2.00")]
    assert await balanced(works, bus)


async def test_an_undeliverable_event_is_redriven(works: Works, bus: Bus, redis_url: str) -> None:
    await bus.publish("orders", [json.dumps(an_event("o-1")).encode()])
    async with Redis.from_url(redis_url) as redis:
        found: Any = await redis.xreadgroup("ingestor", "one", {"orders": ">"})
    ((_, ((entry_id, fields),)),) = found
    entry = an_entry(fields[b"data"], entry_id=entry_id.decode())
    await works.postgres.execute(
        "INSERT INTO ops.attempts (stream, entry_id, position, tries, process) VALUES ('orders', $1, 0, 9, $2)",
        entry.id,
        uuid.uuid4(),
    )
    await works.ingestor.trial.bury(entry, "undeliverable: delivered 5 times")
    await works.ingestor.landing.drain()
    (dead,) = await works.ingestor.quarantine()
    assert (dead["disposition"], dead["reason"]) == ("dead_lettered", "undeliverable")

    done = await redriven(works, bus)
    await landed(works, redis_url)

    assert (done.published, await works.ingestor.counts()) == (
        1,
        {"received": 1, "accepted": 1, "dead_lettered": 1},
    )
    assert (await row_of(works, dead["id"]))["disposition"] == "dead_lettered"


async def test_an_array_that_was_one_slot_becomes_its_events(works: Works, bus: Bus, redis_url: str) -> None:
    whole = json.dumps([an_event("o-1"), an_event("o-2")]).encode()
    (broken,) = await published(works, bus, redis_url, whole[:-1] + b",]")

    with pytest.raises(Permanent, match="--file"):
        await fixed(works, broken["id"], texts={"amount": "1"})
    made = await fixed(works, broken["id"], document=whole)
    assert made.outcome == "accepted"
    await redriven(works, bus)
    await landed(works, redis_url)

    assert await works.ingestor.counts() == {"received": 3, "accepted": 2, "quarantined": 1}
    assert await balanced(works, bus)


async def test_what_postgres_can_not_store_is_refused_before_it_is_published(
    works: Works, bus: Bus, redis_url: str
) -> None:
    await works.postgres.execute("ALTER TABLE raw.orders_raw ALTER COLUMN amount TYPE numeric(4,2)")
    first, second = await published(works, bus, redis_url, an_event(amount="ten"), an_event(amount="ten"))
    made = await fixed(works, first["id"], texts={"amount": "1000.00"})
    assert (made.outcome, made.problems[0].reason) == ("refused", "unstorable")
    await fixed(works, second["id"], texts={"amount": "10.00"})

    done = await redriven(works, bus)
    assert [event.outcome for event in done.events] == ["refused", "accepted"]


async def test_a_redrive_is_a_trace_of_its_own_linked_to_the_original(
    works: Works, bus: Bus, redis_url: str, spans: InMemorySpanExporter
) -> None:
    producer = f"00-{'ab' * 16}-{'cd' * 8}-01"
    await works.ingestor.land(an_entry(an_event(amount="ten"), traceparent=producer))
    await works.ingestor.landing.drain()
    (refused,) = await works.ingestor.quarantine()
    await fixed(works, refused["id"], texts={"amount": "10.00"})

    done = await redriven(works, bus)
    (entry,) = await landed(works, redis_url)

    (span,) = [each for each in spans.get_finished_spans() if each.name == "redrive"]
    linked = {f"{link.context.trace_id:032x}" for link in span.links}
    batch = (await works.ingestor.batches())[0]
    assert linked == {"ab" * 16, trace_id_of(batch["traceparent"])}
    assert entry.traceparent == done.traceparent
    assert f"{span.context.trace_id:032x}" == trace_id_of(done.traceparent)
    assert json.loads(entry.data)["traceparent"] == done.traceparent


async def test_slots_are_selected_by_reason_batch_and_dataset(works: Works, bus: Bus, redis_url: str) -> None:
    await published(works, bus, redis_url, an_event(amount="ten"))
    rows = await published(works, bus, redis_url, an_event(amount="1.234"), b"\xff")
    first, second, third = (row["id"] for row in rows)

    async def chosen(**by: Any) -> list[int]:
        done = await redriven(works, bus, dry_run=True, selection=Selection(**by))
        return [event.id for event in done.events]

    assert await chosen() == [first, second, third]
    assert await chosen(reason="not_exact") == [second]
    assert await chosen(batch_id=rows[1]["batch_id"]) == [second, third]
    assert await chosen(batch_id=rows[1]["batch_id"], reason="bad_utf8") == [third]
    assert await chosen(dataset="payments") == []
    assert await chosen(ids=[third, first]) == [first, third]
    with pytest.raises(Permanent, match="nothing is quarantined under number 99"):
        await chosen(ids=[first, 99])


async def test_a_dataset_that_is_gone_is_told(works: Works, bus: Bus, redis_url: str) -> None:
    (refused,) = await published(works, bus, redis_url, an_event(amount="ten"))
    done = await redrive(works.postgres, bus, {}, Selection(), because="x", actor="ann")
    assert (done.published, done.events[0].detail) == (0, "there is no dataset orders any more")
    seen = await examined(works.postgres, {}, refused["id"])
    assert seen["outcome_detail"] == "its dataset is not there any more"
    with pytest.raises(Permanent, match="no dataset orders"):
        async with works.postgres.transaction() as connection:
            await fix(connection, {}, refused["id"], Correction(new_id=True), actor="ann")


async def test_an_event_that_its_trace_makes_too_large_stays(works: Works, bus: Bus, redis_url: str) -> None:
    event = an_event(amount="10.00", note="")
    event = an_event(amount="ten", note="x" * (256 * 1024 - len(msgspec.json.encode(event)) - 20))
    (refused,) = await published(works, bus, redis_url, event)
    made = await fixed(works, refused["id"], texts={"amount": "10.00"})
    assert made.outcome == "accepted"

    (planned,) = (await redriven(works, bus)).events
    assert (planned.outcome, str(planned.detail)[:9]) == ("refused", "too_large")


async def test_archive_and_replay_stay_true_to_each_other(works: Works, bus: Bus, redis_url: str) -> None:
    class Home:
        home = works.root.parent

    (refused,) = await published(works, bus, redis_url, *orders_placed(3), an_event("o-9", amount="ten"))
    await works.publish()
    await works.archive()
    stored = {key: await works.objects.get(key) for key in await works.keys()}

    await fixed(works, refused["id"], texts={"amount": "10.00"})
    await redriven(works, bus)
    await landed(works, redis_url)
    await works.publish()
    await works.archive()

    assert {key: await works.objects.get(key) for key in stored} == stored
    proof = await verify_replay(Home(), works.dataset, works.postgres, works.objects)
    assert (proof.identical, proof.problems) == (True, [])
    assert next(layer.rebuilt_rows for layer in proof.layers if "staging" in layer.name) == 4
