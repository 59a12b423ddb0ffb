"""What the embedded servers have alike: a port, a process, and how they begin and end."""

from __future__ import annotations

import socket
import time
from abc import ABC, abstractmethod
from typing import Final

from libs.errors import Permanent
from libs.runtime.embedded.daemon import Daemon
from libs.runtime.processes import free_port, is_free
from libs.runtime.readiness import readiness

__all__ = ["Server", "listens"]

PAUSE: Final = 0.5
"""Seconds before a server that ended is tried again. The children of a killed PostgreSQL hold its memory for a moment,
and nothing that could be waited for shows until when."""


class Server(ABC):
    """A server on the loopback, its data in a folder that outlives it."""

    def __init__(self, daemon: Daemon, port: int) -> None:
        self.daemon = daemon
        self.port = port
        self._answered = False

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients find it, password and all."""

    @property
    def pid(self) -> int | None:
        return self.daemon.pid

    def start(self) -> None:
        """Start it, and make its data folder if there is none.

        On another port if somebody took its own before it ever answered there: nobody knows it by that yet.

        Raises:
            Permanent: it cannot be started; says why.
        """
        if not self._answered and not is_free(self.port):
            self.port = free_port()
        self._begin()

    def answers(self) -> bool:
        """It is ready."""
        ready = self._is_ready()
        self._answered = self._answered or ready
        return ready

    def wait_ready(self, timeout: float = 240) -> None:
        """Wait until it answers. timeout in seconds.

        Raises:
            Permanent: it ended, and again on further tries; the log's last lines say why.
            Transient: it is still starting after the time.
        """
        deadline = time.monotonic() + timeout
        for last in (False, False, True):
            try:
                self.daemon.wait_until(self.answers, timeout=deadline - time.monotonic())
            except Permanent:
                # Its port was taken, or what it was before it was killed has not wholly ended.
                if last:
                    raise
                time.sleep(PAUSE)
                self.start()
            else:
                return

    def stop(self, *, timeout: float = 10) -> None:
        self.daemon.stop(timeout=timeout)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.daemon.kill()

    @abstractmethod
    def _begin(self) -> None:
        """Its process, on its port."""

    def _is_ready(self) -> bool:
        return readiness(self.port, pid=self.daemon.pid) is None


def listens(port: int, host: str = "127.0.0.1") -> bool:
    """Somebody takes connections on the port."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True
