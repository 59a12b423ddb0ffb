"""A Postgres with the RAW table of orders, and an ingestor on it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from libs.adapters.postgres import Postgres
from libs.datasets import Dataset, load_datasets
from tests.integration.ingestor.room import Room, open_room


@pytest.fixture(scope="session")
def orders() -> Dataset:
    return load_datasets()["orders"]


@pytest.fixture
async def postgres(postgres_url: str) -> AsyncIterator[Postgres]:
    opened = await Postgres.open(postgres_url, service="test", max_size=8)
    yield opened
    await opened.close()


@pytest.fixture
async def room(postgres: Postgres, orders: Dataset) -> Room:
    return await open_room(postgres, orders)
