"""The archive as folders: what is known of its objects, without reading one."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from libs.adapters.postgres import Postgres

__all__ = ["ArchivedFile", "Folder", "folders", "objects_in"]

_FOLDERS: Final = """
-- one row per folder of a day: the newest days of each root and dataset
SELECT root, dataset, day, objects, records, bytes, stored_at, days FROM (
    SELECT split_part(key, '/', 1) AS root, dataset, split_part(key, '/', 3) AS day, count(*) AS objects,
           coalesce(sum(records) FILTER (WHERE kind <> 'manifest'), 0)::bigint AS records,
           sum(bytes)::bigint AS bytes, max(stored_at) AS stored_at,
           count(*) OVER (PARTITION BY split_part(key, '/', 1), dataset) AS days,
           row_number() OVER (
               PARTITION BY split_part(key, '/', 1), dataset ORDER BY split_part(key, '/', 3) DESC
           ) AS place
    FROM ops.archive_objects GROUP BY 1, 2, 3
) AS folder
WHERE place <= $1 ORDER BY root DESC, dataset, day DESC
"""

_OBJECTS: Final = """
-- one row per object of a folder, newest first
SELECT key, kind, batch_id, generation, records, bytes, sha256, stored_at FROM ops.archive_objects
WHERE dataset = $1 AND starts_with(key, $2) ORDER BY stored_at DESC, key LIMIT $3
"""


class Folder(msgspec.Struct, frozen=True, kw_only=True):
    """The objects of a day. root: `raw` or `analytics`; day: as the keys have it, `ingest_date=…` or `snapshot_date=…`.

    records: those of documents and marts. days: how many such folders there are beside it, itself among them.
    """

    root: str
    dataset: str
    day: str
    objects: int
    records: int
    bytes: int
    stored_at: datetime
    days: int

    @property
    def prefix(self) -> str:
        return f"{self.root}/{self.dataset}/{self.day}/"


class ArchivedFile(msgspec.Struct, frozen=True, kw_only=True):
    """An object as it was recorded when it was stored."""

    key: str
    kind: str
    batch_id: uuid.UUID | None
    generation: int | None
    records: int
    bytes: int
    sha256: str
    stored_at: datetime


async def folders(postgres: Postgres, *, newest: int = 30) -> list[Folder]:
    """The newest days of each root and dataset; snapshots after raw batches."""
    return [Folder(**dict(row)) for row in await postgres.fetch(_FOLDERS, newest)]


async def objects_in(
    postgres: Postgres, *, dataset: str, prefix: str, limit: int = 200
) -> list[ArchivedFile]:
    """The objects below the prefix, newest first."""
    return [ArchivedFile(**dict(row)) for row in await postgres.fetch(_OBJECTS, dataset, prefix, limit)]
