"""The audit's process: every step gets its row, what is late is found, and people are told."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from functools import partial
from typing import Final

from libs.adapters.bus import Entry
from libs.contracts.streams import GROUPS
from libs.runtime.service import Platform, Service, declared_groups
from services.audit.handlers import (
    NO_WEBHOOK,
    bury,
    hear,
    send_alerts,
    shelve_alerts,
    watch_archive,
    watch_deadline,
    watch_streams,
)
from services.audit.settings import AuditSettings
from services.audit.store import CONSUMER, AuditStore
from services.audit.webhook import open_webhook

__all__ = ["main"]

_SEND_EVERY: Final = 1.0

log = logging.getLogger("drp.audit")


def main() -> None:
    settings = AuditSettings()
    service = Service("audit", settings)

    @service.wire
    async def wire(platform: Platform) -> None:
        store = AuditStore(platform.postgres)

        async def heard(entries: Sequence[Entry]) -> None:
            await hear(entries, store=store)

        for stream, groups in GROUPS.items():
            if CONSUMER in groups:
                platform.bus.subscribe(stream, CONSUMER, heard, on_poison=partial(bury, store=store))
        _wire_deadlines(service, platform, store, settings)
        await _wire_alerts(service, store, settings)

    service.run()


def _wire_deadlines(service: Service, platform: Platform, store: AuditStore, settings: AuditSettings) -> None:
    deadline = settings.batch_deadline
    watch_every = min(5.0, deadline / 4)
    late = partial(watch_deadline, store=store, deadline=deadline, max_age=settings.batch_max_age)
    service.every(watch_every, late, name="look for late batches")
    if settings.archive != "off":
        unarchived = partial(watch_archive, store=store, deadline=deadline)
        service.every(watch_every, unarchived, name="look for batches not archived")
    stuck = partial(
        watch_streams,
        store=store,
        bus=platform.bus,
        groups=declared_groups(platform.datasets),
        datasets={dataset.stream: dataset.name for dataset in platform.datasets.values()},
        deadline=deadline,
    )
    service.every(watch_every, stuck, name="look for entries that nobody handles")


async def _wire_alerts(service: Service, store: AuditStore, settings: AuditSettings) -> None:
    if settings.alert_webhook_url is None:
        log.warning("alerts reach nobody: %s", NO_WEBHOOK)
        service.every(_SEND_EVERY, partial(shelve_alerts, store=store), name="put alerts into the log")
        return
    if taken := await store.take_up_shelved(why=NO_WEBHOOK):
        log.info("%d alerts of the last day are sent now that a webhook is set", taken)
    webhook = open_webhook(settings.alert_webhook_url)
    service.on_drain(webhook.close)
    send = partial(send_alerts, store=store, sink=webhook, rng=random.Random())  # noqa: S311 - jitter, no secret
    service.every(_SEND_EVERY, send, name="send alerts")


if __name__ == "__main__":
    main()
