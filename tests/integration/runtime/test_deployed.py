"""drp status where something else runs the platform: every part is asked where the settings say it is."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from libs.runtime.deployed import deployed_status
from libs.runtime.processes import free_port
from libs.runtime.readiness import main, readiness
from libs.runtime.settings import ServiceSettings
from libs.runtime.status import PartStatus

NOT_READY = {"service": "ingestor", "ready": False, "checks": {"postgres": {"ok": False, "detail": "away"}}}


@contextmanager
def service(status: int, document: object) -> Iterator[int]:
    """Something that answers /readyz so, on a port of the loopback."""

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(document).encode()
            self.send_response(status if self.path == "/readyz" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRP_RUN_BY", "docker compose")


def parts(**settings: str) -> dict[str, PartStatus]:
    return {part.name: part for part in deployed_status(ServiceSettings(**settings)).parts}


def test_each_part_says_how_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        service(200, {}) as good,
        service(503, NOT_READY) as bad,
        socket.create_server(("127.0.0.1", 0)) as redis,
    ):
        monkeypatch.setenv("DRP_GENERATOR_URL", f"http://127.0.0.1:{good}")
        monkeypatch.setenv("DRP_INGESTOR_URL", f"http://127.0.0.1:{bad}")
        monkeypatch.setenv("DRP_AUDIT_URL", f"http://127.0.0.1:{free_port()}")
        monkeypatch.setenv("DRP_ARCHIVER_URL", "http://nobody.invalid:8000")
        found = parts(redis_url=f"redis://default:secret@127.0.0.1:{redis.getsockname()[1]}/0")

    assert found["redis"].ready
    assert "secret" not in found["redis"].url
    assert found["generator"].ready
    assert found["ingestor"].detail == "postgres: away"
    assert (found["audit"].detail or "").startswith("no answer")
    assert found["archiver"].detail == "not running: nobody.invalid has no address"
    assert {part.pid for part in found.values()} == {None}


def test_it_runs_if_anything_does_and_is_ready_if_all_are(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(200, {}) as good, service(503, NOT_READY) as bad:
        monkeypatch.setenv("DRP_GENERATOR_URL", f"http://127.0.0.1:{good}")
        all_ready = deployed_status(ServiceSettings())
        monkeypatch.setenv("DRP_INGESTOR_URL", f"http://127.0.0.1:{bad}")
        one_is_not = deployed_status(ServiceSettings())
    none = deployed_status(ServiceSettings())

    assert (all_ready.running, all_ready.ready) == (True, True)
    assert (one_is_not.running, one_is_not.ready) == (True, False)
    assert (none.running, none.ready) == (False, False)


def test_every_address_behind_a_name_is_a_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(200, {}) as port:
        real = socket.getaddrinfo

        def two_replicas(host: str, *given: Any, **named: Any) -> Any:
            if host != "ingestor":
                return real(host, *given, **named)
            return [(2, 1, 6, "", (address, port)) for address in ("127.0.0.9", "127.0.0.1", "127.0.0.1")]

        monkeypatch.setattr(socket, "getaddrinfo", two_replicas)
        monkeypatch.setenv("DRP_INGESTOR_URL", f"http://ingestor:{port}")
        found = deployed_status(ServiceSettings()).parts

    assert [(part.url, part.ready) for part in found] == [
        (f"http://127.0.0.1:{port}", True),
        (f"http://127.0.0.9:{port}", False),
    ]


def test_the_health_check_of_a_container_is_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with service(200, {}) as good:
        assert main([str(good)]) == 0
    with service(503, NOT_READY) as bad:
        assert main([str(bad)]) == 1
    assert capsys.readouterr().out == "postgres: away\n"


def test_a_page_that_is_not_ours_is_not_ready() -> None:
    with service(500, "no checks in here") as port:
        assert readiness(port) == "not ready"
