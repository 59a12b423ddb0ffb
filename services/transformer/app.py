"""The transformer's process: closed batches in, generations out."""

from __future__ import annotations

import uuid
from functools import partial
from typing import Final

from libs.adapters.postgres.arrow import read_arrow
from libs.adapters.warehouse import Warehouse
from libs.contracts.streams import ARCHIVE, BATCHES, QUALITY
from libs.datasets import Dataset
from libs.runtime.service import Platform, Service
from services.transformer.builder import Builder
from services.transformer.domain import holder_of
from services.transformer.handlers import Transformer, bury, hear
from services.transformer.settings import TransformerSettings
from services.transformer.store import CONSUMER, TransformerStore

__all__ = ["main", "transformer_of"]

_RECONCILE_EVERY: Final = 1.0


def main() -> None:
    settings = TransformerSettings()
    service = Service("transformer", settings)

    @service.wire
    async def wire(platform: Platform) -> None:
        process = uuid.uuid4()
        transformers = {
            name: transformer_of(dataset, platform, settings, process=process)
            for name, dataset in platform.datasets.items()
        }
        loops = {
            name: service.every(_RECONCILE_EVERY, transformer.tend, name=f"tend the warehouse of {name}")
            for name, transformer in transformers.items()
        }
        listen = partial(
            hear,
            postgres=platform.postgres,
            transformers=transformers,
            nudge=lambda name: loops[name].nudge(),
        )
        for stream in (BATCHES, QUALITY, ARCHIVE):
            platform.bus.subscribe(stream, CONSUMER, listen, on_poison=bury)

    service.run()


def transformer_of(
    dataset: Dataset, platform: Platform, settings: TransformerSettings, *, process: uuid.UUID
) -> Transformer:
    """The transformer of one dataset. process tells this life of the replica from its earlier ones."""
    warehouse = Warehouse(settings.home / "warehouse", dataset.name)
    holder = holder_of(platform.consumer, process)
    store = TransformerStore(platform.postgres, dataset.name, holder=holder, lease=settings.lease)
    builder = Builder(
        dataset,
        warehouse,
        store,
        read_raw=partial(read_arrow, platform.postgres.url),
        memory_limit=settings.warehouse_memory,
        lease=settings.lease,
        stopping=platform.stop.is_set,
    )
    return Transformer(
        dataset,
        warehouse,
        store,
        builder,
        consumer=platform.consumer,
        keep=settings.keep_generations,
        archive=settings.archive,
        on_announced=platform.relay.nudge,
    )


if __name__ == "__main__":
    main()
