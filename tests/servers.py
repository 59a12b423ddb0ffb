"""Where the tests' Redis, PostgreSQL and S3 come from.

    embedded     from the installed packages, as `drp up` has them; the default
    containers   from the images of docker-compose.yml, started by a container engine
    urls         servers of yours: DRP_TEST_REDIS_URL, DRP_TEST_POSTGRES_URL, DRP_TEST_S3_URL

Chosen by `pytest --servers` or DRP_TEST_SERVERS: one word for all, or one for each (`redis=urls,s3=embedded`). The
trace store is always the platform's own, for it is what its tests are about.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
import redis
from botocore.session import get_session

from libs.runtime.embedded.objects import ObjectServer
from libs.runtime.embedded.postgres import PostgresServer
from libs.runtime.embedded.redis import RedisServer
from libs.runtime.processes import free_port

__all__ = [
    "IMAGES",
    "ObjectStore",
    "a_postgres",
    "a_redis",
    "an_object_store",
    "check",
    "chosen",
    "remove_bucket",
]

ORIGINS: Final = ("embedded", "containers", "urls")
URLS: Final = {
    "redis": "DRP_TEST_REDIS_URL",
    "postgres": "DRP_TEST_POSTGRES_URL",
    "s3": "DRP_TEST_S3_URL",
}
IMAGES: Final = {
    "redis": ("DRP_REDIS_IMAGE", "redis:7.4.11-bookworm"),
    "postgres": ("DRP_POSTGRES_IMAGE", "postgres:17.11-bookworm"),
    "s3": ("DRP_RUSTFS_IMAGE", "rustfs/rustfs:1.0.0"),
}
"""The setting that names another image, and the one used otherwise: as in docker-compose.yml."""

STARTS_WITHIN: Final = 60.0


@dataclass(frozen=True)
class ObjectStore:
    url: str
    access_key: str
    secret_key: str
    region: str


def chosen(text: str) -> dict[str, str]:
    """Where each server comes from, by `redis`, `postgres` and `s3`.

    Raises:
        UsageError: there is no such server, or it can't come from there.
    """
    found = dict.fromkeys(URLS, "embedded")
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, given, origin = part.rpartition("=")
        names = [name] if given else list(URLS)
        if origin not in ORIGINS or not set(names) <= URLS.keys():
            raise pytest.UsageError(
                f"--servers {part!r}: write {', '.join(ORIGINS)}, or one for each, like redis=urls,s3=embedded"
            )
        found |= dict.fromkeys(names, origin)
    return found


def check(servers: Mapping[str, str]) -> None:
    """That what was asked for can be had; found before the first test.

    Raises:
        UsageError: a URL is missing, or no container engine answers.
    """
    missing = [
        URLS[name] for name, origin in servers.items() if origin == "urls" and not os.environ.get(URLS[name])
    ]
    if missing:
        raise pytest.UsageError(f"--servers urls: set {', '.join(missing)}")
    if "containers" in servers.values():
        import docker.errors

        try:
            with closing(docker.from_env()) as engine:
                engine.ping()
        except docker.errors.DockerException as error:
            raise pytest.UsageError(f"--servers containers: no container engine answers: {error}") from error


@contextmanager
def a_redis(origin: str, folder: Path, *, binary: Path | None, worker: int) -> Iterator[str]:
    """The URL of an empty Redis database that is this test process's alone.

    Args:
        binary: the redis-server, if it is embedded; None is the packaged one.
        worker: counted from 0; with a server of the user's each has a database of its own.
    """
    if origin == "containers":
        password = secrets.token_hex(8)
        command = f"redis-server --bind 0.0.0.0 --requirepass {password} --save '' --appendonly yes"
        durable = "--appendfsync always --maxmemory-policy noeviction"
        with _container("redis", 6379, command=f"{command} {durable}") as port:
            url = f"redis://default:{password}@127.0.0.1:{port}/0"
            _await(lambda: _ping(url), redis.RedisError)
            yield url
    elif origin == "urls":
        with _borrowed_redis(os.environ[URLS["redis"]], worker) as url:
            yield url
    else:
        server = RedisServer(folder, free_port(), binary=binary)
        server.start()
        server.wait_ready()
        yield server.url
        server.stop()


@contextmanager
def a_postgres(origin: str, folder: Path) -> Iterator[str]:
    """The URL of a PostgreSQL whose user may make databases."""
    if origin == "containers":
        password = secrets.token_hex(8)
        settings = {"POSTGRES_USER": "drp", "POSTGRES_DB": "drp", "POSTGRES_PASSWORD": password}
        # As with the embedded one: a power cut may lose everything.
        command = "postgres -c max_connections=200 -c fsync=off -c full_page_writes=off"
        with _container("postgres", 5432, command=command, settings=settings) as port:
            url = f"postgresql://drp:{password}@127.0.0.1:{port}/drp?sslmode=disable"
            _await(lambda: psycopg.connect(url, connect_timeout=5).close(), psycopg.OperationalError)
            yield url
    elif origin == "urls":
        yield os.environ[URLS["postgres"]]
    else:
        server = PostgresServer(folder, free_port(), fsync=False)
        server.start()
        server.wait_ready()
        yield server.url
        server.stop()


@contextmanager
def an_object_store(origin: str, folder: Path) -> Iterator[ObjectStore]:
    """An S3 server."""
    if origin == "containers":
        keys = secrets.token_hex(8), secrets.token_hex(16)
        settings = {
            "RUSTFS_ADDRESS": ":9000",
            "RUSTFS_VOLUMES": "/data",
            "RUSTFS_ACCESS_KEY": keys[0],
            "RUSTFS_SECRET_KEY": keys[1],
            "RUSTFS_CONSOLE_ENABLE": "false",
        }
        with _container("s3", 9000, settings=settings) as port:
            url = f"http://127.0.0.1:{port}"
            _await(lambda: httpx.get(f"{url}/health", trust_env=False).raise_for_status(), httpx.HTTPError)
            yield ObjectStore(url, *keys, "us-east-1")
    elif origin == "urls":
        yield ObjectStore(
            os.environ[URLS["s3"]],
            os.environ.get("DRP_TEST_S3_ACCESS_KEY", "drp"),
            os.environ.get("DRP_TEST_S3_SECRET_KEY", "drp"),
            os.environ.get("DRP_TEST_S3_REGION", "us-east-1"),
        )
    else:
        server = ObjectServer(folder, free_port())
        server.start()
        server.wait_ready()
        yield ObjectStore(server.url, server.access_key, server.secret_key, server.region)
        server.stop()


def remove_bucket(store: ObjectStore, bucket: str) -> None:
    """With all that is in it, if it is there."""
    client: Any = get_session().create_client(
        "s3",
        endpoint_url=store.url,
        aws_access_key_id=store.access_key,
        aws_secret_access_key=store.secret_key,
        region_name=store.region,
    )
    with suppress(client.exceptions.NoSuchBucket):
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for found in page.get("Contents", []):
                client.delete_object(Bucket=bucket, Key=found["Key"])
        client.delete_bucket(Bucket=bucket)
    client.close()


@contextmanager
def _borrowed_redis(url: str, worker: int) -> Iterator[str]:
    """The database that the URL names, or one beside it for each further worker; it must be empty, and is again."""
    parts = urlsplit(url)
    number = int(parts.path.strip("/") or 0) + worker
    own = parts._replace(path=f"/{number}").geturl()
    with redis.Redis.from_url(own) as client:
        if held := client.dbsize():
            raise pytest.UsageError(
                f"database {number} of the Redis of DRP_TEST_REDIS_URL holds {held} keys, and tests would delete"
                f" them: name the first of some empty ones in the URL, like /{number + 1}"
            )
        yield own
        client.flushdb()


@contextmanager
def _container(
    name: str, port: int, *, command: str | None = None, settings: Mapping[str, str] | None = None
) -> Iterator[int]:
    """Run the server's image; the port of the loopback that leads to it."""
    from testcontainers.core.container import DockerContainer

    setting, image = IMAGES[name]
    container = DockerContainer(os.environ.get(setting, image), command=command, env=dict(settings or {}))
    container.ports[f"{port}/tcp"] = ("127.0.0.1", None)  # type: ignore[assignment] # docker takes an address, too
    with container:
        yield int(container.get_exposed_port(port))


def _ping(url: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.ping()


def _await(answers: Callable[[], Any], not_yet: type[Exception]) -> None:
    deadline = time.monotonic() + STARTS_WITHIN
    while True:
        try:
            answers()
        except not_yet:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
