"""How the platform does: the last day of each flow, what waits for a person, and what persons did."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from libs.adapters.postgres import Postgres
    from libs.operations.reading import Record

__all__ = ["Concern", "concerns", "flow_health", "recent_actions"]

_FLOWS: Final = """
-- one row per flow: its last 24 hours
SELECT flow_name, count(*) AS runs, count(*) FILTER (WHERE status = 'failed') AS failed,
       round((count(*) FILTER (WHERE status = 'success'))::numeric / count(*), 4)::float8 AS success_rate,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_seconds) AS p50_seconds,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_seconds) AS p95_seconds,
       coalesce(sum(records_processed) FILTER (WHERE ended_at > now() - interval '5 minutes'), 0)::bigint
           AS records_in_5_minutes,
       max(ended_at) AS last_run_at,
       max(ended_at) FILTER (WHERE status = 'failed') AS last_failed_at,
       (array_agg(error_message ORDER BY ended_at DESC) FILTER (WHERE error_message IS NOT NULL))[1] AS last_error
FROM ops.pipeline_flow_audit WHERE ended_at > now() - interval '24 hours'
GROUP BY flow_name ORDER BY flow_name
"""

_CONCERNS: Final = """
-- one row per kind of concern: how many there are, since when, and whether that is too long
WITH late AS (SELECT now() - make_interval(secs => $1) AS closed, now() - make_interval(secs => $1 + $2) AS opened),
-- what readers don't see is found by its index; of all batches it is a few
unseen AS (
    SELECT status, closed_at, opened_at FROM ops.batch_status WHERE state = 'closed' AND generation IS NULL
)
SELECT 'blocked' AS what, count(*) AS count, min(closed_at) AS since, count(*) > 0 AS urgent
FROM unseen WHERE status = 'blocked'
UNION ALL
SELECT 'late', count(*), min(coalesce(closed_at, opened_at)), count(*) > 0
FROM (
    SELECT closed_at, opened_at FROM unseen, late
    WHERE status IN ('closed', 'building', 'built', 'passed') AND closed_at < late.closed
    UNION ALL
    SELECT closed_at, opened_at FROM ops.batches, late
    WHERE state = 'open' AND received + dead_lettered > 0 AND opened_at < late.opened
) AS waiting
UNION ALL
SELECT 'pinned', count(*), min(pinned_at), count(*) > 0 FROM ops.warehouse_pointer WHERE pinned_at IS NOT NULL
UNION ALL
SELECT 'unarchived', count(*), min(since), coalesce(min(since) < min(late.closed), false)
FROM (
    SELECT closed_at AS since FROM ops.batches
    WHERE state = 'closed' AND archived_at IS NULL AND received + dead_lettered > 0
    UNION ALL
    SELECT published_at FROM ops.generations WHERE state = 'published' AND archive_state = 'pending'
) AS waiting, late WHERE $3
UNION ALL
SELECT 'dead_lettered', count(*), min(created_at), count(*) > 0
FROM raw.quarantine WHERE state = 'open' AND disposition = 'dead_lettered'
UNION ALL
SELECT 'quarantined', count(*), min(created_at), count(*) > 0
FROM raw.quarantine WHERE state = 'open' AND disposition = 'quarantined'
UNION ALL
SELECT 'alerts_unsent', count(*), min(created_at), count(*) > 0
FROM ops.alerts
WHERE state = 'unsent' AND event_type <> 'alert.test' AND created_at > now() - interval '24 hours'
UNION ALL
SELECT 'held', count(*), min(held_at), false FROM ops.batches WHERE held_at IS NOT NULL
"""

_MEANING: Final = {
    "blocked": ("batches that the quality gate blocks", "drp batches ls --status blocked"),
    "late": ("batches past their deadline, and readers don't see them", "drp why BATCH"),
    "pinned": ("datasets whose publishing stands still since a rollback", "drp warehouse resume"),
    "unarchived": ("batches and generations that the archive lacks", "drp batches wait --all"),
    "dead_lettered": (
        "events that kept failing or killing the ingestor",
        "drp quarantine ls --reason undeliverable",
    ),
    "quarantined": ("events that were not taken", "drp quarantine ls"),
    "alerts_unsent": ("alerts of the last 24 hours that reached nobody", "drp alert test"),
    "held": ("batches that somebody left out", "drp batches ls --status held"),
}

_ACTIONS: Final = """
-- one row per operator's action of the last 24 hours, newest first
SELECT at, actor, action, subject, reason FROM ops.operator_actions
WHERE at > now() - interval '24 hours' ORDER BY id DESC LIMIT $1
"""


class Concern(msgspec.Struct, frozen=True, kw_only=True):
    """What waits for time or for a person: how many of it, since when, and the command that leads on.

    needs_person: time alone won't end it, or it has waited for too long.
    """

    what: str
    count: int
    since: datetime | None
    meaning: str
    next: str
    needs_person: bool


async def flow_health(postgres: Postgres) -> list[Record]:
    """Each flow's last 24 hours: runs, failures, success rate (0..1), median and 95th percentile of its seconds, last
    error; and how many records it handled in the last five minutes."""
    return [dict(row) for row in await postgres.fetch(_FLOWS)]


async def concerns(postgres: Postgres, *, deadline: float, max_age: float, archive: bool) -> list[Concern]:
    """Every kind of concern, also those there is none of.

    Args:
        deadline: seconds after its closing within which a batch is to be published and archived.
        max_age: seconds that a batch is open, at most.
        archive: whether anything is to be archived.
    """
    rows = await postgres.fetch(_CONCERNS, deadline, max_age, archive)
    return [
        Concern(
            what=row["what"],
            count=row["count"],
            since=row["since"],
            meaning=_MEANING[row["what"]][0],
            next=_MEANING[row["what"]][1],
            needs_person=row["urgent"],
        )
        for row in rows
    ]


async def recent_actions(postgres: Postgres, *, limit: int = 10) -> list[Record]:
    """What operators did in the last 24 hours, newest first."""
    return [dict(row) for row in await postgres.fetch(_ACTIONS, limit)]
