"""What the embedded servers have alike: a port, a process, and how they begin and end."""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod

from libs.runtime.embedded.daemon import Daemon

__all__ = ["Server", "listens"]


class Server(ABC):
    """A server on the loopback, its data in a folder that outlives it."""

    def __init__(self, daemon: Daemon, port: int) -> None:
        self.daemon = daemon
        self.port = port

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients find it, password and all."""

    @property
    def pid(self) -> int | None:
        return self.daemon.pid

    @abstractmethod
    def start(self) -> None:
        """Start it, and make its data folder if there is none.

        Raises:
            Permanent: it cannot be started; says why.
        """

    def answers(self) -> bool:
        """It is ready."""
        return listens(self.port)

    def wait_ready(self, timeout: float = 30) -> None:
        """Wait until it answers. timeout in seconds.

        Raises:
            Permanent: it ended; the log's last lines say why.
            Transient: it is still starting after the time.
        """
        self.daemon.wait_until(self.answers, timeout=timeout)

    def stop(self, *, timeout: float = 10) -> None:
        self.daemon.stop(timeout=timeout)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.daemon.kill()


def listens(port: int, host: str = "127.0.0.1") -> bool:
    """Somebody takes connections on the port."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True
