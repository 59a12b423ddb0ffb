-- Stable read views: what the console and the command line may rely on.

-- one row per batch, with the one word that says where it is
CREATE VIEW ops.batch_status AS
SELECT
    b.id, b.dataset, b.state, b.opened_by, b.opened_at, b.closed_at, b.close_reason,
    b.received, b.accepted, b.duplicate, b.quarantined, b.conflicts, b.dead_lettered,
    b.first_event_time, b.last_event_time, b.traceparent,
    split_part(b.traceparent, '-', 2) AS trace_id,
    b.held_at, b.held_reason, b.generation, b.archived_at,
    CASE
        WHEN b.state = 'open' THEN 'open'
        WHEN b.accepted = 0 THEN 'empty'
        WHEN b.held_at IS NOT NULL THEN 'held'
        WHEN b.generation IS NOT NULL THEN 'published'
        WHEN last.state IN ('building', 'built', 'passed', 'blocked') THEN last.state
        ELSE 'closed'
    END AS status,
    last.number AS last_generation,
    last.verdict
FROM ops.batches b
LEFT JOIN LATERAL (
    SELECT g.number, g.state, g.verdict
    FROM ops.generation_batches gb
    JOIN ops.generations g ON g.number = gb.generation
    WHERE gb.batch_id = b.id AND g.state <> 'abandoned'
    ORDER BY g.number DESC
    LIMIT 1
) last ON true;

-- one row per dataset: every slot that was landed has exactly one disposition
CREATE VIEW ops.ledger AS
SELECT
    dataset,
    count(*) AS batches,
    sum(received + dead_lettered)::bigint AS landed,
    sum(accepted)::bigint AS accepted,
    sum(duplicate)::bigint AS duplicate,
    sum(quarantined)::bigint AS quarantined,
    sum(conflicts)::bigint AS conflicts,
    sum(dead_lettered)::bigint AS dead_lettered,
    coalesce(sum(accepted) FILTER (WHERE held_at IS NOT NULL), 0)::bigint AS held,
    coalesce(sum(accepted) FILTER (WHERE generation IS NOT NULL), 0)::bigint AS published,
    coalesce(sum(accepted) FILTER (WHERE generation IS NULL AND held_at IS NULL), 0)::bigint AS unpublished
FROM ops.batches
GROUP BY dataset;

-- one row per batch and generation that applied it, with what the archive holds of both
CREATE VIEW ops.lineage AS
SELECT
    b.dataset, b.id AS batch_id, g.number AS generation, g.state AS generation_state, g.verdict,
    (SELECT array_agg(o.key ORDER BY o.key) FROM ops.archive_objects o WHERE o.batch_id = b.id) AS raw_objects,
    (SELECT array_agg(o.key ORDER BY o.key) FROM ops.archive_objects o WHERE o.generation = g.number) AS snapshot_objects
FROM ops.batches b
LEFT JOIN ops.generation_batches gb ON gb.batch_id = b.id
LEFT JOIN ops.generations g ON g.number = gb.generation;
