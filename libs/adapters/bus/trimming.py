"""Letting go of what every declared group has finished, and of nothing else."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio import Redis

from libs.adapters import metrics
from libs.adapters.bus.client import redis_errors
from libs.adapters.bus.overview import group_details

__all__ = ["finished_below", "trim"]

logger = logging.getLogger(__name__)


async def trim(client: Redis, groups: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Drop from each stream the entries that all its declared groups have acknowledged.

    Returns:
        Entries dropped by stream. A stream that lacks a declared group is left alone and out of the answer:
        that group, once made, starts at the first entry.
    """
    dropped: dict[str, int] = {}
    for stream, declared in groups.items():
        with redis_errors(f"cannot trim {stream}"):
            below = await _finished_below(client, stream, declared)
            if below is None:
                continue
            # MINID, exact: MAXLEN would count, and drop what nobody has read
            dropped[stream] = int(await client.xtrim(stream, minid=below, approximate=False))
        metrics.ENTRIES_TRIMMED.labels(stream).inc(dropped[stream])
    return dropped


async def _finished_below(client: Redis, stream: str, declared: Sequence[str]) -> str | None:
    # First how far each group has read, then what it has pending: whatever is delivered in between lies
    # above the former. The other way round it could fall through.
    details = await group_details(client, stream)
    missing = [group for group in declared if group not in details]
    if missing or not declared:
        logger.warning("stream %s is not trimmed: no group %s", stream, ", ".join(missing) or "declared")
        return None
    marks: list[str] = []
    for group in declared:
        pending: dict[str, Any] = await client.xpending(stream, group)
        oldest = pending["min"].decode() if pending["pending"] else None
        marks.append(finished_below(details[group]["last-delivered-id"].decode(), oldest))
    return min(marks, key=_order)


def finished_below(last_delivered: str, oldest_pending: str | None) -> str:
    """The first entry id that a group may still need: everything below it is acknowledged."""
    if oldest_pending is not None:
        return oldest_pending
    milliseconds, sequence = _order(last_delivered)
    return f"{milliseconds}-{sequence + 1}"


def _order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence)
