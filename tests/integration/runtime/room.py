"""A small service on the real runtime, for test_service. With ROOM_MODE=breaks its loop raises what it must not."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from fastapi import FastAPI

from libs.adapters.bus import Entry
from libs.contracts.events import BatchHeld, batch_subject
from libs.contracts.streams import STEPS
from libs.pipeline.outbox import announce
from libs.runtime.service import Platform, Service
from libs.runtime.settings import ServiceSettings

CAUSE = UUID(int=1)


class Room:
    def __init__(self, platform: Platform, diary: Path) -> None:
        self.platform = platform
        self.diary = diary

    async def handle(self, entries: Sequence[Entry]) -> None:
        self.write("handled", *(entry.data.decode() for entry in entries))

    async def bury(self, entry: Entry, why: str) -> None:
        self.write("buried", entry.id, why)

    async def tick(self) -> None:
        if os.environ.get("ROOM_MODE") == "breaks":
            raise ValueError("a mistake of ours")
        self.write("ticked")

    async def leave(self) -> None:
        """Says a last word, as the ingestor does when it closes its batches."""
        now = datetime.now(UTC)
        held = BatchHeld(dataset="d", started_at=now, ended_at=now, records=0, batch_id=CAUSE, reason="test")
        async with self.platform.postgres.transaction() as connection:
            await announce(connection, held, cause=CAUSE, subject=batch_subject(CAUSE), traceparent=None)
        self.write("left")

    async def check(self) -> str | None:
        return "the door is shut" if self.diary.with_name("shut").exists() else None

    def write(self, *words: str) -> None:
        with self.diary.open("a") as diary:
            diary.write(" ".join(words) + "\n")


def main() -> None:
    settings = ServiceSettings()
    app = FastAPI()

    @app.get("/hello")
    def hello() -> str:
        return "hello"

    service = Service("audit", settings, app=app)

    @service.wire
    async def wire(platform: Platform) -> None:
        room = Room(platform, settings.home / "diary")
        room.write("wired")
        platform.bus.subscribe(STEPS, "audit", room.handle, on_poison=room.bury)
        service.every(0.1, room.tick, name="tick")
        service.ready_when("door", room.check)
        service.on_drain(room.leave)

    service.run()


if __name__ == "__main__":
    main()
