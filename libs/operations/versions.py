"""The events that RAW holds of what somebody names, and which version of a row counts."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Final

from libs.datasets import ColumnType, Dataset, quoted

if TYPE_CHECKING:
    from libs.adapters.postgres import Postgres, Row

__all__ = ["event_ids", "is_writable", "superseded_by", "versions"]

_BIGINT: Final = 2**63

_VERSIONS: Final = """
-- one row per event found; winner: the version of its key that counts in what is published
SELECT r.id, r.event_id, r.source_system, r.event_type, r.event_time, r.origin, r.traceparent, r.ingested_at,
       {key}::text AS key, {key} AS key_value, r.stream_entry_id, r.stream_position, e.landed_at, r.batch_id,
       b.status, b.closed_at, b.trace_id, b.generation, g.published_at, o.key AS object, o.stored_at AS archived_at,
       w.source_system AS winner_source, w.event_id AS winner_id
FROM {raw} r
JOIN ops.batch_status b ON b.id = r.batch_id
LEFT JOIN ops.entries e ON e.stream = $1 AND e.entry_id = r.stream_entry_id
LEFT JOIN ops.generations g ON g.number = b.generation
LEFT JOIN ops.archive_objects o ON o.batch_id = r.batch_id AND o.kind = 'raw'
LEFT JOIN LATERAL (
    SELECT v.source_system, v.event_id FROM {raw} v JOIN ops.batches vb ON vb.id = v.batch_id
    WHERE v.{key_name} = {key} AND vb.generation IS NOT NULL AND vb.held_at IS NULL
    ORDER BY v.event_time DESC, v.source_system COLLATE "C" DESC, v.event_id COLLATE "C" DESC LIMIT 1
) w ON true
-- Each arm has an index of its own; OR would leave the choice to a plan made when RAW was empty.
WHERE r.id IN (
    SELECT id FROM {raw} WHERE event_id = $2
    UNION SELECT id FROM {raw} WHERE {key_name} = $3
    UNION SELECT id FROM {raw} WHERE event_id = ANY($4::text[]) AND source_system || '/' || event_id = $2
    UNION SELECT id FROM {raw} WHERE batch_id = ANY($5::uuid[]) AND split_part(traceparent, '-', 2) = $6
)
ORDER BY r.event_time {order}, r.source_system COLLATE "C" {order}, r.event_id COLLATE "C" {order} LIMIT {limit}
"""


async def versions(
    postgres: Postgres,
    dataset: Dataset,
    text: str,
    *,
    limit: int,
    newest_first: bool = False,
    batches: Sequence[uuid.UUID] = (),
    trace: str | None = None,
) -> list[Row]:
    """The dataset's events that the text names: by their id, by `source/id`, or by their row's key.

    Each with its place in the stream, its batch, the first generation that carried it to readers, and the winner,
    see superseded_by.

    Args:
        text: one that is_writable.
        limit: at most so many, the oldest or the newest.
        batches: those that a trace leads to; their events that were published in the trace are meant, too.
    """
    raw, key = dataset.raw_table, quoted(dataset.key.name)
    if not await postgres.fetchval("SELECT to_regclass($1)::text", raw):
        return []
    order = "DESC" if newest_first else "ASC"
    sql = _VERSIONS.format(raw=raw, key=f"r.{key}", key_name=key, order=order, limit=limit)
    named = (text, _key_value(dataset, text), event_ids(text))
    return await postgres.fetch(sql, dataset.stream, *named, batches, trace)


def superseded_by(version: Row) -> str | None:
    """The id of the event that counts in its place, by what readers see; None if it counts, or they don't see it."""
    if version["status"] in ("open", "held") or version["generation"] is None:
        return None
    winner: tuple[str | None, str | None] = (version["winner_source"], version["winner_id"])
    own = (version["source_system"], version["event_id"])
    return None if winner in {own, (None, None)} else winner[1]


def event_ids(text: str) -> list[str]:
    """The ids that the text can end with, if it is `source/id`: both may have slashes."""
    return [text[at + 1 :] for at, letter in enumerate(text) if letter == "/"]


def is_writable(text: str) -> bool:
    """Whether Postgres can hold the text at all; it names nothing otherwise."""
    return bool(text) and "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def _key_value(dataset: Dataset, text: str) -> object:
    """The text as a value of the key's column; None if it can be none."""
    try:
        match dataset.key.type:
            case ColumnType.INTEGER:
                value = int(text)
                return value if -_BIGINT <= value < _BIGINT else None
            case ColumnType.DATE:
                return date.fromisoformat(text)
            case ColumnType.TIMESTAMP:
                moment = datetime.fromisoformat(text)
                return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    except ValueError:
        return None
    return text
