"""/ledger: does everything balance; /ledger/{batch}: the ids behind a side that does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final
from urllib.parse import urlencode

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from services.console.domain.archive import drawers
from services.console.domain.ledger import CELLS, CellName, generation_problem
from services.console.doors import Missing
from services.console.handlers.answers import BatchNamed, as_json, page, room_of
from services.console.handlers.leaving import unless_gone
from services.console.looks.batch import named_batch
from services.console.looks.ledger import OBJECTS, LedgerChoice, LedgerPage, look_at_ledger
from services.console.looks.ledger_batch import SHOWN, LedgerBatch, look_at_ledger_of, missing_ledger

__all__ = ["router"]

router = APIRouter()

_FARTHEST: Final = 10_000
_ID: Final = r"^[0-9a-fA-F-]{0,36}$"
_NAME: Final = r"^[a-z0-9_]*$"
_FOLDER: Final = r"^((raw|analytics)/[a-z0-9_]{1,100}/[a-z_]{1,40}=[0-9-]{1,20}/)?$"
Side = Annotated[CellName | None, Query(description="The side whose ids are shown.")]
Compared = Annotated[bool, Query(description="Compare the sides event by event, though their counts agree.")]


def _chosen(
    dataset: Annotated[str, Query(max_length=100, pattern=_NAME)] = "",
    id: Annotated[str, Query(pattern=_ID)] = "",  # noqa: A002 - what the address calls it
    unbalanced: bool = False,
    page: Annotated[int, Query(ge=1, le=_FARTHEST)] = 1,
    folder: Annotated[str, Query(pattern=_FOLDER)] = "",
) -> LedgerChoice:
    return LedgerChoice(
        dataset=dataset or None,
        starts_with=id.lower() or None,
        unbalanced=unbalanced,
        page=page,
        folder=folder or None,
    )


Chosen = Annotated[LedgerChoice, Depends(_chosen)]


async def _seen(request: Request, choice: LedgerChoice) -> LedgerPage:
    room = room_of(request)
    return await look_at_ledger(room.doors, room.ledger, room.staged, choice)


@router.get("/ledger", include_in_schema=False)
async def ledger(request: Request, choice: Chosen) -> Response:
    seen = await _seen(request, choice)
    return page(
        request,
        "ledger.html",
        now=seen.at,
        seen=seen,
        columns=CELLS,
        drawers=drawers(seen.folders or []),
        problem_of=generation_problem,
        most=OBJECTS,
        links=_Links(choice),
        topics="batches flow",
    )


@router.get("/api/ledger", tags=["pages"], summary="Does everything balance, and where not")
async def ledger_as_json(request: Request, choice: Chosen) -> Response:
    return as_json(await _seen(request, choice))


async def _batch(request: Request, batch: str, cell: CellName | None, *, compare: bool) -> LedgerBatch:
    room = room_of(request)
    named = await named_batch(room.doors, batch)
    if isinstance(named, Missing):
        return missing_ledger(batch, cell or "raw", named)
    return await look_at_ledger_of(room.doors, room.staged, named, cell, compare=compare)


@router.get("/ledger/{batch}", include_in_schema=False)
async def ledger_of_batch(
    request: Request, batch: BatchNamed, cell: Side = None, compare: Compared = False
) -> Response:
    seen = await unless_gone(request, _batch(request, batch, cell, compare=compare))
    return page(
        request,
        "ledger_batch.html",
        now=seen.at,
        seen=seen,
        asked=cell,
        columns=CELLS,
        most=SHOWN,
        topics="" if compare and not seen.missing else "batches",
    )


@router.get("/api/ledger/{batch}", tags=["pages"], summary="One batch on every side, and the ids that differ")
async def ledger_of_batch_as_json(
    request: Request, batch: BatchNamed, cell: Side = None, compare: Compared = False
) -> Response:
    return as_json(await unless_gone(request, _batch(request, batch, cell, compare=compare)))


class _Links:
    """Addresses of the page that differ from this one in a thing or two."""

    def __init__(self, choice: LedgerChoice) -> None:
        self._choice = choice

    def at_page(self, number: int) -> str:
        return _address(msgspec.structs.replace(self._choice, page=number))

    def with_folder(self, prefix: str | None) -> str:
        return _address(msgspec.structs.replace(self._choice, folder=prefix)) + "#archive"

    def unbalanced(self) -> str:
        return _address(LedgerChoice(unbalanced=True))


def _address(choice: LedgerChoice) -> str:
    said: Mapping[str, object | None] = {
        "dataset": choice.dataset,
        "id": choice.starts_with,
        "unbalanced": "true" if choice.unbalanced else None,
        "page": choice.page if choice.page > 1 else None,
        "folder": choice.folder,
    }
    query = urlencode({name: value for name, value in said.items() if value is not None}, safe="/=")
    return f"/ledger?{query}" if query else "/ledger"
