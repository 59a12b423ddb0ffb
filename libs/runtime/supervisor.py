"""`drp up`: real servers and every service as processes of one parent, in one data folder.

    up        start all, and stay until Ctrl-C or down(); detached: return once all is ready
    down      end what runs there, in order, and leave no process
    status    what runs, and whether it is ready
    environment   the settings under which what runs can be reached

The parent starts again what dies. If the parent itself is killed, the kernel ends its children with it, and
the next up() ends what is left, by number and time of start.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Final

from libs.errors import DrpError, Permanent, Transient
from libs.runtime.children import Child
from libs.runtime.embedded.daemon import private_folder
from libs.runtime.home import Failure, Home, Part, State
from libs.runtime.layout import SERVICES, embedded_servers, service_child, shared_environment
from libs.runtime.processes import Process, wait_for_end
from libs.runtime.readiness import readiness
from libs.runtime.scale import replicas
from libs.runtime.settings import ServiceSettings
from libs.runtime.status import PartStatus, PlatformStatus, environment, status

__all__ = ["PartStatus", "PlatformStatus", "down", "environment", "status", "up"]

READY_WITHIN: Final = 90.0
AND_FOR_EACH_MORE: Final = 10.0
"""Seconds in which one part more must become ready, and for each replica beside the first of its service: processes
that start share the processors, and those of a busy machine take long."""
HOPELESS: Final = 3
"""Deaths of a process that was never ready after which up() gives up."""
DRAIN_WITHIN: Final = 9.5
SERVER_STOPS_WITHIN: Final = 8.0
TICK: Final = 0.05

ONE_OF_EACH: Final[Mapping[str, int]] = {}

Progress = Callable[[str], None]


def up(
    home: Path,
    *,
    detach: bool = False,
    services: Mapping[str, str] = SERVICES,
    scale: Mapping[str, int] = ONE_OF_EACH,
    on_progress: Progress = lambda _: None,
) -> None:
    """Start the platform in home. Attached: returns after Ctrl-C or down(). Detached: once all is ready.

    Call it from the main thread.

    Args:
        services: name to module.
        scale: how many replicas of a service; one of each that it doesn't name.
        on_progress: is told each step in a line.

    Raises:
        Permanent: it runs already, the data is of a newer version, or a process doesn't stay up.
        Transient: no further part became ready for a minute and a half, and ten seconds for each further replica.
    """
    place = Home(home)
    place.check_format()
    if place.running() is not None:
        raise place.taken()
    if detach:
        _start_detached(place, services, scale, on_progress)
    else:
        _Supervisor(place, services, scale, on_progress).run()


def down(home: Path, *, on_progress: Progress = lambda _: None) -> bool:
    """End what runs in home, orphans of a killed supervisor too. False if there was nothing to end."""
    place = Home(home)
    state = place.read()
    if state is None:
        return False
    ran = state.supervisor.alive or any(part.process and part.process.alive for part in state.parts)
    if state.supervisor.alive:
        on_progress("draining the services, then stopping the servers")
        state.supervisor.end(signal.SIGTERM, timeout=DRAIN_WITHIN + 4 * SERVER_STOPS_WITHIN)
    _end_parts(state.parts)
    place.forget()
    return ran


class _Stopped(Exception):
    """A signal came."""


class _Supervisor:
    """One run of up(), attached."""

    def __init__(
        self, home: Home, services: Mapping[str, str], scale: Mapping[str, int], on_progress: Progress
    ) -> None:
        self._home = home
        self._services = services
        self._scale = scale
        self._tell = on_progress
        self._started_at = datetime.now(UTC)
        self._servers: list[Child] = []
        self._rooms: list[Child] = []
        self._settings = ServiceSettings()
        self._signals = 0

    def run(self) -> None:
        before = {
            number: signal.signal(number, self._heard)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        try:
            with self._home.claimed():
                try:
                    self._live()
                except _Stopped:
                    self._tell("stopping")
                finally:
                    self._stop_all()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _live(self) -> None:
        began = time.monotonic()
        more = len(replicas(self._services, self._scale)) - len(self._services)
        patience = READY_WITHIN + AND_FOR_EACH_MORE * more
        self._home.write_failure(None)
        if (left := self._home.read()) is not None:
            _end_parts(left.parts)
        self._start_servers()
        self._until(self._servers_are_ready, patience=patience)
        self._migrate()
        self._start_services()
        self._until(self._all_are_ready, patience=patience)
        self._tell(f"ready after {time.monotonic() - began:.1f} s")
        while True:
            self._look()

    def _start_servers(self) -> None:
        self._servers = embedded_servers(self._home.folder, self._settings)
        for child in self._servers:
            child.begin()
            self._write()

    def _start_services(self) -> None:
        environment = self._shared()
        for name, replica in replicas(self._services, self._scale):
            module = self._services[name]
            self._rooms.append(service_child(self._home.folder, name, module, environment, replica=replica))
        for child in self._rooms:
            child.begin()
        self._write()

    def _migrate(self) -> None:
        """Here, though any service would: six at once would wait for each other."""
        from libs.adapters.postgres import migrate

        for name in asyncio.run(migrate(self._shared()["DRP_POSTGRES_URL"])):
            self._tell(f"migrated the database: {name}")

    def _shared(self) -> dict[str, str]:
        return shared_environment(self._home.folder, self._settings, _told(self._servers))

    def _servers_are_ready(self) -> bool:
        """All: until it first answers, a server may still move, and no service is told twice where it is."""
        return all(child.ready for child in self._servers)

    def _all_are_ready(self) -> bool:
        return all(child.ready for child in self._all)

    @property
    def _all(self) -> list[Child]:
        return [*self._servers, *self._rooms]

    def _until(self, condition: Callable[[], bool], *, patience: float) -> None:
        most, since = 0, time.monotonic()
        while not condition():
            self._look()
            if (ready := sum(child.ready for child in self._all)) > most:
                most, since = ready, time.monotonic()
            for child in self._all:
                if child.restarts >= HOPELESS and not child.ever_ready:
                    raise Permanent(
                        f"{child.name} does not start",
                        why=child.last_words(),
                        fix=f"read {child.daemon.log}",
                    )
            if time.monotonic() > since + patience:
                raise Transient("the platform is not ready in time", why=self._what_is_missing())

    def _look(self) -> None:
        for child in self._all:
            if self._signals:
                raise _Stopped
            if message := child.look():
                self._tell(message)
                self._write()
        time.sleep(TICK)

    def _what_is_missing(self) -> str:
        return "; ".join(f"{child.name}: {_what_is_wrong(child)}" for child in self._all if not child.ready)

    def _write(self) -> None:
        me = Process.of(os.getpid())
        if me is None:
            raise Transient("cannot tell when this process was started")
        self._home.write(
            State(
                pid=me.pid,
                started=me.started,
                started_at=self._started_at,
                ready=bool(self._rooms) and all(child.ready for child in self._all),
                parts=[child.part() for child in self._all],
                environment=self._shared() | _told(self._rooms),
            )
        )

    def _stop_all(self) -> None:
        for group, seconds in ((self._rooms, DRAIN_WITHIN), (self._servers, SERVER_STOPS_WITHIN)):
            for child in group:
                child.daemon.ask_to_stop()
            deadline = time.monotonic() + seconds
            while any(child.daemon.running for child in group) and time.monotonic() < deadline:
                if self._signals > 1:
                    break
                time.sleep(0.02)
            for child in group:
                if child.daemon.running:
                    self._tell(f"{child.name} did not stop in time and is killed")
                child.daemon.kill()
        self._home.forget()

    def _heard(self, _number: int, _frame: FrameType | None) -> None:
        self._signals += 1


def _told(children: list[Child]) -> dict[str, str]:
    return {name: value for child in children for name, value in child.told().items()}


def _what_is_wrong(child: Child) -> str | None:
    return readiness(child.port, pid=child.daemon.pid) if child.kind == "service" else child.last_words()


def _start_detached(
    home: Home, services: Mapping[str, str], scale: Mapping[str, int], on_progress: Progress
) -> None:
    private_folder(home.folder)
    private_folder(home.log.parent)
    began = home.log.stat().st_size if home.log.exists() else 0
    command = [sys.executable, "-P", "-m", "libs.runtime.supervisor"]
    arguments = ["--home", str(home.folder), "--services", json.dumps(dict(services))]
    arguments += ["--scale", json.dumps(dict(scale))]
    with home.log.open("ab") as log:
        pid = os.posix_spawn(
            sys.executable,
            [*command, *arguments],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, log.fileno(), 1),
                (os.POSIX_SPAWN_DUP2, log.fileno(), 2),
            ],
            setsid=True,
        )
    try:
        _follow(home, pid, began, on_progress)
    except BaseException:
        if (supervisor := Process.of(pid)) is not None:
            supervisor.end(signal.SIGTERM, timeout=DRAIN_WITHIN + SERVER_STOPS_WITHIN)
        raise


def _follow(home: Home, pid: int, began: int, on_progress: Progress) -> None:
    """Pass on what the supervisor says until it is ready.

    Raises:
        DrpError: it gave up; why.
    """
    with home.log.open("rb") as log:
        log.seek(began)
        while True:
            ended, _ = os.waitpid(pid, os.WNOHANG)
            for line in log:
                on_progress(line.decode(errors="replace").rstrip())
            if ended:
                failure = home.read_failure()
                raise (
                    failure.error()
                    if failure is not None
                    else Permanent("the supervisor ended", fix=f"read {home.log}")
                )
            state = home.read()
            if state is not None and state.pid == pid and state.ready:
                return
            time.sleep(TICK)


def _end_parts(parts: list[Part]) -> None:
    """End what is left of an earlier run: first the services, together, then the servers."""
    for kind, number in (("service", signal.SIGTERM), ("server", signal.SIGINT)):
        left = [part.process for part in parts if part.kind == kind and part.process is not None]
        for process in left:
            process.send(number)
        if not wait_for_end(left, timeout=DRAIN_WITHIN):
            for process in left:
                process.end(signal.SIGKILL, timeout=0)


def _main() -> int:
    """The supervisor that nobody watches: what it has to say goes to its log, why it gave up to a file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--services", type=json.loads, required=True)
    parser.add_argument("--scale", type=json.loads, required=True)
    options = parser.parse_args()
    home = Home(options.home)

    def say(message: str) -> None:
        print(message, file=sys.stderr, flush=True)  # noqa: T201 - its log

    try:
        _Supervisor(home, options.services, options.scale, say).run()
    except DrpError as error:
        say(str(error))
        home.write_failure(
            Failure(what=error.what, why=error.why, fix=error.fix, transient=isinstance(error, Transient))
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main())
