"""The bus: publish facts, subscribe to them, keep the streams in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING

from redis.asyncio import Redis

from libs.adapters.bus import client as connection
from libs.adapters.bus import overview, publishing, trimming
from libs.adapters.bus.delivery import Delivery, Handler, OnPoison
from libs.adapters.bus.entry import Entry
from libs.adapters.bus.overview import ConsumerOverview, StreamOverview
from libs.adapters.bus.tuning import Tuning
from libs.adapters.bus.window import Window

if TYPE_CHECKING:
    from faststream.redis import RedisBroker

    from libs.adapters.bus.subscription import Subscription

__all__ = ["Bus"]

WATCHED_EVERY = 0.25


class Bus:
    """Redis Streams for one process.

    Every method that speaks to Redis raises Transient or Permanent, never the driver's errors.
    """

    def __init__(self, client: Redis, url: str, *, service: str, consumer: str, tuning: Tuning) -> None:
        self.service = service
        self.consumer = consumer
        self._client = client
        self._url = url
        self._tuning = tuning
        self._wanted: list[tuple[Delivery, Window]] = []
        self._subscriptions: list[Subscription] = []
        self._broker: RedisBroker | None = None
        self._stopped = asyncio.Event()

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        service: str,
        consumer: str,
        timeout: float | None = None,  # noqa: ASYNC109 - part of a wait that goes through several tries
        tuning: Tuning | None = None,
    ) -> Bus:
        """Wait with back-off until Redis answers, timeout seconds or as long as it takes.

        Args:
            consumer: this process' name in its groups; stable over restarts, unlike any other's: what it left
                behind is found again by name.

        Raises:
            Transient: no answer in time.
            Permanent: wrong URL, or Redis refuses us.
        """
        client = connection.open_client(url)
        try:
            await connection.wait_until_ready(client, timeout=timeout)
        except BaseException:
            await client.aclose()
            raise
        return cls(client, url, service=service, consumer=consumer, tuning=tuning or Tuning())

    async def ping(self) -> None:
        """Raises Transient if Redis doesn't answer now."""
        with connection.redis_errors("cannot reach Redis"):
            await self._client.ping()

    async def ensure_groups(self, groups: Mapping[str, Sequence[str]]) -> None:
        """Create the streams and groups that are missing, each group from the first entry on."""
        await connection.ensure_groups(self._client, groups)

    async def publish(
        self, stream: str, documents: Sequence[bytes], *, traceparent: str | None = None
    ) -> list[str]:
        """Append one entry a document and return their ids; see publishing.publish."""
        return await publishing.publish(self._client, stream, documents, traceparent=traceparent)

    async def publish_events(
        self, stream: str, events: Sequence[bytes], *, traceparent: str | None = None, per_entry: int = 500
    ) -> list[str]:
        """Append CloudEvents, up to per_entry to an entry (≤ 1 MiB), and return the entries' ids."""
        documents = publishing.packed(events, per_entry=per_entry)
        return await publishing.publish(self._client, stream, documents, traceparent=traceparent)

    def subscribe(
        self,
        stream: str,
        group: str,
        handler: Handler,
        *,
        on_poison: OnPoison,
        max_records: int = 200,
        max_bytes: int = 8 * 1024 * 1024,
    ) -> None:
        """Give the group's entries to handler, one batch at a time, once start() is called.

        Args:
            handler: its return means committed, the entries are acknowledged. If it raises Transient it is
                called again with the same entries, after a pause, for as long as it takes. Anything else it
                raises refuses the batch, which is halved until the entries to blame stand alone; each of
                those is tried a few times more.
            on_poison: called with such an entry and why. It must have stored it durably when it returns, for
                the entry is acknowledged then. Also called, with a reason that begins with UNDELIVERABLE, for
                an entry that was delivered Tuning.deliveries times and never finished, the last time alone.
                One that kills even on_poison comes back with a greater entry.deliveries: the owner may split
                an entry of several events, and go by that count.
            max_records: entries in a batch.
            max_bytes: bytes of data in a batch; one entry may be larger.
        """
        delivery = Delivery(
            self._client,
            stream=stream,
            group=group,
            consumer=self.consumer,
            handler=handler,
            on_poison=on_poison,
            max_bytes=max_bytes,
            tuning=self._tuning,
        )
        self._wanted.append((delivery, Window(max_records=max_records, max_bytes=max_bytes)))

    async def start(self) -> None:
        """Begin to read: first what an earlier process of our name left pending, then new entries."""
        if not self._wanted:
            return
        # READONLY or NOPERM shall end the reading task, for the watchdog to see, not be retried in a hot loop
        os.environ["FASTSTREAM_SUPERVISOR_DISABLED"] = "1"
        # FastStream takes half a second to import
        from libs.adapters.bus import subscription

        self._broker = broker = subscription.open_broker(self._url, graceful=self._tuning.graceful)
        self._subscriptions = [subscription.Subscription(broker, *wanted) for wanted in self._wanted]
        with connection.redis_errors("cannot reach Redis"):
            await subscription.connect_broker(broker)
        for each in self._subscriptions:
            each.start()

    async def drain(self) -> None:
        """Stop reading: let handlers finish, Tuning.graceful seconds at most, and hand back what isn't done.

        Three seconds more if Redis goes away in the middle of a start, for that is finished first.

        Publishing goes on, for those who still have something to say. Does nothing the second time.
        """
        if self._stopped.is_set():
            return
        self._stopped.set()
        await asyncio.gather(*(each.interrupt() for each in self._subscriptions))
        if self._broker is not None:
            winding_up = [each.wind_up() for each in self._subscriptions]
            await asyncio.gather(self._broker.stop(), *winding_up)
            await asyncio.gather(*(each.hand_back() for each in self._subscriptions))

    async def stop(self) -> None:
        """Drain, then disconnect."""
        try:
            await self.drain()
        finally:
            await self._client.aclose()

    def healthy(self) -> str | None:
        """What is wrong for good: a subscription that reads no more.

        None while all is well, also while Redis is away and expected back.
        """
        if self._stopped.is_set():
            return None
        return next((what for each in self._subscriptions if (what := each.trouble())), None)

    async def run_until_broken(self) -> str | None:
        """Returns when the process should exit non-zero, with the reason; None after stop()."""
        while (what := self.healthy()) is None and not self._stopped.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), WATCHED_EVERY)
        return what

    async def trim(self, groups: Mapping[str, Sequence[str]]) -> dict[str, int]:
        """Drop what every declared group has finished; see trimming.trim."""
        return await trimming.trim(self._client, groups)

    async def length(self, stream: str) -> int:
        """Entries in the stream, 0 if there is none."""
        with connection.redis_errors(f"cannot see the length of {stream}"):
            return int(await self._client.xlen(stream))

    async def wait_for_room(self, stream: str, *, limit: int, timeout: float) -> None:  # noqa: ASYNC109
        """Back-pressure: wait until the slowest group has fewer than limit entries to do, or RoomExceeded."""
        await publishing.wait_for_room(self._client, stream, limit=limit, timeout=timeout)

    async def overview(self, groups: Mapping[str, Sequence[str]]) -> list[StreamOverview]:
        """Length, pending and lag, looked at without taking anything from anybody."""
        return await overview.overview(self._client, groups)

    async def consumers(self, groups: Mapping[str, Sequence[str]]) -> list[ConsumerOverview]:
        """Who reads, and how much each has in hand, looked at without taking anything from anybody."""
        return await overview.consumers(self._client, groups)

    def unhandled(self, stream: str, group: str) -> AsyncIterator[Entry]:
        """The entries the group has not acknowledged, pending or unread, looked at without taking them."""
        return overview.unhandled(self._client, stream, group)

    async def check_durability(self) -> list[str]:
        """What in the settings of Redis breaks the promise, one sentence each."""
        return await connection.check_durability(self._client)
