"""Whom the console answers, by the name that it is called and the site that asks."""

from __future__ import annotations

import pytest
from httpx import ASGITransport, AsyncClient

from libs.runtime.health import Health
from services.console.handlers import create_app


def at(hosts: str = "") -> AsyncClient:
    """A console with the health pages in front of it, as in a process."""
    health = Health("console")
    health.open()
    return AsyncClient(transport=ASGITransport(health.around(create_app(hosts))), base_url="http://localhost")


async def status(client: AsyncClient, path: str, method: str = "GET", **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return (await client.request(method, path, headers=named)).status_code


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "localhost:8080", "LOCALHOST", "localhost.", "127.0.0.1", "127.0.0.1:8080"),
        *("192.168.1.7:80", "[::1]", "[::1]:8080", "[fe80::1]", "drp.example.com", "Console:8000"),
    ],
)
async def test_it_answers_to_addresses_to_localhost_and_to_names_that_are_listed(host: str) -> None:
    async with at("console, drp.example.com,") as client:
        assert await status(client, "/api/openapi.json", host=host) == 200


@pytest.mark.parametrize(
    "host",
    [
        *(
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "console.evil",
        ),
        *(
            "a.console",
            "",
            "[evil.example]",
            "127.0.0.1@evil.example",
            "evil.example,localhost",
            "0x7f000001",
            "*",
        ),
    ],
)
@pytest.mark.parametrize("path", ["/", "/data", "/api/data", "/live", "/static/0/page.js", "/nothing"])
async def test_to_no_other_name_and_says_what_to_set(host: str, path: str) -> None:
    async with at("console") as client:
        answer = await client.get(path, headers={"Host": host})
    assert answer.status_code == 421
    assert "DRP_CONSOLE_HOSTS" in answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_what_is_no_name_is_not_repeated() -> None:
    async with at() as client:
        assert "<" not in (await client.get("/", headers={"Host": "<script>"})).text


async def test_two_names_are_none() -> None:
    async with at() as client:
        answer = await client.get("/", headers=[("Host", "localhost"), ("Host", "localhost")])
        assert answer.status_code == 421


async def test_a_star_is_any_name() -> None:
    async with at("*") as client:
        assert await status(client, "/api/openapi.json", host="anything.example") == 200


@pytest.mark.parametrize("probe", ["/livez", "/readyz", "/metrics"])
async def test_the_health_pages_are_asked_under_any_name(probe: str) -> None:
    async with at() as client:
        assert await status(client, probe, host="evil.example", sec_fetch_site="cross-site") == 200


@pytest.mark.parametrize(
    ("site", "mode", "method", "expected"),
    [
        ("cross-site", "no-cors", "GET", 403),
        ("cross-site", "cors", "GET", 403),
        ("cross-site", "", "GET", 403),
        ("cross-site", "navigate", "POST", 403),
        ("cross-site", "navigate", "GET", 200),
        ("same-origin", "cors", "GET", 200),
        ("same-site", "no-cors", "GET", 200),
        ("none", "navigate", "GET", 200),
    ],
)
async def test_another_site_s_page_may_lead_here_and_nothing_else(
    site: str, mode: str, method: str, expected: int
) -> None:
    async with at() as client:
        said = {"sec_fetch_site": site, "sec_fetch_mode": mode}
        assert await status(client, "/api/openapi.json", method, **said) == expected


async def test_a_program_that_says_nothing_of_sites_is_answered() -> None:
    async with at() as client:
        assert await status(client, "/api/openapi.json") == 200
