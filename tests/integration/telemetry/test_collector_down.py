"""A collector that is down, slow or wrong costs spans, and nothing else."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.adapters import telemetry
from libs.adapters.telemetry import span
from libs.runtime.embedded.traces import TraceServer
from libs.runtime.processes import free_port
from libs.testing.waiting import until
from tests.integration.telemetry.conftest import Start

LONG = 30
"""Seconds; far more than is needed, and far less than what passes if somebody waits for a collector."""


@pytest.fixture
def a_long_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for a collector is seen to wait, on a slow machine, too."""
    monkeypatch.setattr(telemetry, "TIMEOUT", 60.0)


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


async def test_it_is_said_once_and_steps_go_on_at_full_speed(
    start: Start, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry, "AGAIN_AFTER", 0.5)
    started = start(endpoint=f"http://127.0.0.1:{free_port()}")
    began = time.perf_counter()
    for _ in range(20_000):
        with span("step", root=True):
            pass
        assert time.perf_counter() - began < LONG
    await until(lambda: warnings_in(caplog))
    tries = 0

    def tried_again() -> bool:
        nonlocal tries
        with span("step", root=True):
            pass
        began = time.perf_counter()
        started.flush()
        tries += time.perf_counter() - began > 0.5  # else the collector was not even asked
        return tries >= 2

    await until(tried_again)
    (said,) = warnings_in(caplog)
    assert "no traces reach" in said
    assert "refused" in said


async def test_shutdown_does_not_even_ask_a_collector_that_is_known_to_be_down(
    start: Start, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry, "AGAIN_AFTER", 0)
    started = start(endpoint=f"http://127.0.0.1:{free_port()}")
    with span("step", root=True):
        pass
    await until(lambda: warnings_in(caplog))
    with span("step", root=True):
        pass
    assert started._exporter is not None
    asked: list[object] = []
    monkeypatch.setattr(started._exporter._inner, "export", asked.append)
    started.shutdown()
    assert asked == []


@pytest.mark.usefixtures("a_long_wait")
@pytest.mark.parametrize("spans", [1, 5_000])
def test_shutdown_does_not_wait_for_a_collector_that_refuses(start: Start, spans: int) -> None:
    started = start(endpoint=f"http://127.0.0.1:{free_port()}")
    for _ in range(spans):
        with span("step", root=True):
            pass
    began = time.perf_counter()
    started.shutdown()
    assert time.perf_counter() - began < LONG


@pytest.mark.usefixtures("a_long_wait")
def test_shutdown_does_not_wait_for_a_collector_that_never_answers(start: Start, silent: str) -> None:
    started = start(endpoint=silent)
    for _ in range(5_000):
        with span("step", root=True):
            pass
    began = time.perf_counter()
    started.shutdown()
    assert time.perf_counter() - began < LONG


def test_a_process_that_exits_does_not_wait_either(start: Start, silent: str) -> None:
    started = start(endpoint=silent)
    with span("step", root=True):
        pass
    started.shutdown()
    assert all(thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread())


def test_what_waits_is_bounded(start: Start, silent: str) -> None:
    started = start(endpoint=silent)
    for _ in range(30_000):
        with span("step", root=True):
            pass
    processor = started._provider._active_span_processor._span_processors[0]
    assert len(processor._batch_processor._queue) <= 8192  # type: ignore[attr-defined]


async def test_it_is_said_when_traces_get_through_again(
    start: Start, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO)
    port = free_port()
    start(endpoint=f"http://127.0.0.1:{port}")
    with span("lost", root=True):
        pass
    await until(lambda: warnings_in(caplog))
    server = TraceServer(tmp_path, port)
    server.start()
    server.wait_ready()
    try:

        def told() -> bool:
            with span("kept", root=True):
                pass
            return "again" in caplog.text

        await until(told)
    finally:
        server.stop()
    assert len(warnings_in(caplog)) == 1


def test_no_endpoint_sends_nothing_and_is_no_trouble(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    started = start(endpoint=None)
    with span("step", root=True):
        pass
    started.shutdown()
    assert warnings_in(caplog) == []
