"""Does acknowledged mean kept? Real servers with a setting each that breaks it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from libs.adapters.bus import Bus
from libs.adapters.objects import Objects
from libs.adapters.postgres import Postgres
from libs.operations.doctor import (
    Finding,
    examine_disk,
    examine_objects,
    examine_postgres,
    examine_redis,
    judge_postgres,
)
from libs.runtime.embedded.postgres import PostgresServer
from libs.runtime.processes import free_port
from libs.testing.servers import RestartableRedis, S3Endpoint

FINE = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "server_version_num": "180000",
    "server_version": "18.0",
}


@pytest.fixture
async def postgres(postgres_url: str) -> AsyncIterator[Postgres]:
    opened = await Postgres.open(postgres_url, service="test")
    yield opened
    await opened.close()


@pytest.fixture(scope="module")
def safe_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Postgres as the platform starts it: the tests' own one goes without fsync."""
    server = PostgresServer(tmp_path_factory.mktemp("safe"), free_port())
    server.start()
    server.wait_ready()
    yield server.url
    server.stop()


async def redis_findings(url: str, **settings: str) -> list[Finding]:
    async with Redis.from_url(url) as redis:
        for name, value in settings.items():
            await redis.config_set(name.replace("_", "-"), value)
    bus = await Bus.connect(url, service="test", consumer="test-1")
    try:
        return await examine_redis(bus)
    finally:
        await bus.stop()


def doctor(**environment: str) -> tuple[int, dict[str, Any], str]:
    """`drp doctor --json`: its exit code, document and messages."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("DRP_", "AWS_", "OTEL_"))
    }
    done = subprocess.run(
        [sys.executable, "-m", "services.cli.app", "doctor", "--json"],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, json.loads(done.stdout), done.stderr


async def test_a_redis_as_the_platform_starts_it_is_fine(redis_server: RestartableRedis) -> None:
    (found,) = await redis_findings(redis_server.url)
    assert (found.check, found.state) == ("redis", "ok")


@pytest.mark.parametrize(
    ("setting", "value", "costs"),
    [
        ("appendfsync", "everysec", "a power cut can lose acknowledged events"),
        ("appendonly", "no", "a restart loses every event"),
        ("maxmemory_policy", "allkeys-lru", "may evict whole streams"),
    ],
)
async def test_a_redis_that_may_lose_what_it_acknowledged_is_a_problem(
    redis_server: RestartableRedis, setting: str, value: str, costs: str
) -> None:
    (found,) = await redis_findings(redis_server.url, **{setting: value})
    assert (found.state, found.fix is not None) == ("problem", True)
    assert f"is {value!r}" in found.detail
    assert costs in found.detail


async def test_a_postgres_that_forgets_is_a_problem(postgres: Postgres) -> None:
    """The tests' own server runs without fsync."""
    found = await examine_postgres(postgres)
    assert [(each.state, each.detail.partition(" ")[0]) for each in found] == [
        ("problem", "fsync"),
        ("problem", "full_page_writes"),
    ]


async def test_a_postgres_as_the_platform_starts_it_is_fine(safe_postgres: str) -> None:
    postgres = await Postgres.open(safe_postgres, service="test")
    try:
        (found,) = await examine_postgres(postgres)
    finally:
        await postgres.close()
    assert (found.state, found.detail.endswith("keeps what it commits")) == ("ok", True)


async def test_a_default_that_only_others_get_is_a_warning(safe_postgres: str) -> None:
    postgres = await Postgres.open(safe_postgres, service="test")
    try:
        await postgres.execute("ALTER DATABASE drp SET synchronous_commit = off")
        (found,) = await examine_postgres(postgres)
        assert found.state == "warning"
        assert "synchronous_commit is off but for the platform's own sessions" in found.detail
        assert await postgres.fetchval("SHOW synchronous_commit") == "on"
    finally:
        await postgres.execute("ALTER DATABASE drp RESET synchronous_commit")
        await postgres.close()


@pytest.mark.parametrize("name", ["fsync", "full_page_writes", "synchronous_commit"])
def test_a_setting_that_is_off_for_our_sessions_is_a_problem_with_what_to_write(name: str) -> None:
    broken = {**FINE, name: "off"}
    (found,) = judge_postgres(broken, broken)
    assert (found.state, found.fix) == ("problem", f"ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf()")


def test_a_postgres_that_is_too_old_is_a_problem() -> None:
    old = {**FINE, "server_version_num": "140009", "server_version": "14.9"}
    (found,) = judge_postgres(old, old)
    assert (found.state, found.detail) == ("problem", "PostgreSQL 14.9 is older than 15")


async def test_looking_at_the_archive_makes_no_bucket(s3: S3Endpoint) -> None:
    objects = await Objects.open(s3.url, s3.bucket, s3.access_key, s3.secret_key, s3.region)
    try:
        for _ in range(2):
            assert (await examine_objects(objects)).detail == f"there is no bucket {s3.bucket} yet"
        await objects.ensure_bucket()
        found = await examine_objects(objects)
    finally:
        await objects.close()
    assert (found.state, found.detail) == ("ok", f"bucket {s3.bucket} answers")


def test_a_full_disk_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert examine_disk(tmp_path / "not" / "there").detail.endswith(str(tmp_path))
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1024**3}))
    assert examine_disk(tmp_path).state == "warning"


def test_everything_as_it_must_be_is_guaranteed(
    redis_server: RestartableRedis, safe_postgres: str, s3: S3Endpoint, traces: str, tmp_path: Path
) -> None:
    code, document, said = doctor(
        DRP_HOME=str(tmp_path),
        DRP_REDIS_URL=redis_server.url,
        DRP_POSTGRES_URL=safe_postgres,
        DRP_S3_ENDPOINT_URL=s3.url,
        DRP_S3_BUCKET=s3.bucket,
        DRP_S3_ACCESS_KEY=s3.access_key,
        DRP_S3_SECRET_KEY=s3.secret_key,
        DRP_TRACES_URL=traces,
    )
    states = {each["check"]: each["state"] for each in document["findings"]}
    assert (code, document["guaranteed"], said) == (0, True, "guaranteed\n")
    assert states == {
        "disk": "ok",
        "redis": "ok",
        "postgres": "ok",
        "datasets": "ok",
        "archive": "warning",
        "alerts": "warning",
        "traces": "ok",
    }


async def test_a_redis_that_syncs_every_second_is_not_guaranteed(
    redis_server: RestartableRedis, safe_postgres: str, tmp_path: Path
) -> None:
    async with Redis.from_url(redis_server.url) as redis:
        await redis.config_set("appendfsync", "everysec")
    code, document, said = doctor(
        DRP_HOME=str(tmp_path),
        DRP_REDIS_URL=redis_server.url,
        DRP_POSTGRES_URL=safe_postgres,
        DRP_ARCHIVE="off",
    )
    problems = [each["check"] for each in document["findings"] if each["state"] == "problem"]
    assert (code, document["guaranteed"], problems) == (3, False, ["redis"])
    assert said.startswith("not guaranteed")


def test_servers_that_are_away_are_problems_and_hold_up_no_other_look(tmp_path: Path) -> None:
    code, document, _ = doctor(
        DRP_HOME=str(tmp_path),
        DRP_REDIS_URL=f"redis://127.0.0.1:{free_port()}/0",
        DRP_POSTGRES_URL=f"postgresql://127.0.0.1:{free_port()}/drp",
        DRP_ARCHIVE="off",
        DRP_TRACES_URL=f"http://127.0.0.1:{free_port()}",
    )
    states = {each["check"]: each["state"] for each in document["findings"]}
    assert code == 3
    assert (states["redis"], states["postgres"], states["datasets"]) == ("problem", "problem", "ok")
    assert states["traces"] == "warning"
