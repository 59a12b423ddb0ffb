"""The data folder of an embedded platform: its format, its lock, and what runs in it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, TypeVar

import msgspec

from libs.errors import Permanent, Transient
from libs.runtime.embedded.daemon import private_folder, write_private
from libs.runtime.processes import Process

__all__ = ["FORMAT", "Failure", "Home", "Part", "State"]

T = TypeVar("T")

FORMAT: Final = 1
"""Of the data folder. Raise it when an older version could no longer read what a newer one wrote."""


class Part(msgspec.Struct, kw_only=True):
    """One process of the platform."""

    name: str
    kind: Literal["server", "service"]
    pid: int | None
    started: str | None
    port: int
    url: str
    restarts: int
    ready: bool

    @property
    def process(self) -> Process | None:
        return None if self.pid is None or self.started is None else Process(self.pid, self.started)


class State(msgspec.Struct, kw_only=True):
    """What the supervisor last wrote down. environment holds passwords."""

    pid: int
    started: str
    started_at: datetime
    ready: bool
    parts: list[Part]
    environment: dict[str, str]

    @property
    def supervisor(self) -> Process:
        return Process(self.pid, self.started)


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a supervisor that nobody watches gave up."""

    what: str
    why: str | None
    fix: str | None
    transient: bool

    def error(self) -> Permanent | Transient:
        kind = Transient if self.transient else Permanent
        return kind(self.what, why=self.why, fix=self.fix)


class Home:
    """The data folder. Nothing is made or changed in it before claimed()."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._run = self.folder / "run"

    @property
    def log(self) -> Path:
        return self.folder / "logs" / "supervisor.log"

    def check_format(self) -> None:
        """
        Raises:
            Permanent: a newer version wrote this folder.
        """
        try:
            found = int((self.folder / "format").read_text())
        except FileNotFoundError:
            return
        except ValueError as error:
            raise Permanent(f"{self.folder}/format holds no number", fix="another DRP_HOME") from error
        if found > FORMAT:
            raise Permanent(
                f"the data in {self.folder} is of format {found}",
                why=f"this version reads up to {FORMAT}",
                fix="git pull && make install, or another DRP_HOME",
            )

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Make the folder ours; nobody else's until the block ends, however it ends.

        Raises:
            Permanent: another supervisor has it, or a newer version wrote it.
        """
        self.check_format()
        for folder in (self.folder, self._run, self.folder / "logs"):
            private_folder(folder)
        descriptor = os.open(self._run / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise self.taken() from error
            write_private(self.folder / "format", str(FORMAT).encode())
            yield
        finally:
            os.close(descriptor)

    def taken(self) -> Permanent:
        return Permanent(f"a platform runs already in {self.folder}", fix="drp status, or drp down")

    def read(self) -> State | None:
        """What the last supervisor wrote, alive or not; None if it left in an orderly way."""
        return _read(self._run / "state.json", State)

    def running(self) -> State | None:
        """The same, if that supervisor is alive."""
        state = self.read()
        return state if state is not None and state.supervisor.alive else None

    def write(self, state: State) -> None:
        write_private(self._run / "state.json", msgspec.json.encode(state))

    def forget(self) -> None:
        (self._run / "state.json").unlink(missing_ok=True)

    def read_failure(self) -> Failure | None:
        return _read(self._run / "failure.json", Failure)

    def write_failure(self, failure: Failure | None) -> None:
        path = self._run / "failure.json"
        if failure is None:
            path.unlink(missing_ok=True)
        else:
            write_private(path, msgspec.json.encode(failure))


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
