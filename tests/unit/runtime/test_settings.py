"""What the environment says, and how a mistake in it is told."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from libs.errors import Permanent
from libs.runtime.settings import ServiceSettings


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("DRP_", "AWS_", "OTEL_")):
            monkeypatch.delenv(name)


def test_a_setting_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRP_REDIS_URL", "redis://r")
    monkeypatch.setenv("DRP_HOME", "/data")
    settings = ServiceSettings()
    assert (settings.redis_url, settings.home) == ("redis://r", Path("/data"))


def test_a_secret_may_stand_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql://u:p@h/d\n")
    monkeypatch.setenv("DRP_POSTGRES_URL_FILE", str(tmp_path / "url"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY_FILE", str(tmp_path / "url"))
    settings = ServiceSettings()
    assert settings.postgres_url == settings.s3_secret_key == "postgresql://u:p@h/d"


def test_the_value_itself_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "url").write_text("redis://file")
    monkeypatch.setenv("DRP_REDIS_URL_FILE", str(tmp_path / "url"))
    monkeypatch.setenv("DRP_REDIS_URL", "redis://value")
    assert ServiceSettings().redis_url == "redis://value"


def test_a_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRP_REDIS_URL_FILE", "/nowhere")
    with pytest.raises(Permanent, match="DRP_REDIS_URL_FILE cannot be read"):
        ServiceSettings()


def test_our_name_wins_over_the_standard_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://aws")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "theirs")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel")
    monkeypatch.setenv("DRP_S3_ACCESS_KEY", "ours")
    settings = ServiceSettings()
    assert settings.s3_endpoint_url == "http://aws"
    assert settings.otlp_endpoint == "http://otel"
    assert settings.s3_access_key == "ours"


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRP_REDIS_URL", "")
    monkeypatch.setenv("DRP_HTTP_PORT", "")
    assert (ServiceSettings().redis_url, ServiceSettings().http_port) == (None, 0)


def test_a_wrong_setting_is_named_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRP_HTTP_PORT", "s3cret")
    with pytest.raises(Permanent, match=r"DRP_HTTP_PORT: .*integer") as caught:
        ServiceSettings()
    assert "s3cret" not in str(caught.value)


def test_secrets_are_not_in_what_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REDIS_URL", "POSTGRES_URL", "S3_ACCESS_KEY", "S3_SECRET_KEY", "ALERT_WEBHOOK_URL"):
        monkeypatch.setenv(f"DRP_{name}", "s3cret")
    assert "s3cret" not in repr(ServiceSettings())


def test_replicas_on_two_hosts_have_two_names(monkeypatch: pytest.MonkeyPatch) -> None:
    names = []
    for host in ("one", "two", "one"):
        monkeypatch.setattr(socket, "gethostname", lambda host=host: host)
        names.append(ServiceSettings().consumer_of("ingestor"))
    assert names == ["ingestor-one", "ingestor-two", "ingestor-one"]
    monkeypatch.setenv("DRP_CONSUMER", "ingestor-7")
    assert ServiceSettings().consumer_of("ingestor") == "ingestor-7"
