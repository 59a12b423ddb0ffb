"""The generator: orders come in over HTTP, or are made up at a set rate, and go to the stream."""

from __future__ import annotations

import uuid

from libs.runtime.service import Platform, Service
from services.generator.handlers import create_app
from services.generator.publishing import OrderDoor, OrderMaker
from services.generator.runs import RunMaker
from services.generator.settings import GeneratorSettings

__all__ = ["main"]

DATASET = "orders"
TICK = 0.2


def main() -> None:
    """Run until asked to stop."""
    settings = GeneratorSettings()
    app = create_app()
    service = Service("generator", settings, app=app, postgres=False)

    @service.wire
    async def wire(platform: Platform) -> None:
        app.state.bus = platform.bus
        dataset = platform.datasets.get(DATASET)
        if dataset is None:
            return
        app.state.door = OrderDoor(platform.bus, dataset, limit=settings.stream_limit)
        app.state.runs = RunMaker(platform.bus, dataset.stream, limit=settings.stream_limit)
        if settings.generator_rate > 0:
            maker = OrderMaker(
                platform.bus,
                dataset.stream,
                rate=settings.generator_rate,
                seed=settings.generator_seed,
                faults=settings.faults(),
                run_id=uuid.uuid4().hex[:12],
                limit=settings.stream_limit,
            )
            service.every(TICK, maker.publish_due, name="publish made-up orders")

    service.run()


if __name__ == "__main__":
    main()
