"""An address asked again and again."""

from __future__ import annotations

import asyncio

import pytest

from libs.adapters.bus import Bus
from libs.datasets import Dataset
from libs.errors import DrpError, Permanent
from libs.operations import pull as pulling
from libs.operations.pull import Pull, Pulled
from libs.testing.waiting import until
from tests.integration.operations.pulled.api import Answer, Api, a_pull, an_order, landed, records


async def test_rounds_publish_what_is_new_and_go_on_after_a_failure(
    bus: Bus, orders: Dataset, api: Api
) -> None:
    api.answers = [
        Answer(body=records(an_order(1), an_order(2), 7)),
        Answer(404),
        Answer(body=records(an_order(2), an_order(3), 7)),
        Answer(body=records(an_order(2), an_order(3, amount="9.99"), 7)),
    ]
    this = a_pull(bus, orders, api.url)
    outcomes: list[Pulled | DrpError] = []

    def told(outcome: Pulled | DrpError) -> None:
        outcomes.append(outcome)
        if len(outcomes) == 4:
            this.stop.set()

    total = await asyncio.wait_for(this.repeat(0.01, told=told), 240)

    assert [one.events if isinstance(one, Pulled) else str(one) for one in outcomes] == [
        3,
        f"{api.url} answered 404 x",
        1,
        1,
    ]
    assert (total.rounds, total.failed, total.records, total.events, total.unreadable) == (4, 1, 9, 5, 1)
    rows, refused = await landed(bus, orders)
    assert [row["source_order_id"] for row in rows] == ["O-1", "O-2", "O-3", "O-3"]
    assert len(refused) == 1


async def test_a_first_round_that_can_not_work_ends_it(bus: Bus, orders: Dataset, api: Api) -> None:
    api.answers = [Answer(404)]
    with pytest.raises(Permanent, match="answered 404"):
        await a_pull(bus, orders, api.url).repeat(60, told=lambda _: None)


async def test_what_can_not_work_ends_it_after_a_few_rounds_without_a_good_one(
    bus: Bus, orders: Dataset, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulling, "ATTEMPTS", 1)
    good = Answer(body=records(an_order(1)))
    api.answers = [good, Answer(401), Answer(401), good, Answer(401), Answer(503), Answer(401), Answer(401)]
    outcomes: list[Pulled | DrpError] = []

    with pytest.raises(Permanent, match="answered 401 x, 3 rounds in a row"):
        await asyncio.wait_for(a_pull(bus, orders, api.url).repeat(0.01, told=outcomes.append), 240)

    assert [isinstance(one, Pulled) for one in outcomes] == [True, False, False, True, *[False] * 4]


async def test_the_total_says_why_the_last_round_failed(bus: Bus, orders: Dataset, api: Api) -> None:
    good = Answer(body=records(an_order(1)))
    for last, error in ((good, None), (Answer(404), f"{api.url} answered 404 x")):
        api.answers, api.asked = [good, Answer(404), last], []
        this = a_pull(bus, orders, api.url)

        def told(_: object, this: Pull = this) -> None:
            if len(api.asked) == 3:
                this.stop.set()

        total = await asyncio.wait_for(this.repeat(0.01, told=told), 240)
        assert (total.rounds, total.failed, total.error) == (3, 1 if error is None else 2, error)


async def test_a_pause_ends_when_it_is_told_to_stop(
    bus: Bus, orders: Dataset, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulling, "FIRST_PAUSE", 600.0)
    monkeypatch.setattr(pulling, "LONGEST_PAUSE", 600.0)
    api.answers = [Answer(503)]
    this = a_pull(bus, orders, api.url)
    running = asyncio.create_task(this.repeat(600, told=lambda _: None))
    await until(lambda: api.asked)
    this.stop.set()
    total = await asyncio.wait_for(running, 240)
    assert (total.rounds, total.failed, len(api.asked)) == (1, 1, 1)
