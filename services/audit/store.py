"""The audit's SQL: rows of steps, the batches past their deadline, and the alerts on their way."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from libs.adapters.postgres import Connection, Postgres
from libs.pipeline.outbox import remember
from services.audit.domain import Alert, Backlog, Overdue, Step, Unarchived, alert_of
from services.audit.domain.waiting import (
    ARCHIVE_FLOW,
    OPEN_FLOW,
    STREAM_FLOW,
    appended_at,
    stream_run,
)

__all__ = ["CONSUMER", "AuditStore", "PendingAlert"]

CONSUMER: Final = "audit"

_RECORD: Final = """
-- one row per step; a step that is there already is left as it is
INSERT INTO ops.pipeline_flow_audit (event_id, flow_name, flow_run_id, status, started_at, ended_at,
                                     duration_seconds, records_processed, metadata, error_message)
SELECT event_id, flow_name, flow_run_id, status, started_at, ended_at, seconds, records,
       metadata::jsonb, error
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[],
            $7::double precision[], $8::bigint[], $9::text[], $10::text[])
     AS step(event_id, flow_name, flow_run_id, status, started_at, ended_at, seconds, records, metadata,
             error)
ON CONFLICT (event_id) DO NOTHING
RETURNING event_id
"""

_ALERT: Final = """
-- one row per fact that a person must know
INSERT INTO ops.alerts (dedupe_key, event_type, flow_name, flow_run_id, error_message, metadata)
SELECT dedupe_key, event_type, flow_name, flow_run_id, error_message, metadata::jsonb
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
     AS alert(dedupe_key, event_type, flow_name, flow_run_id, error_message, metadata)
ON CONFLICT (dedupe_key) DO NOTHING
"""

_OVERDUE: Final = """
-- one row per closed batch past its deadline that wasn't told yet, oldest first
SELECT b.id, b.dataset, b.status, b.accepted, b.opened_by, b.closed_at AS since,
       clock_timestamp() AS now, b.last_generation, b.verdict, b.traceparent,
       p.pinned_at IS NOT NULL AS is_pinned, p.pinned_reason,
       coalesce((SELECT array_agg(r.rule ORDER BY r.rule) FROM ops.quality_results r
                 WHERE r.generation = b.last_generation AND r.status IN ('fail', 'error')), '{}') AS broken
FROM ops.batch_status b
LEFT JOIN ops.warehouse_pointer p ON p.dataset = b.dataset
WHERE b.state = 'closed' AND b.accepted > 0 AND b.held_at IS NULL AND b.generation IS NULL
  AND b.closed_at < clock_timestamp() - make_interval(secs => $1)
  AND NOT EXISTS (SELECT FROM ops.pipeline_flow_audit a
                  WHERE a.flow_run_id = b.id::text AND a.flow_name = 'deadline')
ORDER BY b.closed_at
LIMIT 100
"""

_OPEN_TOO_LONG: Final = """
-- one row per open batch with something in it that should have been closed long ago and wasn't told yet
SELECT b.id, b.dataset, b.state AS status, b.accepted, b.opened_by, b.opened_at AS since,
       clock_timestamp() AS now, b.traceparent
FROM ops.batches b
WHERE b.state = 'open' AND b.received + b.dead_lettered > 0
  AND b.opened_at < clock_timestamp() - make_interval(secs => $1)
  AND NOT EXISTS (SELECT FROM ops.pipeline_flow_audit a
                  WHERE a.flow_run_id = b.id::text AND a.flow_name = $2)
ORDER BY b.opened_at
LIMIT 100
"""

_OVERDUE_COUNTS: Final = """
-- one row per dataset with batches past their deadline, told or not
SELECT dataset, count(*) AS batches
FROM (
    SELECT dataset FROM ops.batches
    WHERE state = 'closed' AND accepted > 0 AND held_at IS NULL AND generation IS NULL
      AND closed_at < clock_timestamp() - make_interval(secs => $1)
    UNION ALL
    SELECT dataset FROM ops.batches
    WHERE state = 'open' AND received + dead_lettered > 0
      AND opened_at < clock_timestamp() - make_interval(secs => $2)
) late
GROUP BY dataset
"""

# What was closed before people were last told waited then, too: it belongs to the trouble they know of.
_UNARCHIVED: Final = """
-- one row per dataset with closed batches past their deadline that aren't archived and weren't told yet
SELECT late.dataset, count(*) AS batches, sum(late.accepted)::bigint AS rows, min(late.closed_at) AS since,
       (array_agg(late.id ORDER BY late.closed_at, late.id))[:100] AS oldest,
       (array_agg(late.traceparent ORDER BY late.closed_at, late.id))[1] AS traceparent,
       clock_timestamp() AS now
FROM (SELECT b.id, b.dataset, b.accepted, b.closed_at, b.traceparent,
             (SELECT max(a.ended_at) FROM ops.pipeline_flow_audit a
              WHERE a.flow_run_id = 'archive/' || b.dataset AND a.flow_name = $2) AS told_at
      FROM ops.batches b
      WHERE b.state = 'closed' AND b.archived_at IS NULL
        AND b.closed_at < clock_timestamp() - make_interval(secs => $1)) late
WHERE late.told_at IS NULL OR late.closed_at > late.told_at
GROUP BY late.dataset
"""

_BACKLOGS: Final = """
-- one row per place in the given list whose entry waits too long and wasn't told yet, as above
SELECT waiting.place, clock_timestamp() AS now
FROM unnest($1::int[], $2::text[], $3::timestamptz[]) AS waiting(place, run_id, appended_at)
WHERE waiting.appended_at < clock_timestamp() - make_interval(secs => $4)
  AND NOT EXISTS (SELECT FROM ops.pipeline_flow_audit a
                  WHERE a.flow_run_id = waiting.run_id AND a.flow_name = $5
                    AND a.ended_at >= waiting.appended_at)
"""

_CLAIM: Final = """
-- one row per alert that is due, taken for a minute: a sender that dies gives it up by that
UPDATE ops.alerts SET attempts = attempts + 1, next_attempt_at = clock_timestamp() + interval '60 seconds'
WHERE id IN (SELECT id FROM ops.alerts WHERE state = 'pending' AND next_attempt_at <= clock_timestamp()
             ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED)
RETURNING id, dedupe_key, event_type, flow_name, flow_run_id, error_message, metadata, attempts
"""

_SENT: Final = """
UPDATE ops.alerts SET state = 'sent', sent_at = clock_timestamp(), last_error = NULL WHERE id = $1
"""

_LATER: Final = """
UPDATE ops.alerts SET last_error = $2, next_attempt_at = clock_timestamp() + make_interval(secs => $3)
WHERE id = $1 AND state = 'pending'
"""

_UNSENT: Final = """
UPDATE ops.alerts SET state = 'unsent', last_error = $2 WHERE id = $1 AND state = 'pending'
"""

_SHELVE: Final = """
-- one row per alert that nobody can be sent
UPDATE ops.alerts SET state = 'unsent', last_error = $1 WHERE state = 'pending'
RETURNING flow_name, flow_run_id, error_message
"""

_TAKE_UP: Final = """
-- one row per alert of the last day that was only unsent because no webhook was set
UPDATE ops.alerts SET state = 'pending', next_attempt_at = clock_timestamp()
WHERE state = 'unsent' AND last_error = $1 AND created_at > clock_timestamp() - interval '1 day'
RETURNING id
"""


@dataclass(frozen=True, slots=True)
class PendingAlert:
    """An alert that this sender has taken; attempts counts the one under way."""

    id: int
    attempts: int
    alert: Alert


class AuditStore:
    """What the audit reads and writes."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def record(self, steps: Sequence[Step]) -> list[Step]:
        """Write steps not recorded before and the alerts they call for, in one transaction; those written."""
        async with self._postgres.transaction() as conn:
            new = await remember(conn, CONSUMER, [step.event_id for step in steps])
            fresh = {step.event_id: step for step in steps if step.event_id in new}
            return await _write(conn, list(fresh.values()))

    async def record_found(self, steps: Sequence[Step]) -> list[Step]:
        """As `record`, for steps that no event told: their derived event id alone makes them unique."""
        async with self._postgres.transaction() as conn:
            return await _write(conn, steps)

    async def overdue(self, deadline: float) -> list[Overdue]:
        """Batches that missed the deadline (seconds after closing) and were not told yet; at most 100."""
        return [
            Overdue(
                batch_id=row["id"],
                dataset=row["dataset"],
                status=row["status"],
                accepted=row["accepted"],
                since=row["since"],
                seen_at=row["now"],
                generation=row["last_generation"],
                verdict=row["verdict"],
                broken=tuple(row["broken"]),
                pinned=(row["pinned_reason"] or "no reason given") if row["is_pinned"] else None,
                traceparent=row["traceparent"],
                opened_by=row["opened_by"],
            )
            for row in await self._postgres.fetch(_OVERDUE, deadline)
        ]

    async def open_too_long(self, seconds: float) -> list[Overdue]:
        """Batches that landed something, are open for longer and were not told as such yet; at most 100."""
        return [
            Overdue(
                batch_id=row["id"],
                dataset=row["dataset"],
                status=row["status"],
                accepted=row["accepted"],
                since=row["since"],
                seen_at=row["now"],
                generation=None,
                verdict=None,
                broken=(),
                pinned=None,
                traceparent=row["traceparent"],
                opened_by=row["opened_by"],
            )
            for row in await self._postgres.fetch(_OPEN_TOO_LONG, seconds, OPEN_FLOW)
        ]

    async def overdue_counts(self, deadline: float, *, open_for: float) -> dict[str, int]:
        """How many batches of each dataset are closed, or open, for longer than they may be."""
        rows = await self._postgres.fetch(_OVERDUE_COUNTS, deadline, open_for)
        return {row["dataset"]: row["batches"] for row in rows}

    async def unarchived(self, deadline: float) -> list[Unarchived]:
        """Per dataset what missed the deadline (seconds after closing) for the archive and was not told yet."""
        return [
            Unarchived(
                dataset=row["dataset"],
                count=row["batches"],
                batches=tuple(row["oldest"]),
                rows=row["rows"],
                since=row["since"],
                seen_at=row["now"],
                traceparent=row["traceparent"],
            )
            for row in await self._postgres.fetch(_UNARCHIVED, deadline, ARCHIVE_FLOW)
        ]

    async def too_long_in_streams(self, waiting: Sequence[Backlog], deadline: float) -> list[Backlog]:
        """Those whose oldest entry waits for longer than deadline, in seconds, and that were not told yet."""
        rows = await self._postgres.fetch(
            _BACKLOGS,
            list(range(len(waiting))),
            [stream_run(each.stream, each.group) for each in waiting],
            [appended_at(each.first) for each in waiting],
            deadline,
            STREAM_FLOW,
        )
        return [replace(waiting[row["place"]], seen_at=row["now"]) for row in rows]

    async def claim_alerts(self, limit: int) -> list[PendingAlert]:
        """Due alerts that no other sender has; each is ours for a minute."""
        return [
            PendingAlert(
                id=row["id"],
                attempts=row["attempts"],
                alert=Alert(
                    dedupe_key=row["dedupe_key"],
                    event_type=row["event_type"],
                    flow=row["flow_name"],
                    run_id=row["flow_run_id"],
                    message=row["error_message"],
                    metadata=row["metadata"],
                ),
            )
            for row in await self._postgres.fetch(_CLAIM, limit)
        ]

    async def mark_sent(self, alert_id: int) -> None:
        await self._postgres.execute(_SENT, alert_id)

    async def mark_later(self, alert_id: int, *, why: str, seconds: float) -> None:
        await self._postgres.execute(_LATER, alert_id, why, seconds)

    async def mark_unsent(self, alert_id: int, *, why: str) -> None:
        await self._postgres.execute(_UNSENT, alert_id, why)

    async def shelve_alerts(self, *, why: str) -> list[str]:
        """Give up every pending alert; their texts."""
        rows = await self._postgres.fetch(_SHELVE, why)
        return [f"{row['flow_name']} {row['flow_run_id']}: {row['error_message']}" for row in rows]

    async def take_up_shelved(self, *, why: str) -> int:
        """Make pending again what was shelved for that reason within the last day; how many."""
        return len(await self._postgres.fetch(_TAKE_UP, why))


async def _write(conn: Connection, steps: Sequence[Step]) -> list[Step]:
    if not steps:
        return []
    rows = await conn.fetch(
        _RECORD,
        [step.event_id for step in steps],
        [step.flow for step in steps],
        [step.run_id for step in steps],
        [step.status for step in steps],
        [step.started_at for step in steps],
        [step.ended_at for step in steps],
        [step.seconds for step in steps],
        [step.records for step in steps],
        [_json(step.metadata) for step in steps],
        [step.error for step in steps],
    )
    new: set[uuid.UUID] = {row["event_id"] for row in rows}
    written = [step for step in steps if step.event_id in new]
    alerts = [alert for step in written if (alert := alert_of(step)) is not None]
    if alerts:
        await conn.execute(
            _ALERT,
            [alert.dedupe_key for alert in alerts],
            [alert.event_type for alert in alerts],
            [alert.flow for alert in alerts],
            [alert.run_id for alert in alerts],
            [alert.message for alert in alerts],
            [_json(alert.metadata) for alert in alerts],
        )
    return written


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
