"""What the audit makes of each fact, and of what it finds missing."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import msgspec
import pytest

from libs.contracts.events import (
    ArchiveStored,
    BatchClosed,
    BatchHeld,
    BatchReleased,
    PipelineEvent,
    QualityFailed,
    QualityPassed,
    StepFailed,
    WarehouseBuilt,
    WarehousePublished,
    decode_event,
    encode_event,
)
from services.audit.domain import (
    Overdue,
    Step,
    alert_of,
    deadline_step,
    pause_before,
    step_of,
    unreadable_step,
    webhook_body,
)
from services.audit.domain.waiting import appended_at

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
BATCH = UUID("6f2d7c1e-8c5a-4b8e-9a35-0d1a3f1f0b01")
SPAN = {"dataset": "orders", "started_at": NOON, "ended_at": NOON + timedelta(seconds=2), "records": 7}

CLOSED = BatchClosed(
    **SPAN,  # type: ignore[arg-type]
    batch_id=BATCH,
    reason="age",
    received=7,
    accepted=7,
    duplicate=0,
    quarantined=0,
    conflicts=0,
    dead_lettered=0,
)
FAILED = QualityFailed(
    **SPAN,  # type: ignore[arg-type]
    generation=4,
    batches=[BATCH],
    sha256="x",
    rules=9,
    verdict="fail",
    failed=["amount_not_negative"],
    message="generation 4 broke its quality gate",
)


def a_step(event: PipelineEvent, subject: str = "batch:x") -> Step:
    _, document = encode_event(event, cause=uuid4(), subject=subject, traceparent=None)
    envelope, read = decode_event(document)
    return step_of(envelope, read, trace_id="abc")


@pytest.mark.parametrize(
    ("event", "flow", "run"),
    [
        (CLOSED, "ingest", str(BATCH)),
        (BatchHeld(**SPAN, batch_id=BATCH, reason="r"), "hold", str(BATCH)),  # type: ignore[arg-type]
        (BatchReleased(**SPAN, batch_id=BATCH, reason="r"), "release", str(BATCH)),  # type: ignore[arg-type]
        (
            WarehouseBuilt(
                **SPAN,  # type: ignore[arg-type]
                generation=4,
                parent=3,
                kind="full",
                batches=[BATCH],
                sha256="x",
                staged=1,
                rejected=0,
                superseded=0,
            ),
            "transform",
            "generation-4",
        ),
        (
            QualityPassed(**SPAN, generation=4, batches=[BATCH], sha256="x", rules=3),  # type: ignore[arg-type]
            "validate",
            "generation-4",
        ),
        (FAILED, "validate", "generation-4"),
        (
            WarehousePublished(
                **SPAN,  # type: ignore[arg-type]
                generation=4,
                version=2,
                batches=[BATCH],
                sha256="x",
                reason="passed",
            ),
            "publish",
            "generation-4",
        ),
        (
            ArchiveStored(
                **SPAN,  # type: ignore[arg-type]
                kind="raw",
                batch_id=BATCH,
                generation=None,
                manifest="m",
                objects=["o"],
                bytes=1,
            ),
            "archive-raw",
            str(BATCH),
        ),
        (
            ArchiveStored(
                **SPAN,  # type: ignore[arg-type]
                kind="snapshot",
                batch_id=None,
                generation=4,
                manifest="m",
                objects=["o"],
                bytes=1,
            ),
            "archive-snapshot",
            "generation-4",
        ),
        (
            StepFailed(
                **SPAN,  # type: ignore[arg-type]
                step="transform",
                batch_id=None,
                generation=4,
                attempt=1,
                error="no",
                fix=None,
            ),
            "transform",
            "generation-4",
        ),
    ],
)
def test_every_fact_is_a_step_of_a_run(event: PipelineEvent, flow: str, run: str) -> None:
    step = a_step(event)

    assert (step.flow, step.run_id) == (flow, run)
    assert (step.seconds, step.records) == (2.0, 7)
    assert step.metadata["dataset"] == "orders"
    assert step.metadata["trace_id"] == "abc"
    assert step.metadata["event_type"] == type(event).type


def test_a_generations_step_names_its_batches_so_that_a_batch_finds_its_run() -> None:
    assert a_step(FAILED).metadata["batches"] == [str(BATCH)]
    assert a_step(CLOSED).metadata["batches"] == [str(BATCH)]


def test_counts_travel_in_the_metadata() -> None:
    assert a_step(replace_struct(CLOSED, duplicate=2)).metadata["duplicate"] == 2


def test_a_verdict_that_blocks_is_a_failed_step_with_its_message_and_an_alert() -> None:
    step = a_step(FAILED)
    alert = alert_of(step)

    assert (step.status, step.error) == ("failed", "generation 4 broke its quality gate")
    assert alert is not None
    assert (alert.event_type, alert.flow, alert.run_id) == ("quality.failed", "validate", "generation-4")


def test_a_failed_step_says_what_to_do() -> None:
    event = StepFailed(
        **SPAN,  # type: ignore[arg-type]
        step="archive",
        batch_id=BATCH,
        generation=None,
        attempt=3,
        error="the bucket is gone\0",
        fix="make it",
    )
    assert a_step(event).error == "the bucket is gone�. Try: make it"


def test_a_step_that_went_well_alerts_nobody() -> None:
    assert alert_of(a_step(CLOSED)) is None


def test_dead_letters_alert_though_the_batch_closed_well() -> None:
    step = a_step(replace_struct(CLOSED, dead_lettered=3))
    alert = alert_of(step)

    assert step.status == "success"
    assert alert is not None
    assert alert.message.startswith(f"3 events of batch {BATCH}")
    assert f"drp quarantine ls --batch {BATCH}" in alert.message


def test_a_step_that_ended_before_it_began_took_no_time() -> None:
    assert replace(a_step(CLOSED), ended_at=NOON - timedelta(seconds=1)).seconds == 0.0


def late(**change: object) -> Overdue:
    facts: dict[str, object] = {
        "batch_id": BATCH,
        "dataset": "orders",
        "status": "closed",
        "accepted": 1200,
        "since": NOON,
        "seen_at": NOON + timedelta(seconds=301),
        "generation": None,
        "verdict": None,
        "broken": (),
        "pinned": None,
        "traceparent": None,
    }
    return Overdue(**(facts | change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("batch", "why", "fix"),
    [
        (late(), "no generation has taken it up", "drp status --health"),
        (late(status="building", generation=4), "generation 4 is still being built", "transformer"),
        (late(status="built", generation=4), "generation 4 waits for its verdict", "validator"),
        (late(status="passed", generation=4), "waits to be published", "archive"),
        (
            late(status="blocked", generation=4, broken=("a", "b")),
            "generation 4 was blocked by the quality gate (a, b)",
            f"drp batches hold {BATCH} --reason",
        ),
        (
            late(status="passed", pinned="rolled back"),
            "publishing is pinned (rolled back)",
            "drp warehouse resume",
        ),
    ],
)
def test_a_late_batch_says_where_it_is_and_what_to_do(batch: Overdue, why: str, fix: str) -> None:
    step = deadline_step(batch, deadline=300, trace_id=None)

    assert (step.flow, step.run_id, step.status, step.records) == ("deadline", str(BATCH), "failed", 1200)
    assert step.error is not None
    assert "is not published 301 s after it closed (deadline 300 s)" in step.error
    assert why in step.error
    assert fix in step.error


def test_a_late_batch_is_one_event_whoever_finds_it_and_whenever() -> None:
    one = deadline_step(late(), deadline=300, trace_id=None)
    other = deadline_step(
        late(status="blocked", seen_at=NOON + timedelta(hours=9)), deadline=300, trace_id=None
    )
    assert one.event_id == other.event_id


def test_an_entry_that_is_no_event_has_a_row_of_its_own() -> None:
    step = unreadable_step(stream="drp.batches", entry_id="7-0", why="MsgspecError", at=NOON)
    again = unreadable_step(stream="drp.batches", entry_id="7-0", why="MsgspecError", at=NOON + timedelta(1))
    assert (step.run_id, step.status) == ("drp.batches/7-0", "failed")
    assert step.event_id == again.event_id


def test_a_webhook_receives_the_promised_fields_and_a_text_for_slack_and_teams() -> None:
    alert = alert_of(a_step(FAILED))
    assert alert is not None
    body = webhook_body(alert)
    assert set(body) == {"event_type", "flow_name", "flow_run_id", "error_message", "metadata", "text"}
    assert "generation 4 broke its quality gate" in str(body["text"])


def test_pauses_double_up_to_five_minutes_and_are_never_the_same_for_all() -> None:
    rng = random.Random(1)
    for attempt in range(1, 40):
        longest = min(300.0, 2.0 ** (attempt - 1))
        assert all(longest / 10 <= pause_before(attempt, rng=rng) <= longest for _ in range(50))
    assert len({pause_before(9, rng=rng) for _ in range(10)}) == 10


def replace_struct(event: BatchClosed, **changes: int) -> BatchClosed:
    return msgspec.structs.replace(event, **changes)


def test_a_stream_entry_says_when_it_was_appended_as_far_as_its_id_is_a_time() -> None:
    assert appended_at("1772366400123-7") == NOON.replace(microsecond=123_000)
    assert appended_at(f"{2**64 - 1}-0").year == 9999
