"""Rows of steps and late batches, on a real Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from libs.adapters.bus import Entry
from libs.adapters.postgres import Postgres, Row
from libs.contracts.events import (
    BatchClosed,
    PipelineEvent,
    QualityFailed,
    batch_subject,
    encode_event,
    generation_subject,
)
from libs.errors import Permanent
from services.audit.handlers import bury, hear, watch_deadline
from services.audit.store import AuditStore

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def closed(batch: UUID, *, dead_lettered: int = 0) -> BatchClosed:
    return BatchClosed(
        dataset="orders",
        started_at=NOON,
        ended_at=NOON + timedelta(seconds=2),
        records=7,
        batch_id=batch,
        reason="age",
        received=7,
        accepted=7,
        duplicate=0,
        quarantined=0,
        conflicts=0,
        dead_lettered=dead_lettered,
    )


def blocked(generation: int, *batches: UUID) -> QualityFailed:
    return QualityFailed(
        dataset="orders",
        started_at=NOON,
        ended_at=NOON,
        records=7,
        generation=generation,
        batches=list(batches),
        sha256="x",
        rules=3,
        verdict="fail",
        failed=["amount_not_negative"],
        message="too many negative amounts. Try: drp quality show 4",
    )


def an_entry(event: PipelineEvent, subject: str, *, cause: UUID | None = None) -> Entry:
    _, document = encode_event(event, cause=cause or uuid4(), subject=subject, traceparent=PARENT)
    return Entry("drp.batches", "1-1", document)


async def audited(postgres: Postgres) -> list[Row]:
    return await postgres.fetch(
        "SELECT flow_name, flow_run_id, status, started_at, ended_at, duration_seconds, records_processed, metadata, "
        "error_message FROM ops.pipeline_flow_audit ORDER BY id"
    )


async def alerts(postgres: Postgres) -> list[Row]:
    return await postgres.fetch(
        "SELECT event_type, flow_name, flow_run_id, error_message, metadata, state FROM ops.alerts ORDER BY id"
    )


async def a_closed_batch(
    postgres: Postgres, *, age: float, accepted: int = 7, held: bool = False, generation: int | None = None
) -> UUID:
    batch = uuid4()
    await postgres.execute(
        "INSERT INTO ops.batches (id, dataset, state, opened_by, closed_at, received, accepted, held_at, generation) "
        "VALUES ($1, 'orders', 'closed', 'test', now() - make_interval(secs => $2), $3, $3, "
        "CASE WHEN $4 THEN now() END, $5)",
        batch,
        age,
        accepted,
        held,
        generation,
    )
    return batch


async def a_generation(postgres: Postgres, batch: UUID, *, state: str, broken: Sequence[str] = ()) -> int:
    number = int(
        await postgres.fetchval(
            "INSERT INTO ops.generations (dataset, state, kind, plan_hash, cause) "
            "VALUES ('orders', $1, 'full', 'p', $2) RETURNING number",
            state,
            uuid4(),
        )
    )
    await postgres.execute("INSERT INTO ops.generation_batches VALUES ($1, $2)", number, batch)
    await postgres.execute(
        "INSERT INTO ops.quality_results (generation, rule, kind, status, expectation) "
        "SELECT $1, rule, 'row', 'fail', 'e' FROM unnest($2::text[]) AS rule",
        number,
        list(broken),
    )
    return number


async def test_a_step_leaves_one_row_however_often_it_is_told(postgres: Postgres, store: AuditStore) -> None:
    batch = uuid4()
    entry = an_entry(closed(batch), batch_subject(batch))

    await hear([entry, entry], store=store)
    await hear([entry], store=store)

    (row,) = await audited(postgres)
    assert (row["flow_name"], row["flow_run_id"], row["status"]) == ("ingest", str(batch), "success")
    assert (row["duration_seconds"], row["records_processed"]) == (2.0, 7)
    assert row["metadata"]["trace_id"] == PARENT.split("-")[1]
    assert await postgres.fetchval("SELECT count(*) FROM ops.inbox WHERE consumer = 'audit'") == 1
    assert await alerts(postgres) == []


async def test_the_same_step_told_to_two_replicas_at_once_leaves_one_row(
    postgres: Postgres, store: AuditStore
) -> None:
    entries = [an_entry(blocked(n), generation_subject(n)) for n in range(20)]

    await asyncio.gather(*(hear(entries, store=store) for _ in range(4)))

    assert len(await audited(postgres)) == 20
    assert len(await alerts(postgres)) == 20


async def test_a_batch_finds_every_step_of_its_run(postgres: Postgres, store: AuditStore) -> None:
    batch, other = uuid4(), uuid4()
    await hear(
        [
            an_entry(closed(batch), batch_subject(batch)),
            an_entry(closed(other), batch_subject(other)),
            an_entry(blocked(4, batch), generation_subject(4)),
        ],
        store=store,
    )

    rows = await postgres.fetch(
        "SELECT flow_name FROM ops.pipeline_flow_audit WHERE metadata -> 'batches' ? $1 ORDER BY id",
        str(batch),
    )
    assert [row["flow_name"] for row in rows] == ["ingest", "validate"]


async def test_a_blocked_generation_is_a_failed_row_and_an_alert(
    postgres: Postgres, store: AuditStore
) -> None:
    await hear([an_entry(blocked(4), generation_subject(4))], store=store)

    (row,) = await audited(postgres)
    (alert,) = await alerts(postgres)
    assert (row["status"], row["error_message"]) == ("failed", alert["error_message"])
    assert (alert["event_type"], alert["flow_name"], alert["flow_run_id"]) == (
        "quality.failed",
        "validate",
        "generation-4",
    )
    assert alert["metadata"]["failed"] == ["amount_not_negative"]
    assert alert["state"] == "pending"


async def test_dead_letters_alert(postgres: Postgres, store: AuditStore) -> None:
    batch = uuid4()
    await hear([an_entry(closed(batch, dead_lettered=2), batch_subject(batch))], store=store)

    (alert,) = await alerts(postgres)
    assert alert["error_message"].startswith(f"2 events of batch {batch}")


async def test_an_entry_that_is_no_event_is_refused_and_its_burial_is_a_row_and_an_alert(
    postgres: Postgres, store: AuditStore
) -> None:
    nonsense = Entry("drp.batches", "7-0", b"\x00nonsense")

    with pytest.raises(Permanent, match="no pipeline event"):
        await hear([nonsense], store=store)
    await bury(nonsense, "no pipeline event", store=store)
    await bury(nonsense, "no pipeline event", store=store)

    (row,) = await audited(postgres)
    assert (row["flow_name"], row["flow_run_id"], row["status"]) == ("audit", "drp.batches/7-0", "failed")
    assert len(await alerts(postgres)) == 1


async def test_a_batch_past_its_deadline_is_told_once(postgres: Postgres, store: AuditStore) -> None:
    batch = await a_closed_batch(postgres, age=400)

    await asyncio.gather(*(watch_deadline(store=store, deadline=300) for _ in range(4)))
    await watch_deadline(store=store, deadline=300)

    (row,) = await audited(postgres)
    assert (row["flow_name"], row["flow_run_id"], row["status"]) == ("deadline", str(batch), "failed")
    assert row["metadata"]["batches"] == [str(batch)]
    assert "no generation has taken it up" in row["error_message"]
    (alert,) = await alerts(postgres)
    assert alert["event_type"] == "deadline.missed"


async def test_batches_that_need_no_publishing_are_not_late(postgres: Postgres, store: AuditStore) -> None:
    await a_closed_batch(postgres, age=200)
    await a_closed_batch(postgres, age=400, accepted=0)
    await a_closed_batch(postgres, age=400, held=True)
    await a_closed_batch(postgres, age=400, generation=1)
    await postgres.execute(
        "INSERT INTO ops.batches (id, dataset, opened_by) VALUES ($1, 'orders', 't')", uuid4()
    )

    assert await watch_deadline(store=store, deadline=300) == []


async def test_a_late_batch_names_the_rules_that_block_it(postgres: Postgres, store: AuditStore) -> None:
    batch = await a_closed_batch(postgres, age=400)
    number = await a_generation(postgres, batch, state="blocked", broken=["amount_not_negative", "unique"])

    (step,) = await watch_deadline(store=store, deadline=300)

    assert step.error is not None
    assert f"generation {number} was blocked by the quality gate (amount_not_negative, unique)" in step.error
    assert f"drp quality show {number}" in step.error


async def test_a_late_batch_behind_a_pin_says_so(postgres: Postgres, store: AuditStore) -> None:
    batch = await a_closed_batch(postgres, age=400)
    await a_generation(postgres, batch, state="passed")
    await postgres.execute(
        "INSERT INTO ops.warehouse_pointer (dataset, pinned_at, pinned_reason) VALUES ('orders', now(), 'rolled back')"
    )

    (step,) = await watch_deadline(store=store, deadline=300)

    assert step.error is not None
    assert "publishing is pinned (rolled back)" in step.error
