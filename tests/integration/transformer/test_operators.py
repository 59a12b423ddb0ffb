"""What an operator does with batches and the warehouse, and what follows from it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable

import pytest

from libs.adapters.postgres import Connection, Row
from libs.contracts.events import BatchHeld, BatchReleased, WarehousePublished
from libs.errors import Permanent
from libs.operations.batches import hold, release
from libs.operations.warehouse import accept, request_rebuild, resume, rollback
from libs.testing.waiting import until
from tests.integration.transformer.room import Order, Room, orders


async def act(room: Room, action: Callable[[Connection], Awaitable[object]]) -> object:
    async with room.postgres.transaction() as connection:
        return await action(connection)


async def held(room: Room, batch: uuid.UUID, reason: str = "wrong prices") -> object:
    return await act(room, lambda connection: hold(connection, batch, reason=reason, actor="me"))


async def released(room: Room, batch: uuid.UUID, reason: str = "prices are right") -> object:
    return await act(room, lambda connection: release(connection, batch, reason=reason, actor="me"))


async def rolled_back(room: Room, to: int | None = None) -> object:
    return await act(room, lambda c: rollback(c, "orders", reason="wrong prices", actor="me", to=to))


async def accepted(room: Room, number: int) -> object:
    return await act(room, lambda c: accept(c, number, reason="the customer said so", actor="me"))


async def actions(room: Room) -> list[Row]:
    return await room.postgres.fetch(
        "SELECT actor, action, subject, reason FROM ops.operator_actions ORDER BY id"
    )


async def test_holding_a_batch_lets_the_others_through(room: Room) -> None:
    bad = await room.land(Order("a", "-1.00"))
    await room.main.tend()
    await room.judge("fail")
    good = await room.land(*orders("b"))
    assert await held(room, bad) is True
    await room.main.tend()
    await room.judge()
    await room.main.tend()
    assert await room.seen() == ["b"]
    assert (await room.carrier(bad), await room.carrier(good)) == (None, await room.current())
    [event] = await room.announced(BatchHeld)
    assert (event.batch_id, event.reason, event.records) == (bad, "wrong prices", 1)


async def test_holding_a_published_batch_rebuilds_without_it_and_releasing_brings_it_back(room: Room) -> None:
    kept, bad = await room.land(*orders("a")), await room.land(*orders("b"))
    await room.publish()
    await held(room, bad)
    await room.main.tend()
    rebuilt = await room.generation()
    assert (rebuilt["kind"], await room.batches_of(rebuilt["number"])) == ("full", {kept})
    await room.judge()
    await room.main.tend()
    assert await room.seen() == ["a"]
    assert await room.carrier(bad) is None

    await released(room, bad)
    await room.main.tend()
    back = await room.generation()
    assert (back["kind"], await room.batches_of(back["number"])) == ("incremental", {bad})
    await room.judge()
    await room.main.tend()
    assert await room.seen() == ["a", "b"]
    assert len(await room.announced(BatchReleased)) == 1


async def test_releasing_before_the_rebuild_takes_the_batch_back_into_it(room: Room) -> None:
    batch = await room.land(*orders("a"))
    await room.publish()
    await held(room, batch)
    await released(room, batch)
    await room.main.tend()
    assert await room.states() == ["published"]


async def test_releasing_while_the_rebuild_without_it_waits_gives_that_up(room: Room) -> None:
    await room.land(*orders("a"))
    bad = await room.land(*orders("b"))
    await room.publish()
    await held(room, bad)
    await room.main.tend()
    await released(room, bad)
    await room.main.tend()
    assert await room.states() == ["published", "abandoned"]
    assert "released since" in (await room.generation())["error"]
    assert await room.seen() == ["a", "b"]
    assert await room.carrier(bad) is not None


async def test_holding_twice_is_holding_once(room: Room) -> None:
    batch = await room.land(*orders("a"))
    assert [await held(room, batch), await held(room, batch)] == [True, False]
    assert [await released(room, batch), await released(room, batch)] == [True, False]
    assert await held(room, batch) is True
    assert len(await room.announced(BatchHeld)) == 2
    assert [tuple(row) for row in await actions(room)] == [
        ("me", "batch.hold", f"batch:{batch}", "wrong prices"),
        ("me", "batch.release", f"batch:{batch}", "prices are right"),
        ("me", "batch.hold", f"batch:{batch}", "wrong prices"),
    ]


async def test_what_cannot_be_held_is_refused(room: Room) -> None:
    with pytest.raises(Permanent, match="there is no batch"):
        await held(room, uuid.uuid4())
    batch = await room.land(*orders("a"))
    with pytest.raises(Permanent, match="needs a reason"):
        await held(room, batch, reason=" ")
    await room.postgres.execute(
        "UPDATE ops.batches SET state = 'open', closed_at = NULL WHERE id = $1", batch
    )
    with pytest.raises(Permanent, match="still open"):
        await held(room, batch)
    assert await room.announced(BatchHeld) == []


async def test_a_rollback_shows_the_earlier_generation_and_nothing_newer_until_resume(room: Room) -> None:
    first = await room.publish(orders("a"))
    batches = [await room.land(*orders(name)) for name in ("b", "c")]
    await room.publish()
    assert await rolled_back(room) == first
    later = await room.land(*orders("d"))
    await room.main.tend()
    assert await room.seen() == ["a"]
    assert await room.states() == ["published", "retired"]
    assert [await room.carrier(batch) for batch in batches] == [None, None]
    event = (await room.announced(WarehousePublished))[-1]
    assert (event.generation, event.version, event.reason) == (first, 3, "rollback")

    assert await act(room, lambda c: resume(c, "orders", actor="me")) is True
    assert await act(room, lambda c: resume(c, "orders", actor="me")) is False
    await room.main.tend()
    newest = await room.generation()
    assert (newest["kind"], newest["parent"]) == ("incremental", first)
    assert await room.batches_of(newest["number"]) == {*batches, later}
    await room.judge()
    await room.main.tend()
    assert await room.seen() == ["a", "b", "c", "d"]


async def test_a_rollback_can_be_taken_back(room: Room) -> None:
    first, second = await room.publish(orders("a")), await room.publish(orders("b"))
    await rolled_back(room, to=first)
    await rolled_back(room, to=second)
    await room.main.tend()
    assert await room.seen() == ["a", "b"]
    carriers = await room.postgres.fetch("SELECT generation FROM ops.batches ORDER BY closed_at")
    assert [row["generation"] for row in carriers] == [first, second]


async def test_a_candidate_that_passes_while_pinned_is_given_up_with_its_parent(room: Room) -> None:
    await room.publish(orders("a"))
    await room.publish(orders("b"))
    await room.land(*orders("c"))
    await room.main.tend()
    await rolled_back(room)
    await room.judge()
    await room.main.tend()
    assert await room.states() == ["published", "retired", "abandoned"]


async def test_only_a_generation_that_was_published_and_is_kept_can_come_back(room: Room) -> None:
    with pytest.raises(Permanent, match="nothing of orders is published"):
        await rolled_back(room)
    first = await room.publish(orders("a"))
    with pytest.raises(Permanent, match="no earlier generation"):
        await rolled_back(room)
    with pytest.raises(Permanent, match="there is no generation 99"):
        await rolled_back(room, to=99)
    with pytest.raises(Permanent, match="is published"):
        await rolled_back(room, to=first)
    await room.publish(orders("b"))
    await room.postgres.execute("UPDATE ops.generations SET state = 'pruned' WHERE number = $1", first)
    with pytest.raises(Permanent, match="is pruned"):
        await rolled_back(room, to=first)
    assert (await room.postgres.fetchval("SELECT pinned_at FROM ops.warehouse_pointer")) is None


async def test_a_generation_that_is_pruned_meanwhile_does_not_come_back(room: Room) -> None:
    first = await room.publish(orders("a"))
    second = await room.publish(orders("b"))
    async with room.postgres.transaction() as pruning:
        await pruning.execute("UPDATE ops.generations SET state = 'pruned' WHERE number = $1", first)
        going_back = asyncio.create_task(rolled_back(room))

        async def waits() -> bool:
            found = await room.postgres.fetchval(
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid IN "
                "(SELECT pid FROM pg_stat_activity WHERE datname = current_database())"
            )
            return bool(found) or going_back.done()

        await until(waits)
    with pytest.raises(Permanent, match="no earlier generation is kept"):
        await going_back
    assert await room.current() == second


async def test_a_generation_that_comes_back_is_not_pruned_meanwhile(room: Room) -> None:
    first = await room.publish(orders("a"))
    await room.publish(orders("b"))
    async with room.postgres.transaction() as connection:
        await rollback(connection, "orders", reason="wrong prices", actor="me")
        pruning = asyncio.create_task(room.store().prune(keep=0, spare_unarchived=False))

        async def waits() -> bool:
            found = await room.postgres.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted")
            return bool(found) or pruning.done()

        await until(waits)
    living = await pruning
    assert (await room.generation(first))["file"] in living
    assert await room.seen() in (["a", "b"], ["a"])
    await room.main.tend()
    assert await room.seen() == ["a"]


async def test_a_rebuild_of_nothing_new_makes_a_generation_with_the_same_hashes(room: Room) -> None:
    before = await room.generation(await room.publish(orders("a")))
    await act(room, lambda c: request_rebuild(c, "orders", full=False, actor="me"))
    await room.main.tend()
    after = await room.generation()
    assert (after["kind"], await room.batches_of(after["number"])) == ("incremental", set())
    assert (after["staging_hash"], after["analytics_hash"]) == (
        before["staging_hash"],
        before["analytics_hash"],
    )
    assert [row["action"] for row in await actions(room)] == ["warehouse.rebuild"]


async def test_an_accepted_generation_is_published_though_the_gate_blocked_it(room: Room) -> None:
    await room.publish(orders("a"))
    await room.land(*orders("b"))
    await room.main.tend()
    blocked = await room.judge("fail")
    await accepted(room, blocked)
    await room.main.tend()
    assert await room.seen() == ["a", "b"]
    assert (await room.announced(WarehousePublished))[-1].reason == "accepted"
    row = await room.generation(blocked)
    assert (row["verdict"], row["override_reason"]) == ("fail", "the customer said so")


async def test_an_accepted_generation_that_was_rolled_back_is_built_and_judged_anew(room: Room) -> None:
    await room.publish(orders("a"))
    await room.land(*orders("b"))
    await room.main.tend()
    await accepted(room, await room.judge("fail"))
    await room.main.tend()
    await rolled_back(room)
    await act(room, lambda connection: resume(connection, "orders", actor="me"))
    await room.main.tend()
    again = await room.judge("fail")
    await room.main.tend()
    assert (await room.generation(again))["state"] == "blocked"
    assert await room.seen() == ["a"]


async def test_what_a_rollback_puts_back_on_its_parent_can_be_accepted_and_is_published_after_resume(
    room: Room,
) -> None:
    """It is that generation and its own batches, whatever readers saw in between."""
    await room.publish(orders("a"))
    bad = await room.land(*orders("b"))
    await room.main.tend()
    blocked = await room.judge("fail")
    await held(room, bad)
    later = await room.publish(orders("c"))
    with pytest.raises(Permanent, match=f"no longer see \\(now {later}\\)"):
        await accepted(room, blocked)
    await rolled_back(room)
    await released(room, bad)

    assert await accepted(room, blocked) == "wrong prices"
    await room.main.tend()
    assert await room.seen() == ["a"]

    await act(room, lambda connection: resume(connection, "orders", actor="me"))
    await room.main.tend()
    assert await room.seen() == ["a", "b"]
    await room.judge()
    await room.main.tend()
    assert await room.seen() == ["a", "b", "c"]


async def test_what_its_batches_no_longer_allow_is_not_accepted(room: Room) -> None:
    """The transformer would give it up."""
    kept = await room.land(*orders("a"))
    other = await room.land(*orders("b"))
    await room.publish()
    await held(room, other)
    await room.main.tend()
    without = await room.judge("fail")
    await released(room, other)
    with pytest.raises(Permanent, match="1 batches that it leaves out were released since"):
        await accepted(room, without)

    third = await room.land(*orders("c"))
    await room.main.tend()
    incremental = await room.judge("fail")
    assert await room.batches_of(incremental) == {third}
    await held(room, third)
    with pytest.raises(Permanent, match="1 of its batches were held since"):
        await accepted(room, incremental)
    assert await room.carrier(kept) is not None
    await released(room, third)
    assert await accepted(room, incremental) is None


async def test_what_was_not_judged_or_no_longer_fits_is_not_accepted(room: Room) -> None:
    published = await room.publish(orders("a"))
    with pytest.raises(Permanent, match="it is published"):
        await accepted(room, published)
    with pytest.raises(Permanent, match="no such generation"):
        await accepted(room, 99)
    await room.land(*orders("b"))
    await room.main.tend()
    with pytest.raises(Permanent, match="could not be judged"):
        await accepted(room, await room.judge("error"))
    await room.long_ago()
    await room.main.tend()
    blocked = await room.judge("fail")
    await room.land(*orders("c"))
    await room.main.tend()
    with pytest.raises(Permanent, match="is on its way"):
        await accepted(room, blocked)
    await room.judge()
    await room.main.tend()
    with pytest.raises(Permanent, match="no longer see"):
        await accepted(room, blocked)
