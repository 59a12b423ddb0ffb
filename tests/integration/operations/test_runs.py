"""Batches as runs: found by what they are, in the order asked for, a page at a time."""

from __future__ import annotations

import uuid
from operator import attrgetter

import pytest

from libs.operations.actions import acting
from libs.operations.batches import hold
from libs.operations.runs import SORTS, Run, Sort, runs
from tests.integration.archiver.works import Works, an_entry, an_event, orders_placed

FIELDS = {
    "opened": "opened_at",
    "seconds": "seconds",
    "rows": "rows_in",
    "refused": "refused",
    "attempts": "attempts",
}
"""The field of a run that each order is by."""


async def one_of_each(works: Works) -> dict[str, uuid.UUID]:
    """A batch of every status that is decided, by its status; the last of them takes more."""
    found = {}
    for start, size in ((0, 5), (100, 3)):
        found["published"] = (await works.land(*orders_placed(size, start=start), an_event("x", amount="x")))[
            "id"
        ]
        await works.publish()
    found["empty"] = (await works.land(an_event("bad", amount="x"), an_event("worse", amount="y")))["id"]
    found["held"] = (await works.land(*orders_placed(4, start=200)))["id"]
    await works.transformer.main.tend()
    await works.transformer.judge("fail")
    async with acting(works.postgres) as connection:
        await hold(connection, found["held"], reason="wrong", actor="ann")
    found["blocked"] = (await works.land(*orders_placed(2, start=300)))["id"]
    await works.transformer.main.tend()
    await works.transformer.judge("fail")
    found["closed"] = (await works.land(*orders_placed(1, start=400)))["id"]
    await works.ingestor.land(an_entry(*orders_placed(6, start=500)))
    found["open"] = (await works.batch())["id"]
    return found


async def test_each_status_finds_its_batches_and_no_others(works: Works) -> None:
    made = await one_of_each(works)
    for status, batch in made.items():
        found = await runs(works.postgres, status=status)
        assert (batch, {run.status for run in found}) == (found[0].id, {status})
    assert len(await runs(works.postgres)) == len(made) + 1
    blocked = await runs(works.postgres, status="blocked")
    assert (blocked[0].verdict, blocked[0].generation) == ("fail", None)
    assert blocked[0].last_generation is not None


async def test_a_batch_on_its_way_to_readers_is_building_then_built_then_passed(works: Works) -> None:
    batch = (await works.land(*orders_placed(3)))["id"]
    await works.transformer.main.tend()
    await works.transformer.judge()
    for state in ("building", "built", "passed"):
        await works.postgres.execute("UPDATE ops.generations SET state = $1", state)
        for status in ("building", "built", "passed"):
            found = [run.id for run in await runs(works.postgres, status=status)]
            assert found == ([batch] if status == state else [])


@pytest.mark.parametrize("sort", list(SORTS))
@pytest.mark.parametrize("descending", [True, False])
async def test_they_come_in_the_order_asked_for_and_none_is_on_two_pages(
    works: Works, sort: Sort, descending: bool
) -> None:
    await one_of_each(works)
    pages: list[Run] = []
    while page := await runs(works.postgres, sort=sort, descending=descending, limit=3, offset=len(pages)):
        pages += page
    values = [value for value in map(attrgetter(FIELDS[sort]), pages) if value is not None]
    assert len({run.id for run in pages}) == len(pages) == len(await runs(works.postgres))
    assert values == sorted(values, reverse=descending)
    assert len(set(values)) > 1
    assert all(getattr(run, FIELDS[sort]) is None for run in pages[len(values) :])
