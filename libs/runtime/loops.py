"""Work that a service does again and again: reconciling, closing, trimming."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, Literal

from libs.adapters import metrics
from libs.errors import Permanent, Transient

__all__ = ["Loop"]

LONGEST_PAUSE: Final = 30.0

log = logging.getLogger(__name__)


class Loop:
    """Calls `work` every so many seconds, first at once; sooner after nudge().

    Transient: back-off, told at the first failure and at recovery. Permanent: told once for a new message
    and tried again at the usual time. Anything else is our mistake: it leaves run(), and so the service.
    """

    def __init__(self, seconds: float, work: Callable[[], Awaitable[object]], *, name: str) -> None:
        self.name = name
        self._seconds = seconds
        self._work = work
        self._wake = asyncio.Event()
        self.failures = 0
        self._told: str | None = None

    def nudge(self) -> None:
        """Have the work done now."""
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Until stop is set; a call under way is finished."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                self._wake.clear()
                await self._once()
                await self._wait(stopping)
        finally:
            stopping.cancel()

    async def _once(self) -> None:
        began = time.monotonic()
        try:
            await self._work()
        except Transient as error:
            self.failures += 1
            metrics.RECONCILE_FAILURES.labels(self.name, "transient").inc()
            if self.failures == 1:
                log.warning("%s: %s; trying again", self.name, error)
        except Permanent as error:
            self.failures = 0
            metrics.RECONCILE_FAILURES.labels(self.name, "permanent").inc()
            if str(error) != self._told:
                log.error("%s: %s", self.name, error)
            self._told = str(error)
        else:
            if self.failures or self._told:
                log.info("%s works again (%.1f s)", self.name, time.monotonic() - began)
            self.failures, self._told = 0, None

    @property
    def pause(self) -> float:
        """Seconds until the next call, as things are."""
        if not self.failures:
            return self._seconds
        longest = max(LONGEST_PAUSE, self._seconds)
        return min(max(self._seconds, 0.1) * 2.0 ** min(self.failures, 10), longest)

    async def _wait(self, stopping: asyncio.Task[Literal[True]]) -> None:
        waking = asyncio.create_task(self._wake.wait())
        try:
            await asyncio.wait({waking, stopping}, timeout=self.pause, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waking
