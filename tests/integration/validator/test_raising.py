"""Expectations that raise, and what they may say of the rows that they choked on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from libs.contracts.events import QualityFailed
from libs.datasets import Comparison, CustomRule, Expectation, TableRule, TableRuleKind
from libs.operations.judged import may_be_told
from services.validator import tables
from services.validator.handlers import Validator
from services.validator.judge import Judge
from services.validator.rows import as_frame
from services.validator.store import VerdictStore
from tests.integration.validator.bench import Bench, Order, orders

PLANTED = "alice@secret.example"

RAISES = Expectation(
    "expect_column_kl_divergence_to_be_less_than",
    {"column": "amount", "partition_object": {"wonder": 1}, "threshold": 0.1},
)
SOUND = Expectation("expect_column_values_to_be_between", {"column": "amount", "min_value": 0})
BROKEN = Expectation("expect_column_values_to_be_between", {"column": "amount", "min_value": 5000})


def a_rule(name: str, expectation: Expectation) -> CustomRule:
    columns = (str(expectation.kwargs["column"]),) if "column" in expectation.kwargs else ()
    return CustomRule(name, "staging.orders", expectation, columns)


def validator_of(bench: Bench, judge: Judge, **changes: Any) -> Validator:
    dataset = replace(bench.dataset, **changes)
    return Validator(VerdictStore(bench.postgres), {"orders": dataset}, bench.root, judge=judge)


async def test_a_rule_that_raises_is_an_error_and_its_neighbours_are_judged(
    bench: Bench, judge: Judge
) -> None:
    number = await bench.build(await bench.land(orders(20)))
    rules = (a_rule("sound", SOUND), a_rule("raises", RAISES), a_rule("broken", BROKEN))
    validator = validator_of(bench, judge, custom_rules=rules)

    assert await validator.judge_waiting() == ["error"]
    assert await bench.statuses(number) == {"raises": "error", "broken": "fail"}
    assert (await bench.result(number, "raises"))["detail"] == "Great Expectations raised ValueError"
    assert await bench.generation(number) == ("blocked", "error")

    second = await bench.build(await bench.land(orders(20, start=20)))
    assert await validator.judge_waiting() == ["error"], "it is alive, and judges the next one"
    assert (await bench.statuses(second))["raises"] == "error"
    await validator.close()


def test_of_expectations_asked_together_the_one_that_raises_spoils_no_other(judge: Judge) -> None:
    frame = pd.DataFrame({"amount": [10.0, 20.0]})
    outcomes = judge.judge(frame, [SOUND, RAISES, BROKEN])
    assert [outcome.success for outcome in outcomes] == [True, None, False]
    assert outcomes[1].error == "Great Expectations raised ValueError"
    assert outcomes[2].unexpected == 2


async def told_of(bench: Bench, number: int, caplog: pytest.LogCaptureFixture) -> list[str]:
    """All that is told of a verdict: details, the event with its message, the log."""
    rows = await bench.postgres.fetch("SELECT detail FROM ops.quality_results WHERE generation = $1", number)
    events = [event for event in await bench.announced() if isinstance(event, QualityFailed)]
    return [*(row["detail"] or "" for row in rows), *(str(event) for event in events), caplog.text]


async def test_what_great_expectations_says_of_a_row_is_told_nowhere(
    bench: Bench, judge: Judge, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # as Python objects, as pandas holds them in other versions: their errors quote them
    monkeypatch.setattr(tables, "as_frame", lambda *args: as_frame(*args).astype(object))
    number = await bench.build(await bench.land([Order(PLANTED)]))
    mean = Expectation("expect_column_mean_to_be_between", {"column": "source_order_id", "min_value": 1})
    validator = validator_of(bench, judge, custom_rules=(a_rule("mean", mean),))

    assert await validator.judge_waiting() == ["error"]
    detail = (await bench.result(number, "mean"))["detail"]
    assert detail == "Great Expectations raised MetricResolutionError at column.mean"
    told = await told_of(bench, number, caplog)
    assert detail in told[-1], "it was logged"
    assert not [text for text in told if PLANTED in text]
    await validator.close()


async def test_what_duckdb_says_of_a_row_is_told_nowhere(
    bench: Bench, judge: Judge, caplog: pytest.LogCaptureFixture
) -> None:
    number = await bench.build(await bench.land([Order(PLANTED)]))
    sql = "SELECT sum(CAST(source_order_id AS INTEGER)) FROM staging.orders"
    rule = TableRule("numbers", TableRuleKind.SQL, Comparison(0, None), sql, "staging.orders")
    validator = validator_of(bench, judge, table_rules=(rule,))

    assert await validator.judge_waiting() == ["error"]
    detail = (await bench.result(number, "numbers"))["detail"]
    assert detail == f"{sql}: Conversion Error (column source_order_id)"
    assert not [text for text in await told_of(bench, number, caplog) if PLANTED in text]
    await validator.close()


@pytest.mark.parametrize("text", [PLANTED, "030123456"])
async def test_a_text_that_was_observed_is_kept_with_the_result_and_told_nowhere_else(
    bench: Bench, judge: Judge, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    number = await bench.build(await bench.land([Order(text)]))
    known = Expectation(
        "expect_column_most_common_value_to_be_in_set", {"column": "source_order_id", "value_set": ["o-1"]}
    )
    validator = validator_of(bench, judge, custom_rules=(a_rule("known", known),))

    assert await validator.judge_waiting() == ["fail"]
    observed = (await bench.result(number, "known"))["observed"]
    assert text in observed
    assert not may_be_told("custom", observed)
    assert not [said for said in await told_of(bench, number, caplog) if text in said]
    await validator.close()


@pytest.mark.parametrize("gone", [False, True])
async def test_a_rebuild_whose_left_out_batch_is_released_before_the_verdict_still_reconciles(
    bench: Bench, gone: bool
) -> None:
    """gone: another batch is left out although nobody held it."""
    kept, other = await bench.land(orders(20)), await bench.land(orders(20, start=20))
    held = await bench.land([Order("o-99")])
    first = await bench.build(kept, other, held)
    await bench.validator.judge_waiting()
    await bench.publish(first)
    number = await bench.build(*([kept] if gone else [kept, other]), parent=first)
    await bench.postgres.execute(
        "INSERT INTO ops.operator_actions (actor, action, subject, reason) "
        "VALUES ('me', 'batch.release', $1, 'prices are right')",
        f"batch:{held}",
    )

    assert await bench.validator.judge_waiting() == ["fail" if gone else "pass"]
    assert ("raw_reconciles" in await bench.statuses(number)) is gone
