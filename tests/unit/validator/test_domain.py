"""Four statuses, one verdict, and the sentence that goes with it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from services.validator.domain import (
    Candidate,
    Reconciliation,
    RowsJudged,
    RuleResult,
    Status,
    Verdict,
    WatermarkFacts,
    message_of,
    row_result,
    verdict_of,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
BATCH = UUID("6f2d7c1e-8c5a-4b8e-9a35-0d1a3f1f0b01")


def a_result(status: Status, *, may_be_idle: bool = False, rule: str = "r") -> RuleResult:
    return RuleResult(
        rule=rule,
        kind="table",
        status=status,
        expectation="e",
        detail="because",
        may_be_idle=may_be_idle,
    )


def a_candidate(*batches: UUID, parent: int | None = 3) -> Candidate:
    return Candidate(
        generation=4,
        dataset="orders",
        kind="incremental",
        parent=parent,
        file="f",
        sha256="s",
        cause=BATCH,
        traceparent=None,
        started_at=NOON,
        added=batches,
    )


PASS = a_result(Status.PASS)


@pytest.mark.parametrize(
    ("results", "verdict"),
    [
        ([PASS], Verdict.PASS),
        ([PASS, a_result(Status.FAIL)], Verdict.FAIL),
        ([PASS, a_result(Status.FAIL), a_result(Status.ERROR)], Verdict.ERROR),
        ([PASS, a_result(Status.NOT_RUN)], Verdict.ERROR),
        ([PASS, a_result(Status.NOT_RUN, may_be_idle=True)], Verdict.PASS),
        ([], Verdict.ERROR),
    ],
)
def test_only_what_was_judged_and_held_publishes(results: list[RuleResult], verdict: Verdict) -> None:
    assert verdict_of(results) is verdict


def judged(**change: object) -> RowsJudged:
    facts: dict[str, object] = {
        "evaluated": 100,
        "unexpected": 2,
        "within": None,
        "only_found": 0,
        "only_rejected": 0,
    }
    return RowsJudged(**(facts | change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rows", "status"),
    [
        (judged(), Status.PASS),
        (judged(unexpected=3), Status.FAIL),
        (judged(unexpected=3, within=True), Status.PASS),
        (judged(unexpected=0, within=False), Status.FAIL),
        (judged(evaluated=0, unexpected=0), Status.PASS),
        (judged(unexpected=0, only_found=1), Status.FAIL),
        (judged(unexpected=0, only_rejected=1), Status.FAIL),
        (judged(error="no such column"), Status.ERROR),
    ],
)
def test_a_row_rule_holds_when_both_sides_agree_within_the_tolerance(
    rows: RowsJudged, status: Status
) -> None:
    assert row_result("r", "e", 0.02, rows).status is status


def test_every_raw_row_must_be_in_exactly_one_place() -> None:
    sound = Reconciliation(raw=10, staged=7, rejected=2, superseded=1)
    assert sound.difference == 0
    assert str(sound) == "RAW 10 = staged 7 + rejected 2 + superseded 1"

    lost = Reconciliation(raw=10, staged=7, rejected=2, superseded=0)
    assert lost.difference == 1
    assert "RAW 10 ≠" in str(lost)


def test_batches_that_make_up_for_each_others_miscounts_do_not_reconcile() -> None:
    swapped = Reconciliation(raw=10, staged=10, rejected=0, superseded=0, strays={"a": (5, 4), "b": (5, 6)})
    assert swapped.difference == 2


def test_a_held_batch_in_the_file_does_not_reconcile() -> None:
    held = Reconciliation(raw=10, staged=10, rejected=0, superseded=0, held=[BATCH])
    assert held.difference == 1
    assert str(BATCH) in str(held)


@pytest.mark.parametrize(
    ("candidate", "parent", "lacks", "back"),
    [
        (NOON, None, False, 0.0),
        (NOON, NOON, False, 0.0),
        (NOON, NOON - timedelta(seconds=5), False, -5.0),
        (NOON, NOON + timedelta(seconds=5), False, 5.0),
        (NOON, NOON + timedelta(seconds=5), True, 0.0),
        (None, NOON, False, float("inf")),
    ],
)
def test_a_watermark_goes_back_by_seconds(
    candidate: datetime | None, parent: datetime | None, lacks: bool, back: float
) -> None:
    assert WatermarkFacts(candidate, parent, lacks).seconds_back == back


def test_a_blocked_generation_says_what_why_and_what_to_do() -> None:
    message = message_of(a_candidate(BATCH), Verdict.FAIL, [PASS, a_result(Status.FAIL, rule="unique")])

    assert "generation 4 of orders broke its quality gate and is not published" in message
    assert "readers still see generation 3" in message
    assert "unique (fail): because" in message
    assert "drp quality show 4" in message
    assert f"drp batches hold {BATCH} --reason" in message


def test_a_generation_that_could_not_be_judged_is_built_again() -> None:
    message = message_of(a_candidate(BATCH, parent=None), Verdict.ERROR, [a_result(Status.ERROR)])

    assert "could not be judged" in message
    assert "readers still see nothing yet" in message
    assert "drp rebuild --dataset orders" in message


def test_of_many_broken_rules_the_first_three_are_spelled_out() -> None:
    results = [a_result(Status.FAIL, rule=f"rule{n}") for n in range(5)]
    message = message_of(a_candidate(BATCH), Verdict.FAIL, results)
    assert "rule2" in message
    assert "rule3" not in message
    assert "and 2 more" in message
