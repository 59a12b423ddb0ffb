"""Consumers that are killed, stopped or poisoned: nothing is lost, and a broken one exits with an error."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from libs.testing.servers import RestartableRedis
from tests.integration.bus.landing import Connect, RawRedis, eventually

SCRIPT = Path(__file__).with_name("landing_process.py")

Start = Callable[[str, str], Awaitable[Process]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts a landing process, ready when it returns, killed with the test."""
    processes: list[Process] = []

    async def started(url: str, consumer: str) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, SCRIPT, url, consumer, stdout=PIPE, stderr=PIPE
        )
        processes.append(process)
        assert process.stdout is not None
        await process.stdout.readline()
        return process

    yield started
    for process in processes:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def publish(connect: Connect, url: str, count: int) -> None:
    bus = await connect(url, consumer="producer")
    for first in range(0, count, 500):
        await bus.publish("orders", [b"%06d" % number for number in range(first, min(first + 500, count))])


async def test_kill_9_under_load_loses_nothing(
    redis_url: str, raw: RawRedis, connect: Connect, start: Start
) -> None:
    count = 20_000
    processes = [await start(redis_url, "one"), await start(redis_url, "two")]
    load = asyncio.create_task(publish(connect, redis_url, count))
    for landed in (1_000, 5_000, 9_000, 13_000):
        await eventually(partial(_more_than, raw, landed), wait=60)
        processes[0].kill()
        await processes[0].wait()
        processes.append(await start(redis_url, "one"))
        processes.pop(0)
        processes.reverse()
    await load

    await eventually(lambda: _all_landed(raw, count), wait=60)
    assert await raw.llen("buried") == 0


async def test_sigterm_under_load_loses_nothing_and_exits_0(
    redis_url: str, raw: RawRedis, connect: Connect, start: Start
) -> None:
    count = 20_000
    process = await start(redis_url, "one")
    load = asyncio.create_task(publish(connect, redis_url, count))
    for landed in (1_000, 8_000):
        await eventually(partial(_more_than, raw, landed), wait=60)
        process.terminate()
        assert await process.wait() == 0
        process = await start(redis_url, "one")
    await load

    await eventually(lambda: _all_landed(raw, count), wait=60)
    assert await raw.llen("buried") == 0


async def test_what_a_stopped_consumer_did_not_finish_is_free_at_once_and_uncounted(
    either_redis: RestartableRedis, either: RawRedis, connect: Connect, start: Start
) -> None:
    process = await start(either_redis.url, "one")
    await eventually(lambda: _reading(either))
    process.send_signal(signal.SIGSTOP)
    await eventually(lambda: _is_stopped(process.pid))
    for reader in await _readers(either):
        await either.client_unblock(int(reader["id"]))
    bus = await connect(either_redis.url, consumer="producer")
    await bus.publish("orders", [b"1"])
    # what Redis sends to a reader that is about to stop
    await either.xreadgroup("ingestor", "one", {"orders": ">"})
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    assert await process.wait() == 0

    (pending,) = await either.xpending_range("orders", "ingestor", "-", "+", 10)
    assert pending["times_delivered"] == 0
    assert pending["time_since_delivered"] >= 1000


async def test_poison_that_kills_the_process_ends_alone_and_its_neighbours_land(
    redis_url: str, raw: RawRedis, connect: Connect, start: Start
) -> None:
    bus = await connect(redis_url, consumer="producer")
    good = [b"%03d" % number for number in range(199)]
    await bus.publish("orders", [*good[:77], b"kill", *good[77:]])

    deaths = 0
    process = await start(redis_url, "one")
    while not await raw.llen("buried"):
        with suppress(TimeoutError):
            assert await asyncio.wait_for(process.wait(), 0.2) == -signal.SIGKILL
            deaths += 1
            assert deaths <= 6
            process = await start(redis_url, "one")

    await eventually(lambda: _all_landed(raw, len(good)), wait=60)
    data, reason = await raw.lrange("buried", 0, -1)
    assert data == b"kill"
    assert reason.startswith(b"undeliverable")
    assert deaths == 5


@pytest.mark.parametrize("loss", ["stream", "group", "everything"])
async def test_losing_the_stream_or_its_group_ends_the_process_with_an_error(
    loss: str, either_redis: RestartableRedis, either: RawRedis, start: Start
) -> None:
    process = await start(either_redis.url, "one")
    await eventually(lambda: _reading(either))
    if loss == "stream":
        await either.delete("orders")
    elif loss == "group":
        await either.xgroup_destroy("orders", "ingestor")
    else:
        await either.flushall()

    assert await asyncio.wait_for(process.wait(), 60) == 1


async def test_read_only_redis_ends_the_process_with_an_error_and_without_a_flood_of_logs(
    either_redis: RestartableRedis, either: RawRedis, start: Start
) -> None:
    process = await start(either_redis.url, "one")
    await eventually(lambda: _reading(either))
    await either.replicaof("127.0.0.1", "1")

    _, stderr = await asyncio.wait_for(process.communicate(), 240)
    assert process.returncode == 1
    assert b"replica" in stderr
    assert stderr.count(b"\n") < 60


async def test_lost_permission_ends_the_process_with_an_error(
    either_redis: RestartableRedis, either: RawRedis, start: Start
) -> None:
    process = await start(either_redis.url, "one")
    await eventually(lambda: _reading(either))
    await either.execute_command("ACL", "SETUSER", "default", "-xreadgroup")

    assert await asyncio.wait_for(process.wait(), 60) == 1


async def _more_than(client: RawRedis, landed: int) -> bool:
    return bool(await client.scard("landed") > landed)


async def _all_landed(client: RawRedis, count: int) -> bool:
    if await client.scard("landed") != count:
        return False
    (group,) = await client.xinfo_groups("orders")
    return bool(group["pending"] == 0)


async def _is_stopped(pid: int) -> bool:
    return _state(pid) == "T"


def _state(pid: int) -> str:
    """One letter, as ps tells it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


async def _reading(client: RawRedis) -> bool:
    return bool(await _readers(client))


async def _readers(client: RawRedis) -> list[dict[str, str]]:
    """Who waits for entries: blocked, in a command that began before whatever comes next."""
    return [
        connection
        for connection in await client.client_list()
        if "xreadgroup" in connection["cmd"] and "b" in connection["flags"]
    ]
