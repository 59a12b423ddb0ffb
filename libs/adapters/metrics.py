"""Every metric of the platform, in one table. A service exposes those it touched, at /metrics.

Names begin with drp_; counters end in _total, times in _seconds, sizes in _bytes. No label ever holds an id:
datasets, streams, groups, steps and reasons are few; batches and events are not (the audit rows have those).
"""

from __future__ import annotations

from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest

__all__ = [
    "ALERTS",
    "ARCHIVE_BYTES",
    "ARCHIVE_OBJECTS",
    "AUDIT_ROWS",
    "BATCHES_CLOSED",
    "BATCHES_OVERDUE",
    "BATCH_EVENTS",
    "CONTENT_TYPE",
    "ENTRIES_DEAD_LETTERED",
    "ENTRIES_HANDLED",
    "ENTRIES_RECLAIMED",
    "ENTRIES_TRIMMED",
    "EVENTS",
    "GATE_SECONDS",
    "GATE_VERDICTS",
    "GENERATIONS",
    "GENERATION_CURRENT",
    "GENERATION_SECONDS",
    "HANDLER_FAILURES",
    "LANDING_SECONDS",
    "OUTBOX_PENDING",
    "OUTBOX_PUBLISHED",
    "PRODUCED_EVENTS",
    "PRODUCE_REFUSED",
    "RECONCILE_FAILURES",
    "RULES_FAILED",
    "STREAM_LAG",
    "STREAM_LENGTH",
    "STREAM_PENDING",
    "WATERMARK",
    "exposition",
]

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

QUICK: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SLOW: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
SIZES: Final = (1, 10, 100, 1_000, 10_000, 50_000, 100_000, 1_000_000)

# --- producing: generator, drp publish ---
# events whose XADD was answered, by where they came from (http | generated | file | replay | redrive)
PRODUCED_EVENTS = Counter("drp_produced_events_total", "Events acknowledged by the stream", ["origin"])
# events that were refused at the door, so never published
# (not_json | invalid | too_large | no_dataset | no_room | unavailable)
PRODUCE_REFUSED = Counter("drp_produce_refused_total", "Requests refused before publishing", ["reason"])

# --- the bus: every consumer ---
# entries whose handler committed and that were acknowledged
ENTRIES_HANDLED = Counter("drp_entries_handled_total", "Stream entries handled", ["stream", "group"])
# entries given up on, stored in quarantine as undeliverable
ENTRIES_DEAD_LETTERED = Counter(
    "drp_entries_dead_lettered_total", "Stream entries dead-lettered", ["stream", "group"]
)
# entries taken over from a consumer that abandoned them
ENTRIES_RECLAIMED = Counter(
    "drp_entries_reclaimed_total", "Abandoned stream entries taken over", ["stream", "group"]
)
# entries trimmed after every declared group had finished them
ENTRIES_TRIMMED = Counter("drp_entries_trimmed_total", "Stream entries trimmed", ["stream"])
# handler attempts that raised, by whether retrying helps (transient | permanent)
HANDLER_FAILURES = Counter(
    "drp_handler_failures_total", "Handler attempts that failed", ["stream", "group", "kind"]
)
# the three that follow are of every declared stream and group, as audit last saw them
# length of a stream, entries not trimmed yet
STREAM_LENGTH = Gauge("drp_stream_length", "Entries in a stream", ["stream"])
# entries delivered to a group and not acknowledged
STREAM_PENDING = Gauge("drp_stream_pending", "Entries delivered, not acknowledged", ["stream", "group"])
# entries a group has not been given yet
STREAM_LAG = Gauge("drp_stream_lag", "Entries not delivered yet", ["stream", "group"])

# --- the ledger: ingestor ---
# slots by disposition (accepted | duplicate | quarantined | dead_lettered): their sum is what was landed
EVENTS = Counter("drp_events_total", "Events by disposition", ["dataset", "disposition"])
# one landing transaction, from the first row to the commit
LANDING_SECONDS = Histogram(
    "drp_landing_seconds", "Time of a landing transaction", ["dataset"], buckets=QUICK
)
# batches closed, by why (size | age | requested | drain)
BATCHES_CLOSED = Counter("drp_batches_closed_total", "Batches closed", ["dataset", "reason"])
# events received by a batch when it closed
BATCH_EVENTS = Histogram("drp_batch_events", "Events in a closed batch", ["dataset"], buckets=SIZES)

# --- hand-over: every service with an outbox ---
# outbox rows not published yet, of any service, as this service's relay last counted them
OUTBOX_PENDING = Gauge("drp_outbox_pending", "Outbox rows not published yet")
# pipeline events put on their streams
OUTBOX_PUBLISHED = Counter("drp_outbox_published_total", "Pipeline events published", ["type"])

# --- the warehouse: transformer ---
# steps of a generation (plan | load | stage | marts | hash | seal | publish)
GENERATION_SECONDS = Histogram(
    "drp_generation_seconds", "Time of a generation's step", ["dataset", "step"], buckets=SLOW
)
# generations by how they ended (published | blocked | abandoned | failed | rolled_back)
GENERATIONS = Counter("drp_generations_total", "Generations by outcome", ["dataset", "outcome"])
# number of the generation that readers see
GENERATION_CURRENT = Gauge("drp_generation_current", "Generation that readers see", ["dataset"])
# greatest event time that readers see
WATERMARK = Gauge("drp_watermark_timestamp_seconds", "Watermark of the current generation", ["dataset"])

# --- the gate: validator ---
# verdicts (pass | fail | error)
GATE_VERDICTS = Counter("drp_gate_verdicts_total", "Verdicts on candidates", ["dataset", "verdict"])
# one judgement of a candidate, all rules
GATE_SECONDS = Histogram("drp_gate_seconds", "Time of a candidate's judgement", ["dataset"], buckets=SLOW)
# rules that failed on a candidate
RULES_FAILED = Counter("drp_rules_failed_total", "Rules failed on candidates", ["dataset", "rule"])

# --- the archive: archiver ---
# bytes stored, by kind (raw | quarantine | snapshot | manifest)
ARCHIVE_BYTES = Counter("drp_archive_bytes_total", "Bytes archived", ["dataset", "kind"])
# objects put, by kind and by what the store said (stored | already_there)
ARCHIVE_OBJECTS = Counter("drp_archive_objects_total", "Objects archived", ["dataset", "kind", "outcome"])

# --- after the fact: audit ---
# rows written into ops.pipeline_flow_audit (status success | failed)
AUDIT_ROWS = Counter("drp_audit_rows_total", "Audit rows written", ["flow", "status"])
# batches past their deadline and not closed or not published, as last seen
BATCHES_OVERDUE = Gauge("drp_batches_overdue", "Batches past their deadline", ["dataset"])
# alerts by how they ended (sent | unsent | retried)
ALERTS = Counter("drp_alerts_total", "Alerts", ["outcome"])

# --- the process: runtime ---
# rounds of a reconcile loop that failed (transient | permanent)
RECONCILE_FAILURES = Counter("drp_reconcile_failures_total", "Reconcile rounds that failed", ["loop", "kind"])


def exposition() -> bytes:
    """All metrics of this process in Prometheus' text format, of type CONTENT_TYPE."""
    return generate_latest()
