"""The front page: is every event accounted for, how fresh is what readers see, and where does it wait."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from libs.adapters.bus import StreamOverview
from libs.contracts.streams import DATASET_GROUPS, GROUPS
from libs.operations import health, reading
from libs.operations.health import Concern
from libs.operations.runs import Freshness, freshness
from services.console.domain.flow import Backlog, Stage, stages
from services.console.doors import Doors, Missing
from services.console.looks.counted import Counted, LedgerWatch
from services.console.looks.mart import MartPlot, Marts

__all__ = ["FlowPage", "backlogs", "look_at_flow"]

_OBJECTS: Final = """
-- one row: what the archive was given
SELECT count(*) AS objects FROM ops.archive_objects
"""


class FlowPage(msgspec.Struct, frozen=True, kw_only=True):
    """What the front page shows. A list is None where its server couldn't be asked: missing says why.

    ledger: what every batch counted, by dataset. counted: the same against the streams, as it was last done.
    """

    at: datetime
    missing: list[Missing]
    ledger: list[dict[str, Any]] | None
    counted: Counted | None
    stages: list[Stage]
    concerns: list[Concern] | None
    generations: list[dict[str, Any]] | None
    freshness: list[Freshness] | None
    objects: int | None
    marts: list[MartPlot] | None

    @property
    def empty(self) -> bool:
        """Whether nothing was ever published, and we know that."""
        counted = 0 if self.counted is None else sum(one.published for one in self.counted.reports)
        return self.ledger == [] and self.stages[0].waiting == 0 and counted == 0


class _Told(msgspec.Struct, frozen=True, kw_only=True):
    """What Postgres knows; nothing, if it wasn't reached."""

    ledger: list[dict[str, Any]] | None = None
    flows: list[dict[str, Any]] | None = None
    concerns: list[Concern] | None = None
    generations: list[dict[str, Any]] | None = None
    freshness: list[Freshness] | None = None
    objects: int | None = None


async def look_at_flow(doors: Doors, ledger: LedgerWatch, marts: Marts) -> FlowPage:
    at = datetime.now(UTC)
    counted, told, streams, plots = await asyncio.gather(
        ledger.newest(),
        doors.look("postgres", lambda: _told(doors)),
        doors.look("redis", lambda: backlogs(doors)),
        doors.look("warehouse", marts.plots),
    )
    missing = [one.missing for one in (told, streams) if one.missing is not None]
    if counted.missing is not None and not missing:
        missing.append(counted.missing)
    known = told.value or _Told()
    if plots.missing is not None and known.generations:
        missing.append(plots.missing)
    return FlowPage(
        at=at,
        missing=missing,
        ledger=known.ledger,
        counted=counted.value,
        stages=stages(known.flows, streams.value),
        concerns=known.concerns,
        generations=known.generations,
        freshness=known.freshness,
        objects=known.objects,
        marts=plots.value,
    )


async def _told(doors: Doors) -> _Told:
    postgres, settings = await doors.postgres(), doors.settings
    rows, flows, waiting, generations, fresh, objects = await asyncio.gather(
        reading.ledger(postgres),
        health.flow_health(postgres),
        health.concerns(
            postgres,
            deadline=settings.batch_deadline,
            max_age=settings.batch_max_age,
            archive=doors.archives,
        ),
        reading.current_generations(postgres),
        freshness(postgres),
        postgres.fetchval(_OBJECTS),
    )
    return _Told(
        ledger=rows,
        flows=flows,
        concerns=waiting,
        generations=generations,
        freshness=fresh,
        objects=objects,
    )


async def backlogs(doors: Doors) -> list[Backlog]:
    """What every declared group has yet to do."""
    bus = await doors.bus()
    datasets = {dataset.stream: DATASET_GROUPS for dataset in doors.datasets.values()}
    return _backlogs(await bus.overview({**datasets, **GROUPS}))


def _backlogs(streams: Sequence[StreamOverview]) -> list[Backlog]:
    return [
        Backlog(
            stream=stream.stream,
            group=group.name,
            pending=group.pending,
            unread=group.lag if group.exists else stream.length,
            oldest_pending=group.oldest_pending_idle,
        )
        for stream in streams
        for group in stream.groups
    ]
