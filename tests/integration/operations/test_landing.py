"""What a producer's own entries have become."""

from __future__ import annotations

import asyncio

import pytest

from libs.errors import Transient
from libs.operations.landing import Landed, wait_until_landed
from tests.integration.archiver.works import Works, an_entry, orders_placed


async def test_entries_are_waited_for_and_told_by_disposition(works: Works) -> None:
    first = an_entry(*orders_placed(3))
    again = an_entry(first.data[1:-1], b'"no event"')
    other = an_entry(*orders_placed(5))
    waiting = asyncio.create_task(
        wait_until_landed(works.postgres, "orders", [first.id, again.id], timeout=240)
    )
    await works.ingestor.land(first, other)
    assert not waiting.done()

    await works.ingestor.land(again)

    told = await waiting
    batch = await works.batch()
    assert (batch["accepted"], batch["duplicate"], batch["quarantined"]) == (8, 3, 1)
    assert told == Landed(accepted=3, duplicate=3, quarantined=1, dead_lettered=0, batches=[batch["id"]])


async def test_what_nobody_takes_is_told_when_the_time_is_up(works: Works) -> None:
    await works.ingestor.land(an_entry(*orders_placed(1), entry_id="1-1"))
    with pytest.raises(Transient, match=r"1 entries of orders have not landed after 0 s.*no ingestor"):
        await wait_until_landed(works.postgres, "orders", ["1-1", "1-2"], timeout=0)


async def test_nothing_published_has_landed(works: Works) -> None:
    told = await wait_until_landed(works.postgres, "orders", [], timeout=0)
    assert told == Landed(accepted=0, duplicate=0, quarantined=0, dead_lettered=0, batches=[])
