"""The trace store as a server."""

from __future__ import annotations

import sys
from pathlib import Path

from libs.runtime.embedded.daemon import Daemon, private_folder
from libs.runtime.embedded.objects import listens

__all__ = ["TraceServer"]


class TraceServer:
    """OTLP and queries on one port of the loopback, spans in folder/traces."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self._folder = folder / "traces"
        self._daemon = Daemon("traces", folder)

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
        module = "libs.runtime.embedded.trace_store"
        self._daemon.start([sys.executable, "-m", module, "--folder", self._folder, "--port", str(self.port)])

    def wait_ready(self, timeout: float = 30) -> None:
        self._daemon.wait_until(self.answers, timeout=timeout)

    def answers(self) -> bool:
        return listens(self.port)

    def stop(self, *, timeout: float = 10) -> None:
        self._daemon.stop(timeout=timeout)

    def kill(self) -> None:
        self._daemon.kill()
