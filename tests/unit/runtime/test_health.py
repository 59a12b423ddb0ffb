"""The pages that tell how a service is."""

from __future__ import annotations

import asyncio

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient, Response

from libs.errors import Transient
from libs.runtime import health
from libs.runtime.health import Health

HTTP_OK = 200


async def ask(page: str, pages: Health, app: FastAPI | None = None) -> Response:
    async with AsyncClient(transport=ASGITransport(pages.around(app)), base_url="http://service") as client:
        return await client.get(page)


async def test_a_service_is_alive_before_it_is_ready() -> None:
    pages = Health("ingestor")
    assert (await ask("/livez", pages)).status_code == HTTP_OK
    assert (await ask("/readyz", pages)).status_code == 503
    pages.open()
    assert (await ask("/readyz", pages)).status_code == HTTP_OK


async def test_what_is_wrong_is_said_for_each_check(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fine() -> str | None:
        return None

    async def wrong() -> str | None:
        return "the disk is full"

    async def gone() -> str | None:
        raise Transient("Postgres did not answer")

    async def slow() -> str | None:
        await asyncio.sleep(60)
        return None

    monkeypatch.setattr(health, "CHECK_WITHIN", 0.01)
    pages = Health("ingestor")
    pages.open()
    for name, check in {"a": fine, "b": wrong, "c": gone, "d": slow}.items():
        pages.add(name, check)
    answer = await ask("/readyz", pages)
    assert answer.status_code == 503
    assert {name: check["detail"] for name, check in answer.json()["checks"].items()} == {
        "service": None,
        "a": None,
        "b": "the disk is full",
        "c": "Postgres did not answer",
        "d": "no answer within 0.01 s",
    }


async def test_the_rooms_own_pages_wait_until_it_is_wired() -> None:
    app = FastAPI()

    @app.get("/{anything}")
    def anything() -> str:
        return "hello"

    pages = Health("generator")
    early = await ask("/v1", pages, app)
    assert (early.status_code, early.headers["Retry-After"]) == (503, "1")
    pages.open()
    assert (await ask("/v1", pages, app)).json() == "hello"
    assert (await ask("/livez", pages, app)).json() == {"service": "generator", "status": "alive"}


async def test_a_room_without_pages_of_its_own_has_no_others() -> None:
    pages = Health("audit")
    pages.open()
    assert (await ask("/v1", pages)).status_code == 404
