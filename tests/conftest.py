"""Real servers for every test that asks for one: started once a run, clean for each test, gone at its end.

Where they come from is the run's choice: tests/servers.py.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import shutil
import signal
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from psycopg import sql

from libs.adapters.postgres import migrate
from libs.runtime.embedded.traces import TraceServer
from libs.runtime.processes import free_port
from libs.testing.servers import RestartableRedis, S3Endpoint
from tests.servers import ObjectStore, a_postgres, a_redis, an_object_store, check, chosen, remove_bucket

NUMBERS = itertools.count(1)
RUN = f"drp-test-{secrets.token_hex(4)}"
"""Stands in the name of all that this process makes on a server: others may use it, too."""


def pytest_addoption(parser: pytest.Parser) -> None:
    servers = parser.getgroup("servers")
    servers.addoption(
        "--servers",
        default=os.environ.get("DRP_TEST_SERVERS", "embedded"),
        help="embedded (default), containers or urls; or for each: redis=urls,postgres=containers,s3=embedded",
    )
    servers.addoption(
        "--redis-engine",
        choices=["packaged", "system"],
        default=os.environ.get("DRP_TEST_REDIS_ENGINE", "packaged"),
        help="of the embedded Redis: the packaged one, or the redis-server on PATH",
    )


def pytest_configure(config: pytest.Config) -> None:
    check(chosen(config.getoption("servers")))
    # A shell starts what it puts into the background deaf to Ctrl-C, and so would be all that tests start.
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
def _servers(pytestconfig: pytest.Config) -> dict[str, str]:
    """Where each comes from."""
    return chosen(pytestconfig.getoption("servers"))


@pytest.fixture(scope="session")
def _redis_engine(pytestconfig: pytest.Config) -> Path | None:
    """The program of the embedded Redis; None is the packaged one."""
    return _redis_of_the_system() if pytestconfig.getoption("redis_engine") == "system" else None


@pytest.fixture(scope="session")
def _redis(_servers: dict[str, str], _redis_engine: Path | None, servers_folder: Path) -> Iterator[str]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    with a_redis(_servers["redis"], servers_folder, binary=_redis_engine, worker=worker) as url:
        yield url


@pytest.fixture
def redis_url(_redis: str) -> str:
    """A Redis with nothing in it."""
    with redis.Redis.from_url(_redis) as client:
        client.flushdb()
    return _redis


@pytest.fixture
def redis_server(tmp_path: Path, _redis_engine: Path | None) -> Iterator[RestartableRedis]:
    """A Redis of the test's own, running, that keeps its data through stop(), kill() and start()."""
    yield from _restartable(tmp_path, binary=_redis_engine)


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
def _postgres(_servers: dict[str, str], servers_folder: Path) -> Iterator[str]:
    with a_postgres(_servers["postgres"], servers_folder) as url:
        yield url


@pytest.fixture(scope="session")
def postgres_template(_postgres: str) -> Iterator[str]:
    """The URL of the migrated database that every test's own is copied from; don't stay connected."""
    with _database(_postgres, f"{RUN}-template") as url:
        asyncio.run(migrate(url))
        yield url


@pytest.fixture
def postgres_url(_postgres: str, postgres_template: str) -> Iterator[str]:
    """A freshly migrated database of the test's own."""
    with _database(
        _postgres, f"{RUN}-{next(NUMBERS)}", template=urlsplit(postgres_template).path[1:], how="FILE_COPY"
    ) as url:
        yield url


@pytest.fixture
def empty_postgres_url(_postgres: str) -> Iterator[str]:
    """A database of the test's own with nothing in it, for what migrates by itself."""
    with _database(_postgres, f"{RUN}-{next(NUMBERS)}") as url:
        yield url


@contextmanager
def _database(server: str, name: str, *, template: str = "template0", how: str = "WAL_LOG") -> Iterator[str]:
    """The URL of a database made as a copy of the template, and dropped."""
    made = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY {}").format(
        sql.Identifier(name), sql.Identifier(template), sql.SQL(how)
    )
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(made)
    yield urlsplit(server)._replace(path=f"/{name}").geturl()
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def _objects(_servers: dict[str, str], servers_folder: Path) -> Iterator[ObjectStore]:
    with an_object_store(_servers["s3"], servers_folder) as store:
        yield store


@pytest.fixture
def s3(_objects: ObjectStore, _servers: dict[str, str]) -> Iterator[S3Endpoint]:
    """An S3 server and the name of a bucket that only this test uses and has to make."""
    bucket = f"{RUN}-{next(NUMBERS)}"
    yield S3Endpoint(
        url=_objects.url,
        bucket=bucket,
        access_key=_objects.access_key,
        secret_key=_objects.secret_key,
        region=_objects.region,
    )
    if _servers["s3"] == "urls":
        remove_bucket(_objects, bucket)


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
