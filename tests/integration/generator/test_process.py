"""The generator as a process of its own, as it runs in the platform."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from libs.adapters.bus import Bus
from libs.runtime.processes import free_port
from libs.testing.waiting import until

Run = Callable[..., str]


@pytest.fixture
def run(redis_url: str, tmp_path: Path) -> Iterator[Run]:
    """Start the generator with these settings; its URL."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(**settings: str) -> str:
        port = free_port()
        env = {
            "PATH": os.environ["PATH"],
            "DRP_HOME": str(tmp_path),
            "DRP_REDIS_URL": redis_url,
            "DRP_HTTP_PORT": str(port),
            **settings,
        }
        processes.append(subprocess.Popen([sys.executable, "-m", "services.generator.app"], env=env))
        return f"http://127.0.0.1:{port}"

    yield start
    for process in processes:
        process.terminate()
        assert process.wait(15) == 0


@asynccontextmanager
async def ready(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:

        async def answers() -> bool:
            try:
                return (await http.get("/readyz")).status_code == 200
            except httpx.TransportError:
                return False

        await until(answers)
        yield http


async def made(redis_url: str) -> list[dict[str, Any]]:
    bus = await Bus.connect(redis_url, service="tested", consumer="tested-1")
    documents = [msgspec.json.decode(entry.data) async for entry in bus.unhandled("orders", "ingestor")]
    await bus.stop()
    return [one for document in documents for one in (document if isinstance(document, list) else [document])]


async def test_it_takes_an_order_and_is_measured(run: Run, redis_url: str) -> None:
    async with ready(run()) as http:
        (example,) = (await http.get("/v1/orders?limit=1")).json()["records"]
        assert (await http.post("/v1/orders", json=example)).status_code == 202
        assert (await http.get("/health")).status_code == 200
        assert 'drp_produced_events_total{origin="http"} 1.0' in (await http.get("/metrics")).text
    assert [event["data"] for event in await made(redis_url)] == [example]


async def test_by_itself_it_publishes_at_its_rate_and_never_an_id_twice(run: Run, redis_url: str) -> None:
    async with ready(run(DRP_GENERATOR_RATE="500", DRP_GENERATOR_NEGATIVE="0.1")):

        async def enough() -> bool:
            return len(await made(redis_url)) > 600

        await until(enough, every=0.2)
    events = await made(redis_url)
    assert len({event["id"] for event in events}) == len(events)
    negative = sum(event["data"]["amount"].startswith("-") for event in events)
    assert abs(negative - len(events) / 10) <= 1


async def test_by_default_it_publishes_nothing(run: Run, redis_url: str) -> None:
    async with ready(run()):
        assert await made(redis_url) == []
