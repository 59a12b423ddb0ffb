"""The pages that tell others how a service is: /livez, /readyz, /metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.types import ASGIApp, Receive, Scope, Send

from libs.errors import DrpError

__all__ = ["PAGES", "Check", "Health"]

PAGES: Final = frozenset({"/livez", "/readyz", "/metrics"})
CHECK_WITHIN: Final = 2.0

Check = Callable[[], Awaitable[str | None]]
"""None is fine, a string says what is wrong."""


class Health:
    """The checks of a service. Until opened nothing is ready, and pages other than these answer 503."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._checks: dict[str, Check] = {}
        self._closed: str | None = "starting"

    def add(self, name: str, check: Check) -> None:
        self._checks[name] = check

    def open(self) -> None:
        self._closed = None

    def close(self, why: str) -> None:
        self._closed = why

    async def report(self) -> dict[str, object]:
        """{service, ready, checks: {name: {ok, detail}}}; each check has two seconds."""
        details = dict(
            zip(self._checks, await asyncio.gather(*map(_ask, self._checks.values())), strict=True)
        )
        checks = {"service": self._closed, **details}
        return {
            "service": self._service,
            "ready": not any(checks.values()),
            "checks": {name: {"ok": not detail, "detail": detail} for name, detail in checks.items()},
        }

    def install(self, app: FastAPI) -> None:
        """Add the pages to the application, before its own routes."""

        @app.get("/livez", include_in_schema=False)
        async def livez() -> dict[str, str]:
            return {"service": self._service, "status": "alive"}

        @app.get("/readyz", include_in_schema=False)
        async def readyz() -> JSONResponse:
            report = await self.report()
            return JSONResponse(report, status_code=200 if report["ready"] else 503)

        @app.get("/metrics", include_in_schema=False)
        async def metrics() -> Response:
            return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

        # A catch-all route of the room's own must not hide them.
        routes = app.router.routes
        routes[:0] = [routes.pop() for _ in PAGES]

    def guard(self, app: ASGIApp) -> ASGIApp:
        """The application, answering 503 on all but these pages while the service is closed."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and self._closed is not None and scope["path"] not in PAGES:
                body = {"error": f"{self._service} is {self._closed}"}
                await JSONResponse(body, status_code=503, headers={"Retry-After": "1"})(scope, receive, send)
            else:
                await app(scope, receive, send)

        return guarded


async def _ask(check: Check) -> str | None:
    try:
        async with asyncio.timeout(CHECK_WITHIN):
            return await check()
    except TimeoutError:
        return f"no answer within {CHECK_WITHIN:g} s"
    except DrpError as error:
        return str(error)
