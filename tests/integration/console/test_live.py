"""What is told of changes: that a topic changed, when, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

import pytest

from libs.adapters.bus import Bus
from libs.testing.waiting import until
from services.console.looks import counted
from services.console.looks import marks as watching
from tests.integration.archiver.works import Works, orders_placed
from tests.integration.console.conftest import Console

Opened = Callable[..., Console]


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(counted, "LEAST_PAUSE", 0.0)


async def at_rest(seen: Console) -> dict[str, float]:
    """The marks once all that moved was counted."""
    marks: dict[str, float] = {}

    async def counted_all() -> bool:
        nonlocal marks
        before, marks = marks, await seen.json("/api/live")
        watch = seen.room.ledger
        return before == marks and watch.told is not None and not watch.is_counting

    await until(counted_all)
    return marks


async def news_of(following: AsyncGenerator[dict[str, float], None], topic: str, after: float) -> None:
    """Wait until followers are told that the topic changed."""
    async with asyncio.timeout(60):
        while (await anext(following))[topic] <= after:
            pass


async def test_a_change_marks_its_topics_and_no_others(console: Opened, works: Works) -> None:
    seen = console()
    before = await at_rest(seen)
    assert await seen.json("/api/live") == before

    await works.land(*orders_placed(3))
    after = await seen.json("/api/live")
    assert after["batches"] > before["batches"]
    assert after["flow"] > before["flow"]
    assert after["quarantine"] == before["quarantine"]


@pytest.mark.usefixtures("works")
async def test_an_entry_in_the_stream_marks_the_flow_alone(console: Opened, redis_url: str) -> None:
    seen = console()
    before = await at_rest(seen)
    bus = await Bus.connect(redis_url, service="test", consumer="test-2")
    await bus.publish("orders", [b"{}"])
    await bus.stop()
    after = await seen.json("/api/live")
    assert after["flow"] > before["flow"]
    assert after["batches"] == before["batches"]


async def test_a_page_drawn_after_a_mark_is_fresh(console: Opened, works: Works) -> None:
    seen = console()
    await works.land(*orders_placed(3))
    mark = (await seen.json("/api/live"))["batches"]
    drawn = (await seen.page("/batches")).partition('data-at="')[2].partition('"')[0]
    assert float(drawn) > mark


async def test_followers_hear_at_once_and_again_when_something_changes(console: Opened, works: Works) -> None:
    seen = console()
    await at_rest(seen)
    following = seen.room.marks.follow()
    first = await anext(following)
    await works.land(*orders_placed(3))
    await news_of(following, "batches", first["batches"])
    seen.stop.set()
    async with asyncio.timeout(60):
        assert [each async for each in following][1:] == []


async def test_what_moved_is_counted_and_told_though_no_page_is_asked_for(
    console: Opened, works: Works
) -> None:
    seen = console()
    await at_rest(seen)
    await works.land(*orders_placed(3))

    async def told() -> bool:
        await seen.json("/api/live")
        return sum(report.accepted for report in (seen.room.ledger.told or ([],))[0]) == 3

    await until(told)
    marks = await at_rest(seen)
    drawn = (await seen.page("/")).partition('data-at="')[2].partition('"')[0]
    assert float(drawn) > marks["flow"]
    assert await at_rest(seen) == marks


async def test_followers_hear_of_what_another_s_look_found(
    console: Opened, works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "HEARD_EVERY", 1_000.0)
    monkeypatch.setattr(watching, "LOOK_EVERY", 1_000.0)
    seen = console()
    await at_rest(seen)
    following = seen.room.marks.follow()
    first = await anext(following)
    await works.land(*orders_placed(3))
    news = asyncio.create_task(news_of(following, "batches", first["batches"]))
    await asyncio.sleep(0)
    await seen.json("/api/live")
    await news
    await following.aclose()


async def test_a_look_that_fails_does_not_end_the_watch(
    console: Opened, works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = console()
    await at_rest(seen)
    following = seen.room.marks.follow()
    first = await anext(following)
    look, failed = seen.room.marks._look, asyncio.Event()

    async def fails_once() -> None:
        if not failed.is_set():
            failed.set()
            raise RuntimeError("unforeseen")
        await look()

    monkeypatch.setattr(seen.room.marks, "_look", fails_once)
    async with asyncio.timeout(60):
        await failed.wait()
    await works.land(*orders_placed(3))
    await news_of(following, "batches", first["batches"])
    await following.aclose()


async def test_nobody_is_watched_for_when_nobody_follows(console: Opened) -> None:
    seen = console()
    following = seen.room.marks.follow()
    await anext(following)
    await following.aclose()
    task = seen.room.marks._task
    assert task is not None
    async with asyncio.timeout(60):
        await task
