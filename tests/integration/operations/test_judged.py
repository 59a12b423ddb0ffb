"""What the gate decided of late, as Postgres tells it: generations, their rules' results, and what waits for them."""

from __future__ import annotations

from libs.operations.actions import acting
from libs.operations.batches import hold
from libs.operations.judged import Judged, batches_applied, judged, readable
from libs.operations.warehouse import accept, resume, rollback
from tests.integration.archiver.works import Works, orders_placed

RESULTS = """
INSERT INTO ops.quality_results
    (generation, rule, kind, status, expectation, tolerance, observed, evaluated, unexpected)
VALUES ($1, 'b_rule', 'row', 'fail', 'x', 0.02, '3 of 10', 10, 3),
       ($1, 'a_rule', 'table', 'not run', 'x', NULL, NULL, NULL, NULL)
"""


async def a_blocked_one(works: Works, *, start: int = 100, rows: int = 4) -> int:
    """A batch whose generation the gate blocks; the generation's number."""
    await works.land(*orders_placed(rows, start=start))
    await works.transformer.main.tend()
    number = await works.transformer.judge("fail")
    await works.postgres.execute(RESULTS, number)
    return number


async def of_orders(works: Works, *, limit: int = 30) -> Judged:
    (only,) = await judged(works.postgres, ["orders"], limit=limit)
    return only


async def test_where_nothing_was_judged_there_is_nothing(works: Works) -> None:
    found = await judged(works.postgres, ["orders", "payments"])
    assert [(one.dataset, one.generations) for one in found] == [("orders", []), ("payments", [])]
    assert await readable(works.postgres, ["orders"]) == {}
    assert await batches_applied(works.postgres, 7, limit=3) == ([], 0)


async def test_a_candidate_that_waits_for_its_verdict_is_not_told(works: Works) -> None:
    await works.land(*orders_placed(1))
    await works.transformer.main.tend()
    assert (await of_orders(works)).generations == []


async def test_generations_come_newest_first_each_with_the_results_of_its_rules(works: Works) -> None:
    await works.land(*orders_placed(2))
    await works.publish()
    number = await a_blocked_one(works)
    newest, oldest = (await of_orders(works)).generations
    assert (newest.number, newest.state, newest.verdict, newest.kind) == (
        number,
        "blocked",
        "fail",
        "incremental",
    )
    assert (oldest.number, oldest.state, oldest.verdict, oldest.results) == (1, "published", "pass", [])
    assert [(result.rule, result.status) for result in newest.results] == [
        ("a_rule", "not run"),
        ("b_rule", "fail"),
    ]
    broken = newest.results[1]
    assert (broken.observed, broken.evaluated, broken.unexpected, broken.tolerance) == (
        "3 of 10",
        10,
        3,
        0.02,
    )


async def test_what_an_expectation_of_ones_own_saw_is_told_if_it_is_a_number(works: Works) -> None:
    await works.land(*orders_placed(2))
    number = await works.publish()
    seen = {"text": "Ann Example", "number": "-1,234.5", "rows": "12 rows", "mixed": "12 Ann"}
    for rule, observed in seen.items():
        await works.postgres.execute(
            "INSERT INTO ops.quality_results (generation, rule, kind, status, expectation, observed) "
            "VALUES ($1, $2, 'custom', 'fail', 'x', $3)",
            number,
            rule,
            observed,
        )
    (newest,) = (await of_orders(works)).generations
    told = {result.rule: result.observed for result in newest.results}
    assert told == {**seen, "text": None, "mixed": None}


async def test_no_more_generations_are_told_than_asked_for(works: Works) -> None:
    for start in (0, 10, 20):
        await works.land(*orders_placed(1, start=start))
        await works.publish()
    assert [one.number for one in (await of_orders(works, limit=2)).generations] == [3, 2]


async def test_rows_wait_for_a_blocked_generation_until_its_batch_is_held(works: Works) -> None:
    await a_blocked_one(works, rows=4)
    assert (await of_orders(works)).generations[0].waiting == 4
    batch = (await works.batch())["id"]
    async with acting(works.postgres) as connection:
        await hold(connection, batch, reason="wrong", actor="ann")
    assert (await of_orders(works)).generations[0].waiting == 0


async def test_rows_that_were_published_by_a_later_generation_wait_no_more(works: Works) -> None:
    blocked = await a_blocked_one(works)
    await works.land(*orders_placed(2))
    await works.publish()
    generations = {one.number: one for one in (await of_orders(works)).generations}
    assert generations[blocked].state == "blocked"
    assert generations[blocked].waiting == 0


async def test_readers_see_what_was_accepted_and_why(works: Works) -> None:
    number = await a_blocked_one(works)
    assert await readable(works.postgres, ["orders"]) == {}
    async with acting(works.postgres) as connection:
        await accept(connection, number, reason="known", actor="ann")
    await works.transformer.main.tend()
    seen = (await readable(works.postgres, ["orders", "payments"]))["orders"]
    assert (seen.generation, seen.verdict, seen.override_reason, seen.pinned) == (
        number,
        "fail",
        "known",
        None,
    )
    assert seen.published_at is not None


async def test_a_rollback_is_told_with_its_reason_until_it_is_undone(works: Works) -> None:
    for start in (0, 10):
        await works.land(*orders_placed(1, start=start))
        await works.publish()
    async with acting(works.postgres) as connection:
        await rollback(connection, "orders", reason="a bad price", actor="ann")
    seen = (await readable(works.postgres, ["orders"]))["orders"]
    assert (seen.generation, seen.pinned) == (1, "a bad price")
    async with acting(works.postgres) as connection:
        await resume(connection, "orders", reason="mended", actor="ann")
    assert (await readable(works.postgres, ["orders"]))["orders"].pinned is None


async def test_the_batches_of_a_generation_come_newest_first_and_are_all_counted(works: Works) -> None:
    landed = [(await works.land(*orders_placed(2, start=start)))["id"] for start in (0, 10, 20)]
    number = await works.publish()
    batches, in_all = await batches_applied(works.postgres, number, limit=2)
    assert [batch.id for batch in batches] == landed[:0:-1]
    assert in_all == 3
    assert {(batch.status, batch.accepted, batch.held_reason) for batch in batches} == {
        ("published", 2, None)
    }
