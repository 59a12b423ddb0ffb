"""The ledger as an auditor reads it: does everything balance, and if a batch does not, where."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from libs.operations import archive_tree, balance, reading
from libs.operations.archive_tree import ArchivedFile, Folder
from libs.operations.balance import Balance, Part
from services.console.domain.identity import Identity, identity, uncounted
from services.console.domain.ledger import BatchRow, Verdict, batch_row, verdict_of
from services.console.doors import Doors, Missing
from services.console.looks.counted import Counted, LedgerWatch
from services.console.looks.staged import Staged, StagedRows

__all__ = ["AT_ONCE", "OBJECTS", "LedgerChoice", "LedgerPage", "look_at_ledger"]

AT_ONCE: Final = 50
GENERATIONS: Final = 30
DAYS: Final = 30
OBJECTS: Final = 200


class LedgerChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Which batches, and which folder of the archive is open: what the page's address says."""

    dataset: str | None = None
    starts_with: str | None = None
    unbalanced: bool = False
    page: int = 1
    folder: str | None = None

    @property
    def is_narrow(self) -> bool:
        return bool(self.dataset or self.starts_with or self.unbalanced)


class LedgerPage(msgspec.Struct, frozen=True, kw_only=True):
    """What the page shows. A list is None where Postgres couldn't be asked. more: there is a next page.

    counted: the newest count there is; verdict: what it says of now. opened: the objects of the chosen folder.
    """

    at: datetime
    missing: list[Missing]
    choice: LedgerChoice
    datasets: list[str]
    verdict: Verdict
    counted: Counted | None
    sums: Identity | None
    batches: list[BatchRow] | None
    more: bool
    generations: list[dict[str, Any]] | None
    folders: list[Folder] | None
    opened: list[ArchivedFile]

    @property
    def empty(self) -> bool:
        """Whether nothing was ever published, and we know that; before any ingestor ran there is no RAW to count."""
        return (
            self.batches == []
            and self.generations == []
            and not self.choice.is_narrow
            and self.choice.page == 1
            and self.verdict.state in ("empty", "unknown")
            and all(one.server == "ledger" for one in self.missing)
        )


class _Told(msgspec.Struct, frozen=True, kw_only=True):
    balances: list[Balance]
    staged: StagedRows
    ledger: list[dict[str, Any]]
    generations: list[dict[str, Any]]
    folders: list[Folder]
    opened: list[ArchivedFile]


async def look_at_ledger(
    doors: Doors, ledger: LedgerWatch, staged: Staged, choice: LedgerChoice
) -> LedgerPage:
    at = datetime.now(UTC)
    counted, told, redis = await asyncio.gather(
        ledger.newest(),
        doors.look("postgres", lambda: _told(doors, staged, choice)),
        doors.look("redis", lambda: _answers(doors)),
    )
    missing = [one for one in (told.missing, redis.missing) if one is not None]
    if counted.missing is not None and not missing:
        missing.append(counted.missing)
    known = told.value
    if known is not None:
        missing.extend(known.staged.first_missing)
    asked = told.missing is None and redis.missing is None and counted.missing is None
    newest = counted.value
    reports, differing = (None, []) if newest is None else (newest.reports, newest.differing)
    return LedgerPage(
        at=at,
        missing=missing,
        choice=choice,
        datasets=sorted(doors.datasets),
        verdict=verdict_of(
            reports,
            differing,
            asked=asked,
            uncounted=[
                *uncounted(reports, None if known is None else known.ledger),
                *([] if newest is None else newest.uncompared),
            ],
        ),
        counted=newest,
        sums=identity(reports if asked else None, None if known is None else known.ledger),
        batches=None if known is None else _rows(known, archives=doors.archives)[:AT_ONCE],
        more=known is not None and len(known.balances) > AT_ONCE,
        generations=None if known is None else known.generations,
        folders=None if known is None else known.folders,
        opened=[] if known is None else known.opened,
    )


async def _answers(doors: Doors) -> bool:
    await (await doors.bus()).ping()
    return True


async def _told(doors: Doors, staged: Staged, choice: LedgerChoice) -> _Told:
    postgres = await doors.postgres()
    (staged_rows, listed), ledger, generations, folders = await asyncio.gather(
        _balances(doors, staged, choice),
        reading.ledger(postgres),
        reading.generations(postgres, dataset=choice.dataset, limit=GENERATIONS),
        archive_tree.folders(postgres, newest=DAYS),
    )
    chosen = next((each for each in folders if each.prefix == choice.folder), None)
    return _Told(
        balances=listed,
        staged=staged_rows,
        ledger=ledger,
        generations=generations,
        folders=folders,
        opened=[]
        if chosen is None
        else await archive_tree.objects_in(
            postgres, dataset=chosen.dataset, prefix=chosen.prefix, limit=OBJECTS
        ),
    )


async def _balances(doors: Doors, staged: Staged, choice: LedgerChoice) -> tuple[StagedRows, list[Balance]]:
    """The batches, and what the generations that readers see have of them."""
    postgres = await doors.postgres()
    part = Part(
        dataset=choice.dataset,
        starts_with=choice.starts_with,
        limit=AT_ONCE + 1,
        offset=(choice.page - 1) * AT_ONCE,
    )
    if choice.unbalanced:
        found = await staged.of(await balance.files_that_readers_see(postgres))
        return found, await balance.unbalanced(postgres, doors.datasets, part, taken=found.taken)
    listed = await balance.balances(postgres, doors.datasets, part)
    files = {each.dataset: each.read_file for each in listed if each.read_file is not None}
    return await staged.of(files), listed


def _rows(known: _Told, *, archives: bool) -> list[BatchRow]:
    taken = known.staged.taken
    return [batch_row(each, taken.get(each.read_file or ""), archives=archives) for each in known.balances]
