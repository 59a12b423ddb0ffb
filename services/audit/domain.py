"""What the audit makes of a fact: a step's row, a failure's alert, and when to try an alert again."""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Literal

from libs.contracts.events import (
    ArchiveStored,
    BatchClosed,
    BatchHeld,
    BatchReleased,
    CloudEvent,
    PipelineEvent,
    QualityFailed,
    QualityPassed,
    StepFailed,
    WarehouseBuilt,
    WarehousePublished,
    batch_subject,
    derived_id,
)

__all__ = [
    "DEADLINE",
    "MAX_ATTEMPTS",
    "UNREADABLE",
    "Alert",
    "Overdue",
    "Step",
    "alert_of",
    "deadline_step",
    "pause_before",
    "retry_after",
    "step_of",
    "unreadable_step",
    "webhook_body",
]

DEADLINE: Final = "deadline.missed"
UNREADABLE: Final = "event.unreadable"
"""Event types that no service announces: the audit itself finds them."""

MAX_ATTEMPTS: Final = 30
"""Tries of one alert before it is left unsent: two hours of them."""

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 300.0
_LONGEST_WAIT: Final = 3600.0

_FLOWS: Final[dict[type[PipelineEvent], str]] = {
    BatchClosed: "ingest",
    BatchHeld: "hold",
    BatchReleased: "release",
    WarehouseBuilt: "transform",
    QualityPassed: "validate",
    QualityFailed: "validate",
    WarehousePublished: "publish",
}
_SAID_ELSEWHERE: Final = frozenset(
    {"dataset", "started_at", "ended_at", "records", "batch_id", "generation", "batches", "error", "message"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One row of the audit: a step of a batch or of a generation.

    run_id is the batch's id, or `generation-<n>`; metadata.batches names every batch the step touched, so
    that a batch's whole run is found by it. started_at and ended_at are UTC.
    """

    event_id: uuid.UUID
    flow: str
    run_id: str
    status: Literal["success", "failed"]
    started_at: datetime
    ended_at: datetime
    records: int
    event_type: str
    metadata: Mapping[str, object] = field(default_factory=dict)
    error: str | None = None

    @property
    def seconds(self) -> float:
        return max(0.0, (self.ended_at - self.started_at).total_seconds())


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """What a person is told. dedupe_key names the fact, so that it is told once."""

    dedupe_key: str
    event_type: str
    flow: str
    run_id: str
    message: str
    metadata: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overdue:
    """A closed batch that readers don't see though its deadline has passed, as Postgres knows it.

    status is the word of ops.batch_status; generation the newest that took the batch up, verdict its verdict,
    broken the rules that it broke.
    """

    batch_id: uuid.UUID
    dataset: str
    status: str
    accepted: int
    closed_at: datetime
    now: datetime
    generation: int | None
    verdict: str | None
    broken: tuple[str, ...]
    pinned: str | None
    traceparent: str | None


def step_of(envelope: CloudEvent, event: PipelineEvent, *, trace_id: str | None) -> Step:
    """The audit row of a pipeline event."""
    error = _error(event)
    return Step(
        event_id=envelope.id,
        flow=_flow(event),
        run_id=_run(event, envelope),
        status="success" if error is None else "failed",
        started_at=event.started_at,
        ended_at=event.ended_at,
        records=event.records,
        event_type=envelope.type,
        metadata=_metadata(event, envelope, trace_id),
        error=error,
    )


def unreadable_step(*, stream: str, entry_id: str, why: str, at: datetime) -> Step:
    """The audit row of a stream entry that is no pipeline event, or that can't be recorded."""
    run = f"{stream}/{entry_id}"
    return Step(
        event_id=uuid.uuid5(uuid.NAMESPACE_URL, f"{UNREADABLE}|{run}"),
        flow="audit",
        run_id=run,
        status="failed",
        started_at=at,
        ended_at=at,
        records=0,
        event_type=UNREADABLE,
        metadata={"stream": stream, "entry": entry_id, "event_type": UNREADABLE, "batches": []},
        error=f"entry {entry_id} of {stream} could not be recorded: {_storable(why)}. Only the platform's "
        f"own services write there: look at it with redis-cli XRANGE {stream} {entry_id} {entry_id}",
    )


def deadline_step(late: Overdue, *, deadline: float, trace_id: str | None) -> Step:
    """The failed row of a batch that missed its deadline (seconds after closing), under one event id."""
    subject = batch_subject(late.batch_id)
    why, fix = _explanation(late)
    waited = (late.now - late.closed_at).total_seconds()
    return Step(
        event_id=derived_id(late.batch_id, DEADLINE, subject),
        flow="deadline",
        run_id=str(late.batch_id),
        status="failed",
        started_at=late.closed_at,
        ended_at=late.now,
        records=late.accepted,
        event_type=DEADLINE,
        metadata={
            "dataset": late.dataset,
            "batches": [str(late.batch_id)],
            "generation": late.generation,
            "trace_id": trace_id,
            "event_type": DEADLINE,
            "state": late.status,
            "deadline_seconds": deadline,
            "broken_rules": list(late.broken),
            "fix": fix,
        },
        error=f"batch {late.batch_id} of {late.dataset} ({late.accepted:,} rows) is not published "
        f"{waited:.0f} s after it closed (deadline {deadline:g} s): {why}. Try: {fix}",
    )


def alert_of(step: Step) -> Alert | None:
    """What to tell a person about a step: every failure, and dead letters; None when all is well."""
    message = step.error
    lost = step.metadata.get("dead_lettered")
    if message is None and isinstance(lost, int) and lost:
        message = (
            f"{lost:,} events of batch {step.run_id} could not be landed and were dead-lettered; their bytes "
            f"are kept. Try: drp quarantine ls --batch {step.run_id}"
        )
    if message is None:
        return None
    return Alert(
        dedupe_key=f"{step.event_type}:{step.event_id}",
        event_type=step.event_type,
        flow=step.flow,
        run_id=step.run_id,
        message=message,
        metadata=step.metadata,
    )


def webhook_body(alert: Alert) -> dict[str, object]:
    """What a webhook receives: our fields, and `text`, which Slack and Teams show."""
    return {
        "event_type": alert.event_type,
        "flow_name": alert.flow,
        "flow_run_id": alert.run_id,
        "error_message": alert.message,
        "metadata": dict(alert.metadata),
        "text": f"{alert.flow} · {alert.event_type} · {alert.run_id}\n{alert.message}",
    }


def pause_before(attempt: int, *, rng: random.Random) -> float:
    """Seconds to wait after attempt number `attempt` (from 1) failed: doubling, capped, with full jitter.

    Full jitter, at least a tenth: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(attempt - 1, 16))
    return rng.uniform(longest / 10, longest)


def retry_after(header: str | None, *, now: datetime) -> float | None:
    """Seconds that a server asks to wait (RFC 9110: number or date), at most an hour; None if it doesn't."""
    if header is None:
        return None
    text = header.strip()
    if text.isdecimal():
        return min(float(text), _LONGEST_WAIT)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    aware = until if until.tzinfo is not None else until.replace(tzinfo=UTC)
    return min(max(0.0, (aware - now).total_seconds()), _LONGEST_WAIT)


def _flow(event: PipelineEvent) -> str:
    match event:
        case ArchiveStored():
            return f"archive-{event.kind}"
        case StepFailed():
            return event.step
        case _:
            return _FLOWS[type(event)]


def _run(event: PipelineEvent, envelope: CloudEvent) -> str:
    batch = getattr(event, "batch_id", None)
    if batch is not None:
        return str(batch)
    generation = getattr(event, "generation", None)
    return envelope.subject if generation is None else f"generation-{generation}"


def _error(event: PipelineEvent) -> str | None:
    match event:
        case QualityFailed():
            return _storable(event.message)
        case StepFailed():
            return _storable(event.error if event.fix is None else f"{event.error}. Try: {event.fix}")
        case _:
            return None


def _storable(text: str) -> str:
    """Postgres keeps no NUL, and an error may quote one."""
    return text.replace("\0", "�")


def _metadata(event: PipelineEvent, envelope: CloudEvent, trace_id: str | None) -> dict[str, object]:
    batch = getattr(event, "batch_id", None)
    batches = getattr(event, "batches", []) if batch is None else [batch]
    told = {
        name: value
        for name in event.__struct_fields__
        if name not in _SAID_ELSEWHERE and (value := getattr(event, name)) is not None
    }
    return {
        "dataset": event.dataset,
        "batches": [str(one) for one in batches],
        "generation": getattr(event, "generation", None),
        "trace_id": trace_id,
        "event_type": envelope.type,
        **told,
    }


def _explanation(late: Overdue) -> tuple[str, str]:
    """Why the batch is where it is, as far as it is known, and what to do."""
    health = "drp status --health"
    if late.pinned is not None:
        return f"publishing is pinned ({late.pinned})", "drp warehouse resume"
    match late.status:
        case "blocked":
            rules = ", ".join(late.broken) or "an unknown rule"
            return (
                f"generation {late.generation} was blocked by the quality gate ({rules})",
                f"drp quality show {late.generation}; then drp batches hold {late.batch_id} --reason …, or "
                "publish corrections",
            )
        case "building":
            return (
                f"generation {late.generation} is still being built",
                f"{health} (is the transformer alive?)",
            )
        case "built":
            return (
                f"generation {late.generation} waits for its verdict",
                f"{health} (is the validator alive?)",
            )
        case "passed":
            return (
                f"generation {late.generation} passed the quality gate and waits to be published",
                f"{health} (is the transformer alive? if the archive is required, the archiver too)",
            )
        case _:
            return (
                "no generation has taken it up",
                f"{health} (is the transformer alive?), "
                "drp batches ls --status blocked (is another in its way?)",
            )
