"""`drp events find`: an event's whole life, found by its row's key, its own id, its batch or its trace.

What is known of an event stands in RAW with its stream entry, its batch and its trace; which generation carries it,
and where the archive keeps it, follows from the batch. Where its row stands is asked of the generation that readers
see. A repeat of an event leaves no row: it is counted with its entry and its batch.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from libs.adapters.telemetry import trace_id_of
from libs.adapters.warehouse import Warehouse
from libs.datasets import Dataset, quoted
from libs.errors import DrpError
from libs.operations.found import Found, FoundBatch, Life, Refusal
from libs.operations.versions import event_ids, is_writable, superseded_by, versions

if TYPE_CHECKING:
    from libs.adapters.postgres import Postgres, Row

__all__ = ["find"]

AT_MOST: Final = 100
QUARANTINE_LOOKED_AT: Final = 20_000
"""Of the newest quarantined slots so many are searched for a key in their bytes; by id all of them are."""
_PAGE: Final = 100
_BIGINT: Final = 2**63 - 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TRACE: Final = re.compile(r"[0-9a-f]{32}")

_REFUSALS: Final = """
-- one row per slot that was not taken, newest first
SELECT q.id, q.dataset, q.disposition, q.reason, q.detail, q.field, q.state, q.source_system, q.event_id, q.stream,
       q.stream_entry_id, q.stream_position, q.batch_id, q.created_at, b.status, b.closed_at, b.trace_id AS batch_trace,
       q.trace_id, o.key AS object, o.stored_at AS archived_at,
       substring(q.original FOR 300000) AS original
FROM raw.quarantine q
JOIN ops.batch_status b ON b.id = q.batch_id
LEFT JOIN ops.archive_objects o ON o.batch_id = q.batch_id AND o.kind = 'quarantine'
WHERE {condition} ORDER BY q.id DESC LIMIT {limit}
"""

_SEARCHED: Final = """
-- one row: the first of the newest slots, of so many of them, and whether there are older ones
SELECT oldest, EXISTS (SELECT FROM raw.quarantine WHERE id < oldest) AS are_older
FROM (SELECT min(id) AS oldest FROM (SELECT id FROM raw.quarantine ORDER BY id DESC LIMIT $1) AS newest) AS found
"""

_BATCHES: Final = """
-- one row per batch that is meant, or whose trace, or whose producers' trace, is meant
SELECT s.id, s.dataset, s.status, s.received, s.accepted, s.duplicate, s.quarantined, s.conflicts, s.dead_lettered,
       s.opened_at, s.closed_at, s.generation, s.last_generation, s.verdict, s.archived_at, s.trace_id,
       (SELECT array_agg(o.key ORDER BY o.key) FROM ops.archive_objects o WHERE o.batch_id = s.id) AS objects
FROM ops.batch_status s
WHERE s.id IN (
    SELECT b.id FROM ops.batches b WHERE b.id = $1
    UNION SELECT b.id FROM ops.batches b WHERE b.traceparent IS NOT NULL AND split_part(b.traceparent, '-', 2) = $2
    UNION SELECT b.id FROM (SELECT id, producers FROM ops.batches ORDER BY opened_at DESC LIMIT 10000) b
          WHERE EXISTS (SELECT FROM unnest(b.producers) p WHERE split_part(p, '-', 2) = $2)
)
ORDER BY s.opened_at LIMIT 50
"""


async def find(
    postgres: Postgres,
    datasets: Mapping[str, Dataset],
    text: str,
    *,
    warehouses: Path | None = None,
    limit: int = AT_MOST,
) -> Found:
    """Everything that the text names: an event's id or `source/id`, a row's key (then every version of it), a batch's
    id (the batch), or a trace's (its batches, and the events that were published in it).

    Args:
        warehouses: where the generations' files are, if they are on this machine.
        limit: events of each dataset, and refused slots.
    """
    if not is_writable(text):
        return Found(text=text, events=[], refused=[], batches=[], more=False, searched=None)
    trace = text if _TRACE.fullmatch(text) else None
    batches = await _batches(postgres, text, trace)
    through = [batch.id for batch in batches] if trace else []
    lives: list[Life] = []
    more = False
    for dataset in datasets.values():
        rows = await versions(postgres, dataset, text, limit=limit + 1, batches=through, trace=trace)
        more = more or len(rows) > limit
        places = await asyncio.to_thread(_places, warehouses, dataset, rows[:limit])
        lives += [_life(dataset, row, places) for row in rows[:limit]]
    first, searched = await _searched(postgres)
    slots = await _exact(postgres, text, trace, through, limit + 1)
    slots |= await _by_key(postgres, datasets, text, first, limit + 1)
    newest = sorted(slots.values(), key=lambda row: -row["id"])
    return Found(
        text=text,
        events=lives,
        refused=[_refusal(row) for row in newest[:limit]],
        batches=batches,
        more=more or len(newest) > limit,
        searched=searched,
    )


async def _batches(postgres: Postgres, text: str, trace: str | None) -> list[FoundBatch]:
    rows = await postgres.fetch(_BATCHES, _uuid(text), trace)
    return [FoundBatch(**dict(row)) for row in rows]


def _places(
    warehouses: Path | None, dataset: Dataset, rows: Sequence[Row]
) -> dict[tuple[str, str], list[str]] | None:
    """The rules that each event's row breaks, of those whose row stands in the current generation; None: not known."""
    if warehouses is None:
        return None
    published = [row for row in rows if row["generation"] is not None]
    if not published:
        return {}
    keys, times = ({row[name] for row in published} for name in ("key_value", "event_time"))
    # The time says nothing new, but comparing it is fast, and mostly leads past all but a few blocks of the file.
    asked = f"event_time IN ({_marks(times)}) AND {quoted(dataset.key.name)} IN ({_marks(keys)})"
    staged, rejected = (f"staging.{quoted(dataset.name + ending)}" for ending in ("", "_rejected"))
    try:
        with Warehouse(warehouses, dataset.name).connect_read_only() as generation:
            found = generation.rows(
                f"SELECT source_system, event_id, CAST([] AS VARCHAR[]) FROM {staged} WHERE {asked} "
                f"UNION ALL SELECT source_system, event_id, rules FROM {rejected} WHERE {asked}",
                [*times, *keys, *times, *keys],
            )
    except DrpError:  # nothing is published, or not here
        return None
    return {(source, event_id): list(rules) for source, event_id, rules in found}


def _marks(values: Collection[object]) -> str:
    return ", ".join("?" * len(values))


def _life(dataset: Dataset, row: Row, places: Mapping[tuple[str, str], list[str]] | None) -> Life:
    place, superseded_by = _place(row, places)
    rules = (places or {}).get((row["source_system"], row["event_id"]), [])
    return Life(
        dataset=dataset.name,
        key=row["key"],
        source=row["source_system"],
        event_id=row["event_id"],
        type=row["event_type"],
        event_time=row["event_time"],
        origin=row["origin"],
        producer_trace=trace_id_of(row["traceparent"]),
        stream=dataset.stream,
        entry=row["stream_entry_id"],
        position=row["stream_position"],
        published_at=_written(row["stream_entry_id"]),
        landed_at=row["landed_at"],
        raw_id=row["id"],
        ingested_at=row["ingested_at"],
        batch=row["batch_id"],
        batch_status=row["status"],
        batch_closed_at=row["closed_at"],
        trace=row["trace_id"],
        place=place,
        rules=rules if place == "rejected" else [],
        superseded_by=superseded_by,
        generation=row["generation"],
        generation_published_at=row["published_at"],
        object=row["object"],
        archived_at=row["archived_at"],
    )


def _place(row: Row, places: Mapping[tuple[str, str], list[str]] | None) -> tuple[str, str | None]:
    if row["status"] in ("open", "held"):
        return row["status"], None
    if row["generation"] is None:
        return "waiting", None
    if (winner := superseded_by(row)) is not None:
        return "superseded", winner
    rules = None if places is None else places.get((row["source_system"], row["event_id"]))
    return ("applied" if rules is None else "rejected" if rules else "staged"), None


async def _searched(postgres: Postgres) -> tuple[int, int | None]:
    """The first slot whose bytes are searched, and how many are; None if that is all of them."""
    row = await postgres.fetchrow(_SEARCHED, QUARANTINE_LOOKED_AT)
    if row is None or row["oldest"] is None:
        return 0, None
    return row["oldest"], QUARANTINE_LOOKED_AT if row["are_older"] else None


async def _exact(
    postgres: Postgres, text: str, trace: str | None, batches: Sequence[uuid.UUID], limit: int
) -> dict[int, Row]:
    """The newest slots of this event, or of this trace, by their numbers."""
    condition = """q.id IN (
        SELECT id FROM raw.quarantine WHERE event_id = $1
        UNION SELECT id FROM raw.quarantine WHERE event_id = ANY($2::text[]) AND source_system || '/' || event_id = $1
        UNION SELECT id FROM raw.quarantine WHERE batch_id = ANY($3::uuid[]) AND trace_id = $4
    )"""
    sql = _REFUSALS.format(condition=condition, limit=limit)
    return {row["id"]: row for row in await postgres.fetch(sql, text, event_ids(text), batches, trace)}


async def _by_key(
    postgres: Postgres, datasets: Mapping[str, Dataset], text: str, first: int, limit: int
) -> dict[int, Row]:
    """The newest slots of this key, by their numbers, of those from the first on."""
    condition = "q.id >= $2 AND q.id < $3 AND position(convert_to($1, 'UTF8') IN q.original) > 0"
    sql = _REFUSALS.format(condition=condition, limit=_PAGE)
    found: dict[int, Row] = {}
    below = _BIGINT
    while len(found) < limit and (page := await postgres.fetch(sql, text, first, below)):
        found |= {row["id"]: row for row in page if _is_of(datasets.get(row["dataset"]), row, text)}
        below = page[-1]["id"]
    return found


def _is_of(dataset: Dataset | None, row: Row, text: str) -> bool:
    """Whether the slot's bytes say that it is of this key; where they can't be read, that they hold it as a value."""
    original: bytes = row["original"]
    if dataset is None:
        return False
    try:
        data = msgspec.json.decode(original, type=_Data).data
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return msgspec.json.encode(text) in original
    return isinstance(data, dict) and str(data.get(dataset.key.field)) == text


class _Data(msgspec.Struct):
    data: Any = None


def _refusal(row: Row) -> Refusal:
    return Refusal(
        number=row["id"],
        dataset=row["dataset"],
        disposition=row["disposition"],
        reason=row["reason"],
        detail=row["detail"],
        field=row["field"],
        state=row["state"],
        source=row["source_system"],
        event_id=row["event_id"],
        producer_trace=row["trace_id"],
        stream=row["stream"],
        entry=row["stream_entry_id"],
        position=row["stream_position"],
        published_at=_written(row["stream_entry_id"]),
        landed_at=row["created_at"],
        batch=row["batch_id"],
        batch_status=row["status"],
        batch_closed_at=row["closed_at"],
        trace=row["batch_trace"],
        object=row["object"],
        archived_at=row["archived_at"],
    )


def _written(entry_id: str) -> datetime | None:
    """When Redis wrote the entry, by its clock, if its id is one that Redis made."""
    milliseconds = entry_id.partition("-")[0]
    try:
        return _EPOCH + timedelta(milliseconds=int(milliseconds))
    except (ValueError, OverflowError):
        return None


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
