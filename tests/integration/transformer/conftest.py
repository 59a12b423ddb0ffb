"""A room of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from libs.adapters.postgres import Postgres, ensure_raw
from libs.datasets import load_datasets
from tests.integration.transformer.room import Room


@pytest.fixture
async def room(postgres_url: str, tmp_path: Path) -> AsyncIterator[Room]:
    orders = load_datasets()["orders"]
    postgres = await Postgres.open(postgres_url, service="test", max_size=8)
    async with postgres.transaction() as connection:
        await ensure_raw(connection, orders)
    yield Room(postgres, orders, tmp_path)
    await postgres.close()
