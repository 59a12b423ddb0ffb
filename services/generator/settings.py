"""What the generator is told."""

from __future__ import annotations

from pydantic import Field

from libs.runtime.settings import ServiceSettings
from services.generator.domain import Faults

__all__ = ["GeneratorSettings"]


class GeneratorSettings(ServiceSettings):
    """Shares (0..1) say how many of the events that it makes by itself carry each fault."""

    generator_rate: float = Field(default=0, ge=0, le=100_000)
    """Events a second made by itself; 0 publishes on request only."""
    generator_seed: int = 1
    generator_duplicate: float = Field(default=0, ge=0, le=1)
    generator_conflict: float = Field(default=0, ge=0, le=1)
    generator_late: float = Field(default=0, ge=0, le=1)
    generator_out_of_order: float = Field(default=0, ge=0, le=1)
    generator_malformed: float = Field(default=0, ge=0, le=1)
    generator_negative: float = Field(default=0, ge=0, le=1)

    stream_limit: int = Field(default=10_000, ge=1)
    """Entries that may wait in a stream before producers are told to come back later."""

    def faults(self) -> Faults:
        """Raises ValueError if the shares add up to more than 1."""
        return Faults(
            duplicate=self.generator_duplicate,
            conflict=self.generator_conflict,
            late=self.generator_late,
            out_of_order=self.generator_out_of_order,
            malformed=self.generator_malformed,
            negative=self.generator_negative,
        )
