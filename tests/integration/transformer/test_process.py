"""The transformer as its own process: woken by events, killed in the middle of a build, and ended in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from libs.adapters.bus import Bus, Entry
from libs.contracts.events import (
    BatchClosed,
    QualityPassed,
    WarehouseBuilt,
    WarehousePublished,
    batch_subject,
    encode_event,
    generation_subject,
)
from libs.contracts.streams import BATCHES, GROUPS, QUALITY, WAREHOUSE
from libs.errors import Permanent
from libs.testing.waiting import until
from services.transformer.handlers import hear
from tests.integration.transformer.room import Room, orders

ROOT = Path(__file__).parents[3]
NOW = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)

DIES_WHILE_BUILDING = """
import os, signal
from libs.pipeline import build_steps
build_steps.Steps.model = lambda self: os.kill(os.getpid(), signal.SIGKILL)
from services.transformer.app import main
main()
"""

Start = Callable[..., Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
async def start(room: Room, redis_url: str) -> AsyncIterator[Start]:
    running: list[asyncio.subprocess.Process] = []
    environment = os.environ | {
        "DRP_HOME": str(room.root),
        "DRP_POSTGRES_URL": room.postgres.url,
        "DRP_REDIS_URL": redis_url,
        "DRP_CONSUMER": "transformer-1",
        "DRP_LOG_FORMAT": "text",
    }
    room.root = room.root / "warehouse"

    async def run(program: str | None = None) -> asyncio.subprocess.Process:
        what = ["-m", "services.transformer.app"] if program is None else ["-c", program]
        process = await asyncio.create_subprocess_exec(sys.executable, *what, cwd=ROOT, env=environment)
        running.append(process)
        return process

    yield run
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@pytest.fixture
async def bus(redis_url: str) -> AsyncIterator[Bus]:
    opened = await Bus.connect(redis_url, service="test", consumer="test")
    await opened.ensure_groups(GROUPS)
    yield opened
    await opened.stop()


def batch_closed(batch: uuid.UUID) -> bytes:
    event = BatchClosed(
        dataset="orders",
        started_at=NOW,
        ended_at=NOW,
        records=1,
        batch_id=batch,
        reason="age",
        received=1,
        accepted=1,
        duplicate=0,
        quarantined=0,
        conflicts=0,
        dead_lettered=0,
    )
    return encode_event(event, cause=batch, subject=batch_subject(batch), traceparent=None)[1]


def quality_passed(number: int) -> bytes:
    event = QualityPassed(
        dataset="orders",
        started_at=NOW,
        ended_at=NOW,
        records=1,
        generation=number,
        batches=[],
        sha256="",
        rules=1,
    )
    return encode_event(event, cause=uuid.uuid4(), subject=generation_subject(number), traceparent=None)[1]


async def state(room: Room) -> str | None:
    found: str | None = await room.postgres.fetchval(
        "SELECT state FROM ops.generations ORDER BY number DESC LIMIT 1"
    )
    return found


async def test_an_event_is_enough_to_build_and_another_to_publish(room: Room, start: Start, bus: Bus) -> None:
    process = await start()
    batch = await room.land(*orders("a"))
    await bus.publish(BATCHES, [batch_closed(batch)])

    async def is_built() -> bool:
        return await state(room) == "built"

    await until(is_built)
    await bus.publish(QUALITY, [quality_passed(await room.judge())])

    async def is_published() -> bool:
        return await state(room) == "published" and room.warehouse.current() is not None

    await until(is_published)
    assert await room.seen() == ["a"]

    async def told() -> bool:
        return await bus.length(WAREHOUSE) == 2

    await until(told)
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 60) == 0
    heard = await room.postgres.fetchval("SELECT count(*) FROM ops.inbox WHERE consumer = 'transformer'")
    assert heard == 2


async def test_no_event_is_needed(room: Room, start: Start) -> None:
    await room.land(*orders("a"))
    await start()

    async def is_built() -> bool:
        return await state(room) == "built"

    await until(is_built)
    await room.judge()

    async def is_published() -> bool:
        return await state(room) == "published"

    await until(is_published)


async def test_a_transformer_killed_in_a_build_is_followed_by_one_that_does_it(
    room: Room, start: Start
) -> None:
    await room.land(*orders("a"))
    killed = await start(DIES_WHILE_BUILDING)
    assert await asyncio.wait_for(killed.wait(), 60) == -signal.SIGKILL
    assert await state(room) == "building"
    await start()

    async def is_built() -> bool:
        return await state(room) == "built"

    await until(is_built)
    assert await room.states() == ["abandoned", "built"]
    assert len(await room.announced(WarehouseBuilt)) == 1
    assert await room.announced(WarehousePublished) == []

    async def cleared() -> bool:
        return room.warehouse.files() == {(await room.generation())["file"]}

    await until(cleared)


async def test_an_event_heard_twice_is_remembered_once(room: Room) -> None:
    nudged: list[str] = []
    batch = uuid.uuid4()
    entry = Entry(
        stream=BATCHES, id="1-0", data=batch_closed(batch), traceparent=None, deliveries=1, fields={}
    )
    for _ in range(2):
        await hear([entry], postgres=room.postgres, transformers={"orders": room.main}, nudge=nudged.append)
    assert nudged == ["orders", "orders"]
    assert await room.postgres.fetchval("SELECT count(*) FROM ops.inbox") == 1


async def test_what_is_no_pipeline_event_is_refused(room: Room) -> None:
    entry = Entry(stream=BATCHES, id="1-0", data=b"{}", traceparent=None, deliveries=1, fields={})
    with pytest.raises(Permanent, match="no pipeline event"):
        await hear([entry], postgres=room.postgres, transformers={}, nudge=lambda _: None)
