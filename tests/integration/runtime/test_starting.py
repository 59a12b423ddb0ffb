"""`drp up` while it starts: on a machine that is slow, and among others that look for ports too."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis

from libs.errors import Transient
from libs.runtime import layout, processes, supervisor
from libs.runtime.children import Child
from libs.runtime.home import Home
from libs.runtime.settings import ServiceSettings

SERVICES = {"one": "stand_in", "two": "stand_in"}

Heard = Callable[[str], None]


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    for name in ("DRP_S3_ENDPOINT_URL", "OTEL_EXPORTER_OTLP_ENDPOINT", "DRP_REDIS_URL", "DRP_POSTGRES_URL"):
        monkeypatch.delenv(name, raising=False)


def up_and_down(home: Path, heard: Heard, *, once_ready: Callable[[], None] = lambda: None) -> None:
    """Attached, in this process; ended once it is ready."""

    def on_progress(message: str) -> None:
        heard(message)
        if message.startswith("ready after"):
            once_ready()
            os.kill(os.getpid(), signal.SIGINT)

    supervisor.up(home, services=SERVICES, on_progress=on_progress)
    assert Home(home).running() is None


class Rivals:
    """Other programs, that listen on the ports of the servers before those do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ports: set[int] = set()
        self._sockets = ExitStack()
        self._believed_free: set[int] = set()
        monkeypatch.setattr("libs.runtime.supervisor.embedded_servers", self._with_their_ports_taken)
        monkeypatch.setattr("libs.runtime.embedded.server.is_free", self._is_free_at_first_sight)

    def leave(self) -> None:
        self._sockets.close()

    def _with_their_ports_taken(self, home: Path, settings: ServiceSettings) -> list[Child]:
        chosen = layout.embedded_servers(home, settings)
        for child in chosen:
            taken = self._sockets.enter_context(socket.socket())
            taken.bind(("127.0.0.1", child.port))
            taken.listen()
            self.ports.add(child.port)
        return chosen

    def _is_free_at_first_sight(self, port: int) -> bool:
        """They came in the moment after the server looked."""
        seen, self._believed_free = port in self._believed_free, self._believed_free | {port}
        return not seen or processes.is_free(port)


@pytest.fixture
def rivals(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rivals]:
    rivals = Rivals(monkeypatch)
    yield rivals
    rivals.leave()


def test_servers_whose_ports_are_taken_while_they_start_move_and_are_told_where_they_are(
    tmp_path: Path, rivals: Rivals
) -> None:
    said: list[str] = []
    told: dict[str, str] = {}

    def all_answers() -> None:
        told.update(supervisor.environment(tmp_path))
        with redis.Redis.from_url(told["DRP_REDIS_URL"]) as client:
            assert client.ping()
        psycopg.connect(told["DRP_POSTGRES_URL"]).close()

    up_and_down(tmp_path, said.append, once_ready=all_answers)
    assert len(rivals.ports) == 4
    assert {line.split()[0] for line in said if " is ready again at " in line} == {
        *("objects", "traces", "redis", "postgres")
    }
    assert rivals.ports.isdisjoint(ports_in(told))
    heard = json.loads((tmp_path / "heard.json").read_text())
    assert ports_in(heard) == ports_in(told)


def ports_in(environment: Mapping[str, str]) -> set[int | None]:
    """Of the servers."""
    return {
        urlsplit(environment[name]).port
        for name in ("DRP_S3_ENDPOINT_URL", "DRP_TRACES_URL", "DRP_REDIS_URL", "DRP_POSTGRES_URL")
    }


class SlowMachine:
    """Its clock: a minute for each part that becomes ready."""

    sleep = staticmethod(time.sleep)

    def __init__(self) -> None:
        self._ahead = 0

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead

    def heard(self, message: str) -> None:
        if " is ready at " in message:
            self._ahead += 60


def test_a_slow_machine_is_waited_for_as_long_as_one_part_after_another_becomes_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SlowMachine()
    monkeypatch.setattr(supervisor, "time", clock)
    up_and_down(tmp_path, clock.heard)


def test_it_gives_up_when_no_further_part_becomes_ready_and_says_which_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "READY_WITHIN", 0.0)
    with pytest.raises(Transient, match=r"not ready in time: .*postgres: "):
        up_and_down(tmp_path, lambda _: None)
    assert Home(tmp_path).running() is None
