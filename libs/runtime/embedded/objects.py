"""An S3 server (moto, as its own process) whose objects outlive it."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Final

from libs.runtime.embedded.daemon import Daemon, private_folder

__all__ = ["ObjectServer"]


class ObjectServer:
    """S3 on the loopback, its objects in folder/objects. It checks no credentials."""

    access_key: Final = "drp"
    secret_key: Final = "embedded-s3-checks-none"  # noqa: S105 - a client must send one, this server checks none
    region: Final = "us-east-1"

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self._folder = folder / "objects"
        self._daemon = Daemon("objects", folder)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        return self._daemon.pid

    @property
    def daemon(self) -> Daemon:
        return self._daemon

    def start(self) -> None:
        private_folder(self._folder)
        module = "libs.runtime.embedded.objects_app"
        self._daemon.start([sys.executable, "-m", module, "--folder", self._folder, "--port", str(self.port)])

    def wait_ready(self, timeout: float = 30) -> None:
        self._daemon.wait_until(self.answers, timeout=timeout)

    def answers(self) -> bool:
        return listens(self.port)

    def stop(self, *, timeout: float = 10) -> None:
        self._daemon.stop(timeout=timeout)

    def kill(self) -> None:
        self._daemon.kill()


def listens(port: int, host: str = "127.0.0.1") -> bool:
    """Somebody takes connections on the port."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True
