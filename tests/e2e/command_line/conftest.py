"""One platform for every command: its batches stay open until they are told to close, its alerts come here."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any, Final

import pytest

from libs.testing.platform import RunningPlatform
from tests.e2e.command_line.calling import Drp, published, ran

FAULTY: Final = """\
order_id,customer_id,amount,created_at
A-1,C-1,10.50,2026-01-05T09:30:00Z
A-2,C-1,20.25,2026-01-05T09:31:00Z
A-3,C-2,0.10,2026-01-06T00:00:00.250001Z
A-4,C-2,ten,2026-01-06T00:00:00Z
"A-5,C-2,1.00,2026-01-06T00:00:00Z
"""
LATER: Final = "order_id,customer_id,amount,created_at\nB-1,C-3,5.00,2026-01-08T00:00:00Z\n"


@pytest.fixture(scope="module")
def webhook() -> Iterator[tuple[str, list[Any]]]:
    """An address that takes alerts, and what it got."""
    got: list[Any] = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/hook", got
        server.shutdown()


@pytest.fixture(scope="module")
def platform(
    tmp_path_factory: pytest.TempPathFactory, webhook: tuple[str, list[Any]]
) -> Iterator[RunningPlatform]:
    settings = {"DRP_BATCH_MAX_AGE": "600", "DRP_ALERT_WEBHOOK_URL": webhook[0]}
    started = RunningPlatform(tmp_path_factory.mktemp("commands") / ".drp", settings)
    started.start()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def drp(platform: RunningPlatform, tmp_path_factory: pytest.TempPathFactory) -> Drp:
    """Two published batches, the first with a line that is no row and one that breaks the contract."""
    folder = tmp_path_factory.mktemp("files")
    first = published(platform, folder / "faulty.csv", FAULTY)
    assert ran(platform, "batches", "wait", first).code == 0
    second = published(platform, folder / "later.csv", LATER)
    assert ran(platform, "batches", "wait", "--all").code == 0
    return Drp(platform, folder, first, second)
