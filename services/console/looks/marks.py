"""When what a page shows last changed: watched while somebody looks, told to whoever listens.

A mark is a moment. A page that was drawn before its topic's mark is stale, and fetches itself again: what changed is
never sent, so nothing is lost by missing a message, or by listening to none.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Final

from services.console.doors import Doors
from services.console.looks.counted import LedgerWatch
from services.console.looks.flow import backlogs

__all__ = ["TOPICS", "Marks"]

log = logging.getLogger(__name__)

TOPICS: Final = ("flow", "batches", "quarantine")
LOOK_EVERY: Final = 1.0
HEARD_EVERY: Final = 10.0
"""Seconds after which listeners are told again though nothing changed: they know by it that we are there."""

_FINGERPRINT: Final = """
-- one row: numbers that change with what pages show
SELECT (SELECT max(id) FROM ops.outbox) AS announced, (SELECT max(id) FROM ops.pipeline_flow_audit) AS steps,
       (SELECT max(id) FROM ops.operator_actions) AS actions, (SELECT max(id) FROM raw.quarantine) AS quarantined,
       (SELECT sum(received + dead_lettered) FROM ops.batches WHERE state = 'open') AS open,
       (SELECT sum(quarantined + dead_lettered) FROM ops.batches WHERE state = 'open') AS refused,
       (SELECT sum(version) FROM ops.warehouse_pointer) AS pointers
"""


class Marks:
    """Looks once a second while anybody watches. All moments are this process' clock, in seconds since 1970."""

    def __init__(self, doors: Doors, ledger: LedgerWatch, stop: asyncio.Event) -> None:
        self._doors = doors
        self._ledger = ledger
        self._uncounted = False
        self._stop = stop
        self._seen: dict[str, object] = {}
        self._changed = dict.fromkeys(TOPICS, 0.0)
        self._news = asyncio.Event()
        self._watchers = 0
        self._task: asyncio.Task[None] | None = None

    async def now(self) -> dict[str, float]:
        """The marks, after a look of our own."""
        await self._look()
        return dict(self._changed)

    async def follow(self) -> AsyncGenerator[dict[str, float], None]:
        """The marks at once, then whenever one changes, and from time to time though none did; until the stop."""
        with self._watching():
            yield await self.now()
            while not self._stop.is_set():
                await self._wait_for_news()
                yield dict(self._changed)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    @contextmanager
    def _watching(self) -> Iterator[None]:
        self._watchers += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._keep_watching(), name="watch for changes")
        try:
            yield
        finally:
            self._watchers -= 1

    async def _keep_watching(self) -> None:
        """One look that fails, for whatever reason, doesn't leave every open page Live and still."""
        while self._watchers:
            await asyncio.sleep(LOOK_EVERY)
            try:
                await self._look()
            except Exception:
                log.exception("could not look for changes")

    async def _wait_for_news(self) -> None:
        waiting = {asyncio.create_task(each.wait()) for each in (self._news, self._stop)}
        try:
            await asyncio.wait(waiting, timeout=HEARD_EVERY, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()

    async def _look(self) -> None:
        """Marks what changed since the last look, and wakes who waits for it, whoever looks."""
        told, streams = await asyncio.gather(
            self._doors.look("postgres", self._fingerprint),
            self._doors.look("redis", lambda: backlogs(self._doors)),
        )
        known = told.value or {}
        waiting = [(one.stream, one.group, one.pending, one.unread) for one in streams.value or ()]
        away = (told.missing is None, streams.missing is None)
        batches = tuple(known.get(name) for name in ("announced", "steps", "actions", "open", "pointers"))
        quarantine = (known.get("quarantined"), known.get("refused"), known.get("actions"), away[0])
        moved = (batches, quarantine, waiting, away)
        self._count_after(moved)
        seen = {
            "moved": moved,
            "flow": (moved, self._ledger.told),
            "batches": (batches, away[0]),
            "quarantine": quarantine,
        }
        changed = [topic for topic in TOPICS if self._seen.get(topic) != seen[topic]]
        self._seen = dict(seen)
        if not changed:
            return
        self._changed.update(dict.fromkeys(changed, time.time()))
        self._news.set()
        self._news = asyncio.Event()

    def _count_after(self, moved: object) -> None:
        """Whatever moved is counted by a count that begins after it, as soon as one may."""
        self._uncounted = self._uncounted or self._seen.get("moved") != moved
        if self._uncounted and self._ledger.begin():
            self._uncounted = False

    async def _fingerprint(self) -> dict[str, object]:
        row = await (await self._doors.postgres()).fetchrow(_FINGERPRINT)
        return {} if row is None else dict(row)
