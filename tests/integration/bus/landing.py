"""A handler that remembers, and how tests open a bus."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from libs.adapters.bus import Bus, Entry, Tuning
from libs.testing.waiting import until

__all__ = ["HURRIED", "Connect", "Landing", "RawRedis", "Subscribe", "eventually"]

RawRedis = Any
"""redis-py's client; its types leave open between str, bytes and None what a server answers."""

HURRIED = Tuning(abandoned_after=0.4, graceful=5, first_pause=0.01, longest_pause=0.1)

Body = Callable[[Sequence[Entry]], Awaitable[None]]


@dataclass
class Landing:
    """Remembers what was landed and what was buried; `before` may refuse."""

    before: Body | None = None
    landed: list[Entry] = field(default_factory=list)
    buried: list[tuple[Entry, str]] = field(default_factory=list)
    calls: int = 0

    async def land(self, entries: Sequence[Entry]) -> None:
        self.calls += 1
        if self.before is not None:
            await self.before(entries)
        self.landed.extend(entries)

    async def bury(self, entry: Entry, reason: str) -> None:
        self.buried.append((entry, reason))

    @property
    def data(self) -> list[bytes]:
        return sorted(entry.data for entry in self.landed)


class Connect(Protocol):
    async def __call__(self, url: str, *, consumer: str = "one", tuning: Tuning = HURRIED) -> Bus: ...


class Subscribe(Protocol):
    async def __call__(self, bus: Bus, landing: Landing, **options: Any) -> Bus: ...


async def eventually(condition: Callable[[], Awaitable[object]], *, wait: float = 60) -> None:
    """until() for a condition that has to be awaited. wait in seconds."""
    asked: Callable[[], Any] = condition
    await until(asked, within=wait)
