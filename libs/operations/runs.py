"""Batches as runs: how long each took until readers saw it, how often it was tried; and how far behind readers are."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal

import msgspec

if TYPE_CHECKING:
    from libs.adapters.postgres import Postgres

__all__ = ["SORTS", "Freshness", "Run", "Sort", "freshness", "runs"]

Sort = Literal["opened", "seconds", "rows", "refused", "attempts"]

SORTS: Final[dict[Sort, str]] = {
    "opened": "s.opened_at",
    "seconds": "g.published_at - s.opened_at",
    "rows": "s.received + s.dead_lettered",
    "refused": "s.quarantined + s.dead_lettered",
    "attempts": "(SELECT count(*) FROM ops.generation_batches gb WHERE gb.batch_id = s.id)",
}
"""What runs can be sorted by, and the expression of each."""

_RUNS: Final = """
-- one row per batch, as a run; what is costly to tell is told of the page alone
WITH page AS MATERIALIZED (
    SELECT s.id, {key} AS key FROM ops.batch_status s LEFT JOIN ops.generations g ON g.number = s.generation
    WHERE ($1::text IS NULL OR s.dataset = $1) AND ($2::text IS NULL OR s.status = $2)
      AND ($3::text IS NULL OR starts_with(s.id::text, $3))
    ORDER BY key {direction} NULLS LAST, s.opened_at DESC, s.id LIMIT $4 OFFSET $5
)
SELECT s.id, s.dataset, s.status, s.verdict, s.opened_at, s.closed_at, {rows} AS rows_in,
       s.accepted, s.duplicate, {refused} AS refused, s.generation, s.last_generation,
       s.archived_at, g.published_at, extract(epoch FROM {seconds})::float8 AS seconds, {attempts} AS attempts
FROM page JOIN ops.batch_status s USING (id) LEFT JOIN ops.generations g ON g.number = s.generation
ORDER BY page.key {direction} NULLS LAST, s.opened_at DESC, s.id
"""

_FRESHNESS: Final = """
-- one row per dataset: what readers lack, since when, and how long the last day's batches took to reach them
SELECT b.dataset,
       coalesce(sum(b.accepted) FILTER (WHERE b.generation IS NULL AND b.held_at IS NULL), 0)::bigint AS unread,
       min(b.opened_at) FILTER (WHERE b.generation IS NULL AND b.held_at IS NULL AND b.accepted > 0) AS unread_since,
       max(g.published_at) AS published_at,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM g.published_at - b.opened_at))
           FILTER (WHERE g.published_at > now() - interval '24 hours') AS p50_seconds,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM g.published_at - b.opened_at))
           FILTER (WHERE g.published_at > now() - interval '24 hours') AS p95_seconds
FROM ops.batches b LEFT JOIN ops.generations g ON g.number = b.generation
GROUP BY b.dataset ORDER BY b.dataset
"""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A batch as a run. rows_in = accepted + duplicate + refused, refused being quarantined or dead-lettered.

    seconds: from its opening to the generation that carried it to readers; None while they don't see it.
    attempts: generations that took it up, those that failed, too.
    """

    id: uuid.UUID
    dataset: str
    status: str
    verdict: str | None
    opened_at: datetime
    closed_at: datetime | None
    rows_in: int
    accepted: int
    duplicate: int
    refused: int
    generation: int | None
    last_generation: int | None
    archived_at: datetime | None
    published_at: datetime | None
    seconds: float | None
    attempts: int


class Freshness(msgspec.Struct, frozen=True, kw_only=True):
    """How far readers of a dataset are behind: accepted rows that they don't see yet, the oldest batch of those, when
    they last got something new, and the seconds that the batches of the last 24 hours took to reach them."""

    dataset: str
    unread: int
    unread_since: datetime | None
    published_at: datetime | None
    p50_seconds: float | None
    p95_seconds: float | None


async def runs(
    postgres: Postgres,
    *,
    dataset: str | None = None,
    status: str | None = None,
    starts_with: str | None = None,
    sort: Sort = "opened",
    descending: bool = True,
    limit: int = 50,
    offset: int = 0,
) -> list[Run]:
    """Batches, by default the newest first. starts_with: of the id."""
    sql = _RUNS.format(**SORTS, key=SORTS[sort], direction="DESC" if descending else "ASC")
    rows = await postgres.fetch(sql, dataset, status, starts_with, limit, offset)
    return [Run(**dict(row)) for row in rows]


async def freshness(postgres: Postgres) -> list[Freshness]:
    """One for each dataset that has batches."""
    return [Freshness(**dict(row)) for row in await postgres.fetch(_FRESHNESS)]
