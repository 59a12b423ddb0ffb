"""Many quarantined events are published again: in parts, however many they are, no faster than the stream takes."""

from __future__ import annotations

from typing import Any

import pytest

from libs.adapters.bus import Bus
from libs.adapters.bus.publishing import RoomExceeded
from tests.integration.archiver.works import Works, an_event
from tests.integration.operations.quarantining import fixed, published, redriven, row_of


async def test_many_go_in_parts_and_progress_is_told(
    works: Works, bus: Bus, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("libs.operations.redriving.AT_ONCE", 2)
    rows = await published(works, bus, redis_url, *(an_event(amount="ten") for _ in range(5)))
    for row in rows:
        await fixed(works, row["id"], texts={"amount": "10.00"})
    told: list[tuple[int, int]] = []

    done = await redriven(works, bus, on_progress=lambda *at: told.append(at))

    assert (done.published, told) == (5, [(2, 5), (4, 5), (5, 5)])
    assert [event.id for event in done.events] == [row["id"] for row in rows]


async def test_of_very_many_few_are_told_and_all_are_counted(
    works: Works, bus: Bus, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("libs.operations.redriving.AT_ONCE", 2)
    monkeypatch.setattr("libs.operations.redriving.KEPT", 2)
    rows = await published(works, bus, redis_url, *(an_event(amount="ten") for _ in range(7)))
    numbers = [row["id"] for row in rows]
    for number in numbers[:4]:
        await fixed(works, number, texts={"amount": "10.00"})

    for dry_run in (True, False):
        done = await redriven(works, bus, dry_run=dry_run)
        assert (done.published, done.stay, done.outcomes) == (4, 3, {"accepted": 4, "refused": 3})
        assert [event.id for event in done.events] == [*numbers[:2], *numbers[4:6]]
        assert (done.more, len({event.entry for event in done.events})) == (3, 1 if dry_run else 3)
    assert await bus.length("orders") == 11


async def test_what_is_quarantined_meanwhile_is_not_taken(
    works: Works, bus: Bus, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a redrive would go on for as long as its events are refused again."""
    monkeypatch.setattr("libs.operations.redriving.AT_ONCE", 1)
    for row in await published(works, bus, redis_url, an_event(amount="ten"), an_event(amount="ten")):
        await fixed(works, row["id"], texts={"amount": "10.00"})

    class Refusing:
        async def publish(self, *arguments: Any, **options: Any) -> list[str]:
            await works.land(an_event(amount="ten"))
            return await bus.publish(*arguments, **options)

        def __getattr__(self, name: str) -> Any:
            return getattr(bus, name)

    done = await redriven(works, Refusing())  # type: ignore[arg-type]  # a bus in all that matters

    assert (done.published, done.outcomes) == (2, {"accepted": 2})
    assert [row["state"] for row in await works.ingestor.quarantine()] == ["redriven"] * 2 + ["open"] * 2


async def test_it_waits_for_room(
    works: Works, bus: Bus, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("libs.operations.redriving.ROOM_WITHIN", 0.2)
    (refused,) = await published(works, bus, redis_url, an_event(amount="ten"))
    await fixed(works, refused["id"], texts={"amount": "10.00"})
    await bus.publish("orders", [b"{}", b"{}"])

    with pytest.raises(RoomExceeded):
        await redriven(works, bus, limit=2)
    assert (await row_of(works, refused["id"]))["state"] == "open"
