"""The statements of the store, each with the grain of what it reads or changes."""

from __future__ import annotations

from typing import Final

ENSURE_POINTER: Final = """
INSERT INTO ops.warehouse_pointer (dataset) VALUES ($1) ON CONFLICT DO NOTHING
"""

POINTER: Final = """
-- one row: where readers look
SELECT p.generation, p.version, p.pinned_at IS NOT NULL AS pinned, g.file, clock_timestamp() AS now
FROM ops.warehouse_pointer p LEFT JOIN ops.generations g ON g.number = p.generation
WHERE p.dataset = $1
"""

POINTER_HELD: Final = POINTER + "FOR SHARE OF p"

CANDIDATE: Final = """
-- at most one row: the candidate
SELECT g.number, g.state, g.kind, g.parent, g.file, g.sha256, g.traceparent,
       count(b.id) FILTER (WHERE b.held_at IS NOT NULL) AS held,
       count(b.id) FILTER (WHERE b.archived_at IS NULL) AS unarchived,
       (SELECT count(*) FROM ops.batches o
        WHERE g.kind = 'full' AND o.dataset = g.dataset AND o.generation IS NOT NULL AND o.held_at IS NULL
          AND NOT EXISTS (SELECT FROM ops.generation_batches left_in
                          WHERE left_in.generation = g.number AND left_in.batch_id = o.id)) AS released
FROM ops.generations g
LEFT JOIN ops.generation_batches gb ON gb.generation = g.number
LEFT JOIN ops.batches b ON b.id = gb.batch_id
WHERE g.dataset = $1 AND g.state IN ('building', 'built', 'passed')
GROUP BY g.number
"""

PROMPTS: Final = """
-- one row per batch that readers should see and don't, or shouldn't and do
SELECT id, closed_at, held_at IS NOT NULL AS held, generation IS NOT NULL AS published, accepted, traceparent
FROM ops.batches
WHERE dataset = $1 AND state = 'closed' AND accepted > 0
  AND (held_at IS NULL AND generation IS NULL OR held_at IS NOT NULL AND generation IS NOT NULL)
"""

EVERY_BATCH: Final = """
-- one row per closed batch with rows
SELECT id, closed_at, held_at IS NOT NULL AS held, generation IS NOT NULL AS published, accepted, traceparent
FROM ops.batches
WHERE dataset = $1 AND state = 'closed' AND accepted > 0
"""

REQUESTS: Final = """
-- one row per rebuild asked for and not begun
SELECT id, kind, requested_at FROM ops.rebuild_requests WHERE dataset = $1 AND generation IS NULL ORDER BY id
"""

TRIED: Final = """
-- one row per earlier generation of the same plan; what the gate said of one that was published all the same, and
-- rolled back, does not stand in the way of the next
SELECT attempt, CASE WHEN published_at IS NULL THEN verdict END AS verdict,
       state = 'abandoned' AND error IS NOT NULL AS failed,
       coalesce(verdict_at, lease_until, started_at) AS ended_at
FROM ops.generations WHERE dataset = $1 AND plan_hash = $2
"""

STILL_CURRENT: Final = """
-- one row, if the pointer is where the plan was made and nothing pins it
SELECT 1 FROM ops.warehouse_pointer
WHERE dataset = $1 AND generation IS NOT DISTINCT FROM $2::bigint AND pinned_at IS NULL
FOR SHARE
"""

BEGIN: Final = """
-- one row, unless another candidate stands
INSERT INTO ops.generations (number, dataset, kind, parent, plan_hash, attempt, holder, lease_until, file, cause)
VALUES ($1, $2, $3, $4, $5, $6, $7, clock_timestamp() + make_interval(secs => $8), $9, $10)
ON CONFLICT (dataset) WHERE state IN ('building', 'built', 'passed') DO NOTHING
RETURNING started_at
"""

TAKE_BATCHES: Final = """
-- one row per batch, but none that was held since the plan was made
INSERT INTO ops.generation_batches (generation, batch_id)
SELECT $1, id FROM ops.batches WHERE id = ANY($2::uuid[]) AND held_at IS NULL ORDER BY id FOR SHARE
RETURNING batch_id
"""

ANSWER_REQUESTS: Final = """
UPDATE ops.rebuild_requests SET generation = $1 WHERE id = ANY($2::bigint[])
"""

KEEP_LEASE: Final = """
-- one row, if it is still ours
UPDATE ops.generations SET lease_until = clock_timestamp() + make_interval(secs => $3)
WHERE number = $1 AND holder = $2 AND state = 'building' AND lease_until > clock_timestamp()
RETURNING number
"""

FINISH: Final = """
-- one row, if it is still ours
UPDATE ops.generations
SET state = 'built', built_at = clock_timestamp(), sha256 = $3, bytes = $4, staged = $5, rejected = $6,
    superseded = $7, raw_rows = $8, staging_hash = $9, analytics_hash = $10, watermark = $11, traceparent = $12
WHERE number = $1 AND holder = $2 AND state = 'building' AND lease_until > clock_timestamp()
RETURNING built_at
"""

GIVE_UP: Final = """
-- one row, if it is still ours
UPDATE ops.generations
SET state = 'abandoned', error = $3, traceparent = coalesce($4, traceparent), lease_until = clock_timestamp()
WHERE number = $1 AND holder = $2 AND state = 'building'
RETURNING number
"""

ABANDON: Final = """
-- one row, if it is still in that state
UPDATE ops.generations SET state = 'abandoned', error = $3, lease_until = clock_timestamp()
WHERE number = $1 AND state = $2
RETURNING number
"""

ABANDON_ORPHANS: Final = """
-- one row per build whose builder is gone: its lease ran out, or it was an earlier life of this consumer
UPDATE ops.generations
SET state = 'abandoned', error = 'its builder stopped before it was done', lease_until = clock_timestamp()
WHERE dataset = $1 AND state = 'building'
  AND (lease_until < clock_timestamp() OR split_part(holder, '/', 1) = $2 AND holder <> $3)
RETURNING number
"""

ASK_AGAIN: Final = """
UPDATE ops.rebuild_requests SET generation = NULL WHERE generation = ANY($1::bigint[])
"""

MOVE_POINTER: Final = """
-- one row, if the pointer is where it was seen, nothing pins it, and this very file may be published on it
UPDATE ops.warehouse_pointer p
SET generation = g.number, version = p.version + 1, moved_at = clock_timestamp()
FROM ops.generations g
WHERE p.dataset = $1 AND p.version = $2 AND p.pinned_at IS NULL
  AND g.number = $3 AND g.dataset = p.dataset AND g.sha256 = $4
  AND g.state = 'passed' AND (g.verdict = 'pass' OR g.override_reason IS NOT NULL)
  AND p.generation IS NOT DISTINCT FROM g.parent
RETURNING p.version, p.moved_at, g.cause, g.sha256, coalesce(g.staged, 0) AS staged,
          g.override_reason IS NOT NULL AS accepted,
          (SELECT count(*) FROM ops.generation_batches gb WHERE gb.generation = g.number) AS batches
"""

CARRY: Final = """
-- one row per batch that readers now see; none that was held meanwhile
UPDATE ops.batches b SET generation = coalesce(b.generation, gb.generation)
FROM ops.generation_batches gb
WHERE gb.generation = $1 AND b.id = gb.batch_id AND b.held_at IS NULL
RETURNING b.id
"""

DROP_UNCARRIED: Final = """
-- one row per batch that a full rebuild left out
UPDATE ops.batches b SET generation = NULL
WHERE b.dataset = $1 AND b.generation IS NOT NULL
  AND NOT EXISTS (SELECT FROM ops.generation_batches gb WHERE gb.generation = $2 AND gb.batch_id = b.id)
"""

RETIRE: Final = """
UPDATE ops.generations SET state = 'retired' WHERE number = $1 AND state = 'published'
"""

MARK_PUBLISHED: Final = """
UPDATE ops.generations SET state = 'published', published_at = $2 WHERE number = $1
"""

PRUNE: Final = """
-- one row per generation beyond the count, of those once published and of those blocked
UPDATE ops.generations g SET state = 'pruned'
FROM (
    SELECT number, state, archive_state, row_number() OVER (PARTITION BY state ORDER BY number DESC) AS place
    FROM ops.generations WHERE dataset = $1 AND state IN ('retired', 'blocked')
) ranked
WHERE g.number = ranked.number AND g.state = ranked.state AND ranked.place > $2
  AND (ranked.state = 'blocked' OR NOT $3 OR ranked.archive_state <> 'pending')
"""

LIVING_FILES: Final = """
-- one row per file that must stay
SELECT file FROM ops.generations
WHERE dataset = $1 AND state NOT IN ('abandoned', 'pruned') AND file IS NOT NULL
"""
