"""The trace store as a server."""

from __future__ import annotations

import sys
from pathlib import Path

from libs.runtime.embedded.daemon import Daemon, private_folder
from libs.runtime.embedded.server import Server

__all__ = ["TraceServer"]


class TraceServer(Server):
    """OTLP and queries on one port of the loopback, spans in folder/traces."""

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(Daemon("traces", folder), port)
        self._folder = folder / "traces"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _begin(self) -> None:
        private_folder(self._folder)
        module = "libs.runtime.embedded.trace_store"
        self.daemon.start([sys.executable, "-m", module, "--folder", self._folder, "--port", str(self.port)])
