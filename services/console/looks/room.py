"""What the pages share: the doors, and what is kept between one look and the next."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from libs.datasets import Dataset
from services.console.doors import Doors
from services.console.looks.counted import LedgerWatch
from services.console.looks.marks import Marks
from services.console.looks.mart import Marts
from services.console.looks.questions import Questions
from services.console.looks.staged import Staged
from services.console.settings import ConsoleSettings

__all__ = ["Room"]


class Room:
    """Open until close(). Making one connects to nothing. stop: set when conversations are to end."""

    def __init__(
        self, settings: ConsoleSettings, datasets: Mapping[str, Dataset], stop: asyncio.Event
    ) -> None:
        self.doors = Doors(settings, datasets)
        self.staged = Staged(self.doors)
        self.ledger = LedgerWatch(self.doors, self.staged)
        self.marts = Marts(self.doors)
        self.questions = Questions(self.doors)
        self.marks = Marks(self.doors, self.ledger, stop)

    async def close(self) -> None:
        await self.marks.close()
        await self.ledger.close()
        await self.doors.close()
