"""Archived events on their way into a stream again, as they were: a replay's, or a document's that was kept.

An event keeps its identity, so RAW recognises it. It carries drporigin `replay`, and the trace of whoever
publishes it now.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from libs.adapters.bus import Bus
from libs.datasets import Dataset
from libs.operations.publishing import ROOM_WITHIN, Entries, Progress
from libs.pipeline.archive import event_of, read_lines
from libs.pipeline.refusals import MAX_AGAIN_BYTES

__all__ = ["PER_ENTRY", "Again"]

PER_ENTRY: Final = 500
PER_TRIP: Final = 10 * PER_ENTRY


class Again:
    """Publishing under way: how many events and entries the stream has so far. Memory holds one trip.

    too_large: events that are left out, for they are larger than an event published again may be. None that the
    archiver wrote of what the ingestor accepted is.
    """

    def __init__(
        self,
        bus: Bus,
        traceparent: str,
        *,
        limit: int,
        on_progress: Progress | None,
        on_entries: Entries | None = None,
    ) -> None:
        self.events = self.entries = self.too_large = 0
        self._bus = bus
        self._traceparent = traceparent
        self._replaced = {
            "drporigin": msgspec.Raw(b'"replay"'),
            "traceparent": msgspec.Raw(msgspec.json.encode(traceparent)),
        }
        self._limit = limit
        self._on_progress = on_progress
        self._on_entries = on_entries
        self._waiting: list[bytes] = []

    async def take(self, dataset: Dataset, lines: Sequence[bytes]) -> None:
        """Publish lines of an archived document, or keep them for the next call.

        Raises:
            Permanent: one is no line of the archive.
            Transient: Redis is away, or the stream stays full.
        """
        self._waiting += lines
        while len(self._waiting) >= PER_TRIP:
            await self._send(dataset, self._waiting[:PER_TRIP])
            del self._waiting[:PER_TRIP]

    async def finish(self, dataset: Dataset) -> None:
        """Publish what is kept."""
        if self._waiting:
            await self._send(dataset, self._waiting)
            self._waiting = []

    async def _send(self, dataset: Dataset, lines: Sequence[bytes]) -> None:
        events = [event_of(line, self._replaced, dataset) for line in read_lines(lines)]
        fitting = [event for event in events if len(event) <= MAX_AGAIN_BYTES]
        await self._bus.wait_for_room(dataset.stream, limit=self._limit, timeout=ROOM_WITHIN)
        entries = await self._bus.publish_events(
            dataset.stream, fitting, traceparent=self._traceparent, per_entry=PER_ENTRY
        )
        self.events += len(fitting)
        self.entries += len(entries)
        self.too_large += len(events) - len(fitting)
        if self._on_progress is not None:
            self._on_progress(self.events)
        if self._on_entries is not None:
            self._on_entries(entries)
