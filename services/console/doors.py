"""The console's ways to the servers: opened when first needed, and never waited for by a page.

A page must come whatever is down. So each server has a few seconds to answer; one that was just
found away is not asked again for a moment, and what is then missing from a page is a value that the page shows.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, Generic, TypeVar

import msgspec

from libs.adapters.bus import Bus
from libs.adapters.objects import Objects
from libs.adapters.postgres import Postgres
from libs.datasets import Dataset
from libs.errors import DrpError, Permanent, Transient
from services.console.settings import ConsoleSettings

__all__ = ["Doors", "Missing", "Seen"]

T = TypeVar("T")
Door = TypeVar("Door", Postgres, Bus, Objects)

REACHED_WITHIN: Final = 2.5
ANSWERS_WITHIN: Final = 3.0
SAYS_SO_WITHIN: Final = 0.5
"""Seconds in which a server that is there answers a word, though a question to it takes longer than a page waits."""
LEFT_ALONE_FOR: Final = 2.0
"""Seconds for which a server that gave no answer is not asked again."""


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """What a page can't show: the server that didn't answer, why, and the command that leads on."""

    server: str
    why: str
    next: str


class Seen(msgspec.Struct, Generic[T], frozen=True):
    """What a look found; missing if there is no value."""

    value: T | None = None
    missing: Missing | None = None


def _missing(server: str, error: DrpError) -> Missing:
    why = error.what if error.why is None else f"{error.what}: {error.why}"
    return Missing(server=server, why=why, next=error.fix or "drp status")


class _Way(Generic[Door]):
    """One server: opened once, by one caller at a time."""

    def __init__(self, open_door: Callable[[], Awaitable[Door]]) -> None:
        self._open_door: Callable[[], Awaitable[Door]] = open_door
        self._lock = asyncio.Lock()
        self.opened: Door | None = None

    async def door(self) -> Door:
        async with self._lock:
            if self.opened is None:
                self.opened = await self._open_door()
            return self.opened


class Doors:
    """Postgres, Redis, the object store, the trace store and the warehouse's files, as the settings say.

    datasets: those the console knows.
    """

    def __init__(self, settings: ConsoleSettings, datasets: Mapping[str, Dataset]) -> None:
        self.settings = settings
        self.datasets = datasets
        self._postgres = _Way(self._open_postgres)
        self._bus = _Way(self._open_bus)
        self._objects = _Way(self._open_objects)
        self._away: dict[str, tuple[float, Missing]] = {}

    async def look(
        self, server: str, work: Callable[[], Awaitable[T]], *, within: float = ANSWERS_WITHIN
    ) -> Seen[T]:
        """What the work finds within so many seconds, or why it found nothing; never raises for a server's sake."""
        since, missing = self._away.get(server, (0.0, None))
        if missing is not None and time.monotonic() - since < LEFT_ALONE_FOR:
            return Seen(missing=missing)
        try:
            async with asyncio.timeout(within):
                found = Seen(await work())
        except TimeoutError:
            late = Transient("it gave no answer", why=f"not within {within:g} s")
            if await self._is_there(server):
                return Seen(missing=_missing(server, late))
            return self._found_away(server, late)
        except Transient as error:
            return self._found_away(server, error)
        except DrpError as error:
            return Seen(missing=_missing(server, error))
        self._away.pop(server, None)
        return found

    async def _is_there(self, server: str) -> bool:
        """Whether it is but slow in this one thing, so that other pages can ask it."""
        work = {"postgres": self._ask_postgres, "redis": self._ask_redis}.get(server)
        if work is None:
            return False
        try:
            async with asyncio.timeout(SAYS_SO_WITHIN):
                await work()
        except (TimeoutError, DrpError):
            return False
        return True

    async def _ask_postgres(self) -> None:
        await (await self.postgres()).fetchval("SELECT 1")

    async def _ask_redis(self) -> None:
        await (await self.bus()).ping()

    def _found_away(self, server: str, error: DrpError) -> Seen[T]:
        missing = _missing(server, error)
        self._away[server] = (time.monotonic(), missing)
        return Seen(missing=missing)

    async def postgres(self) -> Postgres:
        return await self._postgres.door()

    async def bus(self) -> Bus:
        return await self._bus.door()

    async def objects(self) -> Objects:
        return await self._objects.door()

    @property
    def warehouses(self) -> Path | None:
        """Where every dataset's warehouse lies, if that is on this machine."""
        folder = self.settings.home / "warehouse"
        return folder if folder.is_dir() else None

    @property
    def archives(self) -> bool:
        return self.settings.archive != "off"

    def trace_page(self, trace_id: str | None) -> str | None:
        """Where people see the trace; None if there is no such place."""
        ui = self.settings.trace_ui_url
        return f"{ui.rstrip('/')}/trace/{trace_id}" if ui and trace_id else None

    async def close(self) -> None:
        if (postgres := self._postgres.opened) is not None:
            await postgres.close()
        if (bus := self._bus.opened) is not None:
            await bus.stop()
        if (objects := self._objects.opened) is not None:
            await objects.close()

    async def _open_postgres(self) -> Postgres:
        url = _set(self.settings.postgres_url, "DRP_POSTGRES_URL")
        return await Postgres.open(url, service="console", min_size=4, max_size=8, timeout=REACHED_WITHIN)

    async def _open_bus(self) -> Bus:
        url = _set(self.settings.redis_url, "DRP_REDIS_URL")
        return await Bus.connect(
            url, service="console", consumer=f"console-{os.getpid()}", timeout=REACHED_WITHIN
        )

    async def _open_objects(self) -> Objects:
        return await Objects.open_from(self.settings)


def _set(url: str | None, name: str) -> str:
    if not url:
        raise Permanent(f"{name} is not set", fix="drp up, which sets it, or the URL of a server of yours")
    return url
