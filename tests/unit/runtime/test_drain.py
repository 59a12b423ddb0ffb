"""What a service has left to say when it drains goes through a bus that is still open."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

from libs.runtime.http import HttpServer
from libs.runtime.platform import Platform
from libs.runtime.service import Service
from libs.runtime.settings import ServiceSettings


class Diary:
    """A bus and an HTTP server that note what is asked of them."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    async def drain(self) -> None:
        self.lines.append("bus drained")

    async def stop(self) -> None:
        self.lines.append("stopped")

    async def leave(self) -> None:
        self.lines.append("left")


async def test_the_bus_stays_open_while_a_service_drains() -> None:
    service, diary = Service("room", ServiceSettings(), postgres=False), Diary()
    service.on_drain(diary.leave)
    platform = cast("Platform", SimpleNamespace(bus=diary))
    running: dict[str, asyncio.Task[object]] = {"loop": asyncio.create_task(asyncio.sleep(0))}

    await service._drain(cast("HttpServer", diary), platform, running)

    assert diary.lines == ["stopped", "bus drained", "left"], "the first is the HTTP server"
