"""What the gate decided: now, of late, and on which rows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.archiver.works import Works
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


@pytest.mark.parametrize("address", ["generation=x", "rule=%00", "dataset=%00"])
async def test_an_address_that_is_not_understood_is_said_so(console: Opened, address: str) -> None:
    await console().page(f"/quality?{address}", status=422)
