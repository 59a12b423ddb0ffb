"""Why something is where it is: a sentence for each place that it can be in."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from libs.datasets import load_dataset
from libs.errors import Permanent
from libs.operations.actions import acting
from libs.operations.batches import hold, release
from libs.operations.quarantine import Selection, discard
from libs.operations.warehouse import accept, rollback
from libs.operations.why import Explanation, why
from libs.testing.builders import a_payment, encoded
from tests.integration.archiver.works import Works, an_entry, an_event, orders_placed
from tests.integration.ingestor.room import open_room

PAYMENTS = Path(__file__).parents[2] / "data" / "datasets" / "payments"


async def explained(works: Works, what: object) -> Explanation:
    (only,) = await why(works.postgres, {"orders": works.dataset}, str(what))
    return only


def said(this: Explanation) -> str:
    return " ".join(this.sentences)


async def test_a_batch_on_its_way_says_what_it_waits_for(works: Works) -> None:
    await works.ingestor.land(an_entry(*orders_placed(2)))
    batch = (await works.batch())["id"]
    assert ((await explained(works, batch)).state, (await explained(works, "last")).state) == ("open", "open")
    await works.ingestor.landing.drain()
    closed = await explained(works, str(batch)[:13])
    assert (closed.state, closed.subject) == ("closed", f"batch:{batch}")
    assert "no generation has taken it up yet" in said(closed)
    assert "Its events: 2 accepted. It is not archived yet." in said(closed)
    await works.transformer.main.tend()
    assert "waits for the verdict" in said(await explained(works, batch))
    assert "waits for the verdict" in said(await explained(works, 1))
    other = (await works.land(*orders_placed(1, start=9)))["id"]
    behind = await explained(works, other)
    assert "Generation 1 is built before it." in said(behind)
    assert behind.next[0] == "drp why 1"


async def test_what_is_published_rolled_back_and_pinned_says_so(works: Works) -> None:
    first = (await works.land(*orders_placed(2)))["id"]
    await works.publish()
    await works.land(*orders_placed(2, start=10))
    await works.publish()
    assert "Readers see it since generation 1." in said(await explained(works, first))
    assert "Readers of orders see it" in said(await explained(works, 2))
    async with acting(works.postgres) as connection:
        await rollback(connection, "orders", reason="a bad price", actor="ann")

    waiting = await explained(works, "last")
    assert "Nothing of orders is published since" in said(waiting)
    assert "a bad price" in said(waiting)
    assert waiting.next == ["drp warehouse resume"]
    retired = await explained(works, 2)
    assert "Readers saw it once; now they see generation 1." in said(retired)
    back = await explained(works, 1)
    assert [(each["actor"], each["action"]) for each in back.actions] == [("ann", "warehouse.rollback")]


async def test_a_blocked_batch_names_the_rule_and_the_ways_out(works: Works) -> None:
    batch = (await works.land(*orders_placed(2)))["id"]
    await works.transformer.main.tend()
    number = await works.transformer.judge("fail")
    await works.postgres.execute(
        """
        INSERT INTO ops.quality_results (generation, rule, kind, status, expectation, unexpected, evaluated)
        VALUES ($1, 'a_rule', 'row', 'fail', 'e', 3, 4), ($1, 'fine', 'row', 'pass', 'e', 0, 4)
        """,
        number,
    )
    blocked = await explained(works, batch)
    assert "The rule a_rule is broken by 3 of 4 rows." in said(blocked)
    assert "fine" not in said(blocked)
    assert f"drp quality accept {number} --because …" in blocked.next
    assert "Readers still see nothing yet." in said(await explained(works, number))

    async with acting(works.postgres) as connection:
        await accept(connection, number, reason="known", actor="ann")
    accepted = await explained(works, number)
    assert "an operator accepted it: known." in said(accepted)
    assert "about to be published" in said(await explained(works, batch))


async def test_a_held_and_an_empty_batch_say_so(works: Works) -> None:
    batch = (await works.land(*orders_placed(2)))["id"]
    async with acting(works.postgres) as connection:
        await hold(connection, batch, reason="wrong shop", actor="ann")
    held = await explained(works, batch)
    assert "wrong shop" in said(held)
    assert (held.next, held.actions[0]["reason"]) == (
        [f"drp batches release {batch} --because …"],
        "wrong shop",
    )
    empty = (await works.land(an_event(amount="ten")))["id"]
    told = await explained(works, empty)
    assert (told.state, told.next) == ("empty", [f"drp quarantine ls --batch {empty}"])


async def test_an_event_is_found_by_its_id_and_by_its_key_and_knows_its_correction(works: Works) -> None:
    await works.land({**an_event("o-1", event_id="first"), "time": "2026-01-01T00:00:00Z"})
    await works.land({**an_event("o-1", event_id="second"), "time": "2026-01-02T00:00:00Z"})
    await works.publish()
    second, first = await why(works.postgres, {"orders": works.dataset}, "o-1")
    assert (first.subject, second.subject) == ("event:first", "event:second")
    assert "Event second says something newer of o-1" in said(first)
    assert "newer" not in said(second)
    for text in ("second", "urn:test:shop/second"):
        assert (await explained(works, text)).subject == "event:second"
    assert "Event second says something newer of o-1" in said(await explained(works, "first"))


async def test_a_version_counts_until_readers_see_a_newer_one(works: Works) -> None:
    """Not while the newer one's batch is open, waits, is blocked or is held."""
    await works.land({**an_event("o-1", event_id="old"), "time": "2026-01-01T00:00:00Z"})
    await works.publish()

    async def counts() -> bool:
        return "newer" not in said(await explained(works, "old"))

    await works.ingestor.land(an_entry({**an_event("o-1", event_id="new"), "time": "2026-01-02T00:00:00Z"}))
    assert await counts()
    await works.ingestor.landing.drain()
    assert await counts()
    await works.transformer.main.tend()
    await works.transformer.judge("fail")
    batch = (await works.batch())["id"]
    assert ((await explained(works, batch)).state, await counts()) == ("blocked", True)
    async with acting(works.postgres) as connection:
        await hold(connection, batch, reason="wrong shop", actor="ann")
    assert ((await explained(works, "new")).state, await counts()) == ("held", True)

    async with acting(works.postgres) as connection:
        await release(connection, batch, reason="right shop", actor="ann")
        await accept(connection, 2, reason="known", actor="ann")
    await works.transformer.main.tend()
    assert not await counts()


async def test_a_key_that_is_a_number_is_asked_for_as_one(works: Works) -> None:
    payments = load_dataset(PAYMENTS)
    datasets = {"payments": payments, "orders": works.dataset}
    await works.land(an_event("o-1", event_id="e-1"))
    assert [one.subject for one in await why(works.postgres, datasets, "o-1")] == [
        "event:e-1"
    ]  # no payment yet
    room = await open_room(works.postgres, payments)
    await room.land(an_entry(encoded(a_payment(id="p-1", payment_id=17))))
    assert [one.subject for one in await why(works.postgres, datasets, "17")] == ["event:p-1"]


async def test_a_row_that_broke_a_rule_is_told(works: Works) -> None:
    await works.land(an_event("o-1", event_id="e-1"))
    await works.publish()
    await works.postgres.execute(
        "INSERT INTO ops.quality_failures (generation, rule, source_system, event_id) "
        "VALUES (1, 'r', 'urn:test:shop', 'e-1')"
    )
    assert "breaks the rule r" in said(await explained(works, "e-1"))


async def test_an_event_that_was_not_taken_says_why_and_what_became_of_it(works: Works) -> None:
    await works.land(an_event(event_id="bad", amount="ten"))
    told = await explained(works, "bad")
    number = told.subject.partition(":")[2]
    assert told == await explained(works, f"quarantine:{number}")
    assert (told.state, told.next[1]) == ("open", f"drp quarantine fix {number} --set amount=…")
    assert "wrong_type" in said(told)
    async with acting(works.postgres) as connection:
        await discard(connection, Selection(), because="a test", actor="ann")
    assert "put it away" in said(await explained(works, "bad"))


@pytest.mark.parametrize(
    "text", ["", "nope", "99", "quarantine:99", "quarantine:x", str(uuid.UUID(int=7)), "' OR true --", "\0"]
)
async def test_what_names_nothing_is_said(works: Works, text: str) -> None:
    await works.land(*orders_placed(1))
    with pytest.raises(Permanent, match=r"names no|nothing is quarantined"):
        await explained(works, text)
