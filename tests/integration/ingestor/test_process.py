"""The ingestor as its own process, on real servers, killed as a power cut would."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from libs.adapters.bus import Bus
from libs.adapters.postgres import Postgres
from libs.contracts.streams import DATASET_GROUPS
from libs.datasets import Dataset
from libs.testing.waiting import until
from tests.integration.ingestor.room import Room, an_event, open_room

ROOT = Path(__file__).parents[3]

MORTAL = """
import os, signal
from libs.pipeline.decode import Decoder
read = Decoder.decode
def decode(self, entry_data, *, entry_id):
    if b"KILLS" in entry_data:
        os.kill(os.getpid(), signal.SIGKILL)
    return read(self, entry_data, entry_id=entry_id)
Decoder.decode = decode
from services.ingestor.app import main
main()
"""


@dataclass
class Processes:
    """Ingestors by the name of their consumer."""

    environment: dict[str, str]
    running: list[asyncio.subprocess.Process] = field(default_factory=list)

    async def start(self, consumer: str, *, program: str | None = None) -> asyncio.subprocess.Process:
        what = ["-m", "services.ingestor.app"] if program is None else ["-c", program]
        process = await asyncio.create_subprocess_exec(
            sys.executable, *what, cwd=ROOT, env=self.environment | {"DRP_CONSUMER": consumer}
        )
        self.running.append(process)
        return process

    async def end(self) -> None:
        for process in self.running:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


@pytest.fixture
async def processes(postgres_url: str, redis_url: str) -> AsyncIterator[Processes]:
    environment = os.environ | {
        "DRP_POSTGRES_URL": postgres_url,
        "DRP_REDIS_URL": redis_url,
        "DRP_BATCH_MAX_AGE": "0.3",
        "DRP_BATCH_MAX_EVENTS": "4000",
        "DRP_HTTP_PORT": "0",
        "DRP_LOG_FORMAT": "text",
    }
    made = Processes(dict(environment))
    yield made
    await made.end()


@pytest.fixture
async def bus(redis_url: str, orders: Dataset) -> AsyncIterator[Bus]:
    opened = await Bus.connect(redis_url, service="test", consumer="test")
    await opened.ensure_groups({orders.stream: DATASET_GROUPS})
    yield opened
    await opened.stop()


async def settled(room: Room, *, slots: int) -> None:
    """Wait until so many slots have landed and every batch is closed."""

    async def is_settled() -> bool:
        counts = await room.counts()
        all_closed = all(batch["state"] == "closed" for batch in await room.batches())
        return all_closed and counts.get("received", 0) + counts.get("dead_lettered", 0) >= slots

    await until(is_settled, every=0.05)


def has_landed(postgres: Postgres, *, more_than: int = 0) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return bool(await postgres.fetchval("SELECT count(*) > $1 FROM raw.orders_raw", more_than))

    return check


async def test_ingestors_killed_under_load_lose_nothing_and_double_nothing(
    processes: Processes, bus: Bus, postgres: Postgres, orders: Dataset
) -> None:
    room = await open_room(postgres, orders)
    events = [json.dumps(an_event()).encode() for _ in range(30_000)]
    repeated = events[:3_000]
    await processes.start("ingestor-2")
    victim = await processes.start("ingestor-1")
    for part in range(6):
        await bus.publish_events(orders.stream, events[part * 5_000 : (part + 1) * 5_000], per_entry=100)
        await until(has_landed(postgres, more_than=part * 5_000), every=0.01)
        if part < 4:
            victim.send_signal(signal.SIGKILL)
            await victim.wait()
            victim = await processes.start("ingestor-1")
    await bus.publish_events(orders.stream, repeated, per_entry=100)

    await settled(room, slots=33_000)
    assert await room.counts() == {"received": 33_000, "accepted": 30_000, "duplicate": 3_000}
    assert await room.balanced()
    assert await room.quarantine() == []
    told = await room.told()
    assert len(told) == len(await room.batches())


async def test_an_event_that_kills_every_process_is_found_and_the_others_land(
    processes: Processes, bus: Bus, postgres: Postgres, orders: Dataset
) -> None:
    room = await open_room(postgres, orders)
    events = [json.dumps(an_event()).encode() for _ in range(60)]
    events[23] = json.dumps(an_event(customer_id="KILLS")).encode()
    await bus.publish_events(orders.stream, events, per_entry=20)
    deaths = 0
    while not await room.quarantine():
        process = await processes.start("ingestor-1", program=MORTAL)

        async def is_found_or_has_killed(process: asyncio.subprocess.Process = process) -> bool:
            return process.returncode is not None or bool(await room.quarantine())

        await until(is_found_or_has_killed)
        deaths += process.returncode is not None
        assert deaths < 20

    await settled(room, slots=60)
    (kept,) = await room.quarantine()
    assert (kept["reason"], kept["stream_position"], kept["original"]) == ("undeliverable", 3, events[23])
    assert await room.counts() == {"received": 59, "accepted": 59, "dead_lettered": 1}
    assert await room.balanced()
    assert await postgres.fetch("SELECT * FROM ops.attempts") == []


async def test_an_ingestor_that_is_asked_to_stop_closes_its_batch_and_tells_of_it(
    processes: Processes, bus: Bus, postgres: Postgres, orders: Dataset
) -> None:
    room = await open_room(postgres, orders)
    processes.environment["DRP_BATCH_MAX_AGE"] = "3600"
    process = await processes.start("ingestor-1")
    await bus.publish_events(orders.stream, [json.dumps(an_event()).encode()])
    await until(has_landed(postgres))
    process.terminate()

    assert await asyncio.wait_for(process.wait(), 60) == 0
    (batch,) = await room.batches()
    assert (batch["state"], batch["close_reason"]) == ("closed", "drain")
    (told,) = await room.told()
    assert told["published_at"] is not None
    assert await bus.length("drp.batches") == 1


async def test_the_stream_is_trimmed_once_everything_in_it_was_handled(
    processes: Processes, bus: Bus, postgres: Postgres, orders: Dataset
) -> None:
    room = await open_room(postgres, orders)
    await bus.publish_events(orders.stream, [json.dumps(an_event()).encode() for _ in range(10)], per_entry=1)
    first = await processes.start("ingestor-1")
    await settled(room, slots=10)
    first.terminate()
    await first.wait()
    await processes.start("ingestor-1")

    async def is_trimmed() -> bool:
        return await bus.length(orders.stream) <= 1

    await until(is_trimmed)
