"""One entry of a stream, as every handler sees it. Reading one never fails, whatever is in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

__all__ = ["Entry", "read_entry"]

DATA = b"data"
TRACEPARENT = b"traceparent"


@dataclass(frozen=True, slots=True)
class Entry:
    """What a producer appended to a stream.

    Attributes:
        stream: the stream's name.
        id: Redis' id of the entry, `<milliseconds>-<sequence>`.
        data: the field `data`, empty if the producer left it out.
        traceparent: the field `traceparent`, W3C trace context.
        deliveries: how often it has been given to a consumer, this time included. More than one means that
            somebody who had it before never finished.
        fields: all fields as they were sent, `data` among them.
    """

    stream: str
    id: str
    data: bytes
    traceparent: str | None = None
    deliveries: int = 1
    fields: Mapping[bytes, bytes] = field(default_factory=dict)

    @property
    def time(self) -> datetime:
        """When Redis appended it, UTC, to the millisecond."""
        return datetime.fromtimestamp(int(self.id.partition("-")[0]) / 1000, tz=UTC)


def read_entry(stream: str, entry_id: bytes, fields: Mapping[bytes, bytes], *, deliveries: int = 1) -> Entry:
    traceparent = fields.get(TRACEPARENT)
    return Entry(
        stream,
        entry_id.decode("ascii"),
        fields.get(DATA, b""),
        None if traceparent is None else traceparent.decode("ascii", "replace"),
        deliveries,
        fields,
    )
