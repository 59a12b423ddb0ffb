"""What the ingestor is told by its environment."""

from __future__ import annotations

from pydantic import Field

from libs.runtime.settings import ServiceSettings

__all__ = ["IngestorSettings"]


class IngestorSettings(ServiceSettings):
    batch_max_events: int = Field(default=50_000, ge=1)
    """A batch that holds so many slots takes no more."""

    batch_max_age: float = Field(default=2.0, gt=0)
    """Seconds after its first landing at which a batch is closed."""
