"""The validator's process: candidates in, verdicts out."""

from __future__ import annotations

import asyncio
from typing import Final

from libs.contracts.streams import WAREHOUSE
from libs.runtime.service import Platform, Service
from libs.runtime.settings import ServiceSettings
from services.validator.handlers import Validator
from services.validator.store import CONSUMER, VerdictStore

__all__ = ["main"]

_RECONCILE_EVERY: Final = 3.0


def main() -> None:
    settings = ServiceSettings()
    service = Service("validator", settings)

    @service.wire
    async def wire(platform: Platform) -> None:
        validator = Validator(
            VerdictStore(platform.postgres),
            platform.datasets,
            settings.home / "warehouse",
            on_verdict=platform.relay.nudge,
        )
        platform.bus.subscribe(WAREHOUSE, CONSUMER, validator.hear, on_poison=validator.bury)
        service.every(_RECONCILE_EVERY, validator.judge_waiting, name="judge waiting candidates")
        service.on_drain(validator.close)
        validator.warming = asyncio.create_task(validator.warm(), name="warm")

    service.run()


if __name__ == "__main__":
    main()
