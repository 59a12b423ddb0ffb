"""/quarantine: what was not taken, by cause; /quarantine/{number}: one event of it, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal
from urllib.parse import urlencode

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from libs.operations.quarantined import SORTS, STATES, Group, Sort
from libs.pipeline.refusals import REASONS
from services.console.domain import quarantine as domain
from services.console.handlers.answers import TEXT, as_json, page, room_of
from services.console.looks.quarantine import ChosenSlots, QuarantinePage, look_at_quarantine
from services.console.looks.quarantined import QuarantinedPage, look_at_quarantined

__all__ = ["router"]

router = APIRouter()

NONE: Final = "-"
"""What the address says of slots that have no field, or no version."""
_BATCH: Final = r"^(last|[0-9a-fA-F-]{0,36})$"
_GREATEST: Final = 2**63 - 1
Number = Annotated[int, Path(ge=1, le=_GREATEST, description="As `drp quarantine ls` shows it.")]
Shown = Annotated[bool, Query(description="Show what stands in the event.")]


def _chosen(
    dataset: Annotated[str, Query(max_length=100, pattern=TEXT)] = "",
    reason: Annotated[str, Query(max_length=100, pattern=TEXT)] = "",
    field: Annotated[
        str, Query(max_length=1000, pattern=TEXT, description="`-`: those that have none.")
    ] = "",
    dataschema: Annotated[
        str, Query(max_length=4000, pattern=TEXT, description="`-`: those that have none.")
    ] = "",
    batch: Annotated[str, Query(pattern=_BATCH, description="Its id, the start of it, or `last`.")] = "",
    state: Literal["open", "redriven", "discarded", "any"] = "open",
    sort: Sort = "count",
    order: Literal["asc", "desc"] = "desc",
    before: Annotated[int | None, Query(ge=1, le=_GREATEST, description="Events below this number.")] = None,
) -> ChosenSlots:
    return ChosenSlots(
        dataset=dataset or None,
        reason=reason or None,
        field=_or_none(field),
        dataschema=_or_none(dataschema),
        batch=batch.lower() or None,
        state=None if state == "any" else state,
        sort=sort,
        descending=order == "desc",
        before=before,
    )


def _or_none(text: str) -> str | None:
    return "" if text == NONE else text or None


Chosen = Annotated[ChosenSlots, Depends(_chosen)]


@router.get("/quarantine", include_in_schema=False)
async def quarantine(request: Request, choice: Chosen) -> Response:
    seen = await look_at_quarantine(room_of(request).doors, choice)
    return page(
        request,
        "quarantine.html",
        now=seen.at,
        seen=seen,
        reasons=REASONS,
        states=STATES,
        links=_Links(seen.choice),
        words=domain,
        commands=domain.commands_for_choice(choice.dataset, choice.reason, choice.batch, choice.state),
        topics="quarantine",
    )


@router.get("/api/quarantine", tags=["pages"], summary="What was not taken: by cause, and the newest of it")
async def quarantine_as_json(request: Request, choice: Chosen) -> Response:
    seen: QuarantinePage = await look_at_quarantine(room_of(request).doors, choice)
    return as_json(seen)


@router.get("/quarantine/{number}", include_in_schema=False)
async def quarantined(request: Request, number: Number, reveal: Shown = False) -> Response:
    seen = await look_at_quarantined(room_of(request).doors, number, reveal=reveal)
    return page(
        request,
        "quarantined.html",
        now=seen.at,
        seen=seen,
        words=domain,
        kin=None if seen.event is None else _kin(seen.event),
        commands=[] if seen.event is None else domain.commands_for_slot(seen.event),
        topics=_topics(seen),
    )


@router.get("/api/quarantine/{number}", tags=["pages"], summary="One event that was not taken")
async def quarantined_as_json(request: Request, number: Number, reveal: Shown = False) -> Response:
    seen: QuarantinedPage = await look_at_quarantined(room_of(request).doors, number, reveal=reveal)
    return as_json(seen)


def _topics(seen: QuarantinedPage) -> str:
    """A redriven event's page waits for the batch in which it lands."""
    event = seen.event
    lands = event is not None and event["state"] == "redriven" and event["became"] is None
    return "quarantine batches" if lands else "quarantine"


def _kin(event: Mapping[str, object]) -> str:
    """Where all that has the same cause stands."""
    field, dataschema = str(event["field"] or ""), str(event["dataschema"] or "")
    same = ChosenSlots(
        dataset=str(event["dataset"]), reason=str(event["reason"]), field=field, dataschema=dataschema
    )
    return _address(msgspec.structs.replace(same, state=None))


class _Links:
    """Addresses of the list that differ from this one in a thing or two."""

    def __init__(self, choice: ChosenSlots) -> None:
        self._choice = choice

    def sorted_by(self, sort: Sort) -> str:
        """Sorted by that, the greatest first; turned round if it is already."""
        turned = self._choice.sort == sort and self._choice.descending
        return _address(msgspec.structs.replace(self._choice, sort=sort, descending=not turned, before=None))

    def direction(self, sort: Sort) -> str | None:
        """What aria-sort says of the column."""
        if self._choice.sort != sort:
            return None
        return "descending" if self._choice.descending else "ascending"

    def of_group(self, group: Group) -> str:
        return _address(
            msgspec.structs.replace(
                self._choice,
                dataset=group.dataset,
                reason=group.reason,
                field=group.field or "",
                dataschema=group.dataschema or "",
                before=None,
            )
        )

    def without(self, *names: str) -> str:
        return _address(msgspec.structs.replace(self._choice, before=None, **dict.fromkeys(names)))

    def with_state(self, state: str | None) -> str:
        return _address(msgspec.structs.replace(self._choice, state=state, before=None))

    def before(self, number: int | None) -> str:
        return _address(msgspec.structs.replace(self._choice, before=number))


def _address(choice: ChosenSlots) -> str:
    said: Mapping[str, object | None] = {
        "state": None if choice.state == "open" else choice.state or "any",
        "dataset": choice.dataset,
        "reason": choice.reason,
        "field": NONE if choice.field == "" else choice.field,
        "dataschema": NONE if choice.dataschema == "" else choice.dataschema,
        "batch": choice.batch,
        "sort": choice.sort if choice.sort != next(iter(SORTS)) else None,
        "order": None if choice.descending else "asc",
        "before": choice.before,
    }
    query = urlencode({name: value for name, value in said.items() if value is not None})
    return f"/quarantine?{query}" if query else "/quarantine"
