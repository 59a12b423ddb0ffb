"""/live: which topics changed when, as server-sent events; /api/live: the same, asked once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from services.console.handlers.answers import as_json, room_of
from services.console.looks.marks import Marks

__all__ = ["router"]

router = APIRouter()

RECONNECT_AFTER: Final = 2_000
"""Milliseconds after which a browser that lost us asks again."""


@router.get("/live", include_in_schema=False)
async def live(request: Request) -> Response:
    return StreamingResponse(
        _told(room_of(request).marks), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
    )


async def _told(marks: Marks) -> AsyncIterator[bytes]:
    yield f"retry: {RECONNECT_AFTER}\n\n".encode()
    async for each in marks.follow():
        yield b"event: marks\ndata: " + msgspec.json.encode(each) + b"\n\n"


@router.get("/api/live", tags=["live"], summary="When each topic last changed, in seconds since 1970")
async def marks(request: Request) -> Response:
    return as_json(await room_of(request).marks.now())
