"""Putting one batch or one generation on the shelf: documents, then the manifest, then Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

from libs.adapters import metrics
from libs.adapters.objects import DifferentContent, Objects, Put
from libs.contracts.events import ArchiveStored
from libs.datasets import Dataset
from libs.errors import Permanent, Transient
from libs.pipeline.archive import (
    DOCUMENT,
    FORMAT,
    MANIFEST,
    QUARANTINE,
    ArchivedObject,
    BatchManifest,
    ManifestT,
    SnapshotManifest,
    batch_key,
    decode_manifest,
    encode_manifest,
    mart_key,
    snapshot_manifest_key,
)
from services.archiver.documents import GzipDocument, Written, write_mart
from services.archiver.store import ArchiveStore, Batch, Generation, Sink, StoredObject

__all__ = ["Shelf", "Stored"]

_PIECE: Final = 1024 * 1024
_GZIP: Final = "application/gzip"
_PARQUET: Final = "application/vnd.apache.parquet"
_JSON: Final = "application/json"

Lines = Callable[[Sink], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Stored:
    """records are events, or rows of marts; bytes are those of all objects."""

    records: int
    bytes: int
    objects: int


class Shelf:
    """The object store as the archiver uses it. Every put is settled before the next begins."""

    def __init__(self, objects: Objects, store: ArchiveStore) -> None:
        self._objects = objects
        self._store = store

    async def store_batch(
        self, batch: Batch, dataset: Dataset, *, began: datetime, traceparent: str
    ) -> Stored:
        """Archive a closed batch.

        Raises:
            Permanent: Postgres holds other counts than the ledger says, or the store another content.
            Transient: of Postgres or the store.
        """
        objects: list[ArchivedObject] = []
        if batch.accepted:
            key = batch_key(batch.dataset, batch.closed_at, batch.id, DOCUMENT)

            async def accepted(sink: Sink) -> None:
                await self._store.accepted(dataset, batch.id, sink)

            objects.append(await self._document(key, "raw", batch.accepted, accepted, dataset.name))
        if batch.refused:
            key = batch_key(batch.dataset, batch.closed_at, batch.id, QUARANTINE)

            async def refused(sink: Sink) -> None:
                await self._store.refused(batch.id, sink)

            objects.append(await self._document(key, "quarantine", batch.refused, refused, dataset.name))
        key = batch_key(batch.dataset, batch.closed_at, batch.id, MANIFEST)
        manifest, put = await self._manifest(key, _batch_manifest(batch, dataset, objects), BatchManifest)
        rows = _rows(manifest.objects, key, put, records=batch.accepted)
        total = sum(each.bytes for each in rows)
        event = _told(batch.dataset, began, rows, records=batch.accepted + batch.refused, batch=batch)
        await self._store.batch_stored(batch, event, rows, traceparent=traceparent)
        return Stored(event.records, total, len(rows))

    async def store_snapshot(
        self, generation: Generation, dataset: Dataset, path: Path, *, began: datetime, traceparent: str
    ) -> Stored:
        """Archive the marts of a published generation.

        Raises:
            Permanent: the file lacks a mart, or the store holds another content.
            Transient: of Postgres, the store or the disk.
        """
        objects = []
        for mart in sorted(dataset.marts):
            key = mart_key(generation.dataset, generation.published_at, generation.number, mart)
            with _room_on_disk():
                written = await asyncio.to_thread(write_mart, path, mart)
            with written:
                objects.append(await self._put(key, "snapshot", written, _PARQUET, dataset.name))
        key = snapshot_manifest_key(generation.dataset, generation.published_at, generation.number)
        draft = SnapshotManifest(
            format=FORMAT,
            dataset=generation.dataset,
            generation=generation.number,
            contract_version=dataset.version,
            published_at=generation.published_at,
            warehouse_sha256=generation.sha256,
            watermark=generation.watermark,
            traceparent=generation.traceparent,
            count=sum(each.records for each in objects),
            objects=objects,
        )
        manifest, put = await self._manifest(key, draft, SnapshotManifest)
        rows = _rows(manifest.objects, key, put, records=manifest.count)
        event = _told(generation.dataset, began, rows, records=manifest.count, generation=generation)
        await self._store.snapshot_stored(generation, event, rows, traceparent=traceparent)
        return Stored(manifest.count, event.bytes, len(rows))

    async def _document(
        self, key: str, kind: str, expected: int, lines: Lines, dataset: str
    ) -> ArchivedObject:
        """Write the lines to a file and put it under the key."""
        with await _written(lines) as written:
            if written.records != expected:
                raise Permanent(
                    f"Postgres holds {written.records} rows for {key}",
                    why=f"the ledger counts {expected}",
                    fix="drp ledger verify",
                )
            return await self._put(key, kind, written, _GZIP, dataset)

    async def _put(
        self, key: str, kind: str, written: Written, content_type: str, dataset: str
    ) -> ArchivedObject:
        put = await self._objects.put_once(
            key, written.file, sha256=written.sha256, content_type=content_type, content=written.content
        )
        _count(dataset, kind, put)
        return ArchivedObject(
            key=key,
            kind=kind,
            records=written.records,
            bytes=put.bytes,
            sha256=put.sha256,
            content=written.content,
        )

    async def _manifest(self, key: str, draft: ManifestT, type_: type[ManifestT]) -> tuple[ManifestT, Put]:
        """Put the manifest. One that stands already and says the same wins: it may be of another version."""
        body = encode_manifest(draft)
        try:
            put = await self._objects.put_once(key, body, sha256=sha256(body).hexdigest(), content_type=_JSON)
        except DifferentContent:
            body = await self._objects.get(key)
            standing = decode_manifest(body, type_)
            if not standing.says_the_same_as(draft):
                raise
            return standing, Put("already there", sha256(body).hexdigest(), len(body))
        _count(draft.dataset, "manifest", put)
        return draft, put


async def _written(lines: Lines) -> Written:
    """The lines as a compressed document; compressed on a thread while the next ones are fetched."""
    document = GzipDocument()
    piece = bytearray()

    async def take(more: bytes) -> None:
        piece.extend(more)
        if len(piece) >= _PIECE:
            await asyncio.to_thread(document.add, bytes(piece))
            piece.clear()

    try:
        with _room_on_disk():
            await lines(take)
            document.add(bytes(piece))
            return await asyncio.to_thread(document.finish)
    except BaseException:
        document.discard()
        raise


@contextmanager
def _room_on_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Transient("could not write a temporary file", why=str(error)) from error


def _batch_manifest(batch: Batch, dataset: Dataset, objects: list[ArchivedObject]) -> BatchManifest:
    raw = next((each for each in objects if each.kind == "raw"), None)
    return BatchManifest(
        format=FORMAT,
        dataset=batch.dataset,
        batch_id=batch.id,
        contract_version=dataset.version,
        dataschema=dataset.dataschema,
        columns=[column.name for column in dataset.columns],
        opened_at=batch.opened_at,
        closed_at=batch.closed_at,
        first_event_time=batch.first_event_time,
        last_event_time=batch.last_event_time,
        traceparent=batch.traceparent,
        received=batch.received,
        count=batch.accepted,
        duplicate=batch.duplicate,
        quarantined=batch.quarantined,
        conflicts=batch.conflicts,
        dead_lettered=batch.dead_lettered,
        bytes=0 if raw is None else raw.bytes,
        sha256=None if raw is None else raw.sha256,
        content_sha256=None if raw is None else raw.content.removeprefix("sha256:"),
        objects=objects,
    )


def _rows(
    objects: Sequence[ArchivedObject], manifest_key: str, manifest: Put, *, records: int
) -> list[StoredObject]:
    """What ops.archive_objects says, the manifest last."""
    rows = [StoredObject(each.key, each.kind, each.bytes, each.records, each.sha256) for each in objects]
    return [*rows, StoredObject(manifest_key, "manifest", manifest.bytes, records, manifest.sha256)]


def _told(
    dataset: str,
    began: datetime,
    rows: Sequence[StoredObject],
    *,
    records: int,
    batch: Batch | None = None,
    generation: Generation | None = None,
) -> ArchiveStored:
    return ArchiveStored(
        dataset=dataset,
        started_at=began,
        ended_at=datetime.now(UTC),
        records=records,
        kind="raw" if batch is not None else "snapshot",
        batch_id=None if batch is None else batch.id,
        generation=None if generation is None else generation.number,
        manifest=rows[-1].key,
        objects=[each.key for each in rows[:-1]],
        bytes=sum(each.bytes for each in rows),
    )


def _count(dataset: str, kind: str, put: Put) -> None:
    metrics.ARCHIVE_OBJECTS.labels(dataset, kind, put.outcome.replace(" ", "_")).inc()
    if put.outcome == "stored":
        metrics.ARCHIVE_BYTES.labels(dataset, kind).inc(put.bytes)
