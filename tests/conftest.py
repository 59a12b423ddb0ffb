"""Real servers for every test that asks for one: started once a run, clean for each test, gone at its end."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import signal
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from psycopg import sql

from libs.adapters.postgres import migrate
from libs.runtime.embedded.objects import ObjectServer
from libs.runtime.embedded.postgres import PostgresServer
from libs.runtime.embedded.redis import RedisServer
from libs.runtime.embedded.traces import TraceServer
from libs.runtime.processes import free_port
from libs.testing.servers import RestartableRedis, S3Endpoint

NUMBERS = itertools.count(1)


def pytest_configure() -> None:
    """A shell starts what it puts into the background deaf to Ctrl-C, and so would be all that tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None, None, None]:
    """A green run that left something out says so, after all else."""
    yield
    reasons = Counter(_reason(report) for report in terminalreporter.stats.get("skipped", []))
    if reasons:
        told = "; ".join(f"{reason} ({count} skipped)" for reason, count in sorted(reasons.items()))
        terminalreporter.write_line(f"NOT TESTED in this run: {told}", red=True, bold=True)


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    return str(report.longrepr)


@pytest.fixture(scope="session")
def servers_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="session")
def _redis(servers_folder: Path) -> Iterator[RedisServer]:
    server = RedisServer(servers_folder, free_port())
    server.start()
    server.wait_ready()
    yield server
    server.stop()


@pytest.fixture
def redis_url(_redis: RedisServer) -> str:
    """A Redis with nothing in it."""
    with redis.Redis.from_url(_redis.url) as client:
        client.flushall()
    return _redis.url


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RestartableRedis]:
    """A Redis of the test's own, running, that keeps its data through stop(), kill() and start()."""
    yield from _restartable(tmp_path)


@pytest.fixture
def debian_redis(tmp_path: Path) -> Iterator[RestartableRedis]:
    """The same on Debian's redis-server, of the oldest version that the platform runs on."""
    yield from _restartable(tmp_path, binary=_redis_of_the_system())


@pytest.fixture(params=["valkey", "redis"])
def either_redis(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RestartableRedis]:
    """The test runs on both engines."""
    yield from _restartable(tmp_path, binary=_redis_of_the_system() if request.param == "redis" else None)


def _restartable(folder: Path, binary: Path | None = None) -> Iterator[RestartableRedis]:
    server = RestartableRedis(folder / "own-redis", free_port(), binary=binary)
    server.start()
    yield server
    server.stop()


def _redis_of_the_system() -> Path:
    found = shutil.which("redis-server")
    if found is None:
        pytest.skip("no redis-server on PATH: the second engine is NOT tested (apt-get install redis-server)")
    return Path(found)


@pytest.fixture(scope="session")
def _postgres(servers_folder: Path) -> Iterator[PostgresServer]:
    server = PostgresServer(servers_folder, free_port(), fsync=False)
    server.start()
    server.wait_ready()
    asyncio.run(migrate(server.url))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_template(_postgres: PostgresServer) -> str:
    """The URL of the migrated database that every test's own is copied from; don't stay connected."""
    return _postgres.url


@pytest.fixture
def postgres_url(_postgres: PostgresServer, postgres_template: str) -> Iterator[str]:
    """A freshly migrated database of the test's own."""
    name = f"test_{next(NUMBERS)}"
    admin = _sibling(postgres_template, "postgres")
    with psycopg.connect(admin, autocommit=True) as connection:
        copy = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
        connection.execute(copy.format(sql.Identifier(name), sql.Identifier("drp")))
    yield _sibling(postgres_template, name)
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def empty_postgres_url(_postgres: PostgresServer) -> Iterator[str]:
    """A database of the test's own with nothing in it, for what migrates by itself."""
    name = f"test_{next(NUMBERS)}"
    admin = _sibling(_postgres.url, "postgres")
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    yield _sibling(_postgres.url, name)
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _sibling(url: str, database: str) -> str:
    return urlsplit(url)._replace(path=f"/{database}").geturl()


@pytest.fixture(scope="session")
def _objects(servers_folder: Path) -> Iterator[ObjectServer]:
    server = ObjectServer(servers_folder, free_port())
    server.start()
    server.wait_ready()
    yield server
    server.stop()


@pytest.fixture
def s3(_objects: ObjectServer) -> S3Endpoint:
    """An S3 server and the name of a bucket that only this test uses and has to make."""
    return S3Endpoint(
        url=_objects.url,
        bucket=f"test-{next(NUMBERS)}",
        access_key=_objects.access_key,
        secret_key=_objects.secret_key,
        region=_objects.region,
    )


@pytest.fixture(scope="session")
def _traces(servers_folder: Path) -> Iterator[TraceServer]:
    server = TraceServer(servers_folder, free_port())
    server.start()
    server.wait_ready()
    yield server
    server.stop()


@pytest.fixture
def traces(_traces: TraceServer) -> str:
    """The URL of a trace store: OTLP/HTTP and the query API."""
    return _traces.url
