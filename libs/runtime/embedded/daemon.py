"""One child process that serves: its log, its pid file, its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from libs.errors import Permanent, Transient
from libs.runtime.processes import Process

__all__ = ["Daemon", "private_folder", "write_private"]

LAUNCH: Final = Path(__file__).with_name("launch.py")
TAIL: Final = 8_000
LOG_BYTES: Final = 20_000_000
"""A log that has grown past this is put aside (one generation) when its process is started."""


class _PidFile(msgspec.Struct, frozen=True):
    pid: int
    started: str


class Daemon:
    """A process that lives as long as its parent lets it, under `folder`.

    Start it from a thread that lives as long as the process (the main one): the kernel ends it with that.

    Args:
        name: of the pid file run/<name>.pid and the log logs/<name>.log.
        folder: the data folder; nothing is written outside it.
        stop_signal: what asks it to end in an orderly way.
        user: run as this user; only root can.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        stop_signal: signal.Signals = signal.SIGTERM,
        user: str | None = None,
    ) -> None:
        self.name = name
        self.log = folder / "logs" / f"{name}.log"
        self._pid_file = folder / "run" / f"{name}.pid"
        self._stop_signal = stop_signal
        self._user = user
        self._child: subprocess.Popen[bytes] | None = None
        self.process: Process | None = None

    def start(
        self,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path = Path("/"),
    ) -> None:
        """Start it, after ending the one that a parent without warning left behind.

        Raises:
            Permanent: the program isn't there.
        """
        self.end_stale()
        for needed in (self.log, self._pid_file):
            needed.parent.mkdir(parents=True, exist_ok=True)
        self._turn_log()
        launch = [sys.executable, "-I", "-S", str(LAUNCH), str(os.getpid()), str(int(self._stop_signal))]
        with self.log.open("ab") as log:
            try:
                self._child = subprocess.Popen(
                    [*launch, self._user or "-", *map(str, command)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=None if env is None else dict(env),
                    cwd=cwd,
                    # Ctrl-C is for the parent alone, which ends this one in its order.
                    start_new_session=True,
                )
            except OSError as error:
                raise Permanent(f"cannot start {self.name}", why=str(error)) from error
        self.process = Process.of(self._child.pid)
        if self.process is not None:
            write_private(
                self._pid_file, msgspec.json.encode(_PidFile(self.process.pid, self.process.started))
            )

    @property
    def pid(self) -> int | None:
        return None if self._child is None or not self.running else self._child.pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    @property
    def exit_code(self) -> int | None:
        return None if self._child is None else self._child.poll()

    def wait_until(self, ready: Callable[[], bool], *, timeout: float) -> None:
        """Wait until it answers.

        Raises:
            Permanent: it ended; the log's last lines say why.
            Transient: it still runs but didn't answer within the time (seconds).
        """
        deadline = time.monotonic() + timeout
        while not ready():
            if not self.running:
                raise Permanent(
                    f"{self.name} ended at its start", why=self.last_words(), fix=f"read {self.log}"
                )
            if time.monotonic() > deadline:
                raise Transient(f"{self.name} did not answer within {timeout:.0f} s", fix=f"read {self.log}")
            time.sleep(0.01)

    def last_words(self) -> str:
        return " / ".join(self.last_lines(3)) or "its log is empty"

    def last_lines(self, count: int) -> list[str]:
        """Of its log; empty if it has none."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, self.log.stat().st_size - TAIL))
                return log.read().decode(errors="replace").strip().splitlines()[-count:]
        except FileNotFoundError:
            return []

    def ask_to_stop(self) -> None:
        if self.process is not None:
            self.process.send(self._stop_signal)

    def stop(self, *, timeout: float = 10) -> None:
        """End it in an orderly way; kill it when the time (seconds) is up. Fine to call twice."""
        self.ask_to_stop()
        self._reap(timeout)

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process is not None:
            self.process.send(signal.SIGKILL)
        self._reap(5)

    def end_stale(self) -> None:
        """End the process that the pid file names, if it is still that one."""
        try:
            noted = msgspec.json.decode(self._pid_file.read_bytes(), type=_PidFile)
        except (FileNotFoundError, msgspec.MsgspecError):
            return
        stale = Process(noted.pid, noted.started)
        if stale.alive:
            stale.end(self._stop_signal)
        self._pid_file.unlink(missing_ok=True)

    def _turn_log(self) -> None:
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))

    def _reap(self, timeout: float) -> None:
        if self._child is None:
            return
        try:
            self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child = None
        self.process = None
        self._pid_file.unlink(missing_ok=True)


def private_folder(path: Path) -> Path:
    """Make the folder (0700) if it isn't there."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


def write_private(path: Path, content: bytes) -> None:
    """Write the file for its owner's eyes only (0600), whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
