"""The archiver: closed batches and published generations into the object store, each once.

Events only say that there may be something to do; what is archived and what isn't stands in Postgres. Objects
first, then the manifest, then Postgres: whatever breaks off is begun anew, and what is stored already stands.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from libs.adapters.bus import Entry
from libs.adapters.objects import Objects
from libs.adapters.telemetry import span
from libs.adapters.warehouse import Warehouse, sha256_of
from libs.contracts.events import (
    BatchClosed,
    StepFailed,
    WarehousePublished,
    batch_subject,
    derived_id,
    generation_subject,
)
from libs.datasets import Dataset
from libs.errors import DrpError, Permanent, Transient
from libs.pipeline.outbox import read_event
from services.archiver.shelf import Shelf
from services.archiver.store import ArchiveStore, Batch, Generation

__all__ = ["Archiver", "leave_off"]

log = logging.getLogger("drp.archiver")

_FIRST_PAUSE: Final = 5.0
_LONGEST_PAUSE: Final = 600.0


class Archiver:
    """Archives what Postgres says is not archived yet.

    Args:
        open_objects: gives the object store; asked again until it does.
        warehouse: the folder of all datasets' generations.
        on_stored: called after a commit that put an event into the outbox.
        stopping: looked at between batches.
    """

    def __init__(
        self,
        store: ArchiveStore,
        open_objects: Callable[[], Awaitable[Objects]],
        datasets: Mapping[str, Dataset],
        warehouse: Path,
        *,
        on_stored: Callable[[], None] = lambda: None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.trouble: str | None = "has not reached the object store yet"
        self._store = store
        self._open_objects = open_objects
        self._datasets = datasets
        self._warehouse = warehouse
        self._on_stored = on_stored
        self._stopping = stopping
        self._shelf: Shelf | None = None
        self._traces: dict[str, tuple[int, str]] = {}
        self._refused: dict[uuid.UUID | int, tuple[int, float]] = {}
        self._one_at_a_time = asyncio.Lock()

    async def hear(self, entries: Sequence[Entry]) -> bool:
        """Whether one of the entries tells of something to archive.

        Raises:
            Permanent: an entry is no pipeline event.
        """
        wanted = False
        for entry in entries:
            envelope, event = read_event(entry)
            if isinstance(event, WarehousePublished) and envelope.traceparent is not None:
                self._keep_trace(event, envelope.traceparent)
            wanted = wanted or isinstance(event, BatchClosed | WarehousePublished)
        return wanted

    def _keep_trace(self, event: WarehousePublished, traceparent: str) -> None:
        """Of the dataset's newest alone: that one is archived, those before it are superseded."""
        newest, _ = self._traces.get(event.dataset, (0, ""))
        if event.dataset in self._datasets and event.generation >= newest:
            self._traces[event.dataset] = (event.generation, traceparent)

    async def archive_waiting(self) -> int:
        """Archive all that waits; how many batches and generations were archived.

        One that can't be archived is told of, left for later, and stops no other.

        Raises:
            Transient: the object store or Postgres is away; what was archived before stays so.
        """
        async with self._one_at_a_time:
            try:
                shelf = await self._ready()
                done = await self._archive_all(shelf)
            except DrpError as error:
                self.trouble = str(error)
                raise
            self.trouble = None
            return done

    async def _ready(self) -> Shelf:
        if self._shelf is None:
            objects = await self._open_objects()
            if await objects.ensure_bucket():
                log.info("made bucket %s", objects.bucket)
            self._shelf = Shelf(objects, self._store)
        return self._shelf

    async def _archive_all(self, shelf: Shelf) -> int:
        done = 0
        elsewhere: set[uuid.UUID | int] = set()
        while not self._stopping():
            refused = {key for key, (_, until) in self._refused.items() if until > time.monotonic()}
            later = refused | elsewhere
            batches = await self._store.batches(without=[key for key in later if isinstance(key, uuid.UUID)])
            generations = await self._store.generations(
                without=[key for key in later if isinstance(key, int)]
            )
            waiting: list[Batch | Generation] = [*generations, *batches]
            for work in waiting:
                if self._stopping():
                    break
                async with self._store.turn(work) as ours:
                    if ours:
                        done += await self._tried(shelf, work)
                    else:
                        elsewhere.add(_key_of(work))
            if not waiting:
                break
        return done

    async def _tried(self, shelf: Shelf, work: Batch | Generation) -> bool:
        key = _key_of(work)
        try:
            if isinstance(work, Batch):
                done = await self._archive_batch(shelf, work)
            else:
                done = await self._archive_generation(shelf, work)
        except _Refused as refused:
            attempts = self._refused.get(key, (0, 0.0))[0] + 1
            pause = min(_FIRST_PAUSE * 2 ** (attempts - 1), _LONGEST_PAUSE)
            self._refused[key] = (attempts, time.monotonic() + pause)
            if attempts == 1:
                log.error("%s", refused.why)
                await self._store.failed(
                    refused.failure, cause=refused.cause, traceparent=refused.traceparent
                )
                self._on_stored()
            return False
        self._refused.pop(key, None)
        return done

    async def _archive_batch(self, shelf: Shelf, batch: Batch) -> bool:
        began = datetime.now(UTC)
        attributes = {"drp.dataset": batch.dataset, "drp.batch": str(batch.id)}
        with span("archive", parent=batch.traceparent, attributes=attributes, start_time=began) as step:
            try:
                stored = await shelf.store_batch(
                    batch, self._datasets[batch.dataset], began=began, traceparent=step.traceparent
                )
            except Permanent as error:
                step.fail(str(error))
                raise _Refused(
                    error,
                    _failure(error, batch.dataset, began, batch_id=batch.id),
                    cause=derived_id(batch.id, BatchClosed.type, batch_subject(batch.id)),
                    traceparent=step.traceparent,
                ) from error
            step.set(
                {"drp.records": stored.records, "drp.bytes": stored.bytes, "drp.objects": stored.objects}
            )
        self._on_stored()
        log.info(
            "archived batch %s of %s: %d records, %d bytes",
            batch.id,
            batch.dataset,
            stored.records,
            stored.bytes,
        )
        return True

    async def _archive_generation(self, shelf: Shelf, generation: Generation) -> bool:
        path = Warehouse(self._warehouse, generation.dataset).path_of(generation.file)
        if not generation.current and not path.is_file():
            return await self._store.supersede(generation)
        began = datetime.now(UTC)
        published, told = self._traces.get(generation.dataset, (0, ""))
        parent = told if published == generation.number else generation.traceparent
        attributes = {"drp.dataset": generation.dataset, "drp.generation": generation.number}
        with span("archive", parent=parent, attributes=attributes, start_time=began) as step:
            try:
                await _check_file(path, generation)
                stored = await shelf.store_snapshot(
                    generation,
                    self._datasets[generation.dataset],
                    path,
                    began=began,
                    traceparent=step.traceparent,
                )
            except Permanent as error:
                step.fail(str(error))
                subject = generation_subject(generation.number)
                raise _Refused(
                    error,
                    _failure(error, generation.dataset, began, generation=generation.number),
                    cause=derived_id(generation.cause, WarehousePublished.type, subject),
                    traceparent=step.traceparent,
                ) from error
            step.set(
                {"drp.records": stored.records, "drp.bytes": stored.bytes, "drp.objects": stored.objects}
            )
        self._on_stored()
        log.info(
            "archived generation %d of %s: %d rows", generation.number, generation.dataset, stored.records
        )
        return True


def _key_of(work: Batch | Generation) -> uuid.UUID | int:
    return work.id if isinstance(work, Batch) else work.number


class _Refused(Exception):
    """A batch or generation can't be archived, and trying again at once won't help."""

    def __init__(
        self, error: Permanent, failure: StepFailed, *, cause: uuid.UUID, traceparent: str | None
    ) -> None:
        super().__init__(str(error))
        self.why = failure.error
        self.failure = failure
        self.cause = cause
        self.traceparent = traceparent


async def leave_off(store: ArchiveStore) -> None:
    """With the archive off: generations don't wait for it, and may be pruned."""
    if off := await store.turn_off():
        log.info("the archive is off (DRP_ARCHIVE): generations %s are not archived", off)


async def _check_file(path: Path, generation: Generation) -> None:
    """That the file is the one that was judged.

    Raises:
        Permanent: it isn't.
        Transient: it can't be read.
    """
    try:
        found = await asyncio.to_thread(sha256_of, path)
    except FileNotFoundError as error:
        raise Permanent(
            f"{generation.file} is missing from {path.parent}", fix="drp rebuild --full"
        ) from error
    except OSError as error:
        raise Transient(f"{path} can not be read", why=str(error)) from error
    if found != generation.sha256:
        raise Permanent(
            f"{generation.file} is not the file that was built",
            why=f"sha256 {found}",
            fix="drp rebuild --full",
        )


def _failure(
    error: DrpError,
    dataset: str,
    began: datetime,
    *,
    batch_id: uuid.UUID | None = None,
    generation: int | None = None,
) -> StepFailed:
    what = f"batch {batch_id}" if batch_id is not None else f"generation {generation}"
    return StepFailed(
        dataset=dataset,
        started_at=began,
        ended_at=datetime.now(UTC),
        records=0,
        step="archive",
        batch_id=batch_id,
        generation=generation,
        attempt=1,
        error=f"{what} can not be archived: {error.what}" + (f": {error.why}" if error.why else ""),
        fix=error.fix,
    )
