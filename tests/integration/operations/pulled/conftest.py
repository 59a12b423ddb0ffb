"""A stream to pull into, and an API to pull from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from libs.adapters.bus import Bus
from libs.datasets import Dataset, load_datasets
from libs.operations import pull as pulling
from tests.integration.operations.pulled.api import Api


@pytest.fixture
def orders() -> Dataset:
    return load_datasets()["orders"]


@pytest.fixture
async def bus(redis_url: str, orders: Dataset) -> AsyncIterator[Bus]:
    opened = await Bus.connect(redis_url, service="tested", consumer="tested-1")
    await opened.ensure_groups({orders.stream: ["ingestor"]})
    yield opened
    await opened.stop()


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    this = Api()
    server = await asyncio.start_server(this.serve, "127.0.0.1", 0)
    this.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/orders"
    yield this
    server.close()
    await this.idle()
    await server.wait_closed()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "FIRST_PAUSE", 0.01)
