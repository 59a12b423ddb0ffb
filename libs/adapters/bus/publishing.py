"""Appending to a stream: in bulk, in plain fields that any client can write, while there is room."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from libs.adapters.bus.client import answers_of, redis_errors
from libs.adapters.bus.overview import unread
from libs.errors import Transient

__all__ = ["RoomExceeded", "packed", "publish", "wait_for_room"]

ENTRIES_A_TRIP: Final = 500
BYTES_A_TRIP: Final = 4 * 1024 * 1024
BYTES_AN_ENTRY: Final = 1024 * 1024


class RoomExceeded(Transient):
    """The consumers are too far behind: nothing may be appended now."""


async def publish(
    client: Redis, stream: str, documents: Sequence[bytes], *, traceparent: str | None = None
) -> list[str]:
    """Append one entry a document; many travel in one round trip.

    Returns:
        The entries' ids, in order. Once this returns Redis has acknowledged them all.

    Raises:
        Transient, Permanent: some may have been appended. Publishing all again is safe: an event that arrives
            twice counts as a duplicate.
    """
    ids: list[str] = []
    context: dict[Any, Any] = {} if traceparent is None else {b"traceparent": traceparent}
    with redis_errors(f"cannot publish to {stream}"):
        for trip in _trips(documents):
            async with client.pipeline(transaction=False) as pipeline:
                for document in trip:
                    pipeline.xadd(stream, {b"data": document, **context})
                ids.extend(entry_id.decode("ascii") for entry_id in await answers_of(pipeline))
    return ids


def packed(events: Sequence[bytes], *, per_entry: int) -> list[bytes]:
    """CloudEvents joined into JSON arrays of at most per_entry events and 1 MiB.

    What is no JSON would take the whole array down with it, so it stands alone, as it came.
    """
    documents: list[bytes] = []
    together: list[bytes] = []
    size = 0
    for event in events:
        if not _is_json(event):
            documents.append(event)
            continue
        if together and (len(together) >= per_entry or size + len(event) + 1 > BYTES_AN_ENTRY):
            documents.append(_array(together))
            together, size = [], 0
        together.append(event)
        size += len(event) + 1
    if together:
        documents.append(_array(together))
    return documents


async def wait_for_room(client: Redis, stream: str, *, limit: int, timeout: float) -> None:  # noqa: ASYNC109
    """Wait until the slowest group has fewer than limit entries to do. timeout in seconds; 0 looks once.

    Raises:
        RoomExceeded: it stayed full.
    """
    deadline = time.monotonic() + timeout
    while True:
        with redis_errors(f"cannot see what waits in {stream}"):
            waiting = await _waiting(client, stream, enough=limit)
        if waiting < limit:
            return
        left = deadline - time.monotonic()
        if left <= 0:
            raise RoomExceeded(
                f"no room in stream {stream}",
                why=f"{waiting} entries wait, the limit is {limit}",
                fix="wait for the consumers to catch up (drp status)",
            )
        await asyncio.sleep(min(0.1, left))


async def _waiting(client: Redis, stream: str, *, enough: int) -> int:
    """Entries that the slowest group has yet to finish; of a stream shorter than enough, its length at most.

    What every group has finished waits for its trimming only, and keeps nobody from publishing. Where Redis can't
    tell (no group yet, or entries were deleted) every entry counts.
    """
    length = int(await client.xlen(stream))
    if length < enough:
        return length
    groups, about = await client.xinfo_groups(stream), await client.xinfo_stream(stream)
    lags = [(group["pending"], unread(group, about)) for group in groups]
    if not lags or any(lag is None for _, lag in lags):
        return length
    return max(int(pending) + (lag or 0) for pending, lag in lags)


def _trips(documents: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    first = size = 0
    for position, document in enumerate(documents):
        if position > first and (position - first >= ENTRIES_A_TRIP or size + len(document) > BYTES_A_TRIP):
            yield documents[first:position]
            first, size = position, 0
        size += len(document)
    if first < len(documents):
        yield documents[first:]


def _is_json(document: bytes) -> bool:
    try:
        document.decode()
        msgspec.json.decode(document, type=msgspec.Raw)
    except (UnicodeDecodeError, msgspec.DecodeError):
        return False
    return True


def _array(events: Sequence[bytes]) -> bytes:
    return events[0] if len(events) == 1 else b"[" + b",".join(events) + b"]"
