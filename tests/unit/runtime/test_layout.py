"""What `drp` from another terminal is told of a running platform."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from libs.runtime.layout import service_child, shared_environment
from libs.runtime.settings import ServiceSettings

HOME = Path("/data")
EMBEDDED = {"DRP_REDIS_URL": "redis://embedded"}


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("DRP_", "AWS_", "OTEL_")):
            monkeypatch.delenv(name)


def shared() -> dict[str, str]:
    return shared_environment(HOME, ServiceSettings(), EMBEDDED)


def test_the_platforms_own_settings_are_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {
        "DRP_ARCHIVE": "off",
        "DRP_ALERT_WEBHOOK_URL": "http://alerts",
        "DRP_STREAM_LIMIT": "77",
        "DRP_BATCH_DEADLINE": "9",
    }
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    assert shared().items() >= (own | EMBEDDED).items()


def test_what_is_of_one_process_is_not_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "DRP_CONSUMER",
        "DRP_HTTP_PORT",
        "DRP_HTTP_HOST",
        "DRP_LOG_FORMAT",
        "DRP_SCALE",
        "DRP_EMPTY",
    ):
        monkeypatch.setenv(
            name, {"DRP_HTTP_PORT": "1", "DRP_LOG_FORMAT": "text", "DRP_EMPTY": ""}.get(name, "x")
        )
    monkeypatch.setenv("DRP_HOME", "elsewhere")
    assert shared() == {**EMBEDDED, "DRP_HOME": "/data", "DRP_S3_REGION": "us-east-1", "DRP_S3_BUCKET": "drp"}


def test_folders_and_files_mean_the_same_from_anywhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("url").write_text("postgresql://db")
    Path("hook").write_text("http://alerts")
    monkeypatch.setenv("DRP_DATASETS_DIR", "mine")
    monkeypatch.setenv("DRP_POSTGRES_URL_FILE", "url")
    monkeypatch.setenv("DRP_ALERT_WEBHOOK_URL_FILE", "hook")
    told = shared()
    assert told["DRP_DATASETS_DIR"] == str(tmp_path / "mine")
    assert told["DRP_POSTGRES_URL"] == "postgresql://db"
    assert "DRP_POSTGRES_URL_FILE" not in told
    assert told["DRP_ALERT_WEBHOOK_URL_FILE"] == str(tmp_path / "hook")


def test_an_embedded_replica_keeps_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRP_CONSUMER", "of another")
    started: list[dict[str, dict[str, str]]] = []
    child = service_child(HOME, "audit", "services.audit.app", {})
    monkeypatch.setattr(child.daemon, "start", lambda _, **told: started.append(told))
    child.start()
    assert started[0]["env"]["DRP_CONSUMER"] == "audit-1"


def environment_of(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    started: list[dict[str, dict[str, str]]] = []
    child = service_child(HOME, name, f"services.{name}.app", {})
    monkeypatch.setattr(child.daemon, "start", lambda _, **told: started.append(told))
    child.start()
    return started[0]["env"]


def test_what_comes_after_landing_gives_way_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "DRP_NICENESS" not in environment_of("ingestor", monkeypatch)
    assert int(environment_of("transformer", monkeypatch)["DRP_NICENESS"]) > 0

    monkeypatch.setenv("DRP_NICENESS", "0")
    assert environment_of("transformer", monkeypatch)["DRP_NICENESS"] == "0"
