"""From entries to an archive on real servers, one step at a time, without a bus: a test decides what runs when."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from libs.adapters.objects import Objects
from libs.adapters.postgres import Postgres, Row
from libs.contracts.events import PipelineEvent, decode_event
from libs.datasets import Dataset, load_datasets
from libs.testing.servers import S3Endpoint
from services.archiver.handlers import Archiver
from services.archiver.store import ArchiveStore
from tests.integration.ingestor.room import Event, an_entry, an_event, open_room
from tests.integration.ingestor.room import Room as Ingestor
from tests.integration.transformer.room import Room as Transformer

__all__ = ["Works", "an_entry", "an_event", "lines_of", "open_objects", "orders_placed", "works"]


def lines_of(document: bytes) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in gzip.decompress(document).splitlines()]


def orders_placed(count: int, *, start: int = 0) -> list[Event]:
    return [an_event(f"o-{number}", amount=f"{number}.25") for number in range(start, start + count)]


async def open_objects(s3: S3Endpoint, url: str | None = None) -> Objects:
    return await Objects.open(url or s3.url, s3.bucket, s3.access_key, s3.secret_key, s3.region, patience=5)


@dataclass
class Works:
    postgres: Postgres
    dataset: Dataset
    ingestor: Ingestor
    transformer: Transformer
    objects: Objects
    root: Path

    def archiver(self, objects: Objects | None = None, store: ArchiveStore | None = None) -> Archiver:
        """A replica, or another life of one."""

        async def opened() -> Objects:
            return objects or self.objects

        return Archiver(
            store or ArchiveStore(self.postgres, [self.dataset.name]),
            opened,
            {self.dataset.name: self.dataset},
            self.root,
        )

    async def land(self, *events: Event | bytes) -> Row:
        """A closed batch of these events; its row."""
        await self.ingestor.land(an_entry(*events))
        await self.ingestor.landing.drain()
        return await self.batch()

    async def batch(self) -> Row:
        """The newest batch."""
        row = await self.postgres.fetchrow("SELECT * FROM ops.batches ORDER BY opened_at DESC LIMIT 1")
        assert row is not None
        return row

    async def publish(self) -> int:
        """What landed becomes what readers see."""
        await self.transformer.main.tend()
        number = await self.transformer.judge()
        await self.transformer.main.tend()
        return number

    async def archive(self) -> int:
        return await self.archiver().archive_waiting()

    async def keys(self) -> list[str]:
        return [head.key async for head in self.objects.list("")]

    async def key(self, ending: str) -> str:
        """The one key that ends so."""
        (found,) = [key for key in await self.keys() if key.endswith(ending)]
        return found

    async def recorded(self) -> dict[str, Row]:
        rows = await self.postgres.fetch("SELECT * FROM ops.archive_objects ORDER BY key")
        return {row["key"]: row for row in rows}

    async def told(self, kind: type[PipelineEvent]) -> list[Any]:
        rows = await self.postgres.fetch(
            "SELECT document FROM ops.outbox WHERE type = $1 ORDER BY id", kind.type
        )
        return [decode_event(row["document"])[1] for row in rows]

    async def overwrite(self, key: str, body: bytes) -> None:
        """As no archiver would: replace an object."""
        await self.objects._client.delete_object(Bucket=self.objects.bucket, Key=key)
        await self.objects.put_once(key, body, sha256=hashlib.sha256(body).hexdigest(), content_type="x/y")

    async def remove(self, key: str) -> None:
        await self.objects._client.delete_object(Bucket=self.objects.bucket, Key=key)


@pytest.fixture
async def works(postgres_url: str, s3: S3Endpoint, tmp_path: Path) -> AsyncIterator[Works]:
    orders = load_datasets()["orders"]
    postgres = await Postgres.open(postgres_url, service="test", max_size=8)
    objects = await open_objects(s3)
    ingestor = await open_room(postgres, orders)
    root = tmp_path / "warehouse"
    yield Works(postgres, orders, ingestor, Transformer(postgres, orders, root), objects, root)
    await objects.close()
    await postgres.close()
