"""The archiver's process: what landed, and what readers see, into the object store."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Final

from libs.adapters.bus import Entry
from libs.contracts.streams import BATCHES, WAREHOUSE
from libs.runtime.service import Platform, Service
from services.archiver.handlers import Archiver, leave_off
from services.archiver.settings import ArchiverSettings
from services.archiver.store import CONSUMER, ArchiveStore

__all__ = ["main"]

_RECONCILE_EVERY: Final = 2.0

log = logging.getLogger("drp.archiver")


def main() -> None:
    settings = ArchiverSettings()
    service = Service(CONSUMER, settings)

    @service.wire
    async def wire(platform: Platform) -> None:
        store = ArchiveStore(platform.postgres, list(platform.datasets))
        archiver = Archiver(
            store,
            platform.objects,
            platform.datasets,
            settings.home / "warehouse",
            on_stored=platform.relay.nudge,
            stopping=platform.stop.is_set,
        )
        if settings.archive == "off":
            loop = service.every(_RECONCILE_EVERY, partial(leave_off, store), name="leave the archive off")
        else:
            loop = service.every(_RECONCILE_EVERY, archiver.archive_waiting, name="archive what waits")
            service.ready_when("object store", partial(_trouble, archiver))

        async def hear(entries: Sequence[Entry]) -> None:
            if await archiver.hear(entries):
                loop.nudge()

        for stream in (BATCHES, WAREHOUSE):
            platform.bus.subscribe(stream, CONSUMER, hear, on_poison=_bury)

    service.run()


async def _trouble(archiver: Archiver) -> str | None:
    return archiver.trouble


async def _bury(entry: Entry, why: str) -> None:
    """What is no pipeline event is audit's to record; what is to be archived stands in Postgres."""
    log.error("entry %s of %s can not be read: %s; left to audit", entry.id, entry.stream, why)


if __name__ == "__main__":
    main()
