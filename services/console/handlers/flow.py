"""/ : where every event is."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.console.domain.flow import flow_map
from services.console.domain.identity import identity, map_counts
from services.console.domain.plot import newest
from services.console.handlers.answers import as_json, page, room_of
from services.console.looks.flow import FlowPage, look_at_flow

__all__ = ["router"]

router = APIRouter()


async def _seen(request: Request) -> FlowPage:
    room = room_of(request)
    return await look_at_flow(room.doors, room.ledger, room.marts)


@router.get("/", include_in_schema=False)
async def flow(request: Request) -> Response:
    seen = await _seen(request)
    sums = identity(None if seen.counted is None else seen.counted.reports, seen.ledger)
    counts = map_counts(sums, seen.generations, seen.stages, seen.objects)
    return page(
        request,
        "flow.html",
        now=seen.at,
        seen=seen,
        sums=sums,
        flow=flow_map(seen.stages, counts),
        newest=newest,
        topics="flow",
    )


@router.get("/api/flow", tags=["pages"], summary="Where every event is")
async def flow_as_json(request: Request) -> Response:
    return as_json(await _seen(request))
