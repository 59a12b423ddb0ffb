"""The whole way of a batch up to the archive, and a bus beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from libs.adapters.bus import Bus
from libs.contracts.streams import DATASET_GROUPS, GROUPS
from tests.integration.archiver.works import works

__all__ = ["bus", "works"]


@pytest.fixture
async def bus(redis_url: str) -> AsyncIterator[Bus]:
    """With every stream and group, that of orders too."""
    opened = await Bus.connect(redis_url, service="test", consumer="test-1")
    await opened.ensure_groups({**GROUPS, "orders": DATASET_GROUPS})
    yield opened
    await opened.stop()
