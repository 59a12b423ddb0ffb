"""The ledger, counted again in the background: too much for every page, too important for none.

A count reads every entry that waits in the streams and every batch, so it is done at most once every few seconds, and
takes at most a tenth of the time; pages show the newest with its age.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Final

import msgspec

from libs.operations.balance import Part, files_that_readers_see, unbalanced
from libs.operations.ledger import LedgerReport, verify_ledger
from services.console.domain.ledger import BatchRow, batch_row
from services.console.doors import Doors, Missing, Seen
from services.console.looks.staged import Staged

__all__ = ["DIFFERING", "Counted", "LedgerWatch"]

FIRST_WITHIN: Final = 2.0
"""Seconds from its beginning that pages wait for a count, if there is none yet or the last one took no longer."""
STALE_AFTER: Final = 60.0
"""Seconds after which a count that nobody renewed says little of now: a page waits for the next, as said above."""
COUNT_WITHIN: Final = 120.0
LEAST_PAUSE: Final = 2.0
_SHARE: Final = 10
DIFFERING: Final = 8


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """Every dataset's ledger as it was counted at a moment, which took so many seconds.

    differing: the newest batches of which two sides differ, at most DIFFERING + 1; the archive and what readers see are
    among the sides, and no part of the reports. uncompared: what could not be compared, in sentences.
    """

    at: datetime
    seconds: float
    reports: list[LedgerReport]
    differing: list[BatchRow]
    uncompared: list[str]


class LedgerWatch:
    """Counts when somebody looks; the one who looks gets what was counted before."""

    def __init__(self, doors: Doors, staged: Staged) -> None:
        self._doors = doors
        self._staged = staged
        self._counted: Counted | None = None
        self._missing: Missing | None = None
        self._task: asyncio.Task[None] | None = None
        self._awaited_until = 0.0
        self._not_before = 0.0

    @property
    def told(self) -> tuple[list[LedgerReport], list[BatchRow], list[str]] | None:
        """What a page shows of a count, but for its moment; equal if two counts found the same."""
        one = self._counted
        return None if one is None else (one.reports, one.differing, one.uncompared)

    @property
    def is_counting(self) -> bool:
        return self._task is not None and not self._task.done()

    @property
    def _is_stale(self) -> bool:
        return self._counted is None or (datetime.now(UTC) - self._counted.at).total_seconds() >= STALE_AFTER

    def begin(self) -> bool:
        """Begin a count, if none is under way and the last one has not just been; whether one was begun."""
        if self.is_counting or time.monotonic() < self._not_before:
            return False
        self._task = asyncio.create_task(self._count(), name="count the ledger")
        is_quick = self._counted is None or self._counted.seconds <= FIRST_WITHIN
        self._awaited_until = time.monotonic() + (FIRST_WITHIN if is_quick else 0)
        return True

    async def newest(self) -> Seen[Counted]:
        """The newest count, and what keeps us from a newer one, if something does. One of them may be missing."""
        self.begin()
        if self._is_stale and self._task is not None:
            await asyncio.wait({self._task}, timeout=max(0.0, self._awaited_until - time.monotonic()))
        return Seen(self._counted, self._missing)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _count(self) -> None:
        began = time.monotonic()
        seen = await self._doors.look("ledger", self._verified, within=COUNT_WITHIN)
        took = time.monotonic() - began
        self._missing = seen.missing
        if seen.value is not None:
            self._counted = seen.value
        self._not_before = time.monotonic() + max(LEAST_PAUSE, _SHARE * took)

    async def _verified(self) -> Counted:
        at, began = datetime.now(UTC), time.monotonic()
        postgres, bus, datasets = await self._doors.postgres(), await self._doors.bus(), self._doors.datasets
        reports = await verify_ledger(postgres, bus, datasets)
        staged = await self._staged.of(await files_that_readers_see(postgres))
        found = await unbalanced(postgres, datasets, Part(limit=DIFFERING + 1), taken=staged.taken)
        archives = self._doors.archives
        return Counted(
            at=at,
            seconds=time.monotonic() - began,
            reports=reports,
            differing=[
                batch_row(each, staged.taken.get(each.read_file or ""), archives=archives) for each in found
            ],
            uncompared=[
                f"What readers see of {name} was not compared: {one.why}"
                for name, one in staged.missing.items()
            ],
        )
