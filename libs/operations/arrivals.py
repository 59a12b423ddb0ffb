"""What came last: the newest events of every dataset, taken or not, without their payload; and a payload when asked."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from libs.datasets import Dataset, quoted

if TYPE_CHECKING:
    from libs.adapters.postgres import Postgres, Row

__all__ = ["Arrival", "newest_arrivals", "payloads"]

_TAKEN: Final = """
-- one row per accepted event, newest first
SELECT r.source_system, r.event_id, r.event_type, {key}::text AS key, r.ingested_at AS at, r.batch_id, s.status,
       r.stream_entry_id, r.stream_position
FROM (SELECT * FROM {raw} ORDER BY id DESC LIMIT $1) r JOIN ops.batch_status s ON s.id = r.batch_id
ORDER BY r.id DESC
"""

_REFUSED: Final = """
-- one row per slot that was not taken, newest first
SELECT q.id, q.dataset, q.disposition, q.reason, q.source_system, q.event_id, q.created_at AS at, q.batch_id,
       s.status, q.stream_entry_id, q.stream_position
FROM (SELECT * FROM raw.quarantine ORDER BY id DESC LIMIT $1) q JOIN ops.batch_status s ON s.id = q.batch_id
ORDER BY q.id DESC
"""

_PAYLOADS: Final = """
-- one row per event: what its producer sent, as text
SELECT id, jsonb_pretty(raw_payload) AS payload FROM {raw} WHERE id = ANY($1::bigint[])
"""


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """An event as it landed, from a place in its stream's entry.

    disposition: accepted, quarantined or dead-lettered; number: of its quarantined slot.
    """

    dataset: str
    disposition: str
    source: str | None
    event_id: str | None
    type: str | None = None
    key: str | None = None
    number: int | None = None
    reason: str | None = None
    at: datetime
    batch: uuid.UUID
    batch_status: str
    entry: str
    position: int


async def newest_arrivals(
    postgres: Postgres, datasets: Mapping[str, Dataset], *, limit: int
) -> list[Arrival]:
    """At most so many, the newest first; repeats leave no row, and are not among them."""
    found = [_refused(row) for row in await postgres.fetch(_REFUSED, limit)]
    for dataset in datasets.values():
        if await postgres.fetchval("SELECT to_regclass($1)::text", dataset.raw_table):
            sql = _TAKEN.format(raw=dataset.raw_table, key=f"r.{quoted(dataset.key.name)}")
            found += [_taken(dataset, row) for row in await postgres.fetch(sql, limit)]
    return sorted(found, key=lambda each: (each.at, each.entry, each.position), reverse=True)[:limit]


async def payloads(postgres: Postgres, dataset: Dataset, raw_ids: Sequence[int]) -> dict[int, str]:
    """What the producers of these rows of RAW sent, as indented JSON, by the rows' ids."""
    rows = await postgres.fetch(_PAYLOADS.format(raw=dataset.raw_table), list(raw_ids))
    return {row["id"]: row["payload"] for row in rows}


def _taken(dataset: Dataset, row: Row) -> Arrival:
    return Arrival(
        dataset=dataset.name,
        disposition="accepted",
        source=row["source_system"],
        event_id=row["event_id"],
        type=row["event_type"],
        key=row["key"],
        at=row["at"],
        batch=row["batch_id"],
        batch_status=row["status"],
        entry=row["stream_entry_id"],
        position=row["stream_position"],
    )


def _refused(row: Row) -> Arrival:
    return Arrival(
        dataset=row["dataset"],
        disposition=row["disposition"],
        source=row["source_system"],
        event_id=row["event_id"],
        number=row["id"],
        reason=row["reason"],
        at=row["at"],
        batch=row["batch_id"],
        batch_status=row["status"],
        entry=row["stream_entry_id"],
        position=row["stream_position"],
    )
