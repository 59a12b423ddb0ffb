"""The console: where every event is, seen in a browser. It looks on, and takes part in nothing."""

from __future__ import annotations

from libs.runtime.service import Platform, Service
from services.console.handlers import create_app
from services.console.looks.room import Room
from services.console.settings import ConsoleSettings

__all__ = ["main"]


def main() -> None:
    settings = ConsoleSettings()
    app = create_app(settings.console_hosts)
    service = Service("console", settings, app=app, stores=False)

    @service.wire
    async def wire(platform: Platform) -> None:
        room = Room(settings, platform.datasets, platform.stop)
        app.state.room = room
        service.on_drain(room.close)

    service.run()


if __name__ == "__main__":
    main()
