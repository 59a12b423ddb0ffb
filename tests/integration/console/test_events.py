"""The life of one event, by each of its names; what came last; who has what in hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from libs.adapters.bus import Bus
from libs.testing.waiting import until
from tests.integration.archiver.works import Works, an_event, orders_placed
from tests.integration.console.conftest import Console
from tests.integration.console.test_pages import a_busy_batch

Opened = Callable[..., Console]


async def test_an_order_is_found_by_its_number_its_event_and_its_batch(console: Opened, works: Works) -> None:
    batch = await a_busy_batch(works)
    seen = console()
    (life, *_) = (await seen.json("/api/events"))["arrivals"][1:]
    for name in (life["key"], life["event_id"], f"{life['source']}/{life['event_id']}"):
        answer = await seen.http.get("/api/events", params={"q": name})
        assert [each["key"] for each in answer.json()["found"]["events"]] == [life["key"]]
    assert [one["id"] for one in (await seen.json(f"/api/events?q={batch}"))["found"]["batches"]] == [batch]
    assert [one["id"] for one in (await seen.json(f"/api/events?q={batch[:8]}"))["found"]["batches"]] == [
        batch
    ]


async def test_its_life_says_what_drp_events_find_says(console: Opened, works: Works) -> None:
    await a_busy_batch(works)
    seen = console()
    key = (await seen.json("/api/events"))["arrivals"][1]["key"]
    said = await seen.text(f"/events?q={key}")
    for words in ("Readers see it", "published", "landed", "batch closed", "generation 1", "raw/orders/"):
        assert words in said
    assert f"drp events find {key}" in said


async def test_what_was_sent_is_hidden_until_somebody_asks(console: Opened, works: Works) -> None:
    await works.land(an_event("hidden", amount="17.31"))
    seen = console()
    hidden, shown = await seen.page("/events?q=hidden"), await seen.page("/events?q=hidden&reveal=true")
    assert "17.31" not in hidden
    assert "17.31" in shown
    assert "17.31" not in (await seen.http.get("/api/events?q=hidden")).text


async def test_an_event_that_was_not_taken_says_why_and_leads_to_its_slot(
    console: Opened, works: Works
) -> None:
    await a_busy_batch(works)
    seen = console()
    refused = next(
        one for one in (await seen.json("/api/events"))["arrivals"] if one["disposition"] != "accepted"
    )
    page = await seen.page(f"/events?q={refused['event_id']}")
    assert f'href="/quarantine/{refused["number"]}"' in page
    assert "kept until somebody settles it" in page


@pytest.mark.usefixtures("works")
async def test_a_name_of_nothing_is_said_with_what_is_on_its_way(console: Opened, redis_url: str) -> None:
    seen = console()
    assert "nothing is on its way" in await seen.text("/events?q=A-1")
    bus = await Bus.connect(redis_url, service="test", consumer="test-2")
    await bus.publish("orders", [b"{}"])
    await bus.stop()
    assert "1 entries are on their way" in await seen.text("/events?q=A-1")


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "a b/c d", "%00", "%ff", "x" * 500, "'; DROP"])
@pytest.mark.usefixtures("works")
async def test_any_text_may_be_asked_for(console: Opened, text: str) -> None:
    page = (await console().http.get("/events", params={"q": text})).text
    assert "Nothing that has landed is called so." in page
    assert "<script>alert" not in page


async def test_what_came_last_stands_first_whatever_became_of_it(console: Opened, works: Works) -> None:
    await works.land(*orders_placed(3))
    await works.land(an_event("later"), an_event("bad", amount="x"))
    arrivals = (await console().json("/api/events"))["arrivals"]
    assert [one["disposition"] for one in arrivals[:2]] == ["quarantined", "accepted"]
    assert [one["key"] for one in arrivals[:2]] == [None, "later"]
    assert len(arrivals) == 5


async def test_what_a_consumer_has_in_hand_is_counted_with_it(console: Opened, redis_url: str) -> None:
    seen = console()
    bus = await Bus.connect(redis_url, service="ingestor", consumer="ingestor-9")
    await bus.publish("orders", [b"{}", b"{}"])
    await bus._client.xreadgroup("ingestor", "ingestor-9", {"orders": ">"}, count=1)
    await bus.stop()

    async def told() -> bool:
        found = (await seen.json("/api/events"))["consumers"] or []
        return [(one["name"], one["pending"]) for one in found if one["pending"]] == [("ingestor-9", 1)]

    await until(told)
    assert "1 entries were given out" in await seen.text("/events")


@pytest.mark.usefixtures("works")
async def test_a_paused_page_hears_of_no_topic(console: Opened) -> None:
    seen = console()
    assert 'data-topics="flow quarantine"' in await seen.page("/events")
    assert 'data-topics=""' in await seen.page("/events?paused=true")
