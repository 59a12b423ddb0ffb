"""Events: the life of one, found by any of its names; what came last, and who has what in hand."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from libs.adapters.bus import ConsumerOverview
from libs.contracts.streams import DATASET_GROUPS, GROUPS
from libs.errors import Permanent
from libs.operations import reading
from libs.operations.arrivals import Arrival, newest_arrivals, payloads
from libs.operations.finding import find
from libs.operations.found import Found
from services.console.domain.flow import Backlog
from services.console.doors import Doors, Missing
from services.console.looks.flow import backlogs

__all__ = ["EventsPage", "FoundPage", "look_at_events", "look_for"]

NEWEST: Final = 30
LIVES: Final = 20
"""Events of each dataset whose whole life a page tells; `drp events find` tells more."""
_STARTS: Final = re.compile(r"[0-9a-fA-F]{6,8}(-[0-9a-fA-F-]{0,28})?|last")
"""What may be the start of a batch's id, as other pages show it."""


class EventsPage(msgspec.Struct, frozen=True, kw_only=True):
    """What came last and what is in hand; None where the server couldn't be asked. paused: it is to stay as it is.
    datasets: how many there are."""

    at: datetime
    missing: list[Missing]
    paused: bool
    datasets: int
    arrivals: list[Arrival] | None
    consumers: list[ConsumerOverview] | None


class FoundPage(msgspec.Struct, frozen=True, kw_only=True):
    """What a text names. found is None where Postgres couldn't be asked.

    payloads: what the producers sent, by dataset and row of RAW, if it was asked for. waiting: entries in the datasets'
    streams that have not landed, whatever they hold; None if that is not known.
    """

    at: datetime
    missing: list[Missing]
    text: str
    found: Found | None
    revealed: bool
    payloads: dict[str, dict[int, str]]
    waiting: int | None


async def look_at_events(doors: Doors, *, paused: bool) -> EventsPage:
    at = datetime.now(UTC)
    arrivals, consumers = await asyncio.gather(
        doors.look("postgres", lambda: _arrivals(doors)), doors.look("redis", lambda: _consumers(doors))
    )
    return EventsPage(
        at=at,
        missing=_once([arrivals.missing, consumers.missing]),
        paused=paused,
        datasets=len(doors.datasets),
        arrivals=arrivals.value,
        consumers=consumers.value,
    )


async def look_for(doors: Doors, text: str, *, reveal: bool) -> FoundPage:
    """
    Args:
        text: an order's number, or any dataset's key; an event's id; a batch's, or its start; a trace's.
        reveal: whether what the producers sent is shown.
    """
    at = datetime.now(UTC)
    found, waiting = await asyncio.gather(
        doors.look("postgres", lambda: _found(doors, text)), doors.look("redis", lambda: backlogs(doors))
    )
    shown: dict[str, dict[int, str]] = {}
    missing = [found.missing, waiting.missing]
    if reveal and found.value is not None:
        seen = await doors.look("postgres", lambda: _payloads(doors, found.value))
        shown = seen.value or {}
        missing.append(seen.missing)
    return FoundPage(
        at=at,
        missing=_once(missing),
        text=text,
        found=found.value,
        revealed=reveal,
        payloads=shown,
        waiting=_waiting(doors, waiting.value),
    )


async def _arrivals(doors: Doors) -> list[Arrival]:
    return await newest_arrivals(await doors.postgres(), doors.datasets, limit=NEWEST)


async def _consumers(doors: Doors) -> list[ConsumerOverview]:
    datasets = {dataset.stream: DATASET_GROUPS for dataset in doors.datasets.values()}
    return await (await doors.bus()).consumers({**datasets, **GROUPS})


async def _found(doors: Doors, text: str) -> Found:
    postgres = await doors.postgres()
    found = await find(postgres, doors.datasets, text, warehouses=doors.warehouses, limit=LIVES)
    if found or not _STARTS.fullmatch(text):
        return found
    try:
        batch = await reading.find_batch_id(postgres, text)
    except Permanent:
        return found
    return await find(postgres, {}, str(batch), limit=LIVES)


async def _payloads(doors: Doors, found: Found | None) -> dict[str, dict[int, str]]:
    postgres = await doors.postgres()
    shown = {}
    for name, dataset in doors.datasets.items():
        wanted = [life.raw_id for life in (found.events if found else ()) if life.dataset == name]
        if wanted:
            shown[name] = await payloads(postgres, dataset, wanted)
    return shown


def _waiting(doors: Doors, found: Sequence[Backlog] | None) -> int | None:
    streams = {dataset.stream for dataset in doors.datasets.values()}
    if found is None:
        return None
    mine = [one for one in found if one.stream in streams]
    if any(one.unread is None for one in mine):
        return None
    return sum(one.pending + (one.unread or 0) for one in mine)


def _once(found: Sequence[Missing | None]) -> list[Missing]:
    """One for each server."""
    return list({one.server: one for one in found if one is not None}.values())
