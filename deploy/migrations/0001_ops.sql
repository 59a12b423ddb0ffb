-- The state of the platform. RAW tables are not made here: each follows from its dataset's contract.

CREATE SCHEMA ops;
CREATE SCHEMA raw;

-- one row per batch: the ledger
CREATE TABLE ops.batches (
    id              uuid PRIMARY KEY,
    dataset         text NOT NULL,
    state           text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closed')),
    opened_by       text NOT NULL,
    opened_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    closed_at       timestamptz,
    close_reason    text CHECK (close_reason IN ('size', 'age', 'requested', 'drain')),
    received        bigint NOT NULL DEFAULT 0,
    accepted        bigint NOT NULL DEFAULT 0,
    duplicate       bigint NOT NULL DEFAULT 0,
    quarantined     bigint NOT NULL DEFAULT 0,
    conflicts       bigint NOT NULL DEFAULT 0,
    dead_lettered   bigint NOT NULL DEFAULT 0,
    first_event_time timestamptz,
    last_event_time timestamptz,
    producers       text[] NOT NULL DEFAULT '{}',
    traceparent     text,
    held_at         timestamptz,
    held_reason     text,
    generation      bigint,
    archived_at     timestamptz,
    CHECK (received = accepted + duplicate + quarantined),
    CHECK (conflicts <= quarantined),
    CHECK ((state = 'closed') = (closed_at IS NOT NULL))
);
COMMENT ON COLUMN ops.batches.producers IS 'traceparents of the producers'' spans, at most 64: the links of the batch''s root span';
COMMENT ON COLUMN ops.batches.generation IS 'the generation that first carried this batch to readers and still does; null while unpublished';
CREATE INDEX batches_open ON ops.batches (dataset, opened_at) WHERE state = 'open';
CREATE INDEX batches_unpublished ON ops.batches (dataset, closed_at) WHERE state = 'closed' AND generation IS NULL;
CREATE INDEX batches_unarchived ON ops.batches (closed_at) WHERE state = 'closed' AND archived_at IS NULL;
CREATE INDEX batches_recent ON ops.batches (opened_at DESC);

-- one row per stream entry that landed: the inbox of the ingestor, with the dispositions of its slots
CREATE TABLE ops.entries (
    stream          text NOT NULL,
    entry_id        text NOT NULL,
    batch_id        uuid NOT NULL,
    events          integer NOT NULL CHECK (events > 0),
    accepted        integer NOT NULL DEFAULT 0,
    duplicate       integer NOT NULL DEFAULT 0,
    quarantined     integer NOT NULL DEFAULT 0,
    dead_lettered   integer NOT NULL DEFAULT 0,
    landed_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (stream, entry_id),
    CHECK (events = accepted + duplicate + quarantined + dead_lettered)
);
COMMENT ON TABLE ops.entries IS 'inserted first in the landing transaction, so that a redelivery counts nothing; counts are set before it commits';

-- one row per slot that the platform could not take: refused by the contract, in conflict, or undeliverable
CREATE TABLE raw.quarantine (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dataset         text NOT NULL,
    stream          text NOT NULL,
    stream_entry_id text NOT NULL,
    stream_position integer NOT NULL,
    batch_id        uuid NOT NULL,
    disposition     text NOT NULL CHECK (disposition IN ('quarantined', 'dead_lettered')),
    reason          text NOT NULL,
    detail          text NOT NULL,
    field           text,
    source_system   text,
    event_id        text,
    dataschema      text,
    trace_id        text,
    original        bytea NOT NULL,
    state           text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'redriven', 'discarded')),
    created_at      timestamptz NOT NULL DEFAULT now(),
    settled_at      timestamptz,
    UNIQUE (stream, stream_entry_id, stream_position)
);
CREATE INDEX quarantine_batch ON raw.quarantine (batch_id);
CREATE INDEX quarantine_open ON raw.quarantine (dataset, reason, id) WHERE state = 'open';
CREATE INDEX quarantine_event ON raw.quarantine (event_id);

-- one row per event that is, or was, to be published: committed with the change it announces
CREATE TABLE ops.outbox (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id        uuid NOT NULL UNIQUE,
    stream          text NOT NULL,
    type            text NOT NULL,
    subject         text NOT NULL,
    document        bytea NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    published_at    timestamptz
);
CREATE INDEX outbox_pending ON ops.outbox (id) WHERE published_at IS NULL;

-- one row per consumer and event: what a consumer has already done
CREATE TABLE ops.inbox (
    consumer        text NOT NULL,
    event_id        uuid NOT NULL,
    handled_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, event_id)
);

CREATE SEQUENCE ops.generation_numbers;

-- one row per generation of a dataset's warehouse, published or not
CREATE TABLE ops.generations (
    number          bigint PRIMARY KEY DEFAULT nextval('ops.generation_numbers'),
    dataset         text NOT NULL,
    state           text NOT NULL DEFAULT 'building'
                    CHECK (state IN ('building', 'abandoned', 'built', 'passed', 'blocked', 'published', 'retired', 'pruned')),
    kind            text NOT NULL CHECK (kind IN ('incremental', 'full')),
    parent          bigint REFERENCES ops.generations,
    plan_hash       text NOT NULL,
    attempt         integer NOT NULL DEFAULT 1,
    holder          text,
    lease_until     timestamptz,
    file            text,
    sha256          text,
    bytes           bigint,
    staged          bigint,
    rejected        bigint,
    superseded      bigint,
    raw_rows        bigint,
    staging_hash    text,
    analytics_hash  text,
    watermark       timestamptz,
    verdict         text CHECK (verdict IN ('pass', 'fail', 'error')),
    verdict_at      timestamptz,
    override_reason text,
    error           text,
    traceparent     text,
    cause           uuid NOT NULL,
    started_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    built_at        timestamptz,
    published_at    timestamptz,
    archived_at     timestamptz,
    archive_state   text NOT NULL DEFAULT 'pending' CHECK (archive_state IN ('pending', 'stored', 'superseded', 'off'))
);
COMMENT ON COLUMN ops.generations.plan_hash IS 'parent, batches, contract: the same plan is not built again after it was blocked';
CREATE UNIQUE INDEX generations_candidate ON ops.generations (dataset) WHERE state IN ('building', 'built', 'passed');
CREATE INDEX generations_recent ON ops.generations (dataset, number DESC);

-- one row per batch that a generation applied on top of its parent (all of them, if it is a full rebuild)
CREATE TABLE ops.generation_batches (
    generation      bigint NOT NULL REFERENCES ops.generations,
    batch_id        uuid NOT NULL REFERENCES ops.batches,
    PRIMARY KEY (generation, batch_id)
);
CREATE INDEX generation_batches_batch ON ops.generation_batches (batch_id);

-- one row per dataset: the generation that readers see
CREATE TABLE ops.warehouse_pointer (
    dataset         text PRIMARY KEY,
    generation      bigint REFERENCES ops.generations,
    version         bigint NOT NULL DEFAULT 0,
    moved_at        timestamptz,
    pinned_at       timestamptz,
    pinned_reason   text
);

-- one row per rebuild that an operator asked for
CREATE TABLE ops.rebuild_requests (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dataset         text NOT NULL,
    kind            text NOT NULL CHECK (kind IN ('incremental', 'full')),
    requested_at    timestamptz NOT NULL DEFAULT now(),
    generation      bigint REFERENCES ops.generations
);
COMMENT ON COLUMN ops.rebuild_requests.generation IS 'the generation that answered it; null while it waits';

-- one row per rule and generation
CREATE TABLE ops.quality_results (
    generation      bigint NOT NULL REFERENCES ops.generations,
    rule            text NOT NULL,
    kind            text NOT NULL CHECK (kind IN ('row', 'table', 'freshness', 'custom')),
    status          text NOT NULL CHECK (status IN ('pass', 'fail', 'not run', 'error')),
    expectation     text NOT NULL,
    tolerance       double precision,
    observed        text,
    evaluated       bigint,
    unexpected      bigint,
    detail          text,
    judged_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (generation, rule)
);

-- one row per row that broke a rule, named by its event; at most 1,000 a rule and generation
CREATE TABLE ops.quality_failures (
    generation      bigint NOT NULL REFERENCES ops.generations,
    rule            text NOT NULL,
    source_system   text NOT NULL,
    event_id        text NOT NULL,
    business_key    text,
    observed        text,
    PRIMARY KEY (generation, rule, source_system, event_id)
);

-- one row per object in the store
CREATE TABLE ops.archive_objects (
    key             text PRIMARY KEY,
    dataset         text NOT NULL,
    kind            text NOT NULL CHECK (kind IN ('raw', 'quarantine', 'snapshot', 'manifest')),
    batch_id        uuid REFERENCES ops.batches,
    generation      bigint REFERENCES ops.generations,
    bytes           bigint NOT NULL,
    records         bigint NOT NULL,
    sha256          text NOT NULL,
    stored_at       timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX archive_objects_batch ON ops.archive_objects (batch_id);
CREATE INDEX archive_objects_generation ON ops.archive_objects (generation);

-- one row per step of a batch or generation
CREATE TABLE ops.pipeline_flow_audit (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id        uuid NOT NULL UNIQUE,
    flow_name       text NOT NULL,
    flow_run_id     text NOT NULL,
    status          text NOT NULL CHECK (status IN ('success', 'failed')),
    started_at      timestamptz NOT NULL,
    ended_at        timestamptz NOT NULL,
    duration_seconds double precision NOT NULL,
    records_processed bigint NOT NULL,
    metadata        jsonb NOT NULL,
    error_message   text,
    recorded_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX audit_run ON ops.pipeline_flow_audit (flow_run_id);
CREATE INDEX audit_recent ON ops.pipeline_flow_audit (ended_at DESC);
CREATE INDEX audit_batches ON ops.pipeline_flow_audit USING gin ((metadata -> 'batches'));

-- one row per alert; dedupe_key names the fact it tells, so that it is told once
CREATE TABLE ops.alerts (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dedupe_key      text NOT NULL UNIQUE,
    event_type      text NOT NULL,
    flow_name       text NOT NULL,
    flow_run_id     text NOT NULL,
    error_message   text NOT NULL,
    metadata        jsonb NOT NULL,
    state           text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sent', 'unsent')),
    attempts        integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    last_error      text,
    created_at      timestamptz NOT NULL DEFAULT now(),
    sent_at         timestamptz
);
CREATE INDEX alerts_pending ON ops.alerts (next_attempt_at) WHERE state = 'pending';
COMMENT ON COLUMN ops.alerts.state IS 'unsent: no webhook was set, or every attempt failed';

-- one row per action of an operator
CREATE TABLE ops.operator_actions (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at              timestamptz NOT NULL DEFAULT now(),
    actor           text NOT NULL,
    action          text NOT NULL,
    subject         text NOT NULL,
    reason          text,
    detail          jsonb NOT NULL DEFAULT '{}'
);
