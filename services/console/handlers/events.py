"""/events: what came last; /events?q=: the life of one event."""

from __future__ import annotations

import shlex
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from services.console.domain import life
from services.console.handlers.answers import as_json, page, room_of
from services.console.looks.events import look_at_events, look_for

__all__ = ["router"]

router = APIRouter()

Text = Annotated[
    str, Query(max_length=500, description="An order's number, an event's id, a batch's, or a trace's.")
]
Shown = Annotated[bool, Query(description="Show what the producers sent.")]
Paused = Annotated[bool, Query(description="Leave the page as it is, whatever comes.")]


@router.get("/events", include_in_schema=False)
async def events(request: Request, q: Text = "", reveal: Shown = False, paused: Paused = False) -> Response:
    doors, text = room_of(request).doors, q.strip()
    if not text:
        tail = await look_at_events(doors, paused=paused)
        return page(
            request,
            "events.html",
            now=tail.at,
            seen=tail,
            topics="" if paused else "flow quarantine",
        )
    seen = await look_for(doors, text, reveal=reveal)
    return page(
        request,
        "event.html",
        now=seen.at,
        seen=seen,
        life=life,
        archives=doors.archives,
        quoted=shlex.quote(text),
        rows=[] if seen.found is None else life.versions(seen.found.events),
        topics="batches quarantine",
    )


@router.get("/api/events", tags=["pages"], summary="What came last; with q, the life of what it names")
async def events_as_json(
    request: Request, q: Text = "", reveal: Shown = False, paused: Paused = False
) -> Response:
    doors, text = room_of(request).doors, q.strip()
    if not text:
        return as_json(await look_at_events(doors, paused=paused))
    return as_json(await look_for(doors, text, reveal=reveal))
