"""What an embedded platform consists of, and the environment its services and `drp` are given."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from libs.runtime.children import Child
from libs.runtime.embedded.daemon import Daemon
from libs.runtime.embedded.objects import ObjectServer
from libs.runtime.embedded.postgres import PostgresServer
from libs.runtime.embedded.redis import RedisServer
from libs.runtime.embedded.server import Server
from libs.runtime.embedded.traces import TraceServer
from libs.runtime.processes import free_port, is_free, next_free_port
from libs.runtime.readiness import readiness
from libs.runtime.scale import part_name
from libs.runtime.settings import ServiceSettings

__all__ = ["SERVICES", "absolute_paths", "embedded_servers", "service_child", "shared_environment"]

SERVICES: Final = {
    name: f"services.{name}.app"
    for name in ("generator", "ingestor", "transformer", "validator", "archiver", "audit", "console")
}
"""Name to module, in the order they are started."""

PREFERRED_PORTS: Final = {"generator": 8000, "console": 8080}

NICENESS: Final = {"transformer": 10, "validator": 10, "archiver": 10}
"""On one machine landing goes first: what it falls behind with its producers wait for, these catch up."""

RELATIVE_TO_CALLER: Final = ("DRP_DATASETS_DIR",)
OF_ONE_PROCESS: Final = frozenset(
    {"DRP_CONSUMER", "DRP_HTTP_HOST", "DRP_HTTP_PORT", "DRP_LOG_FORMAT", "DRP_SCALE"}
)


def embedded_servers(home: Path, settings: ServiceSettings) -> list[Child]:
    """The servers that no setting names, in the order to start them.

    The slow starters come first, PostgreSQL, whose start waits for initdb, last.
    """
    servers: list[Child] = []
    if settings.s3_endpoint_url is None:
        objects = ObjectServer(home, free_port())
        keys = {
            "DRP_S3_ACCESS_KEY": objects.access_key,
            "DRP_S3_SECRET_KEY": objects.secret_key,
            "DRP_S3_REGION": objects.region,
        }
        servers.append(_server_child("objects", objects, ["DRP_S3_ENDPOINT_URL"], **keys))
    if settings.otlp_endpoint is None:
        asked = ["DRP_TRACES_URL"] if settings.traces_url is None else []
        names = ["OTEL_EXPORTER_OTLP_ENDPOINT", *asked]
        servers.append(_server_child("traces", TraceServer(home, free_port()), names))
    if settings.redis_url is None:
        servers.append(_server_child("redis", RedisServer(home, free_port()), ["DRP_REDIS_URL"]))
    if settings.postgres_url is None:
        servers.append(_server_child("postgres", PostgresServer(home, free_port()), ["DRP_POSTGRES_URL"]))
    return servers


def shared_environment(home: Path, settings: ServiceSettings, embedded: Mapping[str, str]) -> dict[str, str]:
    """Where everything is and how the platform is set, for services and for `drp` from another terminal.

    Also what only the supervisor was told: what one DRP_ setting means, whoever asks must agree on.
    """
    named = {
        "DRP_REDIS_URL": settings.redis_url,
        "DRP_POSTGRES_URL": settings.postgres_url,
        "DRP_S3_ENDPOINT_URL": settings.s3_endpoint_url,
        "DRP_S3_ACCESS_KEY": settings.s3_access_key,
        "DRP_S3_SECRET_KEY": settings.s3_secret_key,
        "DRP_S3_REGION": settings.s3_region,
        "DRP_S3_BUCKET": settings.s3_bucket,
        "OTEL_EXPORTER_OTLP_ENDPOINT": settings.otlp_endpoint,
        "DRP_TRACES_URL": settings.traces_url,
        "DRP_HOME": str(home),
    }
    known = {name: value for name, value in named.items() if value} | dict(embedded)
    told = {
        name: value
        for name, value in absolute_paths(os.environ).items()
        if value
        and name.startswith("DRP_")
        and name not in OF_ONE_PROCESS
        # the setting itself is known: its file has been read
        and name.removesuffix("_FILE") not in known
    }
    return told | known


def service_child(
    home: Path, service: str, module: str, environment: Mapping[str, str], *, replica: int = 1
) -> Child:
    """A replica of a service, counted from 1, as a process of its own."""
    name = part_name(service, replica)
    daemon = Daemon(name, home)
    own = {
        "DRP_HTTP_HOST": "127.0.0.1",
        "DRP_CONSUMER": f"{service}-{replica}",
        "DRP_LOG_FORMAT": "json",
    }
    if service in NICENESS:
        own["DRP_NICENESS"] = os.environ.get("DRP_NICENESS") or str(NICENESS[service])
    # -P: the folder that we happen to be in is no place to import from.
    command = [sys.executable, "-P", "-m", module]

    def start() -> None:
        if not is_free(child.port):  # somebody took it while the process was away
            port = _port_of(name)
            child.move(port, _address(port))
        env = {**absolute_paths(os.environ), **environment, **own, "DRP_HTTP_PORT": str(child.port)}
        daemon.start(command, env=env, cwd=Path.cwd())

    port = _port_of(name)
    child = Child(
        name=name,
        kind="service",
        daemon=daemon,
        port=port,
        url=_address(port),
        start=start,
        answers=lambda: readiness(child.port, pid=daemon.pid) is None,
        told=lambda: {f"DRP_{name.upper().replace('-', '_')}_URL": child.url},
    )
    return child


def _port_of(name: str) -> int:
    return next_free_port(PREFERRED_PORTS[name]) if name in PREFERRED_PORTS else free_port()


def _address(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def absolute_paths(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment, with the folders in it told so that they mean the same from anywhere."""
    found = dict(environment)
    for name in RELATIVE_TO_CALLER:
        if value := found.get(name):
            parts = [
                str(Path(part).expanduser().absolute()) for part in value.split(os.pathsep) if part.strip()
            ]
            found[name] = os.pathsep.join(parts)
    for name, value in found.items():
        if value and name.startswith("DRP_") and name.endswith("_FILE"):
            found[name] = str(Path(value).expanduser().absolute())
    return found


def _server_child(name: str, server: Server, urls: Sequence[str], **more: str) -> Child:
    """urls: the settings that name it. more: further ones that its clients need."""

    def start() -> None:
        server.start()
        child.move(server.port, _without_password(server.url))

    child = Child(
        name=name,
        kind="server",
        daemon=server.daemon,
        port=server.port,
        url=_without_password(server.url),
        start=start,
        answers=server.answers,
        told=lambda: {**dict.fromkeys(urls, server.url), **more},
    )
    return child


def _without_password(url: str) -> str:
    """What may be shown: progress and status are read over shoulders."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
