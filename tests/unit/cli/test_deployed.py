"""drp where something else runs the platform: what only `drp up` can do says what to give instead."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.cli.calling import Drp


@pytest.fixture(autouse=True)
def _deployed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRP_RUN_BY", "docker compose")


@pytest.mark.parametrize(
    ("command", "instead"),
    [("up", "docker compose up -d"), ("down", "docker compose down"), ("demo", "make demo")],
)
def test_what_starts_and_stops_is_elsewhere(drp: Drp, command: str, instead: str) -> None:
    said = drp(command)
    assert said.code == 1
    assert "run by docker compose" in said.err
    assert f"Try: {instead}" in said.err


def test_env_tells_what_this_process_was_told_secrets_in_files_included(
    drp: Drp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "url").write_text("redis://default:secret@redis:6379/0\n")
    monkeypatch.setenv("DRP_REDIS_URL_FILE", str(tmp_path / "url"))
    monkeypatch.setenv("DRP_INGESTOR_URL", "http://ingestor:8000")

    told = json.loads(drp("env", "--json").out)
    assert told["DRP_REDIS_URL"] == "redis://default:secret@redis:6379/0"
    assert told["DRP_INGESTOR_URL"] == "http://ingestor:8000"


def test_where_no_part_is_named_nothing_runs(drp: Drp) -> None:
    said = drp("status", "--json")
    assert said.code == 5
    assert json.loads(said.out)["parts"] == []
