"""A process under the supervisor's eye: started again when it dies, with a growing pause, never silently."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from libs.errors import DrpError
from libs.runtime.embedded.daemon import Daemon
from libs.runtime.home import Part

__all__ = ["Child"]

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0
STEADY: Final = 60.0
"""Seconds of life after which a death counts as the first again."""


ERRORS: Final = frozenset({"ERROR", "CRITICAL", "FATAL", "PANIC"})
OF_POSTGRES: Final = re.compile(r"\[\d+\] (ERROR|FATAL|PANIC):  (.*)")


@dataclass(kw_only=True)
class Child:
    """A server or service of the platform.

    Args:
        start: starts its process anew.
        answers: whether it is ready.
        told: the settings under which others reach it, where it is now.
    """

    name: str
    kind: Literal["server", "service"]
    daemon: Daemon
    port: int
    url: str
    start: Callable[[], None]
    answers: Callable[[], bool]
    told: Callable[[], Mapping[str, str]]
    ready: bool = False
    restarts: int = 0
    ever_ready: bool = False
    _pause: float = FIRST_PAUSE
    _began: float = field(default_factory=time.monotonic)
    _due: float | None = None

    def begin(self) -> None:
        self._due = None
        self._began = time.monotonic()
        self.start()

    def move(self, port: int, url: str) -> None:
        """It is to be found elsewhere on the loopback."""
        self.port = port
        self.url = url

    def look(self) -> str | None:
        """Start it again if that is due, notice that it died or is ready; returns what there is to tell."""
        now = time.monotonic()
        if self._due is not None:
            return self._try_again() if now >= self._due else None
        if not self.daemon.running:
            return self._died(now)
        if not self.ready and self.answers():
            self.ready = self.ever_ready = True
            return f"{self.name} is ready {'again ' if self.restarts else ''}at {self.url}"
        return None

    def last_words(self) -> str:
        """The last error among its log's last lines, else the last line."""
        records = [_told(line) for line in self.daemon.last_lines(20)]
        errors = [message for level, message in records if level in ERRORS]
        return (errors or [message for _, message in records] or ["its log is empty"])[-1]

    def part(self) -> Part:
        process = self.daemon.process if self.daemon.running else None
        return Part(
            name=self.name,
            kind=self.kind,
            pid=None if process is None else process.pid,
            started=None if process is None else process.started,
            port=self.port,
            url=self.url,
            restarts=self.restarts,
            ready=self.ready,
        )

    def _try_again(self) -> str | None:
        try:
            self.begin()
        except DrpError as error:
            return f"{self.name} cannot be started, tried again in {self._wait():g} s: {error}"
        return None

    def _wait(self) -> float:
        pause, self._pause = self._pause, min(self._pause * 2, LONGEST_PAUSE)
        self._due = time.monotonic() + pause
        self.restarts += 1
        return pause

    def _died(self, now: float) -> str:
        if now - self._began > STEADY:
            self._pause = FIRST_PAUSE
        self.ready = False
        how = _how_it_ended(self.daemon.exit_code)
        pause = self._wait()
        return f"{self.name} ended ({how}), started again in {pause:g} s; its last words: {self.last_words()}"


def _told(line: str) -> tuple[str, str]:
    """Level and message of a log line: a service's JSON or PostgreSQL's; any other line is a message."""
    try:
        record = json.loads(line)
        return str(record["level"]), str(record["message"])
    except (ValueError, KeyError, TypeError):
        told = OF_POSTGRES.search(line)
        return (told[1], told[2]) if told else ("", line)


def _how_it_ended(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"
