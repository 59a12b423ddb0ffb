"""One service, one process. An app.py reads like a label:

    def main() -> None:
        settings = IngestorSettings()
        service = Service("ingestor", settings)

        @service.wire
        async def wire(platform: Platform) -> None:
            store = RawStore(platform.postgres)
            ingestor = Ingestor(store, platform.datasets, settings)
            for dataset in platform.datasets.values():
                platform.bus.subscribe(dataset.stream, "ingestor", ingestor.land, on_poison=ingestor.bury)
            service.every(1.0, ingestor.close_overdue, name="close overdue batches")
            service.on_drain(ingestor.close_own_batches)

        service.run()

    if __name__ == "__main__":
        main()

The order of things
    boot    HTTP answers (/livez is 200, /readyz 503), Redis and Postgres are waited for with back-off, migrations,
            RAW tables, streams and groups, then `wire`, then the bus, the loops and the outbox's relay start.
    run     until SIGTERM, SIGINT, or a part that broke: that is said, and the exit code is 1.
    drain   no new entries, what is in hand is finished, loops end after their call under way, `on_drain` calls in
            their order, the outbox is relayed, everything is closed. Eight seconds at most.

What `wire` may use
    platform.postgres, .bus, .relay, .datasets, .telemetry, .settings, .consumer, .stop; `await platform.objects()`.
    service.every(seconds, work, name=…) -> Loop       work is called at once and then every so many seconds;
                                                       loop.nudge() calls it sooner. Transient is backed off.
    service.ready_when(name, check)                    /readyz also asks check: None is fine, a string is what's wrong.
    service.on_drain(work)                             called after the last entry was handled.
    service.app                                        the FastAPI application; until `wire` has returned, everything
                                                       but the health pages answers 503.
    Service(…, app=create_app())                       brings an application of its own (generator, console).
    Service(…, postgres=False)                         a service that needs no Postgres: it starts without it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn, TypeVar

from fastapi import FastAPI

from libs.contracts.streams import DATASET_GROUPS, GROUPS
from libs.datasets import Dataset
from libs.runtime.health import Check, Health
from libs.runtime.loops import Loop
from libs.runtime.platform import Platform
from libs.runtime.settings import ServiceSettings

__all__ = ["Platform", "Service", "declared_groups"]

DRAIN_WITHIN: Final = 8.0
CHECK_WITHIN: Final = 2.0

T = TypeVar("T")
Wire = Callable[[Platform], Awaitable[None]]

log = logging.getLogger(__name__)


class Service:
    """See the module's page.

    Args:
        name: of the room; also its consumer groups' name.
        settings: of the room.
        app: the room's own HTTP application; the health pages are added to it.
        postgres: False for a service that starts and is ready without Postgres.
    """

    def __init__(
        self, name: str, settings: ServiceSettings, *, app: FastAPI | None = None, postgres: bool = True
    ) -> None:
        self.name = name
        self.settings = settings
        self.app = app if app is not None else FastAPI(title=f"drp {name}", docs_url=None, redoc_url=None)
        self._with_postgres = postgres
        self._health = Health(name)
        self._wire: Wire | None = None
        self._loops: list[Loop] = []
        self._drains: list[Callable[[], Awaitable[object]]] = []
        self._stop = asyncio.Event()

    def wire(self, function: Wire) -> Wire:
        """Called once, when the servers are there and before the first entry."""
        self._wire = function
        return function

    def every(self, seconds: float, work: Callable[[], Awaitable[object]], *, name: str) -> Loop:
        loop = Loop(seconds, work, name=name)
        self._loops.append(loop)
        return loop

    def ready_when(self, name: str, check: Check) -> None:
        self._health.add(name, check)

    def on_drain(self, work: Callable[[], Awaitable[object]]) -> None:
        self._drains.append(work)

    def run(self) -> NoReturn:
        """Boot, run, drain, exit: 0 after a signal, 1 if something broke."""
        raise NotImplementedError


def declared_groups(datasets: dict[str, Dataset]) -> dict[str, tuple[str, ...]]:
    """Every stream of the platform with the groups that must have finished an entry before it may go."""
    return {**GROUPS, **{dataset.stream: DATASET_GROUPS for dataset in datasets.values()}}
