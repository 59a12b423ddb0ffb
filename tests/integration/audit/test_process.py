"""The audit as a process, alone: no ingestor, no archiver is there to do what is late."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from libs.adapters.postgres import Postgres
from libs.testing.waiting import until

ROOT = Path(__file__).parents[3]

Start = Callable[..., Awaitable[None]]


@pytest.fixture
async def start(postgres_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Start]:
    running: list[asyncio.subprocess.Process] = []

    async def started(**settings: str) -> None:
        environment = os.environ | {
            "DRP_HOME": str(tmp_path),
            "DRP_POSTGRES_URL": postgres_url,
            "DRP_REDIS_URL": redis_url,
            "DRP_BATCH_DEADLINE": "0.4",
            "DRP_BATCH_MAX_AGE": "0.1",
            "DRP_LOG_FORMAT": "text",
            **settings,
        }
        running.append(
            await asyncio.create_subprocess_exec(
                sys.executable, "-m", "services.audit.app", cwd=ROOT, env=environment
            )
        )

    yield started
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@pytest.mark.parametrize(
    ("archive", "flows"),
    [
        ("on", ["deadline", "deadline-archive", "deadline-open", "deadline-stream"]),
        ("off", ["deadline", "deadline-open", "deadline-stream"]),
    ],
)
async def test_everything_that_is_stuck_is_told(
    start: Start, postgres: Postgres, redis_url: str, archive: str, flows: list[str]
) -> None:
    await postgres.execute(
        "INSERT INTO ops.batches (id, dataset, opened_by, received, accepted) VALUES ($1, 'orders', 't', 7, 7)",
        uuid4(),
    )
    await postgres.execute(
        "INSERT INTO ops.batches (id, dataset, opened_by, state, closed_at, received, accepted) "
        "VALUES ($1, 'orders', 't', 'closed', now(), 7, 7)",
        uuid4(),
    )
    async with Redis.from_url(redis_url) as client:
        await client.xadd("orders", {"data": "1"})
    await start(DRP_ARCHIVE=archive)

    async def told() -> list[str]:
        rows = await postgres.fetch("SELECT DISTINCT flow_name FROM ops.alerts ORDER BY 1")
        return [row["flow_name"] for row in rows]

    async def all_told() -> bool:
        return len(await told()) >= len(flows)

    asked: Callable[[], object] = all_told
    await until(asked)
    assert await told() == flows
