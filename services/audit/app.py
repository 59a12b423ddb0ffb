"""The audit's process: every step gets its row, what is late is found, and people are told."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from functools import partial
from typing import Final

from libs.adapters.bus import Entry
from libs.contracts.streams import GROUPS
from libs.runtime.service import Platform, Service
from services.audit.handlers import (
    NO_WEBHOOK,
    bury,
    hear,
    send_alerts,
    shelve_alerts,
    watch_deadline,
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
        watch_every = min(5.0, settings.batch_deadline / 4)
        late = partial(watch_deadline, store=store, deadline=settings.batch_deadline)
        service.every(watch_every, late, name="look for late batches")
        await _wire_alerts(service, store, settings)

    service.run()


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
