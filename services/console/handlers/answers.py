"""How the console answers: a page, its fragment, or its JSON; and what every answer says to the browser."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from fastapi import FastAPI, Path, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from libs.errors import Permanent, Transient
from services.console.drawing import draw
from services.console.looks.room import Room

__all__ = ["POLICY", "TEXT", "BatchNamed", "Guarded", "as_json", "on_errors", "page", "room_of", "told"]

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
TEXT: Final = r"^[^\x00]*$"
"""What a text of an address may hold: Postgres takes no NUL, and refuses one as if something were wrong with it."""
BatchNamed = Annotated[str, Path(pattern=TEXT, description="A batch's id, the start of it, or `last`.")]
_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_API: Final = "/api"


class Guarded:
    """Says of every answer what the browser may do with it; and that it is not to be kept, unless it says so itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, guarded)


def room_of(request: Request) -> Room:
    room: Room = request.app.state.room
    return room


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """The template as a whole page, or as the part of it that htmx asks for at the same address."""
    fragment = request.headers.get("HX-Request") == "true"
    html = draw(
        template, layout="fragment.html" if fragment else "layout.html", path=request.url.path, **values
    )
    return HTMLResponse(html, status_code=status, headers={"Vary": "HX-Request"})


def as_json(value: object, *, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json")


def on_errors(app: FastAPI) -> None:
    """What is not there, or not understood, is told in the console's own words."""
    app.add_exception_handler(Permanent, _refused)
    app.add_exception_handler(Transient, _not_now)
    app.add_exception_handler(HTTPException, _no_such_page)
    app.add_exception_handler(RequestValidationError, _not_understood)


async def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, Permanent):
        raise error
    return told(request, 404, error.what, error.why, error.fix)


async def _not_now(request: Request, error: Exception) -> Response:
    if not isinstance(error, Transient):
        raise error
    return told(request, 503, error.what, error.why, error.fix)


async def _no_such_page(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    what = "There is no such page" if error.status_code == 404 else str(error.detail)
    return told(request, error.status_code, what, None, None)


async def _not_understood(request: Request, error: Exception) -> Response:
    """Says which part of the address is wrong, and never repeats its value."""
    if not isinstance(error, RequestValidationError):
        raise error
    wrong = "; ".join(f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors())
    return told(request, 422, "The address is not understood", wrong, None)


def told(request: Request, status: int, what: str, why: str | None, fix: str | None) -> Response:
    """A page, or JSON below /api, that says what went wrong."""
    if request.url.path.startswith(_API):
        return as_json({"error": what, "why": why, "fix": fix}, status=status)
    return page(request, "error.html", status=status, what=what, why=why, fix=fix)
