"""The generator's pages over a real stream, in the test's own process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec
import pytest

from libs.adapters.bus import Bus
from libs.datasets import Dataset, load_datasets
from services.generator.handlers import create_app
from services.generator.publishing import OrderDoor


@dataclass
class Room:
    """The generator as a producer sees it, and the stream behind it."""

    http: httpx.AsyncClient
    bus: Bus
    dataset: Dataset

    async def events(self) -> list[dict[str, Any]]:
        """What is in the stream, event by event."""
        found: list[dict[str, Any]] = []
        async for entry in self.bus.unhandled(self.dataset.stream, "ingestor"):
            document = msgspec.json.decode(entry.data)
            found += document if isinstance(document, list) else [document]
        return found


@pytest.fixture
def limit() -> int:
    """Entries that may wait in the stream."""
    return 1_000


@pytest.fixture
async def room(redis_url: str, limit: int) -> AsyncIterator[Room]:
    bus = await Bus.connect(redis_url, service="generator", consumer="generator-1")
    dataset = load_datasets()["orders"]
    await bus.ensure_groups({dataset.stream: ["ingestor"]})
    app = create_app()
    app.state.bus = bus
    app.state.door = OrderDoor(bus, dataset, limit=limit)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://drp") as http:
        yield Room(http, bus, dataset)
    await bus.stop()
