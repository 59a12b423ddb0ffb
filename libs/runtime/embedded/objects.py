"""An S3 server (moto, as its own process) whose objects outlive it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from libs.runtime.embedded.daemon import Daemon, private_folder
from libs.runtime.embedded.server import Server

__all__ = ["ObjectServer"]


class ObjectServer(Server):
    """S3 on the loopback, its objects in folder/objects. It checks no credentials."""

    access_key: Final = "drp"
    secret_key: Final = "embedded-s3-checks-none"  # noqa: S105 - a client must send one, this server checks none
    region: Final = "us-east-1"

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(Daemon("objects", folder), port)
        self._folder = folder / "objects"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _begin(self) -> None:
        private_folder(self._folder)
        module = "libs.runtime.embedded.objects_app"
        self.daemon.start([sys.executable, "-m", module, "--folder", self._folder, "--port", str(self.port)])
