"""What was not taken: in groups that have the same cause, and one by one."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Final

import msgspec

from libs.operations.quarantined import (
    Grouped,
    QuarantinedSlot,
    Sort,
    Which,
    grouped,
    quarantined_slots,
)
from services.console.doors import Doors, Missing, Seen
from services.console.looks.batch import named_batch

__all__ = ["AT_ONCE", "ChosenSlots", "QuarantinePage", "look_at_quarantine"]

AT_ONCE: Final = 50
GROUPED_WITHIN: Final = 3.0
"""Seconds. A producer that goes wrong for a day leaves more than can be grouped in that; the list comes even so."""


class ChosenSlots(msgspec.Struct, frozen=True, kw_only=True):
    """Which slots, in which order: what the page's address says. state: None means any.

    field and dataschema: an empty one means slots that have none. before: the list goes on below this number.
    """

    dataset: str | None = None
    reason: str | None = None
    field: str | None = None
    dataschema: str | None = None
    batch: str | None = None
    state: str | None = "open"
    sort: Sort = "count"
    descending: bool = True
    before: int | None = None

    @property
    def is_narrow(self) -> bool:
        """Whether anything but the state is chosen."""
        values = (self.dataset, self.reason, self.field, self.dataschema, self.batch)
        return any(value is not None for value in values)


class QuarantinePage(msgspec.Struct, frozen=True, kw_only=True):
    """What the list shows; found and events are None where Postgres couldn't be asked. more: of the events.

    ungrouped: why found is None though there are events: there were too many to group in time.
    """

    at: datetime
    missing: list[Missing]
    choice: ChosenSlots
    datasets: list[str]
    found: Grouped | None
    ungrouped: str | None
    events: list[QuarantinedSlot] | None
    more: bool

    @property
    def empty(self) -> bool:
        """Whether nothing was ever refused, and we know that."""
        found = self.found
        known = found is not None and not self.choice.is_narrow
        return known and found is not None and found.open + found.redriven + found.discarded == 0


async def look_at_quarantine(doors: Doors, choice: ChosenSlots) -> QuarantinePage:
    """
    Raises:
        Permanent: the batch that is chosen names none, or more than one.
    """
    at = datetime.now(UTC)
    batch = None if choice.batch is None else await named_batch(doors, choice.batch)
    if isinstance(batch, Missing):
        return _page(at, doors, choice, Seen(missing=batch), Seen(missing=batch))
    which = Which(
        dataset=choice.dataset,
        reason=choice.reason,
        field=choice.field,
        dataschema=choice.dataschema,
        batch_id=batch,
        state=choice.state,
    )

    async def found() -> Grouped:
        return await grouped(await doors.postgres(), which, sort=choice.sort, descending=choice.descending)

    async def events() -> list[QuarantinedSlot]:
        return await quarantined_slots(await doors.postgres(), which, before=choice.before, limit=AT_ONCE + 1)

    # looked for under a name of their own: that they take long does not mean that Postgres is away
    seen = await asyncio.gather(
        doors.look("causes", found, within=GROUPED_WITHIN), doors.look("postgres", events)
    )
    return _page(at, doors, choice, *seen)


def _page(
    at: datetime, doors: Doors, choice: ChosenSlots, found: Seen[Grouped], events: Seen[list[QuarantinedSlot]]
) -> QuarantinePage:
    late = found.missing is not None and events.missing is None
    return QuarantinePage(
        at=at,
        missing=[] if events.missing is None else [events.missing],
        choice=choice,
        datasets=sorted(doors.datasets),
        found=found.value,
        ungrouped=found.missing.why if late and found.missing is not None else None,
        events=None if events.value is None else events.value[:AT_ONCE],
        more=events.value is not None and len(events.value) > AT_ONCE,
    )
