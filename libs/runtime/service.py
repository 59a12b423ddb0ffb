"""One service, one process. An app.py reads like a label:

    def main() -> None:
        settings = IngestorSettings()
        service = Service("ingestor", settings)

        @service.wire
        async def wire(platform: Platform) -> None:
            store = RawStore(platform.postgres)
            ingestor = Ingestor(store, platform.datasets, settings)
            for dataset in platform.datasets.values():
                platform.bus.subscribe(dataset.stream, "ingestor", ingestor.land, on_poison=ingestor.bury)
            service.every(1.0, ingestor.close_overdue, name="close overdue batches")
            service.on_drain(ingestor.close_own_batches)

        service.run()

    if __name__ == "__main__":
        main()

The order of things
    boot    HTTP answers (/livez is 200, /readyz 503), Redis and Postgres are waited for with back-off,
            migrations, RAW tables, streams and groups, then `wire`, then bus, loops and relay start.
    run     until SIGTERM, SIGINT, or a part that broke: that is said, and the exit code is 1. Every service
            trims the pipeline's streams of what all their groups have finished.
    drain   no new entries, what is in hand is finished, loops end after their call under way, `on_drain`
            calls in their order, the outbox is relayed, everything is closed. Eight seconds at most.

What `wire` may use
    platform.postgres, .bus, .relay, .datasets, .telemetry, .settings, .consumer, .stop
    await platform.objects()                          the object store, opened when first asked for
    service.every(seconds, work, name=…) -> Loop      calls work at once and then every so many seconds;
                                                      loop.nudge() calls it sooner. Transient is backed off.
    service.ready_when(name, check)                   /readyz asks check, too: None is fine, a string is wrong
    service.on_drain(work)                            called after the last entry was handled
    Service(…, app=create_app())                      brings a FastAPI application of its own; it answers
                                                      503 until `wire` has returned
    Service(…, postgres=False)                        a service that needs no Postgres: it starts without it
    Service(…, stores=False)                          one that only looks on: it starts, and is ready, without
                                                      Redis and Postgres, and opens them itself
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Final, NoReturn

from starlette.types import ASGIApp

from libs.contracts.streams import BATCHES, DATASET_GROUPS, GROUPS
from libs.datasets import Dataset, datasets_folder_from, load_datasets
from libs.errors import DrpError, Permanent, Transient
from libs.runtime.health import Check, Health
from libs.runtime.http import HttpServer
from libs.runtime.loops import Loop
from libs.runtime.platform import Platform
from libs.runtime.processes import give_way
from libs.runtime.settings import ServiceSettings

if TYPE_CHECKING:
    from libs.adapters.bus import Bus
    from libs.adapters.postgres import Postgres
    from libs.adapters.telemetry import Telemetry

__all__ = ["Platform", "Service", "declared_groups"]

DRAIN_WITHIN: Final = 8.0
TRIM_EVERY: Final = 30.0

Wire = Callable[[Platform], Awaitable[None]]
Work = Callable[[], Awaitable[object]]

log = logging.getLogger(__name__)


class Service:
    """See the module's page.

    Args:
        name: of the room; also its consumer groups' name.
        settings: of the room.
        app: the room's own HTTP application; the health pages stand in front of it.
        postgres: False for a service that starts and is ready without Postgres.
        stores: False for one that starts and is ready without Redis and Postgres.
    """

    def __init__(
        self,
        name: str,
        settings: ServiceSettings,
        *,
        app: ASGIApp | None = None,
        postgres: bool = True,
        stores: bool = True,
    ) -> None:
        self.name = name
        self.settings = settings
        self._app = app
        self._with_bus = stores
        self._with_postgres = postgres and stores
        self._health = Health(name)
        self._wire: Wire | None = None
        self._loops: list[Loop] = []
        self._drains: list[Work] = []
        self._stop = asyncio.Event()
        self._relayed = asyncio.Event()

    def wire(self, function: Wire) -> Wire:
        """Called once, when the servers are there and before the first entry."""
        self._wire = function
        return function

    def every(self, seconds: float, work: Work, *, name: str) -> Loop:
        """Call work at once and then every so many seconds, from when the service runs."""
        loop = Loop(seconds, work, name=name)
        self._loops.append(loop)
        return loop

    def ready_when(self, name: str, check: Check) -> None:
        """Ask check, too, whether the service is ready."""
        self._health.add(name, check)

    def on_drain(self, work: Work) -> None:
        """Call work after the last entry was handled, before the outbox is relayed for the last time."""
        self._drains.append(work)

    def run(self) -> NoReturn:
        """Boot, run, drain, exit: 0 after a signal, 1 if something broke."""
        # FastStream's own supervisor would restart a refused reader in a hot loop.
        os.environ.setdefault("FASTSTREAM_SUPERVISOR_DISABLED", "1")
        give_way(self.settings.niceness)
        loop = _new_loop()
        asyncio.set_event_loop(loop)
        code = loop.run_until_complete(self._live())
        logging.shutdown()
        sys.stdout.flush()
        if any(
            not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()
        ):
            # A build that would not end in time holds its thread: it is abandoned, as its lease allows.
            os._exit(code)
        sys.exit(code)

    async def _live(self) -> int:
        from libs.adapters import telemetry

        settings = self.settings
        told = telemetry.setup(self.name, endpoint=settings.otlp_endpoint, log_format=settings.log_format)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._asked_to_stop, number.name)
        try:
            return await self._boot_and_serve(told)
        except DrpError as error:
            log.error("%s cannot go on: %s", self.name, error)
            return 1
        finally:
            told.shutdown()

    async def _boot_and_serve(self, told: Telemetry) -> int:
        datasets = load_datasets(datasets_folder_from(self.settings.datasets_dir))
        http = HttpServer(
            self._health.around(self._app), host=self.settings.http_host, port=self.settings.http_port
        )
        async with AsyncExitStack() as doors:
            await http.start()
            doors.push_async_callback(http.stop)
            log.info("%s listens on %s:%d", self.name, self.settings.http_host, http.port)
            booting = asyncio.create_task(self._boot(doors, datasets, told), name="boot")
            stopping = asyncio.create_task(self._stop.wait())
            await asyncio.wait({booting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if not booting.done():
                booting.cancel()
                await asyncio.wait({booting})
                return 0
            platform = await booting
            self._health.open()
            log.info("%s is ready", self.name)
            running = self._start(platform)
            code = await self._until_stopped_or_broken(running)
            await self._drain(http, platform, running)
            return code

    async def _boot(
        self, doors: AsyncExitStack, datasets: Mapping[str, Dataset], told: Telemetry
    ) -> Platform:
        """Open the doors, make what must exist, and wire the room."""
        consumer = self.settings.consumer_of(self.name)
        bus = postgres = relay = None
        if self._with_bus:
            bus = await self._open_bus(consumer)
            doors.push_async_callback(bus.stop)
            self._health.add("bus", _check_of(bus))
            await bus.ensure_groups(declared_groups(datasets))
            self.every(TRIM_EVERY, partial(bus.trim, GROUPS), name="trim the pipeline's streams")
        if bus is not None and self._with_postgres:
            from libs.pipeline.outbox import Relay

            postgres = await self._open_postgres(datasets)
            doors.push_async_callback(postgres.close)
            self._health.add("postgres", _asking(postgres))
            relay = Relay(postgres, bus)
        platform = Platform(
            name=self.name,
            consumer=consumer,
            settings=self.settings,
            datasets=datasets,
            telemetry=told,
            stop=self._stop,
            _bus=bus,
            _postgres=postgres,
            _relay=relay,
        )
        doors.push_async_callback(platform.close_objects)
        if self._wire is not None:
            await self._wire(platform)
        if bus is not None:
            await bus.start()
        return platform

    async def _open_bus(self, consumer: str) -> Bus:
        from libs.adapters.bus import Bus

        url = _needed(self.settings.redis_url, "DRP_REDIS_URL")
        while True:
            try:
                return await Bus.connect(url, service=self.name, consumer=consumer)
            except Transient as error:
                log.warning("waiting for Redis: %s", error)
                await asyncio.sleep(1)

    async def _open_postgres(self, datasets: Mapping[str, Dataset]) -> Postgres:
        from libs.adapters.postgres import Postgres, ensure_raw, migrate

        url = _needed(self.settings.postgres_url, "DRP_POSTGRES_URL")
        while True:
            try:
                for name in await migrate(url):
                    log.info("migrated the database: %s", name)
                postgres = await Postgres.open(url, service=self.name)
                break
            except Transient as error:
                log.warning("waiting for Postgres: %s", error)
                await asyncio.sleep(1)
        async with postgres.connection() as connection:
            for dataset in datasets.values():
                for change in await ensure_raw(connection, dataset):
                    log.info("changed RAW of %s: %s", dataset.name, " ".join(change.split())[:200])
        return postgres

    def _start(self, platform: Platform) -> dict[str, asyncio.Task[object]]:
        """What must go on while the service runs, by the name it is blamed under."""
        running: dict[str, asyncio.Task[object]] = {}
        if self._with_bus:
            running["the bus"] = asyncio.create_task(platform.bus.run_until_broken(), name="bus")
        if self._with_postgres:
            running["the outbox's relay"] = asyncio.create_task(
                platform.relay.run(self._relayed), name="relay"
            )
        for loop in self._loops:
            running[f"the loop to {loop.name}"] = asyncio.create_task(loop.run(self._stop), name=loop.name)
        return running

    async def _until_stopped_or_broken(self, running: Mapping[str, asyncio.Task[object]]) -> int:
        stopping: asyncio.Task[object] = asyncio.create_task(self._stop.wait())
        await asyncio.wait({stopping, *running.values()}, return_when=asyncio.FIRST_COMPLETED)
        if self._stop.is_set():
            return 0
        stopping.cancel()
        self._stop.set()
        for name, task in running.items():
            if task.done():
                _blame(name, task)
        return 1

    async def _drain(
        self, http: HttpServer, platform: Platform, running: Mapping[str, asyncio.Task[object]]
    ) -> None:
        """Finish what is in hand, within eight seconds; the rest is redelivered or reconciled."""
        self._health.close("draining")
        try:
            async with asyncio.timeout(DRAIN_WITHIN):
                await http.stop()
                if self._with_bus:
                    await platform.bus.drain()
                for work in self._drains:
                    await _tried(work)
                if self._with_postgres:
                    platform.relay.nudge()
                self._relayed.set()
                if running:
                    await asyncio.wait(running.values())
        except TimeoutError:
            unfinished = [name for name, task in running.items() if not task.done()]
            log.warning("not drained within %g s, left to the next start: %s", DRAIN_WITHIN, unfinished)
        for task in running.values():
            task.cancel()
        if running:
            await asyncio.wait(running.values(), timeout=1)
        log.info("%s has drained", self.name)

    def _asked_to_stop(self, why: str) -> None:
        log.info("%s drains (%s)", self.name, why)
        self._stop.set()


def declared_groups(datasets: Mapping[str, Dataset]) -> dict[str, tuple[str, ...]]:
    """Every stream of the platform with the groups that must have finished an entry before it may go."""
    return {**GROUPS, **{dataset.stream: DATASET_GROUPS for dataset in datasets.values()}}


def _blame(name: str, task: asyncio.Task[object]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is None:
        log.error("%s broke: %s", name, "cancelled" if task.cancelled() else task.result())
    elif isinstance(error, DrpError):
        log.error("%s broke: %s", name, error)
    else:
        log.error("%s broke: %s", name, type(error).__name__, exc_info=error)


async def _tried(work: Work) -> None:
    try:
        await work()
    except DrpError as error:
        log.warning("while draining: %s", error)


def _needed(url: str | None, name: str) -> str:
    if not url:
        raise Permanent(f"{name} is not set", fix="drp up, which sets it, or the URL of a server of yours")
    return url


def _check_of(bus: Bus) -> Check:
    async def check() -> str | None:
        if wrong := bus.healthy():
            return wrong
        await bus.length(BATCHES)
        return None

    return check


def _asking(postgres: Postgres) -> Check:
    async def check() -> str | None:
        await postgres.fetchval("SELECT 1")
        return None

    return check


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
