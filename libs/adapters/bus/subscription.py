"""Reading a stream with FastStream: its lifecycle and routing, our groups, parser and acknowledgement.

The only file that imports FastStream; it takes half a second, so Bus.start() is where this one is imported.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from faststream import AckPolicy
from faststream.redis import RedisBroker, StreamSub
from faststream.redis.message import FAKE_CONSUMER, RedisBatchStreamMessage
from redis.exceptions import RedisError

from libs.adapters.bus.client import UNREACHABLE, ensure_groups, patience, wait_until_ready
from libs.adapters.bus.delivery import Delivery
from libs.adapters.bus.entry import Entry, read_entry
from libs.adapters.bus.reaper import Reaper
from libs.adapters.bus.watch import ending_of, trouble_of
from libs.adapters.bus.window import Window
from libs.errors import DrpError

__all__ = ["Subscription", "connect_broker", "open_broker"]

logger = logging.getLogger(__name__)

POLLING: Final = 1000
"""Milliseconds a read blocks: well under redis-py's socket timeout of 5 s, which it would clash with."""


def open_broker(url: str, *, graceful: float) -> RedisBroker:
    """FastStream's broker, not connected yet."""
    return RedisBroker(
        url,
        retry=patience(),
        socket_timeout=5.0,
        socket_connect_timeout=5.0,
        graceful_timeout=graceful,
        apply_types=False,
        logger=logger,
        log_level=logging.DEBUG,
    )


async def connect_broker(broker: RedisBroker) -> None:
    """Connect, and leave the groups to us.

    FastStream creates each again when it starts: at `$` if somebody destroyed it meanwhile, so that entries
    would silently be passed over; and a full Redis refuses the mere try, so that no consumer could come up to
    make room.
    """
    client = await broker.connect()
    client.xgroup_create = _is_made  # type: ignore[method-assign]


async def _is_made(*_: object, **__: object) -> bool:
    return True


class WindowedStream(StreamSub[Any]):
    """FastStream asks for `max_records` before every read, so it may change."""

    __slots__ = ("window",)

    def __init__(self, *args: Any, window: Window, **options: Any) -> None:
        self.window = window
        super().__init__(*args, **options)

    @property
    def max_records(self) -> int:
        return self.window.size

    @max_records.setter
    def max_records(self, value: object) -> None:
        """The window knows better."""

    def __deepcopy__(self, memo: dict[int, object]) -> WindowedStream:
        # FastStream reads from a copy; it must look at the same window
        return self


class Subscription:
    """One stream read for one group by one handler."""

    def __init__(self, broker: RedisBroker, delivery: Delivery, window: Window) -> None:
        """Register with the broker; nothing is read before start()."""
        self._delivery = delivery
        self._window = window
        self._reaper = Reaper(delivery)
        self._reading = False
        self._starting = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._subscriber = broker.subscriber(
            stream=WindowedStream(
                delivery.stream,
                group=delivery.group,
                consumer=delivery.consumer,
                batch=True,
                polling_interval=POLLING,
                window=window,
            ),
            parser=self._parse,
            decoder=self._decode,
            ack_policy=AckPolicy.MANUAL,
            no_reply=True,
        )
        self._subscriber(self._on_batch)

    def start(self) -> None:
        """Finish what an earlier process left, then read on. Returns at once."""
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._reaper.renew())]

    async def interrupt(self) -> None:
        """Let the handler finish what it does, and begin nothing more.

        Waits for a start that is under way: FastStream, stopped in it, leaves the connection open that it was making.
        """
        self._delivery.stopping.set()
        async with self._starting:
            pass

    async def wind_up(self) -> None:
        """Wait for our own tasks, as long as for a handler."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._delivery.tuning.graceful)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def hand_back(self) -> None:
        """Give up what is still ours, once nothing is read any more and no handler at work."""
        async with self._delivery.lock:
            await self._reaper.hand_back()

    def trouble(self) -> str | None:
        """Why nothing is read any more, None while all is well."""
        if self._delivery.broken is not None:
            return self._delivery.broken
        what = next((ending_of(task) for task in self._tasks if task.done()), None)
        if what is None and self._reading:
            what = trouble_of(self._subscriber)
        return (
            None if what is None else f"stream {self._delivery.stream}, group {self._delivery.group}: {what}"
        )

    async def _run(self) -> None:
        try:
            await self._drain()
            await wait_until_ready(self._delivery.client)
            async with self._starting:
                if self._delivery.stopping.is_set():
                    return
                await self._subscriber.start()
            self._reading = True
            await self._reaper.run()
        except (RedisError, OSError, DrpError) as error:
            self._delivery.break_off(error)

    async def _drain(self) -> None:
        groups = {self._delivery.stream: [self._delivery.group]}
        while True:
            try:
                await ensure_groups(self._delivery.client, groups)
                return await self._reaper.drain()
            except UNREACHABLE as error:
                logger.warning("draining %s waits for Redis: %s", self._delivery.stream, error)
                await wait_until_ready(self._delivery.client)

    async def _parse(self, raw: Any) -> RedisBatchStreamMessage:
        """Never raises; FastStream's own rejects a batch for one entry, takes some JSON for its envelope."""
        return RedisBatchStreamMessage(raw, body=b"", consumer=FAKE_CONSUMER, group=None)

    async def _decode(self, message: RedisBatchStreamMessage) -> list[Entry]:
        raw = message.raw_message
        stream = self._delivery.stream
        return [
            read_entry(stream, entry_id, fields)
            for entry_id, fields in zip(raw["message_ids"], raw["data"], strict=True)
        ]

    async def _on_batch(self, entries: list[Entry]) -> None:
        self._window.learn([len(entry.data) for entry in entries])
        with self._delivery.holding(entries):
            async with self._delivery.lock:
                await self._delivery.give(entries)
