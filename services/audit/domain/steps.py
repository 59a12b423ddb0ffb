"""The row of a step, as an event tells it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
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
)

__all__ = ["UNREADABLE", "Step", "step_of", "unreadable_step"]

UNREADABLE: Final = "event.unreadable"
"""An event type that no service announces: the audit itself finds it."""

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
