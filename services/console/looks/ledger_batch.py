"""One batch's ledger: each side, and the ids behind a side that differs."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime
from typing import Final

import msgspec

from libs.adapters.warehouse import Database
from libs.datasets import Dataset
from libs.operations import identities
from libs.operations.balance import Balance, Taken, balance_of
from libs.operations.identities import Apart, Entry, Event
from services.console.domain.ledger import BatchRow, CellName, batch_row
from services.console.doors import Doors, Missing
from services.console.looks.staged import Staged

__all__ = ["SHOWN", "LedgerBatch", "look_at_ledger_of", "missing_ledger"]

SHOWN: Final = identities.AT_MOST
COMPARED_WITHIN: Final = 30.0


class LedgerBatch(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger of a batch shows; row is None where Postgres couldn't be asked.

    cell: the side whose ids are shown. entries, events: at most SHOWN. apart: the events that one side has and another
    lacks, None where they were not compared: the batch has no other side yet, or it could not be asked.
    """

    at: datetime
    missing: list[Missing]
    name: str
    cell: CellName
    row: BatchRow | None
    entries: list[Entry]
    events: list[Event]
    apart: list[Apart] | None


class _Told(msgspec.Struct, frozen=True, kw_only=True):
    balance: Balance
    entries: list[Entry]
    events: list[Event]


def missing_ledger(name: str, cell: CellName, missing: Missing) -> LedgerBatch:
    """The page of a batch that nothing can be said of."""
    return LedgerBatch(
        at=datetime.now(UTC),
        missing=[missing],
        name=name,
        cell=cell,
        row=None,
        entries=[],
        events=[],
        apart=None,
    )


async def look_at_ledger_of(
    doors: Doors, staged: Staged, batch: uuid.UUID, cell: CellName | None, *, compare: bool
) -> LedgerBatch:
    """
    Args:
        cell: whose ids are wanted; None: the first that differs.
        compare: whether the sides are compared event by event though their counts agree.
    """
    at = datetime.now(UTC)
    told = await doors.look("postgres", lambda: _told(doors, batch))
    if told.value is None:
        lost = told.missing or Missing(server="postgres", why="it gave no answer", next="drp status")
        return missing_ledger(str(batch), cell or "raw", lost)
    known, missing = told.value, list[Missing]()
    taken = await _taken(staged, known.balance, missing)
    row = batch_row(known.balance, taken, archives=doors.archives)
    first: CellName = next((each.name for each in row.cells if each.state == "differs"), "raw")
    chosen = cell or first
    dataset = doors.datasets.get(known.balance.dataset)
    apart: list[Apart] | None = None
    if dataset is not None and (compare or not row.balanced):
        apart = await _compared(doors, staged, dataset, known.balance, chosen, missing)
    return LedgerBatch(
        at=at,
        missing=missing,
        name=str(batch),
        cell=chosen,
        row=row,
        entries=known.entries,
        events=known.events,
        apart=apart,
    )


async def _told(doors: Doors, batch: uuid.UUID) -> _Told:
    postgres = await doors.postgres()
    found = await balance_of(postgres, doors.datasets, batch)
    dataset = doors.datasets.get(found.dataset)
    if dataset is None or found.raw_rows is None:
        return _Told(balance=found, entries=[], events=[])
    entries, events = await asyncio.gather(
        identities.entries(postgres, dataset, batch), identities.events(postgres, dataset, batch)
    )
    return _Told(balance=found, entries=entries, events=events)


async def _taken(staged: Staged, batch: Balance, missing: list[Missing]) -> dict[uuid.UUID, Taken] | None:
    """What the generation that readers see has of each batch; None if it could not be asked."""
    if batch.generation is None or (file := batch.read_file) is None:
        return None
    found = await staged.of({batch.dataset: file})
    missing.extend(found.first_missing)
    return found.taken.get(file)


async def _compared(
    doors: Doors, staged: Staged, dataset: Dataset, batch: Balance, cell: CellName, missing: list[Missing]
) -> list[Apart] | None:
    """RAW against the archive, which keeps every event; for staging, or without one, against the generation."""
    if batch.archived_at is not None and (cell != "staging" or batch.generation is None):
        seen = await doors.look(
            "objects", lambda: _against_archive(doors, dataset, batch.id), within=COMPARED_WITHIN
        )
    elif batch.generation is not None and (file := batch.read_file) is not None:
        seen = await doors.look(
            "warehouse",
            lambda: _against_generation(doors, staged, dataset, batch.id, file),
            within=COMPARED_WITHIN,
        )
    else:
        return None
    if seen.missing is not None and seen.missing not in missing:
        missing.append(seen.missing)
    return seen.value


async def _against_archive(doors: Doors, dataset: Dataset, batch: uuid.UUID) -> list[Apart]:
    return await identities.against_archive(await doors.postgres(), await doors.objects(), dataset, batch)


async def _against_generation(
    doors: Doors, staged: Staged, dataset: Dataset, batch: uuid.UUID, file: str
) -> list[Apart]:
    path = staged.path_of(dataset.name, file)
    generation = await asyncio.to_thread(Database.generation, path)
    try:
        return await identities.against_generation(await doors.postgres(), generation, dataset, batch)
    finally:
        await asyncio.to_thread(generation.close)
