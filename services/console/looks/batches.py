"""The list of batches, as runs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import msgspec

from libs.operations.runs import Run, Sort, runs
from services.console.doors import Doors, Missing

__all__ = ["AT_ONCE", "BatchesPage", "Choice", "look_at_batches"]

AT_ONCE: Final = 50


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Which batches, in which order: what the page's address says."""

    dataset: str | None = None
    status: str | None = None
    starts_with: str | None = None
    sort: Sort = "opened"
    descending: bool = True
    page: int = 1

    @property
    def is_narrow(self) -> bool:
        return any((self.dataset, self.status, self.starts_with))


class BatchesPage(msgspec.Struct, frozen=True, kw_only=True):
    """What the list shows; batches is None where Postgres couldn't be asked. more: there is a next page."""

    at: datetime
    missing: list[Missing]
    choice: Choice
    datasets: list[str]
    batches: list[Run] | None
    more: bool

    @property
    def empty(self) -> bool:
        return self.batches == [] and not self.choice.is_narrow and self.choice.page == 1


async def look_at_batches(doors: Doors, choice: Choice) -> BatchesPage:
    async def found() -> list[Run]:
        return await runs(
            await doors.postgres(),
            dataset=choice.dataset,
            status=choice.status,
            starts_with=choice.starts_with,
            sort=choice.sort,
            descending=choice.descending,
            limit=AT_ONCE + 1,
            offset=(choice.page - 1) * AT_ONCE,
        )

    at = datetime.now(UTC)
    seen = await doors.look("postgres", found)
    return BatchesPage(
        at=at,
        missing=[] if seen.missing is None else [seen.missing],
        choice=choice,
        datasets=sorted(doors.datasets),
        batches=None if seen.value is None else seen.value[:AT_ONCE],
        more=seen.value is not None and len(seen.value) > AT_ONCE,
    )
