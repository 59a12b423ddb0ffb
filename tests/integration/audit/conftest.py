"""The audit's store on a Postgres of the test's own, and a receiver for its alerts."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from libs.adapters.postgres import Postgres
from services.audit.store import AuditStore
from services.audit.webhook import Webhook, open_webhook
from tests.integration.audit.receiver import Receiver


@pytest.fixture
async def postgres(postgres_url: str) -> AsyncIterator[Postgres]:
    opened = await Postgres.open(postgres_url, service="test", max_size=6)
    yield opened
    await opened.close()


@pytest.fixture
def store(postgres: Postgres) -> AuditStore:
    return AuditStore(postgres)


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
async def webhook(receiver: Receiver) -> AsyncIterator[Webhook]:
    opened = open_webhook(await receiver.start())
    yield opened
    await opened.close()
    await receiver.stop()
