"""The gate and the audit as processes of their own, on real servers, with the streams between them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from libs.adapters.bus import Bus
from libs.adapters.postgres import Postgres
from libs.contracts.events import WarehouseBuilt, generation_subject
from libs.pipeline.outbox import Relay, announce
from libs.runtime.processes import free_port
from libs.testing.waiting import until
from tests.integration.audit.receiver import Receiver
from tests.integration.validator.bench import NOON, Bench, orders

ROOT = Path(__file__).parents[3]
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

Start = Callable[[str], Awaitable[tuple[asyncio.subprocess.Process, str]]]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    yield made
    await made.stop()


@pytest.fixture
async def start(
    postgres_url: str, redis_url: str, tmp_path: Path, receiver: Receiver
) -> AsyncIterator[Start]:
    """Starts a service; its process, and the address of its health pages."""
    running: list[asyncio.subprocess.Process] = []
    webhook = await receiver.start()

    async def started(service: str) -> tuple[asyncio.subprocess.Process, str]:
        port = free_port()
        environment = os.environ | {
            "DRP_HOME": str(tmp_path / "home"),
            "DRP_POSTGRES_URL": postgres_url,
            "DRP_REDIS_URL": redis_url,
            "DRP_HTTP_PORT": str(port),
            "DRP_ALERT_WEBHOOK_URL": webhook,
            "DRP_LOG_FORMAT": "text",
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", f"services.{service}.app", cwd=ROOT, env=environment
        )
        running.append(process)
        return process, f"http://127.0.0.1:{port}"

    yield started
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def is_ready(client: httpx.AsyncClient, address: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return (await client.get(f"{address}/readyz")).status_code == 200
    return False


async def tell(bench: Bench, redis_url: str, number: int) -> None:
    """What the transformer says when it has built."""
    event = WarehouseBuilt(
        dataset="orders",
        started_at=NOON,
        ended_at=NOON,
        records=1,
        generation=number,
        parent=None,
        kind="full",
        batches=[],
        sha256="x",
        staged=1,
        rejected=0,
        superseded=0,
    )
    async with bench.postgres.transaction() as conn:
        await announce(
            conn, event, cause=uuid.uuid4(), subject=generation_subject(number), traceparent=PARENT
        )
    bus = await Bus.connect(redis_url, service="test", consumer="test")
    await Relay(bench.postgres, bus).send_pending()
    await bus.stop()


async def test_a_bad_candidate_goes_from_the_stream_to_the_webhook(
    bench: Bench, start: Start, redis_url: str, receiver: Receiver
) -> None:
    bench.root = bench.root / "home" / "warehouse"
    number = await bench.build(await bench.land(orders(100, bad=50), closed_at=datetime.now(UTC)))
    validator, address = await start("validator")
    audit, audit_address = await start("audit")
    async with httpx.AsyncClient(trust_env=False) as client:
        await until(lambda: is_ready(client, address))
        await until(lambda: is_ready(client, audit_address))
        await tell(bench, redis_url, number)

        longest, began = 0.0, time.monotonic()
        while not receiver.received and time.monotonic() < began + 240:
            asked = time.monotonic()
            assert (await client.get(f"{address}/livez")).status_code == 200
            longest = max(longest, time.monotonic() - asked)
            await asyncio.sleep(0.02)  # else the asking takes the processor from what is asked
        took = time.monotonic() - began

    assert await bench.generation(number) == ("blocked", "fail")
    assert receiver.received[0]["event_type"] == "quality.failed"
    assert receiver.received[0]["flow_run_id"] == f"generation-{number}"
    assert longest < 0.4 * took, "health pages must answer while a candidate is judged"
    flows = await until(lambda: audited(bench.postgres, 2))
    assert sorted(flows) == [("transform", "success"), ("validate", "failed")]

    for process in (validator, audit):
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 60) == 0


async def audited(postgres: Postgres, count: int) -> list[tuple[str, str]]:
    rows = await postgres.fetch("SELECT flow_name, status FROM ops.pipeline_flow_audit")
    return [(row["flow_name"], row["status"]) for row in rows] if len(rows) >= count else []


async def test_a_validator_killed_while_it_judges_leaves_the_candidate_to_the_next(
    bench: Bench, start: Start
) -> None:
    bench.root = bench.root / "home" / "warehouse"
    number = await bench.build(await bench.land(orders(100)))
    victim, address = await start("validator")
    async with httpx.AsyncClient(trust_env=False) as client:
        await until(lambda: is_ready(client, address))
    victim.send_signal(signal.SIGKILL)
    await victim.wait()
    assert await bench.generation(number) == ("built", None)

    await start("validator")

    async def judged() -> bool:
        return await bench.generation(number) == ("passed", "pass")

    await until(judged)
