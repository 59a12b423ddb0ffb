"""What an address says of itself, and what a server asks for."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from libs.adapters.http import address_of, retry_after
from libs.errors import Permanent

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://api.example.com/v1/orders", "https://api.example.com/v1/orders"),
        ("https://me:s3cret@API.example.com/v1?token=s3cret#s3cret", "https://api.example.com/v1"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://[::1]:8000/x", "http://[::1]:8000/x"),
    ],
)
def test_an_address_is_named_without_what_may_be_secret_in_it(url: str, address: str) -> None:
    assert address_of(url) == address


@pytest.mark.parametrize(
    "url", ["", "orders.csv", "ftp://host/x", "http://", "http://host:port/", "http://[x"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(Permanent, match="not an http"):
        address_of(url)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        ("999999", 3600.0),
        ("Sun, 01 Mar 2026 12:00:30 GMT", 30.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
    ],
)
def test_retry_after_is_a_number_of_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, now=NOON) == seconds
