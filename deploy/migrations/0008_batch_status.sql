-- The same view, of which a question pays only for what it asks: what a batch's newest generation says is looked up for
-- rows that are shown, and for those of which nothing else tells the status. As a join it was looked up for every batch.

-- one row per batch, with the one word that says where it is
CREATE OR REPLACE VIEW ops.batch_status AS
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
        ELSE coalesce((
            SELECT CASE WHEN g.state IN ('building', 'built', 'passed', 'blocked') THEN g.state END
            FROM ops.generation_batches gb JOIN ops.generations g ON g.number = gb.generation
            WHERE gb.batch_id = b.id AND g.state <> 'abandoned'
            ORDER BY g.number DESC LIMIT 1
        ), 'closed')
    END AS status,
    (
        SELECT g.number
        FROM ops.generation_batches gb JOIN ops.generations g ON g.number = gb.generation
        WHERE gb.batch_id = b.id AND g.state <> 'abandoned'
        ORDER BY g.number DESC LIMIT 1
    ) AS last_generation,
    (
        SELECT g.verdict
        FROM ops.generation_batches gb JOIN ops.generations g ON g.number = gb.generation
        WHERE gb.batch_id = b.id AND g.state <> 'abandoned'
        ORDER BY g.number DESC LIMIT 1
    ) AS verdict
FROM ops.batches b;
