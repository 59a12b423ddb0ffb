"""Batches from stream to archive, each side counted now: what an auditor lays side by side."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from libs.errors import Permanent

if TYPE_CHECKING:
    from libs.adapters.postgres import Postgres
    from libs.adapters.warehouse import Database
    from libs.datasets import Dataset

__all__ = [
    "Balance",
    "Part",
    "Taken",
    "balance_of",
    "balances",
    "files_that_readers_see",
    "taken_by_batch",
    "unbalanced",
]

_THERE: Final = """
-- one row per dataset whose RAW table was made
SELECT dataset FROM unnest($1::text[], $2::text[]) AS t (dataset, relation) WHERE to_regclass(relation) IS NOT NULL
"""

_PAGE: Final = """
    SELECT b.id FROM ops.batches b
    WHERE ($1::text IS NULL OR b.dataset = $1) AND ($2::text IS NULL OR starts_with(b.id::text, $2))
    ORDER BY b.opened_at DESC, b.id LIMIT $3 OFFSET $4
"""

_PAGE_OF_UNBALANCED: Final = """
    SELECT b.id FROM ops.batches b
    LEFT JOIN (
        SELECT batch_id, sum(accepted) AS accepted, sum(duplicate) AS duplicate, sum(quarantined) AS quarantined,
               sum(dead_lettered) AS dead_lettered
        FROM ops.entries GROUP BY batch_id
    ) e ON e.batch_id = b.id
    LEFT JOIN ({rows}) r ON r.batch_id = b.id
    LEFT JOIN (SELECT batch_id, count(*) AS rows FROM raw.quarantine GROUP BY batch_id) q ON q.batch_id = b.id
    LEFT JOIN (
        SELECT batch_id, sum(records) FILTER (WHERE kind = 'raw') AS accepted,
               sum(records) FILTER (WHERE kind = 'quarantine') AS refused
        FROM ops.archive_objects WHERE batch_id IS NOT NULL GROUP BY batch_id
    ) o ON o.batch_id = b.id
    LEFT JOIN unnest($5::uuid[], $6::bigint[]) AS t (batch_id, rows) ON t.batch_id = b.id
    LEFT JOIN ops.warehouse_pointer p ON p.dataset = b.dataset
    LEFT JOIN ops.generations g ON g.number = p.generation
    WHERE ($1::text IS NULL OR b.dataset = $1) AND ($2::text IS NULL OR starts_with(b.id::text, $2))
      AND ((b.accepted, b.duplicate, b.quarantined, b.dead_lettered)
            <> (coalesce(e.accepted, 0), coalesce(e.duplicate, 0), coalesce(e.quarantined, 0),
                coalesce(e.dead_lettered, 0))
        OR (b.dataset = ANY($7::text[]) AND b.accepted <> coalesce(r.rows, 0))
        OR b.quarantined + b.dead_lettered <> coalesce(q.rows, 0)
        OR (b.archived_at IS NOT NULL AND (b.accepted, b.quarantined + b.dead_lettered)
            <> (coalesce(o.accepted, 0), coalesce(o.refused, 0)))
        OR (g.file = ANY($8::text[]) AND b.generation IS NOT NULL AND b.accepted <> coalesce(t.rows, 0)))
    ORDER BY b.opened_at DESC, b.id LIMIT $3 OFFSET $4
"""
"""$5 and $6: the rows that each batch has in the generations whose files $8 names."""

_BALANCES: Final = """
-- one row per batch of the page, newest first: what it counted, its entries, its rows and its objects, at one moment
WITH page AS MATERIALIZED ({page})
SELECT b.id, b.dataset, s.status, b.opened_at, b.closed_at, b.archived_at,
       e.entries, e.events, e.accepted AS entries_accepted, e.duplicate AS entries_duplicate,
       e.quarantined AS entries_quarantined, e.dead_lettered AS entries_dead_lettered,
       b.received + b.dead_lettered AS landed, b.accepted, b.duplicate, b.quarantined, b.conflicts, b.dead_lettered,
       CASE b.dataset {rows} END AS raw_rows,
       (SELECT count(*) FROM raw.quarantine q WHERE q.batch_id = b.id) AS quarantine_rows,
       b.generation, s.last_generation, s.verdict, p.generation AS read_generation, g.file AS read_file,
       o.accepted AS archived_accepted, o.refused AS archived_refused
FROM page JOIN ops.batches b USING (id) JOIN ops.batch_status s USING (id)
LEFT JOIN ops.warehouse_pointer p ON p.dataset = b.dataset
LEFT JOIN ops.generations g ON g.number = p.generation
CROSS JOIN LATERAL (
    SELECT count(*) AS entries, coalesce(sum(events), 0)::bigint AS events,
           coalesce(sum(accepted), 0)::bigint AS accepted, coalesce(sum(duplicate), 0)::bigint AS duplicate,
           coalesce(sum(quarantined), 0)::bigint AS quarantined,
           coalesce(sum(dead_lettered), 0)::bigint AS dead_lettered
    FROM ops.entries WHERE batch_id = b.id
) e
CROSS JOIN LATERAL (
    SELECT coalesce(sum(records) FILTER (WHERE kind = 'raw'), 0)::bigint AS accepted,
           coalesce(sum(records) FILTER (WHERE kind = 'quarantine'), 0)::bigint AS refused
    FROM ops.archive_objects WHERE batch_id = b.id
) o
ORDER BY b.opened_at DESC, b.id
"""

_CURRENT: Final = """
-- one row per dataset that has something to read: the file of the generation that readers see
SELECT p.dataset, g.file FROM ops.warehouse_pointer p JOIN ops.generations g ON g.number = p.generation
WHERE g.file IS NOT NULL
"""

_TAKEN: Final = """
-- one row per batch that the generation carries: its rows, and what became of them
SELECT b.batch_id, b.raw_rows, coalesce(s.rows, 0), coalesce(r.rows, 0)
FROM meta.batches b
LEFT JOIN (SELECT batch_id, count(*) AS rows FROM {staging} GROUP BY batch_id) s USING (batch_id)
LEFT JOIN (SELECT batch_id, count(*) AS rows FROM {rejected} GROUP BY batch_id) r USING (batch_id)
"""


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """A batch, counted on each side.

    entries: those of the stream that it took, and events what they carried; entries_…: by what became of these, as the
    entries say. landed = accepted + duplicate + quarantined + dead_lettered, as the batch says. raw_rows and
    quarantine_rows are counted now; raw_rows is None if there is no such table. read_generation and read_file: what
    readers of the dataset see, whether it carries the batch or not. archived_accepted and archived_refused: records of
    its objects.
    """

    id: uuid.UUID
    dataset: str
    status: str
    opened_at: datetime
    closed_at: datetime | None
    archived_at: datetime | None
    entries: int
    events: int
    entries_accepted: int
    entries_duplicate: int
    entries_quarantined: int
    entries_dead_lettered: int
    landed: int
    accepted: int
    duplicate: int
    quarantined: int
    conflicts: int
    dead_lettered: int
    raw_rows: int | None
    quarantine_rows: int
    generation: int | None
    last_generation: int | None
    verdict: str | None
    read_generation: int | None
    read_file: str | None
    archived_accepted: int
    archived_refused: int

    @property
    def refused(self) -> int:
        return self.quarantined + self.dead_lettered


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Of which batches; starts_with: of the id."""

    dataset: str | None = None
    starts_with: str | None = None
    limit: int = 50
    offset: int = 0


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What a generation made of a batch: rows = staged + rejected + those that a later version superseded."""

    rows: int
    staged: int
    rejected: int

    @property
    def superseded(self) -> int:
        return self.rows - self.staged - self.rejected


async def balances(
    postgres: Postgres,
    datasets: Mapping[str, Dataset],
    part: Part,
) -> list[Balance]:
    """Batches, the newest first."""
    there = await _there(postgres, datasets)
    sql = _BALANCES.format(page=_PAGE, rows=_counted(there))
    rows = await postgres.fetch(sql, part.dataset, part.starts_with, part.limit, part.offset)
    return [Balance(**dict(row)) for row in rows]


async def unbalanced(
    postgres: Postgres,
    datasets: Mapping[str, Dataset],
    part: Part,
    *,
    taken: Mapping[str, Mapping[uuid.UUID, Taken]],
) -> list[Balance]:
    """Batches of which two sides differ, the newest first. Reads all of RAW's index: slower than a page of all.

    Args:
        taken: of the generations that readers see, by file; one that is left out is not compared.
    """
    there = await _there(postgres, datasets)
    rows_of = " UNION ALL ".join(
        f"SELECT batch_id, count(*) AS rows FROM {each.raw_table} GROUP BY batch_id" for each in there
    )
    none = "SELECT NULL::uuid AS batch_id, NULL::bigint AS rows WHERE false"
    page = _PAGE_OF_UNBALANCED.format(rows=rows_of or none)
    carried = [(batch, each.rows) for one in taken.values() for batch, each in one.items()]
    rows = await postgres.fetch(
        _BALANCES.format(page=page, rows=_counted(there)),
        part.dataset,
        part.starts_with,
        part.limit,
        part.offset,
        [batch for batch, _ in carried],
        [count for _, count in carried],
        [each.name for each in there],
        list(taken),
    )
    return [Balance(**dict(row)) for row in rows]


async def balance_of(postgres: Postgres, datasets: Mapping[str, Dataset], batch_id: uuid.UUID) -> Balance:
    """
    Raises:
        Permanent: there is no such batch.
    """
    found = await balances(postgres, datasets, Part(starts_with=str(batch_id), limit=1))
    if not found:
        raise Permanent(f"there is no batch {batch_id}", fix="drp batches ls")
    return found[0]


async def files_that_readers_see(postgres: Postgres) -> dict[str, str]:
    """The names of the generations' files, by dataset."""
    return {row["dataset"]: row["file"] for row in await postgres.fetch(_CURRENT)}


def taken_by_batch(generation: Database, dataset: Dataset) -> dict[uuid.UUID, Taken]:
    """What a generation's file has of every batch that it carries. Blocks.

    Raises:
        Transient, Permanent: of the file.
    """
    sql = _TAKEN.format(staging=dataset.staging_table, rejected=dataset.rejected_table)
    return {
        batch: Taken(rows=rows, staged=staged, rejected=rejected)
        for batch, rows, staged, rejected in generation.rows(sql)
    }


async def _there(postgres: Postgres, datasets: Mapping[str, Dataset]) -> list[Dataset]:
    relations = [each.raw_table for each in datasets.values()]
    rows = await postgres.fetch(_THERE, list(datasets), relations)
    return [datasets[row["dataset"]] for row in rows]


def _counted(there: Sequence[Dataset]) -> str:
    """The arms that count RAW's rows, each over the index of its own table."""
    arms = [
        f"WHEN '{each.name}' THEN (SELECT count(*) FROM {each.raw_table} r WHERE r.batch_id = b.id)"
        for each in there
    ]
    return " ".join(arms) or "WHEN NULL THEN NULL::bigint"
