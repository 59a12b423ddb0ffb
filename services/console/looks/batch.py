"""One batch: where it is and why, how it went, what the gate found, what is kept of it."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from libs.adapters.objects import ObjectMissing
from libs.errors import Permanent
from libs.operations import reading
from libs.operations.trace import Waterfall, batch_trace
from libs.operations.why import Explanation, why
from services.console.domain.gantt import Lane, lanes
from services.console.doors import Doors, Missing
from services.console.looks.failing import FailingRow, failing_row, told_check

__all__ = ["BatchPage", "StoredObject", "look_at_batch", "named_batch"]

FAILURES: Final = 100
REFUSED: Final = 50
VERIFIED_WITHIN: Final = 30.0


class StoredObject(msgspec.Struct, frozen=True, kw_only=True):
    """An object of the batch's archive. verified: None if it wasn't read, else what is wrong with it, or nothing."""

    key: str
    kind: str
    records: int
    bytes: int
    sha256: str
    stored_at: datetime
    verified: str | None = None


class BatchPage(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch's page shows. batch is None where Postgres couldn't be asked.

    explanation: as `drp why` gives it. verdict: the gate's last one, apart from where the batch is.
    """

    at: datetime
    missing: list[Missing]
    name: str
    batch: dict[str, Any] | None
    explanation: Explanation | None
    lanes: list[Lane]
    trace: Waterfall | None
    checks: list[dict[str, Any]]
    failing: list[FailingRow]
    revealed: bool
    refused: list[dict[str, Any]]
    objects: list[StoredObject]
    trace_url: str | None


class _Told(msgspec.Struct, frozen=True, kw_only=True):
    batch: dict[str, Any]
    explanation: Explanation
    checks: list[dict[str, Any]]
    failing: list[dict[str, Any]]
    refused: list[dict[str, Any]]


async def named_batch(doors: Doors, text: str) -> uuid.UUID | Missing:
    """The batch that the text names: an id, the start of one, or `last`; Missing if Postgres couldn't be asked.

    Raises:
        Permanent: it names none, or more than one.
    """
    refusal: Permanent | None = None

    async def found() -> uuid.UUID | None:
        nonlocal refusal
        postgres = await doors.postgres()
        try:
            return await reading.find_batch_id(postgres, text)
        except Permanent as error:
            refusal = error
            return None

    seen = await doors.look("postgres", found)
    if refusal is not None:
        raise refusal
    return (
        seen.value or seen.missing or Missing(server="postgres", why="it gave no answer", next="drp status")
    )


async def look_at_batch(doors: Doors, batch_id: uuid.UUID, *, reveal: bool, verify: bool) -> BatchPage:
    """
    Args:
        reveal: whether the values of failing rows are shown.
        verify: whether the archive's objects are read and compared with their hashes.
    """
    at = datetime.now(UTC)
    told, trace = await asyncio.gather(
        doors.look("postgres", lambda: _told(doors, batch_id)),
        doors.look("traces", lambda: _traced(doors, batch_id)),
    )
    missing = [one.missing for one in (told, trace) if one.missing is not None]
    known = told.value
    if known is None:
        return missing_page(str(batch_id), missing[:1])
    stored = [StoredObject(**_stored(row)) for row in known.batch["objects"]]
    if verify:
        checked = await doors.look("objects", lambda: _verified(doors, stored), within=VERIFIED_WITHIN)
        missing += [checked.missing] if checked.missing is not None else []
        stored = checked.value or stored
    broken: list[dict[str, Any]] = known.batch["broken_rules"]
    return BatchPage(
        at=at,
        missing=missing,
        name=str(batch_id),
        batch={**known.batch, "broken_rules": [told_check(one, reveal=reveal) for one in broken]},
        explanation=known.explanation,
        lanes=lanes(known.batch),
        trace=trace.value,
        checks=[told_check(one, reveal=reveal) for one in known.checks],
        failing=[failing_row(row, reveal=reveal) for row in known.failing],
        revealed=reveal,
        refused=known.refused,
        objects=stored,
        trace_url=doors.trace_page(known.batch["trace_id"]),
    )


def missing_page(name: str, missing: Sequence[Missing]) -> BatchPage:
    """The page of a batch that nothing can be said of."""
    return BatchPage(
        at=datetime.now(UTC),
        missing=list(missing),
        name=name,
        batch=None,
        explanation=None,
        lanes=[],
        trace=None,
        checks=[],
        failing=[],
        revealed=False,
        refused=[],
        objects=[],
        trace_url=None,
    )


async def _told(doors: Doors, batch_id: uuid.UUID) -> _Told:
    postgres = await doors.postgres()
    record, explained, refused = await asyncio.gather(
        reading.batch(postgres, batch_id),
        why(postgres, doors.datasets, str(batch_id)),
        reading.quarantine(postgres, batch_id=batch_id, limit=REFUSED),
    )
    generation = record["last_generation"]
    checks, failing = (
        ([], [])
        if generation is None
        else await asyncio.gather(
            reading.quality_results(postgres, generation),
            reading.quality_failures(postgres, generation, limit=FAILURES),
        )
    )
    return _Told(batch=record, explanation=explained[0], checks=checks, failing=failing, refused=refused)


async def _traced(doors: Doors, batch_id: uuid.UUID) -> Waterfall | None:
    """None where there is no trace to ask for."""
    try:
        return await batch_trace(await doors.postgres(), doors.settings.traces_url, batch_id)
    except Permanent:
        return None


async def _verified(doors: Doors, stored: Sequence[StoredObject]) -> list[StoredObject]:
    """The objects, each read whole and compared with what was recorded when it was put."""
    objects = await doors.objects()
    checked = []
    for each in stored:
        digest = hashlib.sha256()
        try:
            async for piece in objects.stream(each.key):
                digest.update(piece)
            wrong = "" if digest.hexdigest() == each.sha256 else "its content is not what was put"
        except ObjectMissing:
            wrong = "it is missing"
        checked.append(msgspec.structs.replace(each, verified=wrong))
    return checked


def _stored(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("key", "kind", "records", "bytes", "sha256", "stored_at")}
