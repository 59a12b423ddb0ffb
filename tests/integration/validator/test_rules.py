"""Each rule of orders: its violation planted, and seen caught: in the events where events can cause it, in
the candidate's file where only a wrong model could."""

from __future__ import annotations

from datetime import timedelta

import pytest

from libs.contracts.events import QualityFailed, QualityPassed
from tests.integration.validator.bench import NOON, Bench, Order, a_day, orders

UNAPPLIED = "UPDATE staging.orders_rejected SET rules = [], rule = NULL"


async def test_a_sound_candidate_passes_every_rule_and_says_so(bench: Bench) -> None:
    batch = await bench.land(orders(20))
    number = await bench.build(batch)

    assert await bench.validator.judge_waiting() == ["pass"]

    assert await bench.generation(number) == ("passed", "pass")
    assert await bench.statuses(number) == {}
    (event,) = await bench.announced()
    assert isinstance(event, QualityPassed)
    assert (event.generation, event.batches, event.records) == (number, [batch], 20)
    assert event.rules == await bench.postgres.fetchval("SELECT count(*) FROM ops.quality_results")


async def test_negative_amounts_within_the_tolerance_are_named_and_let_through(bench: Bench) -> None:
    number = await bench.build(await bench.land(orders(100, bad=2)))

    assert await bench.validator.judge_waiting() == ["pass"]

    result = await bench.result(number, "amount_not_negative")
    assert (result["status"], result["tolerance"]) == ("pass", 0.02)
    assert (result["unexpected"], result["evaluated"]) == (2, 100)
    failures = await bench.failures(number, "amount_not_negative")
    assert [(row["business_key"], row["observed"]) for row in failures] == [("o-0", "-1.0"), ("o-1", "-1.0")]


async def test_negative_amounts_beyond_the_tolerance_block(bench: Bench) -> None:
    batch = await bench.land(orders(100, bad=3))
    number = await bench.build(batch)

    assert await bench.validator.judge_waiting() == ["fail"]

    assert await bench.generation(number) == ("blocked", "fail")
    assert await bench.statuses(number) == {"amount_not_negative": "fail"}
    (event,) = await bench.announced()
    assert isinstance(event, QualityFailed)
    assert event.failed == ["amount_not_negative"]
    assert "3 of 100 new rows broke it (3.00%), tolerance 2.00%" in event.message
    assert f"drp quality show {number}" in event.message
    assert f"drp batches hold {batch} --reason" in event.message


async def test_the_tolerance_is_a_share_of_the_new_rows_alone(bench: Bench) -> None:
    first = await bench.build(await bench.land(orders(200)))
    await bench.validator.judge_waiting()
    await bench.publish(first)
    second = await bench.build(
        await bench.land(orders(20, bad=1, start=200)), parent=first, kind="incremental"
    )

    assert await bench.validator.judge_waiting() == ["fail"]
    assert (await bench.result(second, "amount_not_negative"))["evaluated"] == 20


async def test_a_rebuild_does_not_thin_a_bad_batch_with_old_rows(bench: Bench) -> None:
    good = await bench.land(orders(200))
    first = await bench.build(good)
    await bench.validator.judge_waiting()
    await bench.publish(first)
    number = await bench.build(good, await bench.land(orders(20, bad=1, start=200)), parent=first)

    assert await bench.validator.judge_waiting() == ["fail"]
    assert (await bench.result(number, "amount_not_negative"))["evaluated"] == 20


async def test_rows_an_operator_accepted_count_against_no_tolerance_again(bench: Bench) -> None:
    bad = await bench.land(orders(20, bad=10))
    first = await bench.build(bad)
    assert await bench.validator.judge_waiting() == ["fail"]
    await bench.publish(first, override="the refunds are real")

    await bench.build(bad, await bench.land(orders(20, start=20)), parent=first)
    assert await bench.validator.judge_waiting() == ["pass"]


@pytest.mark.parametrize(
    ("column", "rule"),
    [
        ("source_order_id", "order_id_not_null"),
        ("customer_id", "customer_id_not_null"),
        ("order_created_at", "order_created_at_not_null"),
    ],
)
async def test_an_empty_required_column_blocks_even_when_the_model_rejected_the_row(
    bench: Bench, column: str, rule: str
) -> None:
    number = await bench.build(await bench.land(orders(100, bad=1)))
    await bench.spoil(
        number,
        f"UPDATE staging.orders_rejected SET {column} = NULL, amount = 1, rule = '{rule}', "
        f"rules = ['{rule}']",
    )

    assert await bench.validator.judge_waiting() == ["fail"]
    assert await bench.statuses(number) == {rule: "fail"}
    assert "1 of 100 new rows broke it" in (await bench.result(number, rule))["detail"]


async def test_a_bad_row_that_the_model_kept_is_a_disagreement(bench: Bench) -> None:
    number = await bench.build(await bench.land(orders(100)))
    await bench.spoil(number, "UPDATE staging.orders SET customer_id = NULL WHERE source_order_id = 'o-7'")

    assert await bench.validator.judge_waiting() == ["fail"]
    result = await bench.result(number, "customer_id_not_null")
    assert "gate and model disagree: 1 rows break the rule but the model kept them" in result["detail"]
    assert [row["business_key"] for row in await bench.failures(number, "customer_id_not_null")] == ["o-7"]


async def test_a_good_row_that_the_model_rejected_is_a_disagreement(bench: Bench) -> None:
    number = await bench.build(await bench.land(orders(100, bad=1)))
    await bench.spoil(number, "UPDATE staging.orders_rejected SET amount = 5")

    assert await bench.validator.judge_waiting() == ["fail"]
    result = await bench.result(number, "amount_not_negative")
    assert "1 rows keep the rule but the model rejected them" in result["detail"]


async def test_a_row_rejected_for_another_rule_than_it_broke_is_a_disagreement(bench: Bench) -> None:
    number = await bench.build(await bench.land(orders(100, bad=1)))
    await bench.spoil(number, UNAPPLIED)

    assert await bench.validator.judge_waiting() == ["fail"]
    assert "gate and model disagree" in (await bench.result(number, "amount_not_negative"))["detail"]


async def test_a_repeated_key_blocks_and_is_named(bench: Bench) -> None:
    number = await bench.build(await bench.land(orders(20)))
    await bench.spoil(
        number,
        "UPDATE staging.orders SET source_order_id = 'o-3' WHERE source_order_id = 'o-4'",
    )

    assert await bench.validator.judge_waiting() == ["fail"]
    assert await bench.statuses(number) == {"order_id_unique": "fail"}
    result = await bench.result(number, "order_id_unique")
    assert result["detail"] == "staging.orders has 1 rows that repeat another's source_order_id, must be = 0"
    assert [row["business_key"] for row in await bench.failures(number, "order_id_unique")] == ["o-3", "o-3"]


async def test_an_empty_staging_table_blocks(bench: Bench) -> None:
    number = await bench.build(await bench.land([]))

    assert await bench.validator.judge_waiting() == ["fail"]
    assert await bench.statuses(number) == {"orders_not_empty": "fail", "freshness": "not run"}


async def test_two_rows_for_a_day_block(bench: Bench) -> None:
    number = await bench.build(await bench.land(orders(20)))
    await bench.spoil(
        number,
        "INSERT INTO analytics.daily_order_metrics SELECT order_date, 0, 0, 0, last_refreshed_at "
        "FROM analytics.daily_order_metrics",
    )

    assert await bench.validator.judge_waiting() == ["fail"]
    assert await bench.statuses(number) == {"one_row_a_day": "fail"}


@pytest.mark.parametrize("change", ["total_amount = total_amount + 0.01", "total_orders = total_orders - 1"])
async def test_a_mart_that_loses_a_cent_or_an_order_blocks(bench: Bench, change: str) -> None:
    number = await bench.build(await bench.land(orders(20)))
    await bench.spoil(number, f"UPDATE analytics.daily_order_metrics SET {change}")

    assert await bench.validator.judge_waiting() == ["fail"]
    assert await bench.statuses(number) == {"mart_totals_equal_staging": "fail"}


async def test_a_mart_that_is_missing_never_publishes(bench: Bench) -> None:
    number = await bench.build(await bench.land(orders(20)))
    await bench.spoil(number, "DROP TABLE analytics.daily_order_metrics")

    assert await bench.validator.judge_waiting() == ["error"]
    statuses = await bench.statuses(number)
    assert statuses["marts_exist"] == "fail"
    assert statuses["mart_totals_equal_staging"] == "error"


async def test_a_row_lost_on_the_way_to_staging_blocks(bench: Bench) -> None:
    number = await bench.build(await bench.land(orders(20)))
    await bench.spoil(
        number,
        "DELETE FROM staging.orders WHERE source_order_id = 'o-0'",
        "UPDATE analytics.daily_order_metrics SET total_orders = 19, total_amount = 190",
    )

    assert await bench.validator.judge_waiting() == ["fail"]
    assert await bench.statuses(number) == {"raw_reconciles": "fail"}
    assert (
        "RAW 20 ≠ staged 19 + rejected 0 + superseded 0"
        in (await bench.result(number, "raw_reconciles"))["detail"]
    )


async def test_rows_counted_as_superseded_that_never_were_block(bench: Bench) -> None:
    number = await bench.build(await bench.land(orders(20)))
    await bench.spoil(number, "UPDATE meta.counts SET value = value + 1 WHERE name = 'superseded'")

    await bench.validator.judge_waiting()
    assert await bench.statuses(number) == {"raw_reconciles": "fail"}


async def test_a_batch_whose_rows_the_file_miscounts_blocks_though_the_total_is_right(bench: Bench) -> None:
    one, two = await bench.land(orders(20)), await bench.land(orders(20, start=20))
    number = await bench.build(one, two)
    await bench.spoil(
        number,
        f"UPDATE meta.batches SET raw_rows = 19 WHERE batch_id = '{one}'",
        f"UPDATE meta.batches SET raw_rows = 21 WHERE batch_id = '{two}'",
    )

    await bench.validator.judge_waiting()
    assert await bench.statuses(number) == {"raw_reconciles": "fail"}
    assert f"batch {one}: RAW 20, file 19" in (await bench.result(number, "raw_reconciles"))["detail"]


async def test_a_held_batch_in_the_file_blocks(bench: Bench) -> None:
    batch, held = await bench.land(orders(20)), await bench.land(orders(5, start=20))
    await bench.postgres.execute(
        "UPDATE ops.batches SET held_at = now() - interval '1 hour', held_reason = 'test' WHERE id = $1", held
    )
    number = await bench.build(batch, held)

    await bench.validator.judge_waiting()
    assert await bench.statuses(number) == {"raw_reconciles": "fail"}
    assert str(held) in (await bench.result(number, "raw_reconciles"))["detail"]


async def test_a_rebuild_that_forgets_a_published_batch_blocks(bench: Bench) -> None:
    kept, forgotten = await bench.land(orders(20)), await bench.land(orders(20, start=20))
    first = await bench.build(kept, forgotten)
    await bench.validator.judge_waiting()
    await bench.publish(first)
    number = await bench.build(kept, parent=first)

    assert await bench.validator.judge_waiting() == ["fail"]
    assert "raw_reconciles" in await bench.statuses(number)


async def test_corrections_are_superseded_versions_and_still_reconcile(bench: Bench) -> None:
    first = await bench.build(await bench.land(orders(20)))
    await bench.validator.judge_waiting()
    await bench.publish(first)
    corrections = [Order(f"o-{n}", amount="11.00", time=a_day(1)) for n in range(5)]
    await bench.build(await bench.land(corrections, closed_at=a_day(1)), parent=first, kind="incremental")

    assert await bench.validator.judge_waiting() == ["pass"]


async def test_a_watermark_that_goes_back_blocks(bench: Bench) -> None:
    batch = await bench.land(orders(20))
    first = await bench.build(batch)
    await bench.validator.judge_waiting()
    await bench.publish(first)
    number = await bench.build(batch, parent=first)
    await bench.spoil(number, "UPDATE staging.orders SET event_time = event_time - INTERVAL 1 HOUR")

    assert await bench.validator.judge_waiting() == ["fail"]
    assert await bench.statuses(number) == {"watermark_holds": "fail", "freshness": "not run"}
    assert (await bench.result(number, "watermark_holds"))["observed"] == "3600 s"


async def test_the_watermark_may_go_back_when_a_batch_was_taken_out(bench: Bench) -> None:
    early = await bench.land(orders(20))
    late = await bench.land([Order("o-99", time=a_day(1))], closed_at=a_day(1))
    first = await bench.build(early, late)
    await bench.validator.judge_waiting()
    await bench.publish(first)
    await bench.postgres.execute(
        "UPDATE ops.batches SET held_at = now(), held_reason = 'test' WHERE id = $1", late
    )
    await bench.build(early, parent=first)

    assert await bench.validator.judge_waiting() == ["pass"]


async def test_live_orders_that_come_later_than_the_contract_tolerates_block(bench: Bench) -> None:
    late = [Order(f"o-{n}", time=NOON - timedelta(hours=2)) for n in range(5)]
    number = await bench.build(await bench.land([*orders(20, start=5), *late]))

    assert await bench.validator.judge_waiting() == ["fail"]
    assert await bench.statuses(number) == {"freshness": "fail"}
    assert "5 of 25 live events were older than 3600 s" in (await bench.result(number, "freshness"))["detail"]


async def test_a_backfill_of_old_orders_is_never_judged_for_its_age(bench: Bench) -> None:
    old = [Order(f"o-{n}", time=NOON - timedelta(days=9000), origin="backfill") for n in range(20)]
    number = await bench.build(await bench.land(old))

    assert await bench.validator.judge_waiting() == ["pass"]
    assert await bench.statuses(number) == {"freshness": "not run"}


async def test_old_orders_that_were_replayed_do_not_make_the_live_ones_late(bench: Bench) -> None:
    old = [Order(f"o-{n}", time=NOON - timedelta(days=9000), origin="replay") for n in range(20)]
    number = await bench.build(await bench.land([*old, *orders(20, start=20)]))

    assert await bench.validator.judge_waiting() == ["pass"]
    assert (await bench.result(number, "freshness"))["evaluated"] == 20
    assert await bench.statuses(number) == {}


async def test_at_most_a_thousand_failing_rows_are_kept_a_rule(bench: Bench) -> None:
    number = await bench.build(await bench.land(orders(1200, bad=1100)))

    await bench.validator.judge_waiting()
    assert (await bench.result(number, "amount_not_negative"))["unexpected"] == 1100
    assert len(await bench.failures(number, "amount_not_negative")) == 1000
