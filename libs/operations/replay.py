"""Publishing again what was archived or landed, through the same stream as everything else.

A replayed event keeps its identity, so RAW recognises it: a replay adds no row that is there. It carries
drporigin `replay` and begins a trace of its own, linked to those of the batches it came from.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

from libs.adapters.bus import Bus
from libs.adapters.metrics import PRODUCED_EVENTS
from libs.adapters.objects import Objects
from libs.adapters.postgres import Postgres
from libs.adapters.telemetry import Span, span
from libs.datasets import Dataset
from libs.errors import Permanent
from libs.operations.actions import record_action
from libs.operations.again import PER_ENTRY, Again
from libs.operations.archive import document_lines
from libs.pipeline.archive import (
    ArchivedObject,
    BatchManifest,
    accepted_lines,
    batch_manifest_of,
    decode_manifest,
    raw_prefix,
)

__all__ = ["Replayed", "Selection", "Source", "accepted_document", "manifests", "replay"]

Source = Literal["archive", "raw"]

_LINKS: Final = 64
_MANIFESTS_AT_ONCE: Final = 8
_ROWS: Final = 2_000

_BATCHES: Final = """
-- one row per closed batch, oldest first
SELECT id, accepted, closed_at, traceparent FROM ops.batches
WHERE dataset = $1 AND state = 'closed' ORDER BY closed_at, id
"""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which batches: those named, or those closed from since (included) until (excluded); empty is all.

    A moment without an offset is in UTC.
    """

    batches: Sequence[uuid.UUID] = ()
    since: datetime | None = None
    until: datetime | None = None

    def takes(self, batch_id: uuid.UUID, closed_at: datetime) -> bool:
        if self.batches and batch_id not in self.batches:
            return False
        if self.since is not None and closed_at < _in_utc(self.since):
            return False
        return self.until is None or closed_at < _in_utc(self.until)


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What was published, or with dry_run would have been.

    batches are those with events; entries are of the stream. too_large: events of the archive that are larger than
    one published again may be, as none is that was accepted here; they were not published. refused:
    events of these batches that the archive keeps as quarantined, in refused_documents; published again they
    would be quarantined again, each time. Both are told of source `archive` only.
    """

    source: str
    dry_run: bool
    batches: int
    events: int
    entries: int
    too_large: int
    refused: int
    refused_documents: list[str]
    seconds: float
    traceparent: str | None


@dataclass(frozen=True, slots=True)
class _Batch:
    """A batch to be published; manifest if it comes from the archive."""

    dataset: Dataset
    id: uuid.UUID
    events: int
    closed_at: datetime
    traceparent: str | None
    manifest: BatchManifest | None = None

    @property
    def refused(self) -> list[ArchivedObject]:
        documents = [] if self.manifest is None else self.manifest.objects
        return [document for document in documents if document.kind == "quarantine"]


async def replay(
    postgres: Postgres,
    bus: Bus,
    datasets: Mapping[str, Dataset],
    *,
    objects: Objects | None = None,
    source: Source = "archive",
    selection: Selection = Selection(),
    dataset: str | None = None,
    dry_run: bool = False,
    limit: int = 1_000,
    actor: str | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Replayed:
    """Publish the selected batches' accepted events again, oldest batch first.

    Args:
        objects: the archive; needed for source `archive`, which asks Postgres for nothing.
        dataset: only this one's; None is all of datasets.
        dry_run: plan, and publish nothing.
        limit: entries that may wait in the stream; beyond it this waits, ten minutes at most.
        actor: who is recorded as having asked for it; nothing is without one.
        on_progress: told how many events are published, of how many.

    Raises:
        Permanent: a batch that was named is not there, or the archive is damaged; a part may be published.
        Transient: a server is away, or the stream stays full. Replaying again adds nothing twice.
    """
    began = time.monotonic()
    chosen = [each for name, each in datasets.items() if dataset is None or name == dataset]
    selected = await _selected(postgres, objects, chosen, source, selection)
    plan = [batch for batch in selected if batch.events]
    refused = [document for batch in selected for document in batch.refused]
    total = sum(batch.events for batch in plan)
    done = Replayed(
        source=source,
        dry_run=dry_run,
        batches=len(plan),
        events=total,
        entries=sum(-(-batch.events // PER_ENTRY) for batch in plan),
        too_large=0,
        refused=sum(document.records for document in refused),
        refused_documents=[document.key for document in refused],
        seconds=time.monotonic() - began,
        traceparent=None,
    )
    if dry_run or not plan:
        return done
    if actor is not None:
        await _record(postgres, chosen, source, plan, actor)
    links = [batch.traceparent for batch in plan if batch.traceparent][:_LINKS]
    attributes = {"drp.source": source, "drp.batches": len(plan)}
    with span("replay", root=True, links=links, attributes=attributes) as step:
        run = _Run(postgres, bus, objects, step, limit=limit, total=total, on_progress=on_progress)
        for batch in plan:
            await run.publish(batch)
        step.set({"drp.events": run.again.events, "drp.entries": run.again.entries})
    PRODUCED_EVENTS.labels("replay").inc(run.again.events)
    return msgspec.structs.replace(
        done,
        events=run.again.events,
        entries=run.again.entries,
        too_large=run.again.too_large,
        seconds=time.monotonic() - began,
        traceparent=step.traceparent,
    )


async def _record(
    postgres: Postgres, datasets: Sequence[Dataset], source: Source, plan: Sequence[_Batch], actor: str
) -> None:
    async with postgres.transaction() as connection:
        for dataset in datasets:
            own = [batch.events for batch in plan if batch.dataset is dataset]
            detail = {"from": source, "batches": len(own), "events": sum(own)}
            await record_action(
                connection,
                actor=actor,
                action="replay",
                subject=f"dataset:{dataset.name}",
                reason="asked for",
                detail=detail,
            )


async def manifests(
    objects: Objects, dataset: str, wanted: Callable[[uuid.UUID], bool]
) -> list[BatchManifest]:
    """The manifests of the dataset's batches that are wanted, in the order of their closing.

    Raises:
        Permanent: one can't be read.
    """
    keys = [
        head.key
        async for head in objects.list(raw_prefix(dataset))
        if (batch_id := batch_manifest_of(head.key)) is not None and wanted(batch_id)
    ]
    gate = asyncio.Semaphore(_MANIFESTS_AT_ONCE)

    async def read(key: str) -> BatchManifest:
        async with gate:
            return decode_manifest(await objects.get(key), BatchManifest)

    found: list[BatchManifest] = []
    for start in range(0, len(keys), 256):
        found += await asyncio.gather(*(read(key) for key in keys[start : start + 256]))
    return sorted(found, key=lambda manifest: (manifest.closed_at, manifest.batch_id))


def accepted_document(manifest: BatchManifest) -> ArchivedObject:
    """The document of the batch's accepted events.

    Raises:
        Permanent: the manifest counts some and names no document.
    """
    for document in manifest.objects:
        if document.kind == "raw":
            return document
    raise Permanent(f"the manifest of batch {manifest.batch_id} names no document", fix="drp archive verify")


async def _selected(
    postgres: Postgres,
    objects: Objects | None,
    datasets: Sequence[Dataset],
    source: Source,
    selection: Selection,
) -> list[_Batch]:
    known: list[_Batch] = []
    for dataset in datasets:
        if source == "raw":
            known += await _landed(postgres, dataset)
        elif objects is None:
            raise Permanent("a replay from the archive needs the object store", fix="--from raw")
        else:
            known += await _archived(objects, dataset, selection)
    if missing := set(selection.batches) - {batch.id for batch in known}:
        raise Permanent(
            f"batch {min(missing)} is not {'archived' if source == 'archive' else 'there, or not closed'}",
            fix="drp batches ls" if source == "raw" else "drp archive ls; or --from raw",
        )
    taken = [batch for batch in known if selection.takes(batch.id, batch.closed_at)]
    return sorted(taken, key=lambda batch: (batch.closed_at, batch.id))


async def _landed(postgres: Postgres, dataset: Dataset) -> list[_Batch]:
    rows = await postgres.fetch(_BATCHES, dataset.name)
    return [_Batch(dataset, row["id"], row["accepted"], row["closed_at"], row["traceparent"]) for row in rows]


async def _archived(objects: Objects, dataset: Dataset, selection: Selection) -> list[_Batch]:
    def wanted(batch_id: uuid.UUID) -> bool:
        return not selection.batches or batch_id in selection.batches

    return [
        _Batch(dataset, one.batch_id, one.count, one.closed_at, one.traceparent, one)
        for one in await manifests(objects, dataset.name, wanted)
    ]


class _Run:
    """Publishing under way. Memory holds one trip."""

    def __init__(
        self,
        postgres: Postgres,
        bus: Bus,
        objects: Objects | None,
        step: Span,
        *,
        limit: int,
        total: int,
        on_progress: Callable[[int, int], None],
    ) -> None:
        self.again = Again(
            bus, step.traceparent, limit=limit, on_progress=lambda so_far: on_progress(so_far, total)
        )
        self._postgres = postgres
        self._objects = objects

    async def publish(self, batch: _Batch) -> None:
        async with aclosing(self._lines(batch)) as pieces:
            async for lines in pieces:
                await self.again.take(batch.dataset, lines)
        await self.again.finish(batch.dataset)

    def _lines(self, batch: _Batch) -> AsyncGenerator[list[bytes], None]:
        if batch.manifest is None or self._objects is None:
            return _raw_lines(self._postgres, batch.dataset, batch.id)
        return document_lines(self._objects, accepted_document(batch.manifest))


async def _raw_lines(
    postgres: Postgres, dataset: Dataset, batch_id: uuid.UUID
) -> AsyncGenerator[list[bytes], None]:
    async with postgres.transaction() as connection:
        cursor = await connection.cursor(accepted_lines(dataset, "batch_id = $1"), batch_id)
        while rows := await cursor.fetch(_ROWS):
            yield [row["line"].encode() for row in rows]


def _in_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
