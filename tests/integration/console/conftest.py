"""The console over real servers, in the test's own process; a test says which of them are away."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from libs.adapters.bus import Bus
from libs.contracts.streams import DATASET_GROUPS, GROUPS
from libs.datasets import load_datasets
from libs.runtime.processes import free_port
from libs.testing.servers import S3Endpoint
from services.console.handlers import create_app
from services.console.looks.room import Room
from services.console.settings import ConsoleSettings
from tests.integration.archiver.works import works

__all__ = ["works"]


@dataclass
class Console:
    """The console as a browser sees it."""

    http: httpx.AsyncClient
    room: Room
    stop: asyncio.Event

    async def page(self, address: str, *, status: int = 200, **headers: str) -> str:
        answer = await self.http.get(address, headers=headers)
        assert answer.status_code == status, answer.text[:2000]
        return answer.text

    async def text(self, address: str) -> str:
        """What a page says, without its tags; where a word may be broken, it is not."""
        body = (await self.page(address)).partition("<main")[2].replace("<wbr>", "")
        return " ".join(re.sub(r"<[^>]+>", " ", body).split())

    async def json(self, address: str) -> Any:
        return (await self.http.get(address)).json()


def nowhere(url: str) -> str:
    """The address of a server that is not there, of the same kind."""
    return re.sub(r"^(\w+://)(?:[^@/]*@)?[^/]+", rf"\g<1>127.0.0.1:{free_port()}", url)


@pytest.fixture
async def console(
    postgres_url: str, redis_url: str, s3: S3Endpoint, traces: str, tmp_path: Path
) -> AsyncIterator[Callable[..., Console]]:
    """Open a console; servers named in `away` are not there for it."""
    doors = AsyncExitStack()
    bus = await Bus.connect(redis_url, service="test", consumer="test-1")
    doors.push_async_callback(bus.stop)
    await bus.ensure_groups({**GROUPS, "orders": DATASET_GROUPS})

    def opened(*away: str, **values: Any) -> Console:
        urls = {
            "redis_url": redis_url,
            "postgres_url": postgres_url,
            "s3_endpoint_url": s3.url,
            "traces_url": traces,
        }
        for name in away:
            urls[name] = nowhere(urls[name])
        store = {"s3_access_key": s3.access_key, "s3_secret_key": s3.secret_key, "s3_bucket": s3.bucket}
        settings = ConsoleSettings(**{"home": tmp_path, **store, **urls, **values})
        stop = asyncio.Event()
        room = Room(settings, load_datasets(), stop)
        doors.push_async_callback(room.close)
        app = create_app(settings.console_hosts)
        app.state.room = room
        http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")
        doors.push_async_callback(http.aclose)
        return Console(http, room, stop)

    yield opened
    await doors.aclose()
