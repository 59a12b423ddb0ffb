"""What the ingestor does: land entries, close batches, and try poison event by event."""

from __future__ import annotations

from services.ingestor.handlers.closing import Closing
from services.ingestor.handlers.landing import Landing
from services.ingestor.handlers.trial import Trial

__all__ = ["Closing", "Landing", "Trial"]
