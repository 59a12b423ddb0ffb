"""What the audit is told by its environment."""

from __future__ import annotations

from pydantic import Field

from libs.runtime.settings import ServiceSettings

__all__ = ["AuditSettings"]


class AuditSettings(ServiceSettings):
    batch_deadline: float = Field(default=300.0, gt=0)
    """Seconds after its closing within which a batch must be published; then a person is told."""
