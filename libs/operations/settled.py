"""Is anything still on its way? The condition behind `drp batches wait --all`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from libs.adapters.warehouse import Warehouse
from libs.contracts.streams import DATASET_GROUPS, GROUPS
from libs.datasets import Dataset
from libs.errors import Transient

if TYPE_CHECKING:
    from libs.adapters.bus import Bus, StreamOverview
    from libs.adapters.postgres import Postgres

__all__ = ["Unsettled", "unsettled", "wait_for_link", "wait_until_settled"]

_EVERY: Final = 0.2

_STATE: Final = """
-- one row: what Postgres knows to be unfinished
SELECT
    (SELECT count(*) FROM ops.batches WHERE state = 'open' AND received + dead_lettered > 0) AS open,
    (SELECT count(*) FROM ops.batch_status WHERE status IN ('closed', 'building', 'built', 'passed')) AS unpublished,
    (SELECT count(*) FROM ops.batch_status WHERE status = 'blocked') AS blocked,
    (SELECT count(*) FROM ops.generations WHERE state IN ('building', 'built', 'passed')) AS candidates,
    (SELECT count(*) FROM ops.rebuild_requests WHERE generation IS NULL) AS rebuilds,
    (SELECT count(*) FROM ops.outbox WHERE published_at IS NULL) AS outbox,
    CASE WHEN $1 THEN
        (SELECT count(*) FROM ops.batches
         WHERE state = 'closed' AND archived_at IS NULL AND received + dead_lettered > 0)
        + (SELECT count(*) FROM ops.generations WHERE state = 'published' AND archive_state = 'pending')
    ELSE 0 END AS unarchived
"""


_POINTED: Final = """
-- one row per dataset, or of this one: the file of the generation that readers are to see
SELECT p.dataset, g.file FROM ops.warehouse_pointer p JOIN ops.generations g ON g.number = p.generation
WHERE $1::text IS NULL OR p.dataset = $1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsettled:
    """How much is unfinished, by kind. blocked batches wait for a person, not for time.

    in_flight: entries that some group has yet to handle, of the pipeline's own events, too: not a count of orders.
    unlinked: warehouses whose link, which readers open, has yet to follow the pointer.
    """

    in_flight: int
    open: int
    unpublished: int
    unarchived: int
    outbox: int
    blocked: int
    unlinked: int = 0

    @property
    def waiting(self) -> bool:
        waits = (self.in_flight, self.open, self.unpublished, self.unlinked, self.unarchived, self.outbox)
        return any(waits)

    def __str__(self) -> str:
        parts = {
            "in the streams": self.in_flight,
            "open": self.open,
            "to publish": self.unpublished,
            "to link": self.unlinked,
            "to archive": self.unarchived,
            "to announce": self.outbox,
            "blocked": self.blocked,
        }
        return (
            ", ".join(f"{count:,} {name}" for name, count in parts.items() if count) or "nothing on its way"
        )


async def unsettled(
    postgres: Postgres,
    bus: Bus,
    datasets: Mapping[str, Dataset],
    *,
    archive: bool,
    warehouses: Path | None = None,
) -> Unsettled:
    """Look once. The streams are read first: what leaves them while we look is then seen in Postgres.

    Args:
        warehouses: the folder of the datasets' warehouses, if it is on this machine.
    """
    groups = {dataset.stream: DATASET_GROUPS for dataset in datasets.values()} | GROUPS
    in_flight = sum([await _unhandled(bus, each) for each in await bus.overview(groups)])
    (row,) = await postgres.fetch(_STATE, archive)
    return Unsettled(
        in_flight=in_flight,
        open=row["open"],
        unpublished=row["unpublished"] + row["candidates"] + row["rebuilds"],
        unlinked=0 if warehouses is None else await _unlinked(postgres, warehouses),
        unarchived=row["unarchived"],
        outbox=row["outbox"],
        blocked=row["blocked"],
    )


async def _unlinked(postgres: Postgres, warehouses: Path, dataset: str | None = None) -> int:
    count = 0
    for row in await postgres.fetch(_POINTED, dataset):
        current = Warehouse(warehouses, row["dataset"]).current()
        count += current is None or current.name != row["file"]
    return count


async def _unhandled(bus: Bus, stream: StreamOverview) -> int:
    """Entries that some group has yet to acknowledge, the slowest group's count."""
    counts = [0]
    for group in stream.groups:
        if group.exists and group.lag is not None:
            counts.append(group.pending + group.lag)
        else:  # Redis can't tell: it is counted
            counts.append(sum([1 async for _ in bus.unhandled(stream.stream, group.name)]))
    return max(counts)


async def wait_for_link(
    postgres: Postgres,
    warehouses: Path,
    *,
    dataset: str | None = None,
    timeout: float = 10.0,  # noqa: ASYNC109 - of many looks
) -> None:
    """Wait until what readers open is what Postgres says they see.

    Args:
        warehouses: the folder of the datasets' warehouses.
        dataset: the one to look at; every one if None.
        timeout: seconds.

    Raises:
        Transient: the time was up.
    """
    deadline = asyncio.get_running_loop().time() + timeout
    while await _unlinked(postgres, warehouses, dataset):
        if asyncio.get_running_loop().time() > deadline:
            what = f"what readers open in {warehouses} is not what they are to see"
            raise Transient(what, why="no transformer has moved the link", fix="drp status")
        await asyncio.sleep(_EVERY)


async def wait_until_settled(
    postgres: Postgres,
    bus: Bus,
    datasets: Mapping[str, Dataset],
    *,
    timeout: float,  # noqa: ASYNC109 - of many looks
    archive: bool = True,
    warehouses: Path | None = None,
    on_progress: Callable[[Unsettled], None] = lambda _: None,
) -> Unsettled:
    """Wait until nothing but blocked batches is left.

    Args:
        timeout: seconds.
        archive: whether batches and generations must be archived too.
        warehouses: see unsettled.

    Raises:
        Transient: the time was up; says what was left.
    """
    deadline = asyncio.get_running_loop().time() + timeout
    while True:
        now = await unsettled(postgres, bus, datasets, archive=archive, warehouses=warehouses)
        on_progress(now)
        if not now.waiting:
            return now
        if asyncio.get_running_loop().time() > deadline:
            raise Transient(f"not settled within {timeout:g} s", why=str(now), fix="drp status --health")
        await asyncio.sleep(_EVERY)
