"""The facts that services tell each other, past tense, as CloudEvents 1.0 in structured JSON.

A pipeline event's id is uuid5(cause, type | subject): telling the same fact twice makes the same id, so a
consumer's inbox recognises the repeat. The subject names the batch or the generation.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import ClassVar, Final

import msgspec

__all__ = [
    "EVENT_TYPES",
    "ArchiveStored",
    "BatchClosed",
    "BatchHeld",
    "BatchReleased",
    "CloudEvent",
    "PipelineEvent",
    "QualityFailed",
    "QualityPassed",
    "StepFailed",
    "WarehouseBuilt",
    "WarehousePublished",
    "batch_subject",
    "decode_event",
    "derived_id",
    "encode_event",
    "generation_subject",
]

SOURCE: Final = "urn:drp"


class PipelineEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What every step says of itself.

    started_at and ended_at bound the step (UTC); records is how many rows it handled.
    """

    type: ClassVar[str]

    dataset: str
    started_at: datetime
    ended_at: datetime
    records: int


class BatchClosed(PipelineEvent, frozen=True, kw_only=True):
    """A batch takes no more rows. received = accepted + duplicate + quarantined; conflicts are among the
    quarantined; dead_lettered slots were never received."""

    type: ClassVar[str] = "batch.closed"

    batch_id: uuid.UUID
    reason: str
    received: int
    accepted: int
    duplicate: int
    quarantined: int
    conflicts: int
    dead_lettered: int


class BatchHeld(PipelineEvent, frozen=True, kw_only=True):
    """An operator left a batch out of the warehouse."""

    type: ClassVar[str] = "batch.held"

    batch_id: uuid.UUID
    reason: str


class BatchReleased(PipelineEvent, frozen=True, kw_only=True):
    """An operator put a held batch back."""

    type: ClassVar[str] = "batch.released"

    batch_id: uuid.UUID
    reason: str


class WarehouseBuilt(PipelineEvent, frozen=True, kw_only=True):
    """A candidate generation stands beside the current one and waits for its verdict."""

    type: ClassVar[str] = "warehouse.built"

    generation: int
    parent: int | None
    kind: str
    batches: list[uuid.UUID]
    sha256: str
    staged: int
    rejected: int
    superseded: int


class WarehousePublished(PipelineEvent, frozen=True, kw_only=True):
    """The pointer moved: readers see this generation now. reason is `passed`, `accepted` or `rollback`."""

    type: ClassVar[str] = "warehouse.published"

    generation: int
    version: int
    batches: list[uuid.UUID]
    sha256: str
    reason: str


class QualityPassed(PipelineEvent, frozen=True, kw_only=True):
    """Every rule held on the candidate, within its tolerance."""

    type: ClassVar[str] = "quality.passed"

    generation: int
    batches: list[uuid.UUID]
    sha256: str
    rules: int


class QualityFailed(PipelineEvent, frozen=True, kw_only=True):
    """The candidate may not be published. verdict is `fail` or `error`."""

    type: ClassVar[str] = "quality.failed"

    generation: int
    batches: list[uuid.UUID]
    sha256: str
    rules: int
    verdict: str
    failed: list[str]
    message: str


class ArchiveStored(PipelineEvent, frozen=True, kw_only=True):
    """A batch (kind `raw`) or a generation (kind `snapshot`) is in the object store, its manifest last."""

    type: ClassVar[str] = "archive.stored"

    kind: str
    batch_id: uuid.UUID | None
    generation: int | None
    manifest: str
    objects: list[str]
    bytes: int


class StepFailed(PipelineEvent, frozen=True, kw_only=True):
    """A step could not be done and retrying does not help. step is the service's verb, e.g. `transform`."""

    type: ClassVar[str] = "step.failed"

    step: str
    batch_id: uuid.UUID | None
    generation: int | None
    attempt: int
    error: str
    fix: str | None


EVENT_TYPES: Final[dict[str, type[PipelineEvent]]] = {
    cls.type: cls
    for cls in (
        BatchClosed,
        BatchHeld,
        BatchReleased,
        WarehouseBuilt,
        WarehousePublished,
        QualityPassed,
        QualityFailed,
        ArchiveStored,
        StepFailed,
    )
}


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The envelope of a pipeline event. data stays undecoded until its type is known."""

    id: uuid.UUID
    source: str
    type: str
    time: datetime
    subject: str
    data: msgspec.Raw
    specversion: str = "1.0"
    dataschema: str | None = None
    traceparent: str | None = None
    datacontenttype: str = "application/json"


def batch_subject(batch_id: uuid.UUID) -> str:
    return f"batch:{batch_id}"


def generation_subject(generation: int) -> str:
    return f"generation:{generation}"


def derived_id(cause: uuid.UUID, event_type: str, subject: str) -> uuid.UUID:
    """The id of the event that `cause` led to: the same fact always has the same id."""
    return uuid.uuid5(cause, f"{event_type}|{subject}")


def encode_event(
    event: PipelineEvent, *, cause: uuid.UUID, subject: str, traceparent: str | None
) -> tuple[uuid.UUID, bytes]:
    """The event's id and its CloudEvents JSON. Its time is when the step ended."""
    event_id = derived_id(cause, event.type, subject)
    envelope = CloudEvent(
        id=event_id,
        source=f"{SOURCE}:{event.dataset}",
        type=event.type,
        time=event.ended_at,
        subject=subject,
        data=msgspec.Raw(msgspec.json.encode(event)),
        dataschema=f"{SOURCE}:{event.type}:v1",
        traceparent=traceparent,
    )
    attributes = {
        name: value for name, value in msgspec.structs.asdict(envelope).items() if value is not None
    }
    return event_id, msgspec.json.encode(attributes)


def decode_event(document: bytes) -> tuple[CloudEvent, PipelineEvent]:
    """Read a pipeline event.

    Raises:
        msgspec.MsgspecError: not a CloudEvent, or its data is not of its type.
        KeyError: a type this version does not know.
    """
    envelope = msgspec.json.decode(document, type=CloudEvent)
    return envelope, msgspec.json.decode(envelope.data, type=EVENT_TYPES[envelope.type])
