"""What the archive looks like: its keys, its documents and its manifests. Pure; RAW can be made anew from it.

    raw/<dataset>/ingest_date=YYYY-MM-DD/batch_id=<uuid>.jsonl.gz             accepted events, if any
    raw/<dataset>/ingest_date=YYYY-MM-DD/batch_id=<uuid>.quarantine.jsonl.gz  refused ones, if any
    raw/<dataset>/ingest_date=YYYY-MM-DD/batch_id=<uuid>.manifest.json        last: the batch is whole
    analytics/<dataset>/snapshot_date=YYYY-MM-DD/generation=<n>/<mart>.parquet
    analytics/<dataset>/snapshot_date=YYYY-MM-DD/generation=<n>/manifest.json

A line of a document is {"envelope": {CloudEvents attributes}, "data": {…}, "slot": "<entry id>/<position>"}, in
the order of landing. Everything in it, and in a manifest, follows from Postgres alone, no clock of the
archiver's: archiving again says the same. Should other bytes say the same (another version of the
compressor), `content` tells, and what was stored first stands.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import UTC, datetime
from typing import Final, Literal, TypeVar

import msgspec

from libs.datasets import ColumnType, Dataset
from libs.errors import Permanent
from libs.pipeline.jsontext import with_short_numbers
from libs.pipeline.refusals import MAX_AGAIN_BYTES

__all__ = [
    "FORMAT",
    "ArchivedObject",
    "BatchManifest",
    "Line",
    "SnapshotManifest",
    "accepted_lines",
    "batch_key",
    "batch_manifest_of",
    "decode_manifest",
    "encode_manifest",
    "event_of",
    "kind_of_line",
    "mart_key",
    "quarantined_lines",
    "raw_prefix",
    "read_lines",
    "snapshot_manifest_key",
]

FORMAT: Final = 1

DOCUMENT: Final = "jsonl.gz"
QUARANTINE: Final = "quarantine.jsonl.gz"
MANIFEST: Final = "manifest.json"


class ArchivedObject(msgspec.Struct, frozen=True, kw_only=True):
    """One object of a manifest.

    kind is `raw`, `quarantine` or `snapshot`; records are lines or rows; sha256 is of the stored bytes; content
    is `sha256:<hex>` of a document's uncompressed lines, or `rows:<content hash>` of a mart.
    """

    key: str
    kind: str
    records: int
    bytes: int
    sha256: str
    content: str


class BatchManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What the archive holds of a batch.

    count, sha256, bytes and content_sha256 are of the document of accepted events; zero and None without one.
    columns are the contract's (by their RAW names) when it was archived.
    """

    format: int
    dataset: str
    batch_id: uuid.UUID
    contract_version: str
    dataschema: str
    columns: list[str]
    opened_at: datetime
    closed_at: datetime
    first_event_time: datetime | None
    last_event_time: datetime | None
    traceparent: str | None
    received: int
    count: int
    duplicate: int
    quarantined: int
    conflicts: int
    dead_lettered: int
    bytes: int
    sha256: str | None
    content_sha256: str | None
    objects: list[ArchivedObject]

    def says_the_same_as(self, other: BatchManifest) -> bool:
        """Whether both speak of the same rows: their counts and contents, however those are compressed."""
        return _essence(self.objects) == _essence(other.objects) and (
            self.dataset,
            self.batch_id,
            self.received,
            self.count,
            self.quarantined,
            self.dead_lettered,
        ) == (
            other.dataset,
            other.batch_id,
            other.received,
            other.count,
            other.quarantined,
            other.dead_lettered,
        )


class SnapshotManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What the archive holds of a generation: one Parquet object a mart. warehouse_sha256 is of its file."""

    format: int
    dataset: str
    generation: int
    contract_version: str
    published_at: datetime
    warehouse_sha256: str
    watermark: datetime | None
    traceparent: str | None
    count: int
    objects: list[ArchivedObject]

    def says_the_same_as(self, other: SnapshotManifest) -> bool:
        return (self.dataset, self.generation, _essence(self.objects)) == (
            other.dataset,
            other.generation,
            _essence(other.objects),
        )


ManifestT = TypeVar("ManifestT", BatchManifest, SnapshotManifest)


def _essence(objects: Sequence[ArchivedObject]) -> list[tuple[str, str, int, str]]:
    return sorted((each.key, each.kind, each.records, each.content) for each in objects)


def raw_prefix(dataset: str) -> str:
    return f"raw/{dataset}/"


def batch_key(dataset: str, closed_at: datetime, batch_id: uuid.UUID, kind: str) -> str:
    """kind is `jsonl.gz`, `quarantine.jsonl.gz` or `manifest.json`; the date is that of the closing, in UTC."""
    return f"{raw_prefix(dataset)}ingest_date={_day(closed_at)}/batch_id={batch_id}.{kind}"


def batch_manifest_of(key: str) -> uuid.UUID | None:
    """The batch whose manifest the key names; None if it names something else."""
    name = key.rpartition("/")[2]
    if not name.startswith("batch_id=") or not name.endswith(f".{MANIFEST}"):
        return None
    try:
        return uuid.UUID(name.removeprefix("batch_id=").removesuffix(f".{MANIFEST}"))
    except ValueError:
        return None


def mart_key(dataset: str, published_at: datetime, generation: int, mart: str) -> str:
    return f"{_snapshot(dataset, published_at, generation)}/{mart}.parquet"


def snapshot_manifest_key(dataset: str, published_at: datetime, generation: int) -> str:
    return f"{_snapshot(dataset, published_at, generation)}/{MANIFEST}"


def _snapshot(dataset: str, published_at: datetime, generation: int) -> str:
    return f"analytics/{dataset}/snapshot_date={_day(published_at)}/generation={generation}"


def _day(moment: datetime) -> str:
    return moment.astimezone(UTC).date().isoformat()


def encode_manifest(manifest: BatchManifest | SnapshotManifest) -> bytes:
    """For people and programs: indented JSON, the same bytes for the same manifest."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def decode_manifest(document: bytes, type_: type[ManifestT]) -> ManifestT:
    """
    Raises:
        Permanent: it is none, or of a format that this version does not know.
    """
    try:
        manifest = msgspec.json.decode(document, type=type_)
    except msgspec.MsgspecError as error:
        raise Permanent("this is no manifest of the archive", why=str(error)) from error
    if manifest.format != FORMAT:
        raise Permanent(
            "the archive was written in another format",
            why=f"{manifest.format}, this version reads {FORMAT}",
            fix="a version of drp that reads it",
        )
    return manifest


_TIME: Final = """to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""


def accepted_lines(dataset: Dataset, condition: str) -> str:
    """Postgres SQL: one line of text per accepted event, in the order of landing.

    jsonb writes its text always the same way. condition is SQL over RAW's columns.
    """
    return f"""
        -- one row per accepted event
        SELECT '{{"envelope": ' || (
            jsonb_strip_nulls(jsonb_build_object(
                'specversion', '1.0', 'id', event_id, 'source', source_system, 'type', event_type,
                'time', {_TIME.format(column="event_time")}, 'subject', subject, 'dataschema', dataschema,
                'traceparent', traceparent, 'drporigin', origin
            )) || coalesce(extensions, '{{}}'::jsonb)
        )::text || ', "data": ' || raw_payload::text
        || ', "slot": ' || to_json(stream_entry_id || '/' || stream_position)::text || '}}' AS line
        FROM {dataset.raw_table} WHERE {condition} ORDER BY id
    """


def quarantined_lines(condition: str) -> str:
    """Postgres SQL: one line of text per slot in quarantine, its original bytes in base64.

    What operators did with it since is left out: the archive holds what arrived.
    """
    return f"""
        -- one row per quarantined or dead-lettered slot
        SELECT jsonb_strip_nulls(jsonb_build_object(
            'slot', stream_entry_id || '/' || stream_position, 'stream', stream, 'disposition', disposition,
            'reason', reason, 'detail', detail, 'field', field, 'source', source_system, 'id', event_id,
            'dataschema', dataschema, 'trace_id', trace_id,
            'original', translate(encode(original, 'base64'), E'\\n', '')
        ))::text AS line
        FROM raw.quarantine WHERE {condition} ORDER BY id
    """


class Line(msgspec.Struct, frozen=True, gc=False):
    """A line of a document of accepted events. data is jsonb's own text."""

    envelope: dict[str, msgspec.Raw]
    data: msgspec.Raw
    slot: str


_line: Final = msgspec.json.Decoder(Line).decode


def read_lines(texts: Iterable[bytes]) -> list[Line]:
    """
    Raises:
        Permanent: one is no line of the archive.
    """
    try:
        return [_line(text) for text in texts]
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Permanent(
            "a line of the archive can not be read", why=str(error), fix="drp archive verify"
        ) from error


def kind_of_line(text: bytes) -> Literal["raw", "quarantine"] | None:
    """The kind of document that a line is from; None: it is none of the archive's."""
    try:
        fields = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if fields.keys() >= {"slot", "stream", "disposition", "reason", "original"}:
        return "quarantine"
    return "raw" if fields.keys() == {"envelope", "data", "slot"} else None


def event_of(line: Line, attributes: Mapping[str, msgspec.Raw], dataset: Dataset) -> bytes:
    """The line as a CloudEvent; attributes replace its own.

    jsonb puts spaces in and writes 1e1000 with all its zeros, so an event would be past the limit of size that
    came within it: what is too long is written as short as it may have come, with the same meaning to jsonb.
    """
    envelope = {**line.envelope, **attributes}
    event = msgspec.json.encode({**envelope, "data": line.data})
    if len(event) > MAX_AGAIN_BYTES:
        event = msgspec.json.format(event, indent=-1)
    if len(event) > MAX_AGAIN_BYTES:
        event = msgspec.json.encode(
            {**_short(envelope), "data": _short(_fields(line.data), but=_whole(dataset))}
        )
    return event


_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _short(fields: Mapping[str, msgspec.Raw], *, but: Set[str] = frozenset()) -> dict[str, msgspec.Raw]:
    return {
        name: msgspec.Raw(
            bytes(value) if name in but else with_short_numbers(msgspec.json.format(bytes(value), indent=-1))
        )
        for name, value in fields.items()
    }


def _whole(dataset: Dataset) -> frozenset[str]:
    """The fields whose number must be written without an exponent."""
    return frozenset(column.field for column in dataset.columns if column.type is ColumnType.INTEGER)
