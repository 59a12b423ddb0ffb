"""The whole way of a batch up to the archive, and a bus to publish it again."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from libs.adapters.bus import Bus
from libs.contracts.streams import DATASET_GROUPS
from tests.integration.archiver.works import works

__all__ = ["bus", "works"]


@pytest.fixture
async def bus(redis_url: str) -> AsyncIterator[Bus]:
    """With the stream and the group of orders."""
    opened = await Bus.connect(redis_url, service="test", consumer="test-1")
    await opened.ensure_groups({"orders": DATASET_GROUPS})
    yield opened
    await opened.stop()
