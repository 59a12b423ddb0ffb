"""What the gate decided: now, of late, and on which rows."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest

from libs.operations.actions import acting
from libs.operations.batches import hold
from libs.operations.warehouse import accept, rollback
from tests.integration.archiver.works import Works, orders_placed
from tests.integration.console.conftest import Console
from tests.integration.console.test_pages import a_blocked_batch, a_busy_batch

Opened = Callable[..., Console]


async def test_a_blocked_generation_is_said_with_its_rule_and_what_readers_see(
    console: Opened, works: Works
) -> None:
    await a_busy_batch(works)
    await a_blocked_batch(works)
    said = await console().text("/quality")
    assert "amount_not_negative" in said
    assert "blocked" in said
    assert "generation 1" in said


async def test_failing_rows_of_a_generation_are_hidden_until_somebody_asks(
    console: Opened, works: Works
) -> None:
    await a_blocked_batch(works)
    seen = console()
    hidden = await seen.page("/quality?rule=amount_not_negative")
    shown = await seen.page("/quality?rule=amount_not_negative&reveal=true")
    assert "n-3" in shown
    assert "n-3" not in hidden


async def test_before_anything_was_judged_the_page_says_how_to_begin(console: Opened, works: Works) -> None:
    assert "drp publish --file" in await console().page("/quality")
    await works.land(*orders_placed(1))
    assert "Nothing was judged yet" in await console().text("/quality")


async def test_what_passes_is_said_with_its_batches_and_what_readers_see(
    console: Opened, works: Works
) -> None:
    batch = await a_busy_batch(works)
    said = await console().text("/quality")
    assert "Generation 1 passes" in said
    assert "Readers see it." in said
    assert batch in await console().page("/quality")


async def test_once_its_batch_is_held_a_blocked_generation_is_set_aside(
    console: Opened, works: Works
) -> None:
    await a_busy_batch(works)
    batch = await a_blocked_batch(works)
    seen = console()
    assert "10 rows wait. Readers still see generation 1 ," in await seen.text("/quality")
    assert f"drp batches hold {batch}" in await seen.text("/quality")
    async with acting(works.postgres) as connection:
        await hold(connection, uuid.UUID(batch), reason="wrong", actor="ann")
    said = await seen.text("/quality")
    assert "Generation 1 passes" in said
    assert "Generation 2 after it was blocked; nothing waits for it any more." in said
    assert "10 rows wait" not in said


async def test_what_was_accepted_is_said_with_the_reason(console: Opened, works: Works) -> None:
    await a_blocked_batch(works)
    assert "drp quality accept 1" in await console().text("/quality")
    async with acting(works.postgres) as connection:
        await accept(connection, 1, reason="known to be so", actor="ann")
    await works.transformer.main.tend()
    said = await console().text("/quality")
    assert "was accepted though it breaks amount_not_negative" in said
    assert "An operator accepted it: known to be so." in said
    assert "drp quality accept 1" not in said


async def test_a_pinned_generation_is_said_with_why(console: Opened, works: Works) -> None:
    await a_busy_batch(works)
    await works.land(*orders_placed(2, start=50))
    await works.publish()
    async with acting(works.postgres) as connection:
        await rollback(connection, "orders", reason="a bad price", actor="ann")
    said = await console().text("/quality")
    assert "Readers see generation 1 , pinned: a bad price." in said


async def test_an_older_generation_is_looked_into_by_its_number(console: Opened, works: Works) -> None:
    await a_busy_batch(works)
    await a_blocked_batch(works)
    chosen = (await console().json("/api/quality?generation=1"))["chosen"]
    assert chosen["generation"]["number"] == 1
    assert chosen["failing"] == []
    newest = (await console().json("/api/quality"))["chosen"]
    assert newest["generation"]["number"] == 2
    assert len(newest["failing"]) == 10


@pytest.mark.parametrize("address", ["generation=999", "dataset=nope"])
async def test_what_there_is_not_is_said_so(console: Opened, works: Works, address: str) -> None:
    await a_busy_batch(works)
    await console().page(f"/quality?{address}", status=404)


@pytest.mark.parametrize("address", ["generation=x", "rule=%00", "dataset=%00"])
async def test_an_address_that_is_not_understood_is_said_so(console: Opened, address: str) -> None:
    await console().page(f"/quality?{address}", status=422)
