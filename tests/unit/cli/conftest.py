"""The command on an empty machine: no platform, no settings, 80 columns."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.cli.calling import Drp, caller


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path) -> Iterator[None]:
    before = dict(os.environ)
    for name in before:
        if name.startswith(("DRP_", "AWS_", "OTEL_")):
            del os.environ[name]
    os.environ |= {"DRP_HOME": str(tmp_path / "home"), "COLUMNS": "80"}
    yield
    os.environ.clear()  # a command takes settings over from what runs
    os.environ.update(before)


@pytest.fixture
def drp(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Drp:
    return caller(monkeypatch, capsys)
