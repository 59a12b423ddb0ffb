"""When there is nothing sound to judge, when others judge too, and what the contract adds by itself."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import uuid4

import pytest

from libs.adapters.bus import Entry
from libs.contracts.events import (
    QualityFailed,
    StepFailed,
    WarehouseBuilt,
    WarehousePublished,
    encode_event,
    generation_subject,
)
from libs.datasets import CustomRule, Expectation
from libs.errors import Permanent, Transient
from services.validator.handlers import Validator
from services.validator.judge import Judge
from services.validator.store import VerdictStore
from tests.integration.validator.bench import NOON, Bench, orders

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def with_custom(bench: Bench, judge: Judge, *rules: CustomRule) -> Validator:
    dataset = replace(bench.dataset, custom_rules=rules)
    return Validator(VerdictStore(bench.postgres), {"orders": dataset}, bench.root, judge=judge)


def custom(
    name: str,
    expectation: str,
    kwargs: dict[str, object],
    *,
    relation: str = "staging.orders",
    mostly: float | None = None,
) -> CustomRule:
    columns = tuple(str(value) for key, value in kwargs.items() if key == "column")
    return CustomRule(name, relation, Expectation(expectation, kwargs, mostly), columns)


def an_entry(number: int, sha256: str = "x") -> Entry:
    event = WarehouseBuilt(
        dataset="orders",
        started_at=NOON,
        ended_at=NOON,
        records=1,
        generation=number,
        parent=None,
        kind="full",
        batches=[],
        sha256=sha256,
        staged=1,
        rejected=0,
        superseded=0,
    )
    _, document = encode_event(event, cause=uuid4(), subject=generation_subject(number), traceparent=PARENT)
    return Entry("drp.warehouse", "1-1", document)


async def test_a_missing_file_is_an_error_and_no_rule_ran(bench: Bench) -> None:
    number = await bench.build(await bench.land(orders(20)))
    bench.warehouse.path_of(bench.warehouse.file_name(number)).unlink()

    assert await bench.validator.judge_waiting() == ["error"]

    assert await bench.generation(number) == ("blocked", "error")
    statuses = await bench.statuses(number)
    assert statuses.pop("file_intact") == "error"
    assert set(statuses.values()) == {"not run"}
    assert {"amount_not_negative", "order_id_unique", "raw_reconciles"} <= set(statuses)
    (event,) = await bench.announced()
    assert isinstance(event, QualityFailed)
    assert event.verdict == "error"
    assert "is missing" in event.message
    assert "drp rebuild --dataset orders" in event.message


async def test_a_file_that_is_not_the_one_that_was_built_is_an_error(bench: Bench) -> None:
    number = await bench.build(await bench.land(orders(20)))
    path = bench.warehouse.path_of(bench.warehouse.file_name(number))
    path.chmod(0o644)
    with path.open("ab") as file:
        file.write(b"\0")

    assert await bench.validator.judge_waiting() == ["error"]
    assert (await bench.result(number, "file_intact"))["detail"].startswith(
        f"{path.name} is not the file that was built"
    )


async def test_a_file_that_is_no_database_is_tried_again_and_then_an_error(bench: Bench) -> None:
    number = await bench.build(await bench.land(orders(20)))
    path = bench.warehouse.path_of(bench.warehouse.file_name(number))
    path.chmod(0o644)
    path.write_bytes(b"no database" * 1000)
    await bench.spoil_sha(number)

    for _ in range(4):
        with pytest.raises(Transient):
            await bench.validator.judge_waiting()
    assert await bench.generation(number) == ("built", None)

    assert await bench.validator.judge_waiting() == ["error"]
    assert (await bench.statuses(number))["file_intact"] == "error"


async def test_a_table_that_the_model_left_out_is_an_error(bench: Bench) -> None:
    number = await bench.build(await bench.land(orders(20)))
    await bench.spoil(number, "DROP TABLE staging.orders_rejected")

    assert await bench.validator.judge_waiting() == ["error"]
    assert (await bench.statuses(number))["amount_not_negative"] == "error"


async def test_a_dataset_without_a_contract_here_is_an_error(bench: Bench, judge: Judge) -> None:
    number = await bench.build(await bench.land(orders(20)))
    stranger = Validator(VerdictStore(bench.postgres), {}, bench.root, judge=judge)

    assert await stranger.judge_waiting() == ["error"]
    assert "DRP_DATASETS_DIR" in (await bench.result(number, "file_intact"))["detail"]
    await stranger.close()


async def test_a_candidate_on_a_parent_that_readers_left_is_an_error(bench: Bench) -> None:
    first = await bench.build(await bench.land(orders(20)))
    await bench.validator.judge_waiting()
    await bench.publish(first)
    second = await bench.build(await bench.land(orders(20, start=20)), parent=first, kind="incremental")
    await bench.postgres.execute("UPDATE ops.warehouse_pointer SET generation = NULL")

    assert await bench.validator.judge_waiting() == ["error"]
    assert "no longer what readers see" in (await bench.result(second, "raw_reconciles"))["detail"]


async def test_two_validators_give_one_verdict(bench: Bench, judge: Judge) -> None:
    number = await bench.build(await bench.land(orders(20)))
    other = Validator(VerdictStore(bench.postgres), {"orders": bench.dataset}, bench.root, judge=judge)

    # one after the other on one judge, but both have read that the candidate waits
    (candidate,) = await VerdictStore(bench.postgres).candidates()
    first = await bench.validator.judge_waiting()
    late = await other._judge_candidate(candidate, None)

    assert (first, late) == (["pass"], None)
    assert len(await bench.announced()) == 1
    assert await bench.generation(number) == ("passed", "pass")
    await other.close()


async def test_a_candidate_in_another_validators_hands_is_left_to_it(bench: Bench) -> None:
    number = await bench.build(await bench.land(orders(20)))
    store = VerdictStore(bench.postgres)
    (candidate,) = await store.candidates()
    async with store.turn(candidate) as ours:
        assert ours
        await bench.validator.hear([an_entry(number)])
        assert await bench.generation(number) == ("built", None)
    assert await bench.validator.judge_waiting() == ["pass"]
    async with store.turn(candidate) as ours:
        assert not ours, "it has its verdict"


async def test_a_candidate_abandoned_meanwhile_gets_no_verdict(bench: Bench) -> None:
    number = await bench.build(await bench.land(orders(20)))
    (candidate,) = await VerdictStore(bench.postgres).candidates()
    await bench.postgres.execute("UPDATE ops.generations SET state = 'abandoned'")

    assert await bench.validator._judge_candidate(candidate, None) is None
    assert await bench.generation(number) == ("abandoned", None)
    assert await bench.announced() == []
    assert await bench.postgres.fetchval("SELECT count(*) FROM ops.quality_results") == 0


async def test_an_announced_candidate_is_judged_once_however_often_it_is_told(bench: Bench) -> None:
    number = await bench.build(await bench.land(orders(20)))
    entry = an_entry(number)

    await bench.validator.hear([entry])
    await bench.validator.hear([entry, entry])

    assert await bench.generation(number) == ("passed", "pass")
    assert len(await bench.announced()) == 1
    consumers = await bench.postgres.fetch("SELECT consumer FROM ops.inbox")
    assert [row["consumer"] for row in consumers] == ["validator"]


async def test_the_verdict_is_told_in_the_candidates_trace(bench: Bench) -> None:
    number = await bench.build(await bench.land(orders(20)))
    await bench.postgres.execute(
        "UPDATE ops.generations SET traceparent = $2 WHERE number = $1", number, PARENT
    )

    await bench.validator.judge_waiting()

    document = await bench.postgres.fetchval("SELECT document FROM ops.outbox")
    assert PARENT.split("-")[1].encode() in document


async def test_other_facts_of_the_stream_are_noted_and_left(bench: Bench) -> None:
    event = WarehousePublished(
        dataset="orders",
        started_at=NOON,
        ended_at=NOON,
        records=1,
        generation=1,
        version=1,
        batches=[],
        sha256="x",
        reason="passed",
    )
    event_id, document = encode_event(event, cause=uuid4(), subject="generation:1", traceparent=None)

    await bench.validator.hear([Entry("drp.warehouse", "1-1", document)])

    assert await bench.postgres.fetchval("SELECT event_id FROM ops.inbox") == event_id


async def test_an_entry_that_is_no_event_is_refused(bench: Bench) -> None:
    with pytest.raises(Permanent, match=r"1-1 of drp\.warehouse is no pipeline event"):
        await bench.validator.hear([Entry("drp.warehouse", "1-1", b"nonsense")])


async def test_a_candidate_that_cannot_get_its_verdict_is_told(bench: Bench) -> None:
    number = await bench.build(await bench.land(orders(20)))

    await bench.validator.bury(an_entry(number), "undeliverable: it killed the validator")
    await bench.validator.bury(Entry("drp.warehouse", "1-1", b"nonsense"), "refused")

    (event,) = await bench.announced()
    assert isinstance(event, StepFailed)
    assert (event.step, event.generation) == ("validate", number)


async def test_one_candidate_in_trouble_stops_no_other(bench: Bench) -> None:
    await bench.postgres.execute("DROP INDEX ops.generations_candidate")
    broken = await bench.build(await bench.land(orders(20)))
    path = bench.warehouse.path_of(bench.warehouse.file_name(broken))
    path.chmod(0o644)
    path.write_bytes(b"no database" * 1000)
    await bench.spoil_sha(broken)
    sound = await bench.build(await bench.land(orders(20, start=20)))

    with pytest.raises(Transient):
        await bench.validator.judge_waiting()
    assert await bench.generation(sound) == ("passed", "pass")


async def test_an_expectation_of_the_contract_is_judged_on_the_new_rows_that_were_kept(
    bench: Bench, judge: Judge
) -> None:
    first = await bench.build(await bench.land(orders(20)))
    await bench.validator.judge_waiting()
    await bench.publish(first)
    number = await bench.build(
        await bench.land(orders(10, bad=0, start=20)), parent=first, kind="incremental"
    )
    validator = with_custom(
        bench,
        judge,
        custom(
            "short_ids", "expect_column_value_lengths_to_equal", {"column": "source_order_id", "value": 4}
        ),
    )

    assert await validator.judge_waiting() == ["pass"]
    result = await bench.result(number, "short_ids")
    assert (result["status"], result["evaluated"], result["unexpected"]) == ("pass", 10, 0)
    await validator.close()


async def test_an_expectation_of_the_contract_that_fails_blocks_and_names_its_rows(
    bench: Bench, judge: Judge
) -> None:
    number = await bench.build(await bench.land(orders(12)))
    rule = {"column": "source_order_id", "value": 3}
    validator = with_custom(
        bench,
        judge,
        custom("strict", "expect_column_value_lengths_to_equal", rule),
        custom("lenient", "expect_column_value_lengths_to_equal", rule, mostly=0.8),
    )

    assert await validator.judge_waiting() == ["fail"]
    assert await bench.statuses(number) == {"strict": "fail"}
    assert (await bench.result(number, "strict"))["detail"] == "2 of 12 rows of staging.orders break it"
    named = [(row["business_key"], row["observed"]) for row in await bench.failures(number, "strict")]
    assert named == [("o-10", "o-10"), ("o-11", "o-11")]
    await validator.close()


async def test_an_expectation_on_a_mart_sees_all_of_it(bench: Bench, judge: Judge) -> None:
    number = await bench.build(await bench.land(orders(20)))
    mart = "analytics.daily_order_metrics"
    validator = with_custom(
        bench,
        judge,
        custom(
            "sum",
            "expect_column_sum_to_be_between",
            {"column": "total_amount", "min_value": 200},
            relation=mart,
        ),
        custom(
            "mean",
            "expect_column_mean_to_be_between",
            {"column": "avg_amount", "min_value": 11},
            relation=mart,
        ),
    )

    assert await validator.judge_waiting() == ["fail"]
    assert await bench.statuses(number) == {"mean": "fail"}
    assert (await bench.result(number, "mean"))["detail"] == f"{mart}: observed 10"
    await validator.close()


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (
            custom("odd", "expect_column_to_be_wonderful", {"column": "amount"}),
            "there is no expectation 'expect_column_to_be_wonderful'",
        ),
        (
            custom("odd", "expect_column_values_to_not_be_null", {"column": "amount", "wonderful": True}),
            "expect_column_values_to_not_be_null doesn't take these arguments",
        ),
        (
            custom("odd", "expect_column_values_to_not_be_null", {"column": "wonder"}),
            "wonder",
        ),
        (
            custom("odd", "expect_column_max_to_be_between", {"column": "x"}, relation="analytics.wonder"),
            "there is no analytics.wonder in the candidate",
        ),
    ],
)
async def test_an_expectation_that_cannot_be_evaluated_never_publishes(
    bench: Bench, judge: Judge, rule: CustomRule, says: str
) -> None:
    number = await bench.build(await bench.land(orders(20)))
    validator = with_custom(bench, judge, rule)

    assert await validator.judge_waiting() == ["error"]
    assert await bench.statuses(number) == {"odd": "error"}
    assert says in (await bench.result(number, "odd"))["detail"]
    await validator.close()


async def test_a_rebuild_of_more_rows_than_are_judged_at_once_adds_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.validator.rows._PIECE", 2048)
    number = await bench.build(await bench.land(orders(9000, bad=90)))

    assert await bench.validator.judge_waiting() == ["pass"]
    result = await bench.result(number, "amount_not_negative")
    assert (result["unexpected"], result["evaluated"]) == (90, 9000)


async def test_the_loop_answers_while_a_candidate_is_judged(bench: Bench) -> None:
    await bench.build(await bench.land(orders(5000)))
    loop = asyncio.get_running_loop()
    judging = asyncio.create_task(bench.validator.judge_waiting())
    longest = 0.0
    while not judging.done():
        before = loop.time()
        await asyncio.sleep(0.005)
        longest = max(longest, loop.time() - before)

    assert await judging == ["pass"]
    assert longest < 0.5
