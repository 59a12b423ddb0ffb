"""/batches: what became of each batch; /batches/{id}: how, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal
from urllib.parse import urlencode

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from libs.operations.reading import STATUSES
from libs.operations.runs import SORTS, Sort
from services.console.domain import gantt
from services.console.domain.commands import commands_for
from services.console.domain.waterfall import drawn_steps
from services.console.doors import Missing
from services.console.handlers.answers import TEXT, BatchNamed, as_json, page, room_of
from services.console.handlers.leaving import unless_gone
from services.console.looks.batch import BatchPage, look_at_batch, missing_page, named_batch
from services.console.looks.batches import BatchesPage, Choice, look_at_batches

__all__ = ["router"]

router = APIRouter()

_FARTHEST: Final = 10_000
_ID: Final = r"^[0-9a-fA-F-]{0,36}$"
Shown = Annotated[bool, Query(description="Show the values of failing rows.")]
Checked = Annotated[
    bool, Query(description="Read the archive's objects, and compare them with their hashes.")
]


def _chosen(
    dataset: Annotated[str, Query(max_length=100, pattern=TEXT)] = "",
    status: Annotated[str, Query(max_length=20, pattern=TEXT)] = "",
    id: Annotated[str, Query(pattern=_ID)] = "",  # noqa: A002 - what the address calls it
    sort: Sort = "opened",
    order: Literal["asc", "desc"] = "desc",
    page: Annotated[int, Query(ge=1, le=_FARTHEST)] = 1,
) -> Choice:
    return Choice(
        dataset=dataset or None,
        status=status or None,
        starts_with=id.lower() or None,
        sort=sort,
        descending=order == "desc",
        page=page,
    )


Chosen = Annotated[Choice, Depends(_chosen)]


@router.get("/batches", include_in_schema=False)
async def batches(request: Request, choice: Chosen) -> Response:
    seen = await look_at_batches(room_of(request).doors, choice)
    return page(
        request,
        "batches.html",
        now=seen.at,
        seen=seen,
        statuses=STATUSES,
        archives=room_of(request).doors.archives,
        links=_Links(seen),
        topics="batches",
    )


@router.get("/api/batches", tags=["pages"], summary="What became of each batch")
async def batches_as_json(request: Request, choice: Chosen) -> Response:
    return as_json(await look_at_batches(room_of(request).doors, choice))


async def _seen(request: Request, batch: str, *, reveal: bool, verify: bool) -> BatchPage:
    doors = room_of(request).doors
    named = await named_batch(doors, batch)
    if isinstance(named, Missing):
        return missing_page(batch, [named])
    return await look_at_batch(doors, named, reveal=reveal, verify=verify)


@router.get("/batches/{batch}", include_in_schema=False)
async def batch(
    request: Request, batch: BatchNamed, reveal: Shown = False, verify: Checked = False
) -> Response:
    seen = await unless_gone(request, _seen(request, batch, reveal=reveal, verify=verify))
    return page(
        request,
        "batch.html",
        now=seen.at,
        seen=seen,
        gantt=gantt.drawn(seen.lanes, now=seen.at) if seen.lanes else None,
        steps=[] if seen.trace is None else drawn_steps(seen.trace),
        commands=[] if seen.batch is None else commands_for(seen.batch),
        verified=verify,
        archives=room_of(request).doors.archives,
        topics="" if verify and not seen.missing else "batches",
    )


@router.get("/api/batches/{batch}", tags=["pages"], summary="One batch: where it is, why, and how it went")
async def batch_as_json(
    request: Request, batch: BatchNamed, reveal: Shown = False, verify: Checked = False
) -> Response:
    return as_json(await unless_gone(request, _seen(request, batch, reveal=reveal, verify=verify)))


class _Links:
    """Addresses of the list that differ from this one in a thing or two."""

    def __init__(self, seen: BatchesPage) -> None:
        self._choice = seen.choice

    def sorted_by(self, sort: Sort) -> str:
        """Sorted by that, the greatest first; turned round if it is already."""
        turned = self._choice.sort == sort and self._choice.descending
        return _address(msgspec.structs.replace(self._choice, sort=sort, descending=not turned, page=1))

    def direction(self, sort: Sort) -> str | None:
        """What aria-sort says of the column."""
        if self._choice.sort != sort:
            return None
        return "descending" if self._choice.descending else "ascending"

    def with_status(self, status: str | None) -> str:
        return _address(msgspec.structs.replace(self._choice, status=status, page=1))

    def at_page(self, number: int) -> str:
        return _address(msgspec.structs.replace(self._choice, page=number))


def _address(choice: Choice) -> str:
    said: Mapping[str, object | None] = {
        "dataset": choice.dataset,
        "status": choice.status,
        "id": choice.starts_with,
        "sort": choice.sort if choice.sort != next(iter(SORTS)) else None,
        "order": None if choice.descending else "asc",
        "page": choice.page if choice.page > 1 else None,
    }
    query = urlencode({name: value for name, value in said.items() if value is not None})
    return f"/batches?{query}" if query else "/batches"
