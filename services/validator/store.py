"""The validator's SQL: candidates without a verdict, what Postgres knows of them, and the verdict."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

from libs.adapters.postgres import Connection, Postgres
from libs.contracts.events import PipelineEvent, QualityFailed, QualityPassed, StepFailed, generation_subject
from libs.datasets import Dataset
from libs.errors import Permanent
from libs.pipeline.outbox import announce, remember
from services.validator.domain import (
    Candidate,
    Facts,
    NewBatches,
    RuleResult,
    Status,
    Verdict,
    message_of,
    verdict_of,
)

__all__ = ["CONSUMER", "VerdictStore"]

CONSUMER: Final = "validator"
_TURN: Final = 60.0
"""Seconds after which a paused validator's candidate is another's. Judged twice, it gets the first verdict."""

_CANDIDATES: Final = """
-- one row per generation that waits for its verdict, oldest first
SELECT g.number, g.dataset, g.kind, g.parent, g.file, g.sha256, g.cause, g.traceparent, g.started_at,
       ARRAY(SELECT gb.batch_id FROM ops.generation_batches gb JOIN ops.batches b ON b.id = gb.batch_id
             WHERE gb.generation = g.number ORDER BY b.closed_at, b.id) AS added
FROM ops.generations g
WHERE g.state = 'built' AND g.verdict IS NULL AND g.file IS NOT NULL AND g.sha256 IS NOT NULL
ORDER BY g.number
"""

_ADDED: Final = """
-- one row per batch that the generation added: RAW's rows, live ones, live ones too old when the batch closed
SELECT b.id, b.generation IS NULL AS unseen, coalesce(seen.override_reason IS NOT NULL, false) AS accepted,
       count(r.event_id) AS rows,
       count(r.event_id) FILTER (WHERE r.origin = 'live') AS live,
       count(r.event_id) FILTER (WHERE r.origin = 'live'
                                 AND b.closed_at - r.event_time > make_interval(secs => $2)) AS late
FROM ops.batches b
LEFT JOIN ops.generations seen ON seen.number = b.generation
LEFT JOIN {raw} r ON r.batch_id = b.id
WHERE b.id = ANY($1::uuid[])
GROUP BY b.id, seen.override_reason
"""

_AROUND: Final = """
-- one row: what the generation builds on. A batch that was held when it was planned is no part of it, also if
-- it was released since: its first action since then is the release
WITH first_actions AS (
    SELECT DISTINCT ON (a.subject) a.subject, a.action
    FROM ops.operator_actions a JOIN ops.generations g ON g.number = $1 AND a.at >= g.started_at
    WHERE a.action IN ('batch.hold', 'batch.release') ORDER BY a.subject, a.id
), held_then AS (
    SELECT b.id, b.generation FROM ops.batches b JOIN ops.generations g ON g.number = $1 AND g.dataset = b.dataset
    WHERE b.held_at < g.started_at
       OR b.id IN (SELECT substr(subject, 7)::uuid FROM first_actions WHERE action = 'batch.release')
)
SELECT
    p.generation IS DISTINCT FROM g.parent AS parent_replaced,
    parent.watermark AS parent_watermark,
    coalesce(carried.batches, 0) AS carried_batches,
    coalesce(carried.rows, 0)::bigint AS carried_rows,
    EXISTS (SELECT FROM held_then WHERE generation IS NOT NULL) AS parent_lacks,
    ARRAY(SELECT id FROM held_then) AS held
FROM ops.generations g
LEFT JOIN ops.warehouse_pointer p ON p.dataset = g.dataset
LEFT JOIN ops.generations parent ON parent.number = g.parent
CROSS JOIN LATERAL (
    SELECT count(*) AS batches, sum(b.accepted) AS rows FROM ops.batches b
    WHERE b.dataset = g.dataset AND b.generation IS NOT NULL AND NOT b.id = ANY($2::uuid[])
      AND b.id NOT IN (SELECT id FROM held_then)
) carried
WHERE g.number = $1
"""

_UNJUDGED: Final = """
-- one row, if the generation still waits for its verdict
SELECT dataset, cause, traceparent FROM ops.generations
WHERE number = $1 AND state = 'built' AND verdict IS NULL
"""

_VERDICT: Final = """
-- one row, if the candidate still waits and is the file that was judged
UPDATE ops.generations SET state = $3, verdict = $4, verdict_at = clock_timestamp()
WHERE number = $1 AND sha256 = $2 AND state = 'built'
RETURNING number
"""

_RESULTS: Final = """
-- one row per rule
INSERT INTO ops.quality_results (generation, rule, kind, status, expectation, tolerance, observed, evaluated,
                                 unexpected, detail)
SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::double precision[], $7::text[],
                         $8::bigint[], $9::bigint[], $10::text[])
"""

_FAILURES: Final = """
-- one row per row that broke a rule
INSERT INTO ops.quality_failures (generation, rule, source_system, event_id, business_key, observed)
SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
ON CONFLICT DO NOTHING
"""


class VerdictStore:
    """What the validator reads and writes."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def candidates(self) -> list[Candidate]:
        return [
            Candidate(
                generation=row["number"],
                dataset=row["dataset"],
                kind=row["kind"],
                parent=row["parent"],
                file=row["file"],
                sha256=row["sha256"],
                cause=row["cause"],
                traceparent=row["traceparent"],
                started_at=row["started_at"],
                added=tuple(row["added"]),
            )
            for row in await self._postgres.fetch(_CANDIDATES)
        ]

    @asynccontextmanager
    async def turn(self, candidate: Candidate) -> AsyncIterator[bool]:
        """Whether it still waits and is in no other validator's hands; none takes it up until the block ends."""
        async with self._postgres.turn(f"judge {candidate.generation}", at_most=_TURN) as ours:
            yield ours and await self._postgres.fetchrow(_UNJUDGED, candidate.generation) is not None

    async def facts(self, candidate: Candidate, dataset: Dataset) -> Facts:
        """Counted in Postgres alone, so that it can contradict the file."""
        limit = dataset.freshness.max_seconds if dataset.freshness is not None else 0.0
        added = list(candidate.added)
        async with self._postgres.transaction() as conn:
            batches = await conn.fetch(_ADDED.format(raw=dataset.raw_table), added, limit)
            around = await conn.fetchrow(_AROUND, candidate.generation, added)
        if around is None:
            raise Permanent(f"generation {candidate.generation} is gone from ops.generations")
        unseen = [row for row in batches if row["unseen"]]
        return Facts(
            new=NewBatches(
                added=candidate.added,
                unseen=frozenset(row["id"] for row in unseen),
                accepted=frozenset(row["id"] for row in batches if row["accepted"]),
            ),
            raw_counts={row["id"]: row["rows"] for row in batches},
            carried_batches=around["carried_batches"],
            carried_rows=around["carried_rows"],
            held=list(around["held"]),
            parent_replaced=around["parent_replaced"],
            parent_watermark=around["parent_watermark"],
            parent_lacks=around["parent_lacks"],
            live=sum(row["live"] for row in unseen),
            late=sum(row["late"] for row in unseen),
        )

    async def settle(
        self,
        candidate: Candidate,
        results: Sequence[RuleResult],
        *,
        rows: int,
        began: datetime,
        ended: datetime,
        traceparent: str | None,
        heard: uuid.UUID | None,
    ) -> Verdict | None:
        """Write the verdict, each rule's result, the inbox and the announcement in one transaction.

        Args:
            rows: RAW rows the candidate added.
            heard: id of the event that told of the candidate, if one did.

        Returns:
            None if the candidate no longer waits: another replica judged it, or it was abandoned.
        """
        verdict = verdict_of(results)
        state = "passed" if verdict is Verdict.PASS else "blocked"
        async with self._postgres.transaction() as conn:
            waited = await conn.fetchval(_VERDICT, candidate.generation, candidate.sha256, state, verdict)
            if heard is not None:
                await remember(conn, CONSUMER, [heard])
            if waited is None:
                return None
            await _write(conn, candidate.generation, results)
            await announce(
                conn,
                _event(candidate, verdict, results, rows=rows, began=began, ended=ended),
                cause=candidate.cause,
                subject=generation_subject(candidate.generation),
                traceparent=traceparent,
            )
        return verdict

    async def announce_failure(self, generation: int, why: str, *, at: datetime) -> None:
        """Tell that the candidate could not get its verdict; nothing is told if it has one by now."""
        async with self._postgres.transaction() as conn:
            row = await conn.fetchrow(_UNJUDGED, generation)
            if row is None:
                return
            failed = StepFailed(
                dataset=row["dataset"],
                started_at=at,
                ended_at=at,
                records=0,
                step="validate",
                batch_id=None,
                generation=generation,
                attempt=1,
                error=why,
                fix=f"drp quality show {generation}, drp status --health",
            )
            await announce(
                conn,
                failed,
                cause=row["cause"],
                subject=generation_subject(generation),
                traceparent=row["traceparent"],
            )

    async def remember(self, heard: Iterable[uuid.UUID]) -> None:
        """Note events that called for nothing."""
        async with self._postgres.transaction() as conn:
            await remember(conn, CONSUMER, list(heard))


async def _write(conn: Connection, generation: int, results: Sequence[RuleResult]) -> None:
    await conn.execute(
        _RESULTS,
        generation,
        [one.rule for one in results],
        [one.kind for one in results],
        [one.status for one in results],
        [one.expectation for one in results],
        [one.tolerance for one in results],
        [one.observed for one in results],
        [one.evaluated for one in results],
        [one.unexpected for one in results],
        [one.detail for one in results],
    )
    failures = [(one.rule, failure) for one in results for failure in one.failures]
    await conn.execute(
        _FAILURES,
        generation,
        [rule for rule, _ in failures],
        [failure.source_system for _, failure in failures],
        [failure.event_id for _, failure in failures],
        [failure.business_key for _, failure in failures],
        [failure.observed for _, failure in failures],
    )


def _event(
    candidate: Candidate,
    verdict: Verdict,
    results: Sequence[RuleResult],
    *,
    rows: int,
    began: datetime,
    ended: datetime,
) -> PipelineEvent:
    if verdict is Verdict.PASS:
        return QualityPassed(
            dataset=candidate.dataset,
            started_at=began,
            ended_at=ended,
            records=rows,
            generation=candidate.generation,
            batches=list(candidate.added),
            sha256=candidate.sha256,
            rules=len(results),
        )
    return QualityFailed(
        dataset=candidate.dataset,
        started_at=began,
        ended_at=ended,
        records=rows,
        generation=candidate.generation,
        batches=list(candidate.added),
        sha256=candidate.sha256,
        rules=len(results),
        verdict=verdict,
        failed=[
            one.rule for one in results if one.status in (Status.FAIL, Status.ERROR) and one.stands_in_the_way
        ],
        message=message_of(candidate, verdict, results),
    )
