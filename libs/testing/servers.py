"""Real servers for tests: what a fixture hands out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from libs.runtime.embedded.redis import RedisServer

__all__ = ["RestartableRedis", "S3Endpoint"]


@dataclass(frozen=True)
class S3Endpoint:
    """An S3 server and a bucket of the test's own, which doesn't exist yet."""

    url: str
    bucket: str
    access_key: str
    secret_key: str
    region: str


class RestartableRedis:
    """A Redis of the test's own that can go away and come back on the same port with its data."""

    def __init__(self, folder: Path, port: int, *, binary: Path | None = None) -> None:
        self._server = RedisServer(folder, port, binary=binary)

    @property
    def url(self) -> str:
        return self._server.url

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._server.start()
        self._server.wait_ready()

    def stop(self) -> None:
        self._server.stop()

    def kill(self) -> None:
        """End it as a power cut would."""
        self._server.kill()

    def restart(self) -> None:
        self.stop()
        self.start()
