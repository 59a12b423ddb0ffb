"""The pages that tell others how a service is: /livez, /readyz, /metrics."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from libs.errors import DrpError

__all__ = ["Check", "Health"]

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
        """{service, pid, ready, checks: {name: {ok, detail}}}; each check has two seconds."""
        details = dict(
            zip(self._checks, await asyncio.gather(*map(_ask, self._checks.values())), strict=True)
        )
        checks = {"service": self._closed, **details}
        return {
            "service": self._service,
            "pid": os.getpid(),
            "ready": not any(checks.values()),
            "checks": {name: {"ok": not detail, "detail": detail} for name, detail in checks.items()},
        }

    def around(self, app: ASGIApp | None) -> ASGIApp:
        """These pages in front of the room's own application (None: there is none)."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and (response := await self._response(scope["path"], app is None)):
                await response(scope, receive, send)
            elif app is not None:
                await app(scope, receive, send)

        return guarded

    async def _response(self, path: str, alone: bool) -> Response | None:
        """What these pages answer themselves; None leaves it to the application."""
        match path:
            case "/livez":
                return JSONResponse({"service": self._service, "status": "alive"})
            case "/readyz":
                report = await self.report()
                return JSONResponse(report, status_code=200 if report["ready"] else 503)
            case "/metrics":
                return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
        if self._closed is not None:
            body = {"error": f"{self._service} is {self._closed}"}
            return JSONResponse(body, status_code=503, headers={"Retry-After": "1"})
        return JSONResponse({"error": "no such page"}, status_code=404) if alone else None


async def _ask(check: Check) -> str | None:
    try:
        async with asyncio.timeout(CHECK_WITHIN):
            return await check()
    except TimeoutError:
        return f"no answer within {CHECK_WITHIN:g} s"
    except DrpError as error:
        return str(error)
