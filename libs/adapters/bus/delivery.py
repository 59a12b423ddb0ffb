"""From an entry in hand to an acknowledged one: the handler's commit, or its poison stored, then XACK."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Final

from redis.asyncio import Redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from libs.adapters import metrics
from libs.adapters.bus.client import UNREACHABLE
from libs.adapters.bus.entry import Entry
from libs.adapters.bus.tuning import Tuning
from libs.errors import DrpError, Transient

__all__ = ["UNDELIVERABLE", "Delivery", "Handler", "OnPoison", "slices"]

logger = logging.getLogger(__name__)

Handler = Callable[[Sequence[Entry]], Awaitable[None]]
OnPoison = Callable[[Entry, str], Awaitable[None]]

UNDELIVERABLE: Final = "undeliverable"
HELPED_BY_WAITING: Final = (Transient, RedisConnectionError, RedisTimeoutError)
"""Of a handler's errors. An OSError of its own is none: whoever opens files or sockets says what it means."""


class Delivery:
    """One subscription's handler and what surrounds it. Whoever gives it entries holds `lock`.

    The delivery count that Redis keeps of an entry means "attempts that began and never reported back". A
    Transient failure did report, so it is taken off again: an outage of any length, whoever is killed in it,
    makes no dead letter.
    """

    def __init__(
        self,
        client: Redis,
        *,
        stream: str,
        group: str,
        consumer: str,
        handler: Handler,
        on_poison: OnPoison,
        max_bytes: int,
        tuning: Tuning,
    ) -> None:
        self.client = client
        self.stream = stream
        self.group = group
        self.consumer = consumer
        self.max_bytes = max_bytes
        self.tuning = tuning
        self.lock = asyncio.Lock()
        self.stopping = asyncio.Event()
        self.in_hand: set[str] = set()
        self.broken: str | None = None
        self._handler = handler
        self._on_poison = on_poison
        self._backoff = ExponentialWithJitterBackoff(cap=tuning.longest_pause, base=tuning.first_pause)

    @contextlib.contextmanager
    def holding(self, entries: Iterable[Entry]) -> Iterator[None]:
        """These entries are ours and worked on: nobody may take them for abandoned."""
        ids = {entry.id for entry in entries}
        self.in_hand |= ids
        try:
            yield
        finally:
            self.in_hand -= ids

    async def give(self, entries: Sequence[Entry]) -> None:
        """Bring every entry to its end. What a stop or a broken stream interrupts stays pending."""
        with contextlib.suppress(_Interrupted):
            for part in slices(entries, self.max_bytes):
                await self._finish(part)

    async def bury(self, entry: Entry, reason: str) -> None:
        """Have the owner store the entry as poison, then acknowledge it. If that fails it stays pending."""
        with contextlib.suppress(_Interrupted):
            await self._bury(entry, reason)

    def break_off(self, error: Exception) -> None:
        """The stream can't be worked on any more (deleted, READONLY, NOPERM): the process should end."""
        if self.broken is None and not self.stopping.is_set():
            self.broken = f"stream {self.stream}, group {self.group}: {error}"
            logger.critical("%s", self.broken)

    async def _finish(self, entries: Sequence[Entry]) -> None:
        refusal = await self._attempt(lambda: self._handler(entries), entries)
        if refusal is None:
            await self._acknowledge(entries)
            metrics.ENTRIES_HANDLED.labels(self.stream, self.group).inc(len(entries))
        elif len(entries) > 1:
            middle = len(entries) // 2
            await self._finish(entries[:middle])
            await self._finish(entries[middle:])
        else:
            await self._finish_refused(entries[0], refusal)

    async def _finish_refused(self, entry: Entry, refusal: str) -> None:
        for failures in range(1, self.tuning.refusals):
            await self._pause(failures)
            again = await self._attempt(lambda: self._handler([entry]), [entry])
            if again is None:
                await self._acknowledge([entry])
                metrics.ENTRIES_HANDLED.labels(self.stream, self.group).inc()
                return
            refusal = again
        await self._bury(entry, refusal)

    async def _bury(self, entry: Entry, reason: str) -> None:
        trouble = await self._attempt(lambda: self._on_poison(entry, reason), [entry])
        if trouble is not None:
            logger.error("poison entry %s of %s can't be stored, it stays pending", entry.id, self.stream)
            return
        await self._acknowledge([entry])
        metrics.ENTRIES_DEAD_LETTERED.labels(self.stream, self.group).inc()
        logger.error(
            "dead-lettered entry %s of %s after %d deliveries", entry.id, self.stream, entry.deliveries
        )

    async def _attempt(self, work: Callable[[], Awaitable[None]], entries: Sequence[Entry]) -> str | None:
        """Do it, waiting in place for as long as that helps. None: committed; else why it never will be."""
        failures = 0
        while True:
            self._go_on()
            try:
                await work()
            except HELPED_BY_WAITING as error:
                failures += 1
                self._tell(error, entries, kind="transient", failures=failures)
                await self._recount(entries, -1)
                await self._pause(failures)
                await self._recount(entries, 0)
            except Exception as error:  # noqa: BLE001 - a bug refuses its entry, not the neighbours
                self._tell(error, entries, kind="permanent", failures=failures + 1)
                return said_of(error)
            else:
                return None

    def _tell(self, error: Exception, entries: Sequence[Entry], *, kind: str, failures: int) -> None:
        metrics.HANDLER_FAILURES.labels(self.stream, self.group, kind).inc()
        logger.warning(
            "%s %s: %s failure %d on %d entries from %s: %s",
            self.stream, self.group, kind, failures, len(entries), entries[0].id, said_of(error),
        )  # fmt: skip

    async def _recount(self, entries: Sequence[Entry], change: int) -> None:
        """Set the entries' delivery counts in Redis to their own plus change. A lost call costs one count."""
        with contextlib.suppress(*UNREACHABLE):
            for deliveries, same in groupby(entries, key=lambda entry: entry.deliveries):
                await self.claim([entry.id for entry in same], retrycount=max(0, deliveries + change))

    async def claim(
        self, ids: Sequence[str], *, retrycount: int | None = None, idle: int | None = None
    ) -> None:
        """Keep entries ours, touched now (or idle milliseconds ago), without counting it as a delivery."""
        try:
            await self.client.xclaim(
                self.stream,
                self.group,
                self.consumer,
                0,
                list(ids),
                idle=idle,
                retrycount=retrycount,
                justid=True,
            )
        except ResponseError as error:
            self.break_off(error)

    async def _acknowledge(self, entries: Sequence[Entry]) -> None:
        """XACK for as long as it takes: it is committed, and a redelivery would only cost time."""
        failures = 0
        while True:
            try:
                await self.client.xack(self.stream, self.group, *(entry.id for entry in entries))
                return
            except UNREACHABLE:
                failures += 1
                await self._pause(failures)
            except ResponseError as error:
                self.break_off(error)
                raise _Interrupted from error

    async def _pause(self, failures: int) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), self._backoff.compute(failures))
        self._go_on()

    def _go_on(self) -> None:
        if self.stopping.is_set() or self.broken is not None:
            raise _Interrupted


class _Interrupted(BaseException):
    """The subscription ends: unwind, leaving what isn't done pending. Not a failure of any handler."""


def said_of(error: Exception) -> str:
    """What may be logged and stored of an error: a foreign one's text may quote the payload."""
    return str(error) if isinstance(error, DrpError) else type(error).__name__


def slices(entries: Sequence[Entry], max_bytes: int) -> Iterator[Sequence[Entry]]:
    """The entries in order, cut so that each part holds at most max_bytes of data, or one entry."""
    first = size = 0
    for position, entry in enumerate(entries):
        if size and size + len(entry.data) > max_bytes:
            yield entries[first:position]
            first, size = position, 0
        size += len(entry.data)
    if first < len(entries):
        yield entries[first:]
