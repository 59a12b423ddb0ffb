"""A batch closed on request, and who asked for it."""

from __future__ import annotations

import uuid

import pytest

from libs.errors import Permanent
from libs.operations.batches import request_close
from tests.integration.archiver.works import Works, an_entry, orders_placed


async def asked(works: Works, batch: uuid.UUID | None = None, **how: str) -> list[uuid.UUID]:
    async with works.postgres.transaction() as connection:
        return await request_close(connection, batch, **{"reason": "now", "actor": "ann"} | how)


async def opened(works: Works) -> uuid.UUID:
    await works.ingestor.land(an_entry(*orders_placed(2)))
    batch: uuid.UUID = (await works.batch())["id"]
    return batch


async def actions(works: Works) -> list[tuple[str, str, str, str]]:
    rows = await works.postgres.fetch(
        "SELECT actor, action, subject, reason FROM ops.operator_actions ORDER BY id"
    )
    return [tuple(row) for row in rows]


async def test_an_open_batch_is_closed_by_the_next_look_of_an_ingestor(works: Works) -> None:
    batch = await opened(works)
    await works.ingestor.landing.close_overdue()
    assert (await works.batch())["state"] == "open"

    assert await asked(works, batch) == [batch]
    await works.ingestor.landing.close_overdue()

    row = await works.batch()
    assert (row["state"], row["close_reason"], row["accepted"]) == ("closed", "requested", 2)
    assert await actions(works) == [("ann", "batch.close", f"batch:{batch}", "now")]


async def test_a_batch_that_is_closed_stays_as_it_is(works: Works) -> None:
    batch = await opened(works)
    await works.ingestor.landing.drain()
    before = await works.batch()

    assert await asked(works, batch) == []
    assert (await works.batch(), await actions(works)) == (before, [])


async def test_all_open_batches_of_a_dataset_are_closed(works: Works) -> None:
    batch = await opened(works)
    await works.postgres.execute(
        "INSERT INTO ops.batches (id, dataset, opened_by) VALUES ($1, 'payments', 'test')",
        other := uuid.uuid4(),
    )

    assert await asked(works, dataset="orders") == [batch]
    assert await asked(works) == sorted([batch, other])


async def test_a_batch_that_is_not_there_is_said(works: Works) -> None:
    with pytest.raises(Permanent, match="there is no batch"):
        await asked(works, uuid.uuid4())


async def test_without_a_reason_nothing_is_closed(works: Works) -> None:
    batch = await opened(works)
    with pytest.raises(Permanent, match="needs a reason"):
        await asked(works, batch, reason=" ")
    assert (await works.batch())["close_reason"] is None
