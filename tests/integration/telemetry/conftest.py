"""A process' telemetry, sent to where the test says."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest

from libs.adapters import telemetry
from libs.adapters.telemetry import Telemetry

Start = Callable[..., Telemetry]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """telemetry.setup, undone at the end of the test."""
    monkeypatch.setattr(telemetry._current, "provider", None)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    started: list[Telemetry] = []

    def setup(service: str = "tested", endpoint: str | None = None) -> Telemetry:
        started.append(telemetry.setup(service, endpoint=endpoint, log_format="json"))
        return started[-1]

    yield setup
    for one in started:
        one.shutdown()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
