"""What the gate decided: now, of late, and on which rows."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace

import pytest

from libs.datasets import load_datasets
from libs.operations.actions import acting
from libs.operations.batches import hold
from libs.operations.warehouse import accept, rollback
from libs.testing.builders import a_batch_of, a_payment
from services.console.looks import quality
from tests.integration.archiver.works import Works, orders_placed
from tests.integration.console.conftest import Console
from tests.integration.console.test_pages import a_blocked_batch, a_busy_batch
from tests.integration.ingestor.room import open_room
from tests.integration.operations.archived.test_other_dataset import DATASETS
from tests.integration.transformer.room import Room as Transformer

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


async def test_of_two_datasets_each_has_its_verdict_and_its_map(console: Opened, works: Works) -> None:
    await a_busy_batch(works)
    seen = console()
    seen.room.doors.datasets = {**seen.room.doors.datasets, **load_datasets(DATASETS)}
    payments = seen.room.doors.datasets["payments"]
    others = replace(
        works,
        dataset=payments,
        ingestor=await open_room(works.postgres, payments),
        transformer=Transformer(works.postgres, payments, works.root),
    )
    await others.land(*a_batch_of(5, a_payment))
    await others.publish()
    for address in ("/quality", "/quality?generation=1", "/quality?generation=2"):
        said = await seen.text(address)
        assert "orders Generation 1 passes" in said
        assert "payments Generation 2 passes" in said
    only = await seen.text("/quality?dataset=payments")
    assert "Generation 2 passes" in only
    assert "Generation 1 passes" not in only


async def test_a_generation_older_than_the_map_is_looked_into(
    console: Opened, works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality, "GENERATIONS", 1)
    await a_busy_batch(works)
    await works.land(*orders_placed(2, start=50))
    await works.publish()
    assert "Generation 1 orders" in await console().text("/quality?generation=1")


async def test_a_candidate_that_waits_for_its_verdict_is_looked_into(console: Opened, works: Works) -> None:
    await a_busy_batch(works)
    await works.land(*orders_placed(2, start=50))
    await works.transformer.main.tend()
    assert "It was not judged yet." in await console().text("/quality?generation=2")


async def test_what_an_expectation_of_ones_own_saw_is_hidden_unless_it_is_a_number(
    console: Opened, works: Works
) -> None:
    await a_busy_batch(works)
    await works.postgres.execute(
        "INSERT INTO ops.quality_results (generation, rule, kind, status, expectation, tolerance, observed, "
        "evaluated, unexpected) VALUES (1, 'known', 'custom', 'fail', 'x', NULL, 'Ann Example', 10, NULL), "
        "(1, 'mean', 'custom', 'fail', 'x', NULL, '10.5', 10, NULL)"
    )
    seen = console()
    for address in ("/quality", "/batches/last"):
        hidden = (await seen.http.get(f"/api{address}")).text + await seen.page(address)
        assert "Ann Example" not in hidden
        assert "10.5" in hidden
        assert "Ann Example" in await seen.page(f"{address}?reveal=true")


@pytest.mark.parametrize("address", ["generation=999", "dataset=nope"])
async def test_what_there_is_not_is_said_so(console: Opened, works: Works, address: str) -> None:
    await a_busy_batch(works)
    await console().page(f"/quality?{address}", status=404)


@pytest.mark.parametrize("address", ["generation=x", "rule=%00", "dataset=%00"])
async def test_an_address_that_is_not_understood_is_said_so(console: Opened, address: str) -> None:
    await console().page(f"/quality?{address}", status=422)
