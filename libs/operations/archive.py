"""What is in the archive, and whether it is what it should be, byte for byte."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
import uuid
import zlib
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import IO, Any, Final

import msgspec

from libs.adapters.objects import Head, ObjectMissing, Objects
from libs.adapters.postgres import Postgres, Row
from libs.datasets import quoted
from libs.errors import Permanent
from libs.pipeline.archive import ArchivedObject, BatchManifest, SnapshotManifest, decode_manifest

__all__ = ["ArchiveReport", "DocumentReader", "document_lines", "fetch", "ls", "verify_archive"]

_AT_ONCE: Final = 4
_UNPACKED_AT_ONCE: Final = 4 * 1024 * 1024

_LS: Final = """
-- one row per object, newest first
SELECT key, dataset, kind, batch_id, generation, records, bytes, sha256, stored_at
FROM ops.archive_objects
WHERE ($1::text IS NULL OR dataset = $1) AND ($2::uuid IS NULL OR batch_id = $2)
  AND ($3::bigint IS NULL OR generation = $3)
ORDER BY stored_at DESC, key LIMIT $4
"""

_GROUPS: Final = """
-- one row per object; those of one batch or generation side by side, their manifest last
SELECT key, dataset, kind, batch_id, generation, bytes, records, sha256 FROM ops.archive_objects
WHERE $1::text IS NULL OR dataset = $1
ORDER BY dataset, batch_id, generation, kind = 'manifest', key
"""

_BATCHES: Final = """
-- one row per closed batch: what the ledger counts, and the rows that are there
SELECT b.id, b.archived_at IS NOT NULL AS archived, b.accepted, b.quarantined + b.dead_lettered AS refused,
       coalesce(r.rows, 0) AS raw_rows, coalesce(q.rows, 0) AS quarantine_rows
FROM ops.batches b
LEFT JOIN (SELECT batch_id, count(*) AS rows FROM {raw} GROUP BY batch_id) r ON r.batch_id = b.id
LEFT JOIN (SELECT batch_id, count(*) AS rows FROM raw.quarantine GROUP BY batch_id) q ON q.batch_id = b.id
WHERE b.dataset = $1 AND b.state = 'closed'
"""

_GENERATIONS: Final = """
-- one row per generation that is said to be archived
SELECT number FROM ops.generations WHERE dataset = $1 AND archive_state = 'stored'
"""


class ArchiveReport(msgspec.Struct, kw_only=True):
    """objects were read whole, bytes of them; events are those of all documents. unarchived: closed batches
    that still wait. unlisted: objects in the store that Postgres doesn't know of, as an archiver that is at
    work, or crashed, leaves them. problems is empty if all is as it should be."""

    objects: int = 0
    bytes: int = 0
    batches: int = 0
    generations: int = 0
    events: int = 0
    unarchived: int = 0
    unlisted: int = 0
    problems: list[str] = msgspec.field(default_factory=list)


@dataclass
class DocumentReader:
    """Lines out of the pieces of a gzip document, and what was read so far. lines() may be left early."""

    stored: Any = field(default_factory=hashlib.sha256)
    content: Any = field(default_factory=hashlib.sha256)
    records: int = 0
    size: int = 0

    def __post_init__(self) -> None:
        self._gunzip = zlib.decompressobj(wbits=31)
        self._rest = b""

    def lines(self, piece: bytes) -> Iterator[list[bytes]]:
        """The whole lines that the piece completes, some at a time.

        Raises:
            Permanent: it is no gzip.
        """
        self.stored.update(piece)
        self.size += len(piece)
        while piece:
            try:
                text = self._gunzip.decompress(piece, _UNPACKED_AT_ONCE)
            except zlib.error as error:
                raise Permanent("a document of the archive can not be unpacked", why=str(error)) from error
            piece = self._gunzip.unconsumed_tail
            self.content.update(text)
            whole = (self._rest + text).split(b"\n")
            self._rest = whole.pop()
            self.records += len(whole)
            if whole:
                yield whole

    def whole(self) -> bool:
        """Whether the document has come to its end."""
        return self._gunzip.eof and not self._rest and not self._gunzip.unused_data


async def ls(
    postgres: Postgres,
    *,
    dataset: str | None = None,
    batch: uuid.UUID | None = None,
    generation: int | None = None,
    limit: int = 100,
) -> list[dict[str, Any]]:
    """The objects that were stored, newest first."""
    return [dict(row) for row in await postgres.fetch(_LS, dataset, batch, generation, limit)]


async def fetch(objects: Objects, key: str, sink: IO[bytes]) -> int:
    """Write an object to sink; its bytes.

    Raises:
        ObjectMissing: there is none.
    """
    written = 0
    async for piece in objects.stream(key):
        written += sink.write(piece)
    return written


async def document_lines(objects: Objects, document: ArchivedObject) -> AsyncGenerator[list[bytes], None]:
    """The lines of a document, some at a time.

    Raises:
        Permanent: it isn't what its manifest says; known at its end, after its lines were given.
    """
    reader = DocumentReader()
    async with aclosing(objects.stream(document.key)) as pieces:
        async for piece in pieces:
            for lines in reader.lines(piece):
                yield lines
    if problems := _document_problems(document, reader):
        raise Permanent(
            "a document of the archive is damaged", why="; ".join(problems), fix="drp archive verify"
        )


async def verify_archive(
    postgres: Postgres,
    objects: Objects,
    *,
    dataset: str | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> ArchiveReport:
    """Read every object that was stored, and compare it with its manifest, with Postgres and with RAW.

    Args:
        on_progress: told how many objects were read, of how many.
    """
    report = ArchiveReport()
    rows = await postgres.fetch(_GROUPS, dataset)
    groups: dict[tuple[str, Any, Any], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["dataset"], row["batch_id"], row["generation"]), []).append(row)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def check(group: Sequence[Row]) -> None:
        async with gate:
            await _check_group(objects, group, report)
            on_progress(report.objects, len(rows))

    listed = list(groups.values())
    for start in range(0, len(listed), 64):
        await asyncio.gather(*(check(group) for group in listed[start : start + 64]))
    for name in await _datasets(postgres, dataset):
        await _check_ledger(postgres, name, groups, report)
        report.unlisted += await _unlisted(objects, name, {row["key"] for row in rows})
    report.problems.sort()
    return report


async def _check_group(objects: Objects, group: Sequence[Row], report: ArchiveReport) -> None:
    """The objects of one batch or generation."""
    *others, last = group
    report.batches += last["batch_id"] is not None
    report.generations += last["generation"] is not None
    manifest = await _manifest(objects, last, report)
    said = {} if manifest is None else {each.key: each for each in manifest.objects}
    if manifest is not None and set(said) != {row["key"] for row in others}:
        report.problems.append(f"{last['key']}: names other objects than Postgres")
    if isinstance(manifest, BatchManifest):
        report.events += manifest.count
    for row in others:
        report.objects += 1
        try:
            found = await _examined(objects, row["key"], row["kind"], said.get(row["key"]))
        except ObjectMissing:
            report.problems.append(f"{row['key']}: is missing")
            continue
        except Permanent as error:
            report.problems.append(f"{row['key']}: {error}")
            continue
        report.bytes += found.bytes
        report.problems += [*found.problems, *_row_problems(row, found)]


async def _manifest(
    objects: Objects, row: Row, report: ArchiveReport
) -> BatchManifest | SnapshotManifest | None:
    key = row["key"]
    if row["kind"] != "manifest":
        report.problems.append(f"{key}: no manifest was stored beside it")
        return None
    report.objects += 1
    try:
        body = await objects.get(key)
        report.bytes += len(body)
        if hashlib.sha256(body).hexdigest() != row["sha256"]:
            report.problems.append(f"{key}: its sha256 is not the one in Postgres")
        manifest: BatchManifest | SnapshotManifest
        if row["batch_id"] is not None:
            manifest = decode_manifest(body, BatchManifest)
            mine = manifest.batch_id == row["batch_id"] and manifest.count == row["records"]
        else:
            manifest = decode_manifest(body, SnapshotManifest)
            mine = manifest.generation == row["generation"] and manifest.count == row["records"]
    except ObjectMissing:
        report.problems.append(f"{key}: is missing")
        return None
    except Permanent as error:
        report.problems.append(f"{key}: {error}")
        return None
    if not mine:
        report.problems.append(f"{key}: speaks of another batch, generation or count than Postgres")
    return manifest


@dataclass(frozen=True)
class _Examined:
    bytes: int
    sha256: str
    records: int
    problems: list[str]


async def _examined(objects: Objects, key: str, kind: str, said: ArchivedObject | None) -> _Examined:
    """Read an object whole, and compare it with what its manifest says."""
    if kind == "snapshot":
        return await _examined_mart(objects, key, said)
    reader = DocumentReader()
    async for piece in objects.stream(key):
        for _ in reader.lines(piece):
            pass
    problems = [] if said is None else [f"{key}: {one}" for one in _document_problems(said, reader)]
    return _Examined(reader.size, reader.stored.hexdigest(), reader.records, problems)


async def _examined_mart(objects: Objects, key: str, said: ArchivedObject | None) -> _Examined:
    import pyarrow as pa
    import pyarrow.parquet as pq

    digest = hashlib.sha256()
    problems: list[str] = []
    with tempfile.TemporaryFile(prefix="drp-archive-") as file:
        async for piece in objects.stream(key):
            digest.update(piece)
            file.write(piece)
        size = file.tell()
        try:
            records = pq.ParquetFile(file).metadata.num_rows
        except (pa.ArrowInvalid, OSError) as error:
            raise Permanent("it is no Parquet", why=str(error)) from error
    if said is not None and (digest.hexdigest(), records) != (said.sha256, said.records):
        problems.append(f"{key}: is not what its manifest says")
    return _Examined(size, digest.hexdigest(), records, problems)


def _document_problems(said: ArchivedObject, reader: DocumentReader) -> list[str]:
    problems = [] if reader.whole() else ["it breaks off"]
    if reader.stored.hexdigest() != said.sha256:
        problems.append("its sha256 is not the one in its manifest")
    if f"sha256:{reader.content.hexdigest()}" != said.content:
        problems.append("its lines are not those that its manifest says")
    if reader.records != said.records:
        problems.append(f"it has {reader.records} lines, its manifest says {said.records}")
    return problems


def _row_problems(row: Row, found: _Examined) -> list[str]:
    compared = {name: (row[name], getattr(found, name)) for name in ("sha256", "bytes", "records")}
    return [
        f"{row['key']}: {name} is {is_}, Postgres says {said}"
        for name, (said, is_) in compared.items()
        if said != is_
    ]


async def _datasets(postgres: Postgres, dataset: str | None) -> list[str]:
    """Those with a RAW table."""
    rows = await postgres.fetch(
        """
        -- one row per dataset that has batches
        SELECT DISTINCT dataset FROM ops.batches
        WHERE ($1::text IS NULL OR dataset = $1) AND to_regclass(format('raw.%I', dataset || '_raw')) IS NOT NULL
        ORDER BY dataset
        """,
        dataset,
    )
    return [row["dataset"] for row in rows]


async def _check_ledger(
    postgres: Postgres,
    dataset: str,
    groups: Mapping[tuple[str, Any, Any], Sequence[Row]],
    report: ArchiveReport,
) -> None:
    """Archived batches against the ledger and RAW; and nothing may be called archived that isn't."""
    raw = f"raw.{quoted(dataset + '_raw')}"
    for batch in await postgres.fetch(_BATCHES.format(raw=raw), dataset):
        if not batch["archived"]:
            report.unarchived += 1
            continue
        stored = {row["kind"]: row["records"] for row in groups.get((dataset, batch["id"], None), ())}
        if "manifest" not in stored:
            report.problems.append(
                f"batch {batch['id']}: is marked as archived, and no object of it is known"
            )
            continue
        for kind, counted, rows in (
            ("raw", batch["accepted"], batch["raw_rows"]),
            ("quarantine", batch["refused"], batch["quarantine_rows"]),
        ):
            if not stored.get(kind, 0) == counted == rows:
                report.problems.append(
                    f"batch {batch['id']}: {kind}: {stored.get(kind, 0)} archived, {rows} in Postgres, "
                    f"the ledger counts {counted}"
                )
    for row in await postgres.fetch(_GENERATIONS, dataset):
        if (dataset, None, row["number"]) not in groups:
            report.problems.append(
                f"generation {row['number']}: is marked as archived, and no object of it is known"
            )


async def _unlisted(objects: Objects, dataset: str, known: set[str]) -> int:
    heads: list[Head] = []
    for prefix in (f"raw/{dataset}/", f"analytics/{dataset}/"):
        heads += [head async for head in objects.list(prefix) if head.key not in known]
    return len(heads)
