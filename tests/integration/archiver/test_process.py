"""The archiver as a process of its own: killed while it works, while its store is away, and switched off."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import httpx
import pytest

from libs.adapters.objects import Objects
from libs.contracts.events import ArchiveStored
from libs.contracts.streams import ARCHIVE
from libs.operations.archive import verify_archive
from libs.runtime.embedded.objects import ObjectServer
from libs.runtime.processes import free_port
from libs.testing.servers import S3Endpoint
from libs.testing.waiting import until
from tests.integration.archiver.works import Works, an_event, open_objects, orders_placed

ROOT = Path(__file__).parents[3]

Start = Callable[..., Awaitable[tuple[asyncio.subprocess.Process, str]]]


@pytest.fixture
async def start(postgres_url: str, redis_url: str, s3: S3Endpoint, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts an archiver; its process, and the address of its health pages."""
    running: list[asyncio.subprocess.Process] = []

    async def started(**settings: str) -> tuple[asyncio.subprocess.Process, str]:
        port = free_port()
        environment = os.environ | {
            "DRP_HOME": str(tmp_path),
            "DRP_POSTGRES_URL": postgres_url,
            "DRP_REDIS_URL": redis_url,
            "DRP_S3_ENDPOINT_URL": s3.url,
            "DRP_S3_BUCKET": s3.bucket,
            "DRP_S3_ACCESS_KEY": s3.access_key,
            "DRP_S3_SECRET_KEY": s3.secret_key,
            "DRP_HTTP_PORT": str(port),
            "DRP_LOG_FORMAT": "text",
            **settings,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.archiver.app", cwd=ROOT, env=environment
        )
        running.append(process)
        return process, f"http://127.0.0.1:{port}"

    yield started
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def readiness(address: str) -> tuple[int, str]:
    with contextlib.suppress(httpx.TransportError):
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"{address}/readyz")
            return answer.status_code, answer.text
    return 0, ""


async def ready(address: str) -> bool:
    return (await readiness(address))[0] == 200


def all_archived(works: Works) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        waiting = await works.postgres.fetchval(
            "SELECT (SELECT count(*) FROM ops.batches WHERE archived_at IS NULL)"
            " + (SELECT count(*) FROM ops.generations WHERE archive_state = 'pending')"
        )
        return bool(waiting == 0)

    return check


async def sound(works: Works, objects: Objects) -> int:
    """How many objects there are; nothing is wrong with any."""
    report = await verify_archive(works.postgres, objects)
    assert report.problems == []
    assert (report.unarchived, report.unlisted) == (0, 0)
    return report.objects


async def test_what_lands_and_what_is_published_is_archived_and_told(
    works: Works, start: Start, redis_url: str
) -> None:
    _, address = await start()
    await until(lambda: ready(address))
    await works.land(*orders_placed(10), an_event(amount="NaN"))
    await works.publish()

    await until(all_archived(works))

    assert await sound(works, works.objects) == 5
    assert len(await works.told(ArchiveStored)) == 2
    async with httpx.AsyncClient(trust_env=False) as client:
        metrics = (await client.get(f"{address}/metrics")).text
    assert 'drp_archive_objects_total{dataset="orders",kind="raw",outcome="stored"} 1.0' in metrics
    from redis.asyncio import Redis

    async with Redis.from_url(redis_url) as redis:
        await until(lambda: redis.xlen(ARCHIVE))


async def test_killed_again_and_again_it_archives_everything_once(works: Works, start: Start) -> None:
    for number in range(8):
        await works.land(*orders_placed(400, start=number * 400))
    marked = "SELECT count(*) > $1 FROM ops.batches WHERE archived_at IS NOT NULL"
    for more_than in (0, 2, 4):
        victim, _ = await start()
        await until(partial(works.postgres.fetchval, marked, more_than), every=0.005)
        victim.send_signal(signal.SIGKILL)
        await victim.wait()
        if more_than == 0:
            await works.publish()
    await start()

    await until(all_archived(works))

    assert await sound(works, works.objects) == 8 * 2 + 2
    assert len(await works.told(ArchiveStored)) == 9


async def test_while_the_store_is_away_it_waits_says_so_and_goes_on(
    works: Works, start: Start, tmp_path: Path
) -> None:
    server = ObjectServer(tmp_path / "own-objects", free_port())
    endpoint = S3Endpoint(server.url, "archive", server.access_key, server.secret_key, server.region)
    await works.land(an_event("o-1"))
    _, address = await start(DRP_S3_ENDPOINT_URL=server.url, DRP_S3_BUCKET="archive")
    await until(lambda: _unready_because(address, "object store"))
    await works.publish()
    assert (await works.transformer.generation())["state"] == "published"
    try:
        server.start()
        server.wait_ready()
        objects = await open_objects(endpoint)

        await until(all_archived(works))

        await until(lambda: ready(address))
        assert await sound(works, objects) == 4
        await objects.close()
    finally:
        server.stop()


async def _unready_because(address: str, part: str) -> bool:
    status, said = await readiness(address)
    return status == 503 and part in said and "not reached" not in said


async def test_switched_off_it_needs_no_store(works: Works, start: Start) -> None:
    await works.land(an_event("o-1"))
    await works.publish()
    process, address = await start(DRP_ARCHIVE="off", DRP_S3_ENDPOINT_URL="", DRP_S3_ACCESS_KEY="")
    await until(lambda: ready(address))

    async def is_off() -> bool:
        return bool((await works.transformer.generation())["archive_state"] == "off")

    await until(is_off)
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 60) == 0
