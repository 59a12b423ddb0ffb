"""The ingestor: reads the datasets' streams; fills RAW, quarantine and ledger; closes batches."""

from __future__ import annotations

from uuid import uuid4

from libs.contracts.streams import DATASET_GROUPS
from libs.datasets import Dataset
from libs.pipeline.decode import Decoder
from libs.runtime.service import Platform, Service
from services.ingestor.handlers import Closing, Landing, Trial
from services.ingestor.settings import IngestorSettings
from services.ingestor.store import AttemptStore, BatchStore, RawStore

__all__ = ["main"]

GROUP = "ingestor"
TRIM_EVERY = 2.0


def main() -> None:
    settings = IngestorSettings()
    service = Service(GROUP, settings)

    @service.wire
    async def wire(platform: Platform) -> None:
        for dataset in platform.datasets.values():
            landing, trial = handlers_of(dataset, platform, settings)
            platform.bus.subscribe(dataset.stream, GROUP, landing.land, on_poison=trial.bury)
            often = min(0.5, settings.batch_max_age / 4)
            service.every(often, landing.close_overdue, name=f"close overdue batches of {dataset.name}")
            service.on_drain(landing.drain)
        groups = {dataset.stream: DATASET_GROUPS for dataset in platform.datasets.values()}
        service.every(TRIM_EVERY, lambda: platform.bus.trim(groups), name="trim the datasets' streams")

    service.run()


def handlers_of(dataset: Dataset, platform: Platform, settings: IngestorSettings) -> tuple[Landing, Trial]:
    """What lands the dataset's entries, and what brings its poison to an end."""
    raw, batches = RawStore(dataset), BatchStore(dataset)
    closing = Closing(
        batches,
        platform.postgres,
        platform.relay,
        consumer=platform.consumer,
        max_age=settings.batch_max_age,
    )
    landing = Landing(
        Decoder(dataset),
        postgres=platform.postgres,
        raw=raw,
        batches=batches,
        closing=closing,
        consumer=platform.consumer,
        max_events=settings.batch_max_events,
    )
    attempts = AttemptStore(dataset, platform.postgres, process=uuid4())
    trial = Trial(Decoder(dataset), landing, raw=raw, attempts=attempts, postgres=platform.postgres)
    return landing, trial


if __name__ == "__main__":
    main()
