"""What dies is started again, later each time, and that is said."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import cast

import pytest

from libs.errors import Permanent
from libs.runtime import children
from libs.runtime.children import Child
from libs.runtime.embedded.daemon import Daemon


class DeadDaemon:
    """A process as the test says it is."""

    def __init__(self) -> None:
        self.running = True
        self.process = None
        self.exit_code: int | None = 1
        self.log = Path("room.log")
        self.lines = ["first", '{"level":"ERROR","message":"no disk"}', '{"level":"INFO","message":"bye"}']

    def last_lines(self, count: int) -> list[str]:
        return self.lines[-count:]


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(children, "time", clock)
    return clock


class Stage:
    """A child, its process and how often it was started."""

    def __init__(self) -> None:
        self.daemon = DeadDaemon()
        self.starts = 0
        self.failing = False
        self.child = Child(
            name="room",
            kind="service",
            daemon=cast("Daemon", self.daemon),
            port=1,
            url="http://room",
            start=self.start,
            answers=lambda: True,
            told=dict,
        )

    def start(self) -> None:
        if self.failing:
            raise Permanent("no program")
        self.starts += 1
        self.daemon.running = True


@pytest.mark.usefixtures("clock")
def test_its_death_is_told_with_its_last_error() -> None:
    stage = Stage()
    assert stage.child.look() == "room is ready at http://room"
    stage.daemon.running, stage.daemon.exit_code = False, -signal.SIGKILL
    told = stage.child.look()
    assert told == "room ended (killed by SIGKILL), started again in 0.5 s; its last words: no disk"
    assert not stage.child.ready


@pytest.mark.usefixtures("clock")
def test_the_last_error_of_postgres_is_told_not_that_it_is_shut_down() -> None:
    stage = Stage()
    stage.daemon.lines = [
        '2026-11-28 22:40:18.045 UTC [14] LOG:  could not bind IPv4 address "127.0.0.1": Address already in use',
        "2026-11-28 22:40:18.045 UTC [14] FATAL:  could not create any TCP/IP sockets",
        "2026-11-28 22:40:18.045 UTC [14] LOG:  database system is shut down",
    ]
    assert stage.child.last_words() == "could not create any TCP/IP sockets"


def test_each_death_is_waited_out_longer(clock: Clock) -> None:
    stage = Stage()
    stage.child.begin()
    waits = []
    for _ in range(8):
        stage.daemon.running = False
        stage.child.look()
        began, starts = clock.now, stage.starts
        while stage.starts == starts:
            clock.now += 0.25
            stage.child.look()
        waits.append(clock.now - began)
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_after_a_steady_minute_a_death_is_the_first_again(clock: Clock) -> None:
    stage = Stage()
    stage.child.begin()
    for _ in range(4):
        stage.daemon.running = False
        stage.child.look()
        clock.now += 31
        stage.child.look()
    clock.now += 61
    stage.daemon.running = False
    assert "started again in 0.5 s" in str(stage.child.look())


def test_what_cannot_be_started_again_is_told_and_tried_on(clock: Clock) -> None:
    stage = Stage()
    stage.daemon.running = False
    stage.child.look()
    stage.failing = True
    clock.now += 1
    assert stage.child.look() == "room cannot be started, tried again in 1 s: no program"
    stage.failing = False
    clock.now += 1
    stage.child.look()
    assert stage.starts == 1
