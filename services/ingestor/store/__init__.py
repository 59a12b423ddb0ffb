"""The ingestor's SQL."""

from __future__ import annotations

from services.ingestor.store.attempts import Attempt, AttemptStore
from services.ingestor.store.batches import Batch, BatchStore
from services.ingestor.store.raw import Landed, RawStore

__all__ = ["Attempt", "AttemptStore", "Batch", "BatchStore", "Landed", "RawStore"]
