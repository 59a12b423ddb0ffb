"""What is to be built next, decided from what there is."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from libs.datasets import load_datasets
from libs.pipeline.plan import (
    Batch,
    Kind,
    Plan,
    Request,
    Tried,
    make_plan,
    may_build,
    staging_fingerprint,
)

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def a_batch(minute: int = 0, *, held: bool = False, published: bool = False) -> Batch:
    return Batch(id=uuid.uuid4(), closed_at=NOON + timedelta(minutes=minute), held=held, published=published)


def a_request(kind: Kind, *, at: datetime = NOON) -> Request:
    return Request(7, kind, at)


def planned(
    *batches: Batch, parent: int | None = 3, requests: tuple[Request, ...] = (), **more: bool
) -> Plan:
    plan = make_plan(batches, parent=parent, requests=requests, fingerprint="f", **more)
    assert plan is not None
    return plan


def test_nothing_pending_is_nothing_to_build() -> None:
    assert make_plan([a_batch(published=True)], parent=3, fingerprint="f") is None


def test_pending_batches_go_on_top_of_the_current_generation_in_the_order_of_their_closing() -> None:
    late, early = a_batch(2), a_batch(1)
    plan = planned(late, early)
    assert (plan.kind, plan.parent, plan.batches) == (Kind.INCREMENTAL, 3, (early, late))
    assert plan.cause == early.id


def test_the_first_generation_is_full() -> None:
    assert planned(a_batch(), parent=None).kind is Kind.FULL


def test_a_held_batch_that_was_never_published_is_left_out() -> None:
    pending, held = a_batch(1), a_batch(0, held=True)
    plan = planned(pending, held)
    assert (plan.kind, plan.batches) == (Kind.INCREMENTAL, (pending,))


def test_a_held_batch_that_readers_see_leaves_by_a_full_rebuild_without_it() -> None:
    kept, outcast = a_batch(0, published=True), a_batch(1, published=True, held=True)
    plan = planned(kept, outcast)
    assert (plan.kind, plan.batches, plan.prompts) == (Kind.FULL, (kept,), (outcast,))


def test_a_full_rebuild_is_made_of_every_batch_that_is_not_held() -> None:
    published, pending, held = a_batch(0, published=True), a_batch(1), a_batch(2, held=True)
    plan = planned(published, pending, held, requests=(a_request(Kind.FULL),))
    assert (plan.kind, plan.batches, plan.requests) == (Kind.FULL, (published, pending), (7,))


def test_a_requested_rebuild_needs_no_pending_batch() -> None:
    plan = planned(requests=(a_request(Kind.INCREMENTAL),))
    assert (plan.kind, plan.batches) == (Kind.INCREMENTAL, ())


def test_a_request_before_there_is_anything_waits() -> None:
    assert make_plan([], parent=None, requests=[a_request(Kind.FULL)], fingerprint="f") is None


@pytest.mark.parametrize("why", ["stale_staging", "lost"])
def test_what_the_current_file_cannot_be_built_on_is_built_anew(why: str) -> None:
    plan = planned(
        a_batch(0, published=True), a_batch(1), stale_staging=why == "stale_staging", lost=why == "lost"
    )
    assert plan.kind is Kind.FULL


def test_a_lost_file_is_reason_enough_to_build() -> None:
    published = a_batch(published=True)
    assert planned(published, lost=True).batches == (published,)
    assert make_plan([published], parent=3, fingerprint="f", stale_staging=True) is None


def test_the_same_plan_has_the_same_hash_whatever_the_order() -> None:
    first, second = a_batch(0), a_batch(1)
    assert planned(first, second).plan_hash == planned(second, first).plan_hash


def test_another_batch_parent_kind_or_contract_is_another_plan() -> None:
    batch = a_batch()
    other_contract = make_plan([batch], parent=3, fingerprint="g")
    assert other_contract is not None
    hashes = {
        planned(batch).plan_hash,
        planned(batch, a_batch(1)).plan_hash,
        planned(batch, parent=4).plan_hash,
        planned(batch, lost=True).plan_hash,
        other_contract.plan_hash,
    }
    assert len(hashes) == 5


def test_a_new_plan_is_built_at_once() -> None:
    assert may_build(planned(a_batch()), [], now=NOON) == 1


def test_a_blocked_plan_is_not_built_again() -> None:
    blocked = Tried(1, "fail", False, NOON)
    assert may_build(planned(a_batch()), [blocked], now=NOON + timedelta(days=9)) is None


def test_a_blocked_plan_is_built_again_when_an_operator_asks() -> None:
    blocked = Tried(1, "fail", False, NOON)
    plan = planned(a_batch(), requests=(a_request(Kind.INCREMENTAL, at=NOON + timedelta(seconds=1)),))
    assert may_build(plan, [blocked], now=NOON + timedelta(seconds=1)) == 2


def test_a_verdict_that_could_not_be_given_is_sought_three_times_with_a_growing_pause() -> None:
    plan = planned(a_batch())
    first = Tried(1, "error", False, NOON)
    assert may_build(plan, [first], now=NOON + timedelta(seconds=1)) is None
    assert may_build(plan, [first], now=NOON + timedelta(seconds=2)) == 2
    second = Tried(2, "error", False, NOON + timedelta(seconds=10))
    assert may_build(plan, [first, second], now=NOON + timedelta(seconds=13)) is None
    assert may_build(plan, [first, second], now=NOON + timedelta(seconds=14)) == 3
    third = Tried(3, "error", False, NOON + timedelta(seconds=20))
    assert may_build(plan, [first, second, third], now=NOON + timedelta(days=1)) is None


def test_a_build_that_fails_is_tried_for_ever_and_never_in_a_hurry() -> None:
    failed = [Tried(n, None, True, NOON) for n in range(1, 60)]
    plan = planned(a_batch())
    assert may_build(plan, failed, now=NOON + timedelta(minutes=9)) is None
    assert may_build(plan, failed, now=NOON + timedelta(minutes=10)) == 60


def test_a_build_that_was_only_stopped_begins_at_once() -> None:
    assert may_build(planned(a_batch()), [Tried(1, None, False, NOON)], now=NOON) == 2


def test_what_an_operator_asked_for_is_not_tried_in_a_hurry_either() -> None:
    plan = planned(a_batch(), requests=(a_request(Kind.FULL),))
    failed = Tried(1, None, True, NOON + timedelta(seconds=1))
    assert may_build(plan, [failed], now=NOON + timedelta(seconds=2)) is None
    assert may_build(plan, [failed], now=NOON + timedelta(seconds=3)) == 2


def test_other_staging_sql_or_row_rules_have_another_fingerprint() -> None:
    orders = load_datasets()["orders"]
    prints = {
        staging_fingerprint(orders),
        staging_fingerprint(replace(orders, staging_sql=orders.staging_sql + " ")),
        staging_fingerprint(replace(orders, row_rules=orders.row_rules[1:])),
        staging_fingerprint(replace(orders, marts={})),
    }
    assert len(prints) == 3
