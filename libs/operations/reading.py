"""What the platform knows, as rows: the read side that the command line and the console share.

Every function takes an open Postgres and returns plain dictionaries, named by their SQL's columns.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from libs.contracts.events import batch_subject
from libs.errors import Permanent, Transient
from libs.operations.actions import actions_on

if TYPE_CHECKING:
    from libs.adapters.postgres import Postgres

__all__ = [
    "STATUSES",
    "Record",
    "audit_rows",
    "batch",
    "batches",
    "current_generations",
    "find_batch_id",
    "generation",
    "generations",
    "judged_generations",
    "ledger",
    "quality_failures",
    "quality_results",
    "quarantine",
    "quarantined_event",
    "unpublished_batches",
    "wait_for_batch",
    "wait_until_closed",
]

Record = dict[str, Any]

STATUSES: Final = (
    "open",
    "closed",
    "building",
    "built",
    "passed",
    "blocked",
    "published",
    "held",
    "empty",
)
"""Where a batch can be: what ops.batch_status says of it."""

_DONE: Final = frozenset({"published", "held", "empty"})

_BATCHES = """
-- one row per batch, newest first
SELECT id, dataset, status, opened_at, closed_at, close_reason, received, accepted, duplicate, quarantined,
       conflicts, dead_lettered, generation, last_generation, verdict, archived_at, held_reason, trace_id
FROM ops.batch_status
WHERE ($1::text IS NULL OR dataset = $1) AND ($2::text IS NULL OR status = $2)
ORDER BY opened_at DESC
LIMIT $3
"""

_BATCH = """
-- one row: the batch
SELECT id, dataset, status, opened_by, opened_at, closed_at, close_reason, received, accepted, duplicate,
       quarantined, conflicts, dead_lettered, first_event_time, last_event_time, generation, last_generation,
       verdict, held_at, held_reason, archived_at, trace_id, traceparent
FROM ops.batch_status WHERE id = $1
"""

_BATCH_IDS = """
-- one row per batch whose id starts so
SELECT id FROM ops.batches WHERE starts_with(id::text, $1) ORDER BY opened_at DESC LIMIT 4
"""

_WAITED_FOR = """
-- one row: where the batch is
SELECT status, archived_at IS NOT NULL AS archived FROM ops.batch_status WHERE id = $1
"""

_UNPUBLISHED = """
-- one row per closed batch that readers are to see and don't yet, those that the gate blocked too
SELECT id FROM ops.batch_status
WHERE dataset = $1 AND status IN ('closed', 'building', 'built', 'passed', 'blocked') ORDER BY closed_at DESC, id
"""

_STILL_OPEN = """
-- one row: how many of the batches are open
SELECT count(*) FROM ops.batches WHERE id = ANY($1::uuid[]) AND state = 'open'
"""

_BATCH_GENERATIONS = """
-- one row per generation that applied the batch
SELECT g.number, g.state, g.kind, g.verdict, g.staged, g.rejected, g.superseded, g.started_at, g.built_at,
       CASE WHEN g.state = 'abandoned' AND g.built_at IS NULL THEN g.lease_until END AS given_up_at,
       g.published_at, g.error
FROM ops.generation_batches gb JOIN ops.generations g ON g.number = gb.generation
WHERE gb.batch_id = $1 ORDER BY g.number
"""

_BATCH_OBJECTS = """
-- one row per object of the batch's archive
SELECT key, kind, bytes, records, sha256, stored_at FROM ops.archive_objects WHERE batch_id = $1 ORDER BY key
"""

_AUDIT = """
-- one row per step of the batch: its own, and those of the generations that applied it
SELECT flow_name, flow_run_id, status, started_at, ended_at, duration_seconds, records_processed, error_message,
       recorded_at
FROM ops.pipeline_flow_audit
WHERE flow_run_id = $1::text OR metadata -> 'batches' ? $1::text
ORDER BY started_at, id
"""

_LEDGER = """
-- one row per dataset
SELECT dataset, batches, landed, accepted, duplicate, quarantined, conflicts, dead_lettered, held, published,
       unpublished
FROM ops.ledger ORDER BY dataset
"""

_GENERATIONS = """
-- one row per generation, newest first
SELECT g.number, g.dataset, g.state, (p.generation IS NOT DISTINCT FROM g.number) AS current, g.kind, g.parent,
       g.verdict, g.staged, g.rejected, g.superseded, g.raw_rows, g.bytes, g.file, g.sha256, g.staging_hash,
       g.analytics_hash, g.watermark, g.started_at, g.built_at, g.published_at, g.archive_state, g.override_reason,
       g.error, CASE WHEN p.generation = g.number THEN p.pinned_reason END AS pinned
FROM ops.generations g LEFT JOIN ops.warehouse_pointer p USING (dataset)
WHERE ($1::text IS NULL OR g.dataset = $1) AND ($2::bigint IS NULL OR g.number = $2)
ORDER BY g.number DESC LIMIT $3
"""

_CURRENT = """
-- one row per dataset that has something to read: the number of the generation that readers see
SELECT generation FROM ops.warehouse_pointer WHERE generation IS NOT NULL ORDER BY dataset
"""

_RESULTS = """
-- one row per rule judged on the generation
SELECT generation, rule, kind, status, expectation, tolerance, observed, evaluated, unexpected, detail, judged_at
FROM ops.quality_results WHERE generation = $1
ORDER BY CASE status WHEN 'fail' THEN 0 WHEN 'error' THEN 1 WHEN 'not run' THEN 2 ELSE 3 END, rule
"""

_FAILURES = """
-- one row per row that broke a rule of the generation
SELECT rule, source_system, event_id, business_key, observed
FROM ops.quality_failures WHERE generation = $1 AND ($3::text IS NULL OR rule = $3)
ORDER BY rule, source_system, event_id LIMIT $2
"""

_JUDGED = """
-- one row per judged generation, newest first
SELECT g.number AS generation, g.dataset, g.state, g.verdict, g.verdict_at,
       count(*) FILTER (WHERE r.status = 'pass') AS passed, count(*) FILTER (WHERE r.status = 'fail') AS failed,
       count(*) FILTER (WHERE r.status = 'not run') AS not_run, count(*) FILTER (WHERE r.status = 'error') AS errors,
       array_agg(r.rule ORDER BY r.rule) FILTER (WHERE r.status IN ('fail', 'error')) AS broken
FROM ops.generations g JOIN ops.quality_results r ON r.generation = g.number
WHERE $1::text IS NULL OR g.dataset = $1
GROUP BY g.number ORDER BY g.number DESC LIMIT $2
"""

_QUARANTINE = """
-- one row per quarantined slot, newest first, without its bytes
SELECT id, dataset, reason, detail, field, source_system, event_id, batch_id, disposition, state, created_at,
       octet_length(original) AS bytes, fixed_at, settled_at
FROM raw.quarantine
WHERE ($1::text IS NULL OR dataset = $1) AND ($2::text IS NULL OR reason = $2) AND ($3::uuid IS NULL OR batch_id = $3)
  AND ($4::text IS NULL OR state = $4)
ORDER BY id DESC LIMIT $5
"""

_QUARANTINED = """
-- one row: a quarantined slot with its original bytes
SELECT id, dataset, stream, stream_entry_id, stream_position, batch_id, disposition, reason, detail, field,
       source_system, event_id, dataschema, trace_id, state, created_at, settled_at, original, fixed, fixed_at,
       fixed_by, redriven_entry
FROM raw.quarantine WHERE id = $1
"""


async def batches(
    postgres: Postgres, *, dataset: str | None = None, status: str | None = None, limit: int = 50
) -> list[Record]:
    return [dict(row) for row in await postgres.fetch(_BATCHES, dataset, status, limit)]


async def unpublished_batches(postgres: Postgres, dataset: str) -> list[uuid.UUID]:
    """Closed batches that readers are to see and don't yet, those that the gate blocked too; newest first."""
    return [row["id"] for row in await postgres.fetch(_UNPUBLISHED, dataset)]


async def find_batch_id(postgres: Postgres, text: str) -> uuid.UUID:
    """The batch that the text names: an id, the start of one, or `last`.

    Raises:
        Permanent: no batch, or more than one, is meant.
    """
    if text == "last":
        rows = await postgres.fetch("SELECT id FROM ops.batches ORDER BY opened_at DESC LIMIT 1")
        if not rows:
            raise Permanent("there is no batch yet", fix="drp publish --file orders.csv")
    elif (whole := _whole_id(text)) is not None:
        rows = await postgres.fetch("SELECT id FROM ops.batches WHERE id = $1", whole)
    else:
        rows = await postgres.fetch(_BATCH_IDS, text.lower()) if text else []
    if len(rows) == 1:
        found: uuid.UUID = rows[0]["id"]
        return found
    if not rows:
        raise Permanent(f"{text!r} names no batch", why="no batch has such an id", fix="drp batches ls")
    names = [str(row["id"]) for row in rows[:3]] + ["…"] * (len(rows) > 3)
    raise Permanent(f"{text!r} names more than one batch", why=", ".join(names), fix="more of its id")


def _whole_id(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


async def batch(postgres: Postgres, batch_id: uuid.UUID) -> Record:
    """A batch with its generations, rules that stopped it, archive objects, audit rows and operators' actions."""
    row = await postgres.fetchrow(_BATCH, batch_id)
    if row is None:
        raise Permanent(f"there is no batch {batch_id}", fix="drp batches ls")
    record: Record = dict(row)
    record["generations"] = [dict(each) for each in await postgres.fetch(_BATCH_GENERATIONS, batch_id)]
    record["objects"] = [dict(each) for each in await postgres.fetch(_BATCH_OBJECTS, batch_id)]
    record["audit"] = await audit_rows(postgres, str(batch_id))
    record["actions"] = await actions_on(postgres, batch_subject(batch_id))
    generation = row["last_generation"]
    checks = [] if generation is None else await quality_results(postgres, generation)
    record["broken_rules"] = [check for check in checks if check["status"] in ("fail", "error")]
    return record


async def wait_for_batch(
    postgres: Postgres,
    batch_id: uuid.UUID,
    *,
    timeout: float,  # noqa: ASYNC109 - of many looks
    archive: bool = True,
) -> str:
    """Wait until the batch is blocked, or published, held or empty and archived; its status then.

    Args:
        timeout: seconds.
        archive: whether it must be archived too.

    Raises:
        Transient: the time was up.
        Permanent: there is no such batch.
    """
    deadline = asyncio.get_running_loop().time() + timeout
    while True:
        row = await postgres.fetchrow(_WAITED_FOR, batch_id)
        if row is None:
            raise Permanent(f"there is no batch {batch_id}", fix="drp batches ls")
        status: str = row["status"]
        if status == "blocked" or (status in _DONE and (row["archived"] or not archive)):
            return status
        if asyncio.get_running_loop().time() > deadline:
            left = "not archived" if status in _DONE else status
            raise Transient(
                f"batch {batch_id} is still {left} after {timeout:g} s", fix="drp status --health"
            )
        await asyncio.sleep(0.2)


async def wait_until_closed(
    postgres: Postgres,
    batch_ids: Sequence[uuid.UUID],
    *,
    timeout: float = 10.0,  # noqa: ASYNC109 - of many looks
) -> None:
    """Wait until none of the batches is open any more.

    Args:
        timeout: seconds.

    Raises:
        Transient: no ingestor has closed them in time.
    """
    deadline = asyncio.get_running_loop().time() + timeout
    while left := await postgres.fetchval(_STILL_OPEN, list(batch_ids)):
        if asyncio.get_running_loop().time() > deadline:
            raise Transient(
                f"{left} batches are still open after {timeout:g} s",
                why="no ingestor has closed them",
                fix="drp status (does the ingestor run?)",
            )
        await asyncio.sleep(0.1)


async def audit_rows(postgres: Postgres, run_id: str) -> list[Record]:
    return [dict(row) for row in await postgres.fetch(_AUDIT, run_id)]


async def ledger(postgres: Postgres) -> list[Record]:
    return [dict(row) for row in await postgres.fetch(_LEDGER)]


async def generations(postgres: Postgres, *, dataset: str | None = None, limit: int = 30) -> list[Record]:
    return [dict(row) for row in await postgres.fetch(_GENERATIONS, dataset, None, limit)]


async def generation(postgres: Postgres, number: int) -> Record:
    """
    Raises:
        Permanent: there is none with this number.
    """
    row = await postgres.fetchrow(_GENERATIONS, None, number, 1)
    if row is None:
        raise Permanent(f"there is no generation {number}", fix="drp warehouse ls")
    return dict(row)


async def current_generations(postgres: Postgres) -> list[Record]:
    """What readers see, a generation for each dataset that has one."""
    return [await generation(postgres, row["generation"]) for row in await postgres.fetch(_CURRENT)]


async def judged_generations(
    postgres: Postgres, *, dataset: str | None = None, limit: int = 30
) -> list[Record]:
    return [dict(row) for row in await postgres.fetch(_JUDGED, dataset, limit)]


async def quality_results(postgres: Postgres, generation: int) -> list[Record]:
    return [dict(row) for row in await postgres.fetch(_RESULTS, generation)]


async def quality_failures(
    postgres: Postgres, generation: int, *, rule: str | None = None, limit: int = 100
) -> list[Record]:
    return [dict(row) for row in await postgres.fetch(_FAILURES, generation, limit, rule)]


async def quarantine(
    postgres: Postgres,
    *,
    dataset: str | None = None,
    reason: str | None = None,
    batch_id: uuid.UUID | None = None,
    state: str | None = None,
    limit: int = 50,
) -> list[Record]:
    rows = await postgres.fetch(_QUARANTINE, dataset, reason, batch_id, state, limit)
    return [dict(row) for row in rows]


async def quarantined_event(postgres: Postgres, number: int) -> Record:
    """One quarantined slot, its original bytes and those of its fix (None without one) included.

    Raises:
        Permanent: there is none with this number.
    """
    row = await postgres.fetchrow(_QUARANTINED, number)
    if row is None:
        raise Permanent(f"nothing is quarantined under number {number}", fix="drp quarantine ls")
    return dict(row)
