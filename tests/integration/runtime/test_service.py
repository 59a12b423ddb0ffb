"""A service as a process: how it boots, what it answers, how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
import redis

from libs.contracts.streams import BATCHES, GROUPS, STEPS
from libs.runtime.processes import free_port
from libs.testing.servers import RestartableRedis
from libs.testing.waiting import until

Start = Callable[..., "Running"]


class Running:
    """The room of room.py, as a process."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.port = free_port()
        self.log = folder / "log"
        told = {"DRP_HOME": str(folder), "DRP_HTTP_PORT": str(self.port), "DRP_LOG_FORMAT": "json"}
        paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[3])])
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "room"],
                env={**os.environ, **environment, **told, "PYTHONPATH": paths},
                stderr=log,
                cwd=folder,
            )

    def diary(self) -> list[str]:
        path = self.folder / "diary"
        return path.read_text().splitlines() if path.exists() else []

    def ask(self, page: str) -> httpx.Response | None:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}{page}", trust_env=False)
        except httpx.TransportError:
            return None

    def status(self, page: str) -> int | None:
        answer = self.ask(page)
        return None if answer is None else answer.status_code

    async def ready(self) -> None:
        await until(lambda: self.status("/readyz") == 200)

    def ended(self) -> int:
        return self.process.wait(timeout=240)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Running] = []

    def begin(**environment: str) -> Running:
        started.append(Running(tmp_path, environment))
        return started[-1]

    yield begin
    for running in started:
        if running.process.poll() is None:
            running.process.kill()
        running.process.wait()


async def test_a_service_boots_works_and_drains(start: Start, redis_url: str, postgres_url: str) -> None:
    running = start(DRP_REDIS_URL=redis_url, DRP_POSTGRES_URL=postgres_url)
    await running.ready()
    with redis.Redis.from_url(redis_url) as client:
        client.xadd(STEPS, {"data": "first"})
        await until(lambda: "handled first" in running.diary())
        running.process.send_signal(signal.SIGTERM)
        assert running.ended() == 0, running.log.read_text()
        assert running.diary()[0] == "wired"
        assert running.diary()[-1] == "left"
        assert client.xpending(STEPS, "audit")["pending"] == 0
        assert client.xlen(BATCHES) == 1, "what was announced while draining was relayed before the end"
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT count(*) FROM raw.orders_raw").fetchone() == (0,)


async def test_every_declared_group_is_there_before_the_first_event(
    start: Start, redis_url: str, postgres_url: str
) -> None:
    running = start(DRP_REDIS_URL=redis_url, DRP_POSTGRES_URL=postgres_url)
    await running.ready()
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        for stream, groups in {**GROUPS, "orders": ("ingestor",)}.items():
            assert {group["name"] for group in client.xinfo_groups(stream)} == set(groups)


async def test_it_answers_on_its_health_pages_and_its_own(
    start: Start, redis_url: str, postgres_url: str
) -> None:
    running = start(DRP_REDIS_URL=redis_url, DRP_POSTGRES_URL=postgres_url)
    await running.ready()
    ready = running.ask("/readyz")
    assert ready is not None
    assert set(ready.json()["checks"]) == {"service", "bus", "postgres", "door"}
    metrics = running.ask("/metrics")
    assert metrics is not None
    assert "# HELP drp_" in metrics.text
    assert running.status("/hello") == 200
    (running.folder / "shut").touch()
    shut = running.ask("/readyz")
    assert shut is not None
    assert (shut.status_code, shut.json()["checks"]["door"]["detail"]) == (503, "the door is shut")
    assert running.status("/livez") == 200


async def test_a_service_waits_for_its_servers_alive_but_not_ready(
    start: Start, redis_server: RestartableRedis, postgres_url: str
) -> None:
    redis_server.stop()
    running = start(DRP_REDIS_URL=redis_server.url, DRP_POSTGRES_URL=postgres_url)
    await until(lambda: running.status("/livez") == 200)
    assert running.status("/readyz") == 503
    assert running.status("/hello") == 503
    redis_server.start()
    await running.ready()
    assert running.status("/hello") == 200


async def test_asked_to_stop_while_it_waits_it_stops(start: Start, postgres_url: str) -> None:
    running = start(DRP_REDIS_URL="redis://127.0.0.1:9", DRP_POSTGRES_URL=postgres_url)
    await until(lambda: running.status("/livez") == 200)
    running.process.send_signal(signal.SIGTERM)
    assert running.ended() == 0


async def test_redis_going_away_makes_it_unready_not_dead(
    start: Start, redis_server: RestartableRedis, postgres_url: str
) -> None:
    running = start(DRP_REDIS_URL=redis_server.url, DRP_POSTGRES_URL=postgres_url)
    await running.ready()
    redis_server.kill()
    await until(lambda: running.status("/readyz") == 503)
    assert running.status("/livez") == 200
    redis_server.start()
    await running.ready()


async def test_a_mistake_of_ours_ends_it_with_one_and_says_where(
    start: Start, redis_url: str, postgres_url: str
) -> None:
    running = start(DRP_REDIS_URL=redis_url, DRP_POSTGRES_URL=postgres_url, ROOM_MODE="breaks")
    assert running.ended() == 1
    assert "the loop to tick broke: ValueError" in running.log.read_text()


async def test_a_lost_group_ends_it_with_one(start: Start, redis_url: str, postgres_url: str) -> None:
    running = start(DRP_REDIS_URL=redis_url, DRP_POSTGRES_URL=postgres_url)
    await running.ready()
    with redis.Redis.from_url(redis_url) as client:
        client.xgroup_destroy(STEPS, "audit")
    assert running.ended() == 1
    assert "the bus broke" in running.log.read_text()


def test_a_setting_that_is_missing_is_named(start: Start) -> None:
    running = start(DRP_REDIS_URL="", DRP_POSTGRES_URL="")
    assert running.ended() == 1
    assert "DRP_REDIS_URL is not set" in running.log.read_text()


def test_a_wrong_contract_is_refused_with_file_and_line(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "datasets" / "broken"
    folder.mkdir(parents=True)
    (folder / "contract.yaml").write_text("kind: DataContract\nschema: 7\n")
    running = start(DRP_DATASETS_DIR=str(folder.parent), DRP_REDIS_URL="redis://127.0.0.1:9")
    assert running.ended() == 1
    assert f"{folder}/contract.yaml:2" in running.log.read_text()
