"""What `drp config show` must not tell."""

from __future__ import annotations

import pytest

from services.cli.masking import masked
from tests.unit.cli.calling import Drp

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("redis_url", f"redis://:{SECRET}@127.0.0.1:6379/0", "redis://***@127.0.0.1:6379/0"),
        ("postgres_url", f"postgresql://drp:{SECRET}@db:5432/drp", "postgresql://***@db:5432/drp"),
        (
            "postgres_url",
            f"postgresql://db/drp?user=drp&password={SECRET}",
            "postgresql://db/drp?***",
        ),
        ("postgres_url", "postgresql:///drp", "postgresql:///drp"),
        ("alert_webhook_url", f"https://hooks.slack.com/services/T0/{SECRET}", "https://hooks.slack.com/***"),
        ("otlp_endpoint", f"https://user:{SECRET}@otel.example", "https://***@otel.example"),
        ("s3_secret_key", SECRET, "***"),
        ("s3_access_key", SECRET, "***"),
        ("s3_bucket", "drp", "drp"),
        ("http_port", 8000, 8000),
        ("redis_url", None, None),
        # what cannot be told apart for certain
        ("postgres_url", f"postgresql://drp:a/{SECRET}@db/drp", "***"),
        ("postgres_url", f"postgresql://drp:{SECRET}?@db/drp", "***"),
        ("postgres_url", f"postgresql://drp:{SECRET}#@db/drp", "***"),
        ("postgres_url", f"postgresql://db/drp?password=a@{SECRET}", "***"),
        ("postgres_url", f"postgresql://drp:a@{SECRET}@db/drp", "***"),
        ("postgres_url", SECRET, "***"),
    ],
)
def test_a_setting_shows_where_it_leads_and_no_secret(name: str, value: object, shown: object) -> None:
    assert masked(name, value) == shown


def test_config_show_masks_what_it_prints_and_reveals_on_request(
    drp: Drp, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("POSTGRES_URL", "REDIS_URL"):
        monkeypatch.setenv(f"DRP_{name}", f"any://user:{SECRET}@host/0")
    monkeypatch.setenv("DRP_ALERT_WEBHOOK_URL", f"https://example.org/{SECRET}")
    monkeypatch.setenv("DRP_S3_SECRET_KEY", SECRET)
    monkeypatch.setenv("DRP_S3_ACCESS_KEY", SECRET)

    for arguments in (["--json"], []):
        shown = drp("config", "show", *arguments)
        assert (shown.code, SECRET in shown.out + shown.err) == (0, False)
    assert drp("config", "show", "--reveal").out.count(SECRET) == 5
