"""Entries that a consumer took and never finished: taken over, tried in ever smaller groups, then alone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, cast

from redis.exceptions import ResponseError

from libs.adapters import metrics
from libs.adapters.bus.client import UNREACHABLE, answers_of
from libs.adapters.bus.delivery import UNDELIVERABLE, Delivery
from libs.adapters.bus.entry import Entry, read_entry

__all__ = ["Reaper", "group_size"]

logger = logging.getLogger(__name__)

PAGE: Final = 500
LOOK: Final = 8
"""Entries read in one trip, each of eight mebibytes at most, before their bytes are counted."""
HAND_BACK_WITHIN: Final = 3.0

# A consumer that woke up between look and deletion would lose what it just took: so both in one step.
FORGET_CONSUMER: Final = """
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local about = {}
  for i = 1, #consumer, 2 do about[consumer[i]] = consumer[i + 1] end
  if about['name'] == ARGV[2] and about['pending'] == 0 and about['idle'] >= tonumber(ARGV[3]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
    return 1
  end
end
return 0
"""


class Reaper:
    """Looks after the pending entries of one subscription. Shares the delivery's lock with the reader."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self._client = delivery.client
        self._where = (delivery.stream, delivery.group)
        self._tuning = delivery.tuning

    async def drain(self) -> None:
        """Finish what an earlier process of this consumer's name left behind."""
        await self._sweep(idle=0, consumer=self._delivery.consumer)

    async def run(self) -> None:
        """Take over abandoned entries and forget dead consumers until the subscription stops."""
        await self._repeat(self._round, every=self._tuning.abandoned_after / 4)

    async def renew(self) -> None:
        """Keep what is in hand from looking abandoned, however long its handler takes."""
        await self._repeat(self._touch, every=self._tuning.abandoned_after / 3)

    async def hand_back(self) -> None:
        """Leave nothing for the others to wait for: what is still ours may be taken over at once, uncounted.

        Stopping strands entries that Redis has sent and nobody has read; that is no fault of theirs.
        """
        with contextlib.suppress(*UNREACHABLE, ResponseError):
            async with asyncio.timeout(HAND_BACK_WITHIN):
                await self._hand_back()

    async def _hand_back(self) -> None:
        pending = await self._pending("-", idle=0, consumer=self._delivery.consumer)
        for delivered, same in groupby(pending, key=itemgetter("times_delivered")):
            await self._delivery.claim(
                [entry["message_id"] for entry in same],
                retrycount=max(0, delivered - 1),
                idle=self._milliseconds(self._tuning.abandoned_after),
            )

    async def _repeat(self, work: Callable[[], Awaitable[None]], *, every: float) -> None:
        stopping = self._delivery.stopping
        while not stopping.is_set() and self._delivery.broken is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), every)
                return
            try:
                await work()
            except UNREACHABLE as error:
                logger.warning("looking after %s waits for Redis: %s", self._where, error)
            except ResponseError as error:
                self._delivery.break_off(error)

    async def _round(self) -> None:
        await self._sweep(idle=self._milliseconds(self._tuning.abandoned_after))
        await self._forget_dead_consumers()

    async def _touch(self) -> None:
        ids = sorted(self._delivery.in_hand)
        for first in range(0, len(ids), PAGE):
            await self._delivery.claim(ids[first : first + PAGE])

    async def _sweep(self, *, idle: int, consumer: str | None = None) -> None:
        start = "-"
        while page := await self._pending(start, idle=idle, consumer=consumer):
            start = f"({page[-1]['message_id'].decode()}"
            mine = [entry for entry in page if entry["message_id"].decode() not in self._delivery.in_hand]
            mine.sort(key=itemgetter("times_delivered"))
            for delivered, same in groupby(mine, key=itemgetter("times_delivered")):
                ids = [entry["message_id"] for entry in same]
                size = group_size(delivered, self._tuning.deliveries)
                while ids:
                    taken = await self._take_over(ids[:size], delivered=delivered, idle=idle)
                    ids = ids[taken:]

    async def _pending(self, start: str, *, idle: int, consumer: str | None) -> list[dict[str, Any]]:
        found: Any = await self._client.xpending_range(
            *self._where, min=start, max="+", count=PAGE, consumername=consumer, idle=idle
        )
        return cast("list[dict[str, Any]]", found)

    async def _take_over(self, ids: Sequence[bytes], *, delivered: int, idle: int) -> int:
        """Claim and try as many of these as a batch's bytes allow, one at least; how many are dealt with.

        They are looked at first and claimed after, which counts a delivery: a crash counts against the tried
        alone. One that is gone from the stream is claimed too, for that is how Redis forgets it.
        """
        async with self._delivery.lock:
            if self._delivery.stopping.is_set() or self._delivery.broken is not None:
                return len(ids)
            looked_at = await self._look_at(ids, deliveries=delivered + 1)
            claimed: Any = await self._client.xclaim(
                *self._where,
                self._delivery.consumer,
                idle,
                list(looked_at),
                retrycount=delivered + 1,
                justid=True,
            )
            entries = [entry for each in claimed if (entry := looked_at[each]) is not None]
            metrics.ENTRIES_RECLAIMED.labels(*self._where).inc(len(entries))
            with self._delivery.holding(entries):
                await self._try(entries)
        return len(looked_at)

    async def _look_at(self, ids: Sequence[bytes], *, deliveries: int) -> dict[bytes, Entry | None]:
        """The first of these, in order, until they fill a batch; None for one that is gone."""
        found: dict[bytes, Entry | None] = {}
        size = 0
        for first in range(0, len(ids), LOOK):
            for entry_id, entry in await self._read(ids[first : first + LOOK], deliveries=deliveries):
                size += 0 if entry is None else len(entry.data)
                if found and size > self._delivery.max_bytes:
                    return found
                found[entry_id] = entry
        return found

    async def _read(self, ids: Sequence[bytes], *, deliveries: int) -> list[tuple[bytes, Entry | None]]:
        stream = self._delivery.stream
        async with self._client.pipeline(transaction=False) as pipeline:
            for entry_id in ids:
                pipeline.xrange(stream, min=entry_id, max=entry_id, count=1)
            answers = await answers_of(pipeline)
        return [
            (entry_id, read_entry(stream, *answer[0], deliveries=deliveries) if answer else None)
            for entry_id, answer in zip(ids, answers, strict=True)
        ]

    async def _try(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        if entries[0].deliveries <= self._tuning.deliveries:
            await self._delivery.give(entries)
            return
        for entry in entries:
            reason = f"{UNDELIVERABLE}: delivered {entry.deliveries - 1} times and never finished"
            await self._delivery.bury(entry, reason)

    async def _forget_dead_consumers(self) -> None:
        limit = self._milliseconds(self._tuning.forgotten_after)
        for consumer in await self._client.xinfo_consumers(*self._where):
            name = consumer["name"].decode()
            if name != self._delivery.consumer and not consumer["pending"] and consumer["idle"] >= limit:
                stream, group = self._where
                await self._client.eval(FORGET_CONSUMER, 1, stream, group, name, str(limit))

    @staticmethod
    def _milliseconds(seconds: float) -> int:
        return int(seconds * 1000)


def group_size(delivered: int, most: int) -> int:
    """How many entries that were delivered so often before are tried together: …, 64, 16, 4, at last one.

    So an entry that kills its consumer ends up with nobody beside it before it is given up.
    """
    return int(4 ** max(0, most - 1 - delivered))
