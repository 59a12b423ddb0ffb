"""/data: a mart of the generation that readers see, or somebody's own SQL on it; both as files, too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import IO, Annotated, Any, Final, Literal, NamedTuple
from urllib.parse import urlencode

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response, StreamingResponse

from libs.errors import DrpError, Transient
from services.console.domain.cells import cell, command_for, select
from services.console.domain.plot import newest
from services.console.handlers.answers import as_json, page, room_of, told
from services.console.handlers.leaving import unless_gone
from services.console.looks.data import (
    AT_ONCE,
    DataPage,
    MartChoice,
    chosen_dataset,
    chosen_mart,
    look_at_data,
    mart_file,
)
from services.console.looks.kept import Form
from services.console.looks.mart import published_file
from services.console.looks.questions import LONGEST, SHOWN, TO_KEEP, QuestionPage

__all__ = ["router"]

router = APIRouter()

_FARTHEST: Final = 100_000
_PIECE: Final = 262_144
_TYPES: Final = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}

Name = Annotated[str, Query(max_length=100)]
Sql = Annotated[
    str, Query(max_length=LONGEST, description="One query over analytics.* and staging.*; it can only read.")
]


class _Asked(NamedTuple):
    """What the address says."""

    choice: MartChoice
    sql: str | None


def _asked(
    request: Request,
    dataset: Name = "",
    mart: Name = "",
    sort: Name = "",
    order: Literal["asc", "desc"] = "desc",
    page: Annotated[int, Query(ge=1, le=_FARTHEST)] = 1,
    plot: Name = "",
    sql: Sql | None = None,
) -> _Asked:
    chosen = chosen_dataset(room_of(request).doors, dataset)
    choice = MartChoice(
        dataset=chosen.name,
        mart=chosen_mart(chosen, mart),
        sort=sort or None,
        descending=order == "desc",
        page=page,
        plot=plot or None,
    )
    return _Asked(choice, sql)


Asked = Annotated[_Asked, Depends(_asked)]


@router.get("/data", include_in_schema=False)
async def data(request: Request, asked: Asked) -> Response:
    room = room_of(request)
    links = _Links(asked.choice, several=len(room.doors.datasets) > 1)
    datasets = {dataset.name: list(dataset.marts) for dataset in room.doors.datasets.values()}
    shared: dict[str, Any] = {
        "links": links,
        "datasets": datasets,
        "cell": cell,
        "limits": SHOWN,
        "kept": TO_KEEP,
        "topics": "batches",
    }
    if asked.sql is None:
        seen = await look_at_data(room.doors, asked.choice)
        return page(request, "data.html", now=seen.at, seen=seen, newest=newest, at_once=AT_ONCE, **shared)
    answered = await _answered(request, asked.choice.dataset, asked.sql)
    shared["topics"] = ""  # asked once: it isn't asked again because a batch was published
    status = answered.refusal.status if answered.refusal else 200
    return page(request, "question.html", status=status, now=answered.at, seen=answered, **shared)


@router.get(
    "/api/data", tags=["pages"], summary="A mart of the generation that readers see, or an answer to SQL"
)
async def data_as_json(request: Request, asked: Asked) -> Response:
    seen: DataPage | QuestionPage
    if asked.sql is None:
        seen = await look_at_data(room_of(request).doors, asked.choice)
        return as_json(seen)
    seen = await _answered(request, asked.choice.dataset, asked.sql)
    return as_json(seen, status=seen.refusal.status if seen.refusal else 200)


async def _answered(request: Request, dataset: str, sql: str) -> QuestionPage:
    return await unless_gone(request, room_of(request).questions.page(dataset, sql))


@router.get("/data/{dataset}/{mart}.{form}", tags=["files"], summary="A whole mart")
async def mart_as_file(request: Request, dataset: str, mart: str, form: Form) -> Response:
    room = room_of(request)
    name = chosen_mart(chosen_dataset(room.doors, dataset), mart)
    path = published_file(room.doors, dataset)

    async def written() -> tuple[IO[bytes], int]:
        async with room.questions.turn():
            return await mart_file(path, name, form)

    stem = path.name.removesuffix(".duckdb")
    return await _file(request, written(), f"{dataset}-{name}-{stem}.{form}", form)


@router.get("/data/{dataset}.{form}", tags=["files"], summary="The whole answer to SQL")
async def answer_as_file(request: Request, dataset: str, form: Form, sql: Sql) -> Response:
    room = room_of(request)
    chosen_dataset(room.doors, dataset)
    return await _file(request, room.questions.file(dataset, sql, form), f"{dataset}-answer.{form}", form)


async def _file(
    request: Request, work: Coroutine[None, None, tuple[IO[bytes], int]], name: str, form: Form
) -> Response:
    try:
        file, size = await unless_gone(request, work)
    except DrpError as error:
        return told(request, 503 if isinstance(error, Transient) else 400, error.what, error.why, error.fix)
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Content-Length": str(size)}
    return StreamingResponse(_pieces(file), media_type=_TYPES[form], headers=headers)


async def _pieces(file: IO[bytes]) -> AsyncIterator[bytes]:
    with file:
        while piece := await asyncio.to_thread(file.read, _PIECE):
            yield piece


class _Links:
    """Addresses of this page that differ from this one in a thing or two, and what says the same."""

    def __init__(self, choice: MartChoice, *, several: bool) -> None:
        self._choice = choice
        self._several = several

    def of_mart(self, dataset: str, mart: str) -> str:
        return "/data?" + urlencode({"dataset": dataset, "mart": mart})

    def of_file(self, form: Form) -> str:
        return f"/data/{self._choice.dataset}/{self._choice.mart}.{form}"

    def sorted_by(self, column: str) -> str:
        """Sorted by that, the greatest first; turned round if it is already."""
        turned = self.direction(column) == "descending"
        return self._address(sort=column, descending=not turned, page=1)

    def direction(self, column: str, first: str = "") -> str | None:
        """What aria-sort says of the column. first: the one that counts where none is chosen."""
        if column != (self._choice.sort or first):
            return None
        return "descending" if self._choice.descending else "ascending"

    def plotting(self, column: str) -> str:
        return self._address(plot=column)

    def at_page(self, number: int) -> str:
        return self._address(page=number)

    def asking(self, sql: str = "") -> str:
        return "/data?" + urlencode({"dataset": self._choice.dataset, "sql": sql})

    def answer(self, sql: str, form: Form) -> str:
        return f"/data/{self._choice.dataset}.{form}?" + urlencode({"sql": sql})

    def select(self, relation: str) -> str:
        return select(relation, order_by=None, descending=False, rows=AT_ONCE)

    def this_page(self, first: str) -> str:
        """The query for the rows that are shown. first: the column that counts where none is chosen."""
        choice = self._choice
        return select(
            f"analytics.{choice.mart}",
            order_by=choice.sort or first,
            descending=choice.descending,
            rows=AT_ONCE,
            after=(choice.page - 1) * AT_ONCE,
        )

    def command(self, sql: str) -> str:
        return command_for(sql, dataset=self._choice.dataset if self._several else None)

    def _address(self, **changes: object) -> str:
        choice = msgspec.structs.replace(self._choice, **changes)
        said = {
            "dataset": choice.dataset,
            "mart": choice.mart,
            "sort": choice.sort,
            "order": None if choice.descending else "asc",
            "page": choice.page if choice.page > 1 else None,
            "plot": choice.plot,
        }
        return "/data?" + urlencode({name: value for name, value in said.items() if value is not None})
