"""/quality: does the data pass, which rules broke over the last generations, and on which rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final
from urllib.parse import urlencode

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from services.console.domain.commands import Command
from services.console.handlers.answers import as_json, page, room_of
from services.console.looks import heat as domain
from services.console.looks.quality import CHOSEN_ROWS, QualityChoice, QualityPage, look_at_quality

__all__ = ["router"]

router = APIRouter()

_TEXT: Final = r"^[^\x00]*$"
_NUMBER: Final = r"^[0-9]{0,18}$"


def _chosen(
    dataset: Annotated[str, Query(max_length=100, pattern=_TEXT)] = "",
    generation: Annotated[str, Query(pattern=_NUMBER, description="The newest judged one if left out.")] = "",
    rule: Annotated[str, Query(max_length=200, pattern=_TEXT, description="Rows that break this one.")] = "",
    reveal: Annotated[bool, Query(description="Show the values of failing rows.")] = False,
) -> QualityChoice:
    return QualityChoice(
        dataset=dataset or None,
        generation=int(generation) if generation else None,
        rule=rule or None,
        reveal=reveal,
    )


Chosen = Annotated[QualityChoice, Depends(_chosen)]


@router.get("/quality", include_in_schema=False)
async def quality(request: Request, choice: Chosen) -> Response:
    seen = await look_at_quality(room_of(request).doors, choice)
    return page(
        request,
        "quality.html",
        now=seen.at,
        seen=seen,
        drawing=domain,
        links=_Links(choice),
        commands=_commands(seen),
        most=CHOSEN_ROWS,
        topics="batches",
    )


@router.get("/api/quality", tags=["pages"], summary="What the gate decided: now, of late, and on which rows")
async def quality_as_json(request: Request, choice: Chosen) -> Response:
    return as_json(await look_at_quality(room_of(request).doors, choice))


def _commands(seen: QualityPage) -> list[Command]:
    if seen.chosen is None:
        return []
    return domain.commands_for_generation(
        seen.chosen.generation, acceptable=seen.chosen.acceptable, waiting=seen.chosen.waiting
    )


class _Links:
    """Addresses of the page that differ from this one in a thing or two; none reveals what this one hides."""

    def __init__(self, choice: QualityChoice) -> None:
        self._choice = choice

    def of(self, generation: int, rule: str | None = None) -> str:
        return _address(msgspec.structs.replace(self._choice, generation=generation, rule=rule, reveal=False))

    def of_rule(self, rule: str | None) -> str:
        return _address(msgspec.structs.replace(self._choice, rule=rule, reveal=False))

    def of_dataset(self, dataset: str | None) -> str:
        return _address(QualityChoice(dataset=dataset))

    def revealing(self, reveal: bool) -> str:
        return _address(msgspec.structs.replace(self._choice, reveal=reveal))


def _address(choice: QualityChoice) -> str:
    said: Mapping[str, object | None] = {
        "dataset": choice.dataset,
        "generation": choice.generation,
        "rule": choice.rule,
        "reveal": "true" if choice.reveal else None,
    }
    query = urlencode({name: value for name, value in said.items() if value is not None})
    return f"/quality?{query}" if query else "/quality"
