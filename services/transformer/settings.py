"""What the transformer is told by its environment."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from libs.runtime.settings import ServiceSettings

__all__ = ["TransformerSettings"]


class TransformerSettings(ServiceSettings):
    keep_generations: int = Field(default=5, ge=1)
    """Generations kept beside the current one, to go back to; and as many that were blocked, to look at."""

    archive: Literal["on", "off", "required"] = "on"
    """required: a generation is published once all its batches are archived."""

    lease: float = Field(default=15.0, gt=0)
    """Seconds after which a builder that gives no sign has lost its candidate."""

    warehouse_memory: str = Field(default="1GB", pattern=r"^\d+(\.\d+)?\s?(MB|GB|MiB|GiB)$")
    """What DuckDB may hold in memory while it builds; the rest waits on disk."""
