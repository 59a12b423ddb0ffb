"""Which event travels on which stream, and which consumer groups read it.

Trimming and back-pressure count exactly the groups declared here (and a dataset's own, DATASET_GROUPS):
boot creates each one at id 0, and nothing is trimmed while one of them is missing.
"""

from __future__ import annotations

from typing import Final

from libs.contracts.events import (
    ArchiveStored,
    BatchClosed,
    BatchHeld,
    BatchReleased,
    PipelineEvent,
    QualityFailed,
    QualityPassed,
    StepFailed,
    WarehouseBuilt,
    WarehousePublished,
)

__all__ = ["ARCHIVE", "BATCHES", "DATASET_GROUPS", "GROUPS", "QUALITY", "STEPS", "STREAMS", "WAREHOUSE"]

BATCHES: Final = "drp.batches"
WAREHOUSE: Final = "drp.warehouse"
QUALITY: Final = "drp.quality"
ARCHIVE: Final = "drp.archive"
STEPS: Final = "drp.steps"

STREAMS: Final[dict[type[PipelineEvent], str]] = {
    BatchClosed: BATCHES,
    BatchHeld: BATCHES,
    BatchReleased: BATCHES,
    WarehouseBuilt: WAREHOUSE,
    WarehousePublished: WAREHOUSE,
    QualityPassed: QUALITY,
    QualityFailed: QUALITY,
    ArchiveStored: ARCHIVE,
    StepFailed: STEPS,
}

GROUPS: Final[dict[str, tuple[str, ...]]] = {
    BATCHES: ("transformer", "archiver", "audit"),
    WAREHOUSE: ("validator", "archiver", "audit"),
    QUALITY: ("transformer", "audit"),
    ARCHIVE: ("transformer", "audit"),
    STEPS: ("audit",),
}

DATASET_GROUPS: Final = ("ingestor",)
"""The groups of every dataset's own stream, whose name stands in its contract."""
