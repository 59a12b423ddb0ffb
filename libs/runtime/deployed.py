"""A platform that something else than `drp up` runs: each part is asked where the settings say it is.

DRP_RUN_BY names the command that starts it with `up -d` and stops it with `down`: `docker compose`. DRP_<SERVICE>_URL
says where a service is. Behind one name there may be several replicas: each address is asked.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from urllib.parse import SplitResult, urlsplit

from libs.errors import Permanent
from libs.runtime.embedded.server import listens
from libs.runtime.layout import SERVICES
from libs.runtime.readiness import readiness
from libs.runtime.settings import ServiceSettings
from libs.runtime.status import PartStatus, PlatformStatus

__all__ = ["deployed_status", "only_embedded", "run_by"]

DEFAULT_PORTS: Final = {"http": 80, "https": 443, "redis": 6379, "rediss": 6379, "postgresql": 5432}


def run_by() -> str | None:
    """The command that runs this platform in place of `drp up`; None: no other does."""
    return os.environ.get("DRP_RUN_BY") or None


def only_embedded(instead: str) -> None:
    """Refuse what only works where `drp up` runs the platform.

    Raises:
        Permanent: something else does; instead is what to give that command.
    """
    if command := run_by():
        raise Permanent(f"this platform is run by {command}", fix=f"{command} {instead}, on the host")


def deployed_status(settings: ServiceSettings) -> PlatformStatus:
    """Every server and every replica of every service, asked now."""
    places = [("server", name, url) for name, url in _servers(settings)]
    places += [
        ("service", name, url) for name in SERVICES if (url := os.environ.get(f"DRP_{name.upper()}_URL"))
    ]
    # Asked together: one that hangs holds up none of the others.
    with ThreadPoolExecutor(max(1, len(places))) as pool:
        found = pool.map(lambda place: list(_parts(*place)), places)
        parts = [part for each in found for part in each]
    return PlatformStatus(
        home=str(settings.home.absolute()),
        running=any(part.ready for part in parts),
        ready=bool(parts) and all(part.ready for part in parts),
        pid=None,
        started_at=None,
        parts=parts,
    )


def _servers(settings: ServiceSettings) -> Iterator[tuple[str, str]]:
    named = {
        "redis": settings.redis_url,
        "postgres": settings.postgres_url,
        "objects": settings.s3_endpoint_url,
        "traces": settings.traces_url,
    }
    return ((name, url) for name, url in named.items() if url)


def _parts(kind: str, name: str, url: str) -> Iterator[PartStatus]:
    """One for each address behind the URL's name; one that says so if there is none."""
    place = urlsplit(url)
    port = place.port or DEFAULT_PORTS.get(place.scheme, 0)
    host = place.hostname or ""
    addresses = _addresses(host, port)
    if not addresses:
        yield _part(kind, name, host, port, place, detail=f"not running: {host} has no address")
    for address in addresses:
        if kind == "service":
            detail = readiness(port, address)
        else:
            detail = None if listens(port, address) else "does not answer"
        yield _part(kind, name, address, port, place, detail=detail)


def _part(
    kind: str, name: str, host: str, port: int, place: SplitResult, *, detail: str | None
) -> PartStatus:
    shown = f"[{host}]" if ":" in host else host
    return PartStatus(
        name=name,
        kind=kind,
        pid=None,
        port=port,
        url=f"{place.scheme}://{shown}:{port}",
        restarts=None,
        ready=detail is None,
        detail=detail,
    )


def _addresses(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return sorted({str(address[0]) for *_, address in found})
