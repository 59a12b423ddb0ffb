"""What the audit is told by its environment."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from libs.runtime.settings import ServiceSettings

__all__ = ["AuditSettings"]


class AuditSettings(ServiceSettings):
    batch_deadline: float = Field(default=300.0, gt=0)
    """Seconds after its closing within which a batch must be published and, unless the archive is off, archived, and
    within which an entry of a dataset's stream must be handled; then a person is told."""

    batch_max_age: float = Field(default=2.0, gt=0)
    """As the ingestor is told it: a batch still open after so many seconds and the deadline is late."""

    archive: Literal["on", "off", "required"] = "on"
    """off: nothing is late for the archive."""
