"""The ledger counted again at the worst moment: entries come and land between one look and the next."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import pytest
from redis.asyncio import Redis

from libs.adapters.bus import Bus, Entry, StreamOverview
from libs.operations import ledger
from libs.operations.ledger import LedgerReport, verify_ledger
from tests.integration.archiver.works import Works, orders_placed

Happens = Callable[[], Awaitable[None]]


class Watched:
    """A bus beside which something happens once: after the stream was looked at, or after its entries were."""

    def __init__(self, bus: Bus, *, after_overview: Happens | None, after_entries: Happens | None) -> None:
        self._bus = bus
        self._after_overview = after_overview
        self._after_entries = after_entries

    async def overview(self, groups: Mapping[str, Sequence[str]]) -> list[StreamOverview]:
        found = await self._bus.overview(groups)
        if self._after_overview is not None:
            await self._after_overview()
        return found

    async def unhandled(self, stream: str, group: str) -> AsyncIterator[Entry]:
        async for entry in self._bus.unhandled(stream, group):
            yield entry
        if self._after_entries is not None:
            await self._after_entries()


async def land(works: Works, redis_url: str) -> None:
    """All that is unread lands, as the ingestor does it."""
    async with Redis.from_url(redis_url) as redis:
        found: Any = await redis.xreadgroup("ingestor", "one", {"orders": ">"}, count=1_000)
        for _, entries in found:
            taken = [
                Entry("orders", each.decode(), fields[b"data"], None, 1, fields) for each, fields in entries
            ]
            await works.ingestor.land(*taken)
            await redis.xack("orders", "ingestor", *(entry.id for entry in taken))


@pytest.fixture(autouse=True)
def _one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second look would hide what the first got wrong."""
    look = ledger._look
    looks: list[LedgerReport] = []

    async def only_once(*arguments: Any) -> LedgerReport:
        assert not looks, looks[0].problems
        looks.append(await look(*arguments))
        return looks[0]

    monkeypatch.setattr(ledger, "_look", only_once)


@pytest.mark.parametrize("moment", ["after_overview", "after_entries"])
@pytest.mark.parametrize("what", ["lands", "comes", "comes and lands"])
async def test_what_happens_while_we_count_is_counted_once(
    works: Works, bus: Bus, redis_url: str, moment: str, what: str
) -> None:
    async def publish(start: int) -> None:
        await bus.publish("orders", [json.dumps(orders_placed(3, start=start)).encode()])

    async def happens() -> None:
        if "comes" in what:
            await publish(100)
        if "lands" in what:
            await land(works, redis_url)

    await publish(0)
    await land(works, redis_url)
    await publish(10)
    watched: Any = Watched(bus, **{"after_overview": None, "after_entries": None} | {moment: happens})

    (found,) = await verify_ledger(works.postgres, watched, {"orders": works.dataset})

    assert (found.problems, found.unaccounted, found.duplicate) == ([], 0, 0)
    assert found.published == found.accepted + found.in_flight
    assert found.published in (6, 9)  # without what came later, or with it
    assert found.balanced


async def test_a_report_with_a_problem_does_not_balance() -> None:
    counts: dict[str, Any] = dict.fromkeys(
        (
            "published",
            "accepted",
            "duplicate",
            "quarantined",
            "conflicts",
            "dead_lettered",
            "in_flight",
            "unaccounted",
            "held",
            "batches",
            "entries_added",
            "entries_landed",
            "entries_in_flight",
        ),
        0,
    )
    assert not LedgerReport(dataset="orders", problems=["one"], **counts).balanced
