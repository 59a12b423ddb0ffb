"""The folder of a dataset's generations: immutable files, and the link to the one that readers see.

Everything here is files; which generation is current is decided in Postgres, the link only follows.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import sys
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from libs.adapters.warehouse.database import Database
from libs.errors import Permanent, Transient

__all__ = ["Sealed", "Warehouse", "sha256_of"]

_FILE: Final = re.compile(r"gen-\d+-\d+\.duckdb")
_FICLONE: Final = 0x40049409
_READ_ONLY: Final = 0o444
_WRITABLE: Final = 0o644
_LOOKS: Final = 10


@dataclass(frozen=True, slots=True)
class Sealed:
    """A generation's file once nothing more is written to it. sha256 in hexadecimal, size in bytes."""

    sha256: str
    size: int


class Warehouse:
    """The generations of one dataset, in `root/<dataset>`. Every method blocks."""

    def __init__(self, root: Path, dataset: str) -> None:
        self.dataset = dataset
        self.folder = root / dataset

    @property
    def current_link(self) -> Path:
        """What readers open. It is there once something was published."""
        return self.folder / "current.duckdb"

    @staticmethod
    def file_name(generation: int, attempt: int = 1) -> str:
        return f"gen-{generation:06d}-{attempt}.duckdb"

    def path_of(self, file: str) -> Path:
        return self.folder / file

    def current(self) -> Path | None:
        """The file that the link leads to; None if there is no link, or no such file."""
        before = None
        while self.current_link.is_symlink():
            path = self.current_link.resolve()
            if path.is_file():
                return path
            if path == before:
                return None
            before = path  # pruned between the two looks, if the link has moved on
        return None

    def prepare(self, file: str, *, clone_of: str | None = None) -> Path:
        """The path of a new candidate: absent, or a writable copy of another generation's file.

        Raises:
            Permanent: the file to clone isn't there.
            Transient: it could not be written.
        """
        target = self.path_of(file)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.remove(file)
            if clone_of is not None:
                _clone(self.path_of(clone_of), target)
                target.chmod(_WRITABLE)
        except FileNotFoundError as error:
            raise Permanent(
                f"{clone_of} is missing from {self.folder}", why=str(error), fix="drp rebuild --full"
            ) from error
        except OSError as error:
            raise Transient(f"could not write {target}", why=str(error)) from error
        return target

    def open_candidate(self, file: str, *, memory_limit: str | None = None) -> Database:
        return Database.candidate(self.path_of(file), memory_limit=memory_limit)

    def connect_read_only(self, path: Path | None = None) -> Database:
        """Open a generation, by default the current one, as it is now: a later swap does not disturb it.

        Raises:
            Permanent: there is no such generation.
        """
        for _ in range(_LOOKS):
            target = path or self.current()
            if target is None or (path is not None and not path.is_file()):
                break
            try:
                return Database.generation(target)
            except Transient:
                if target.is_file() or path is not None:
                    raise
            # Pruned between the look at the link and the opening: the link has moved on since.
        missing = "nothing is published yet" if path is None else f"there is no {path}"
        raise Permanent(missing, fix="drp warehouse ls")

    def seal(self, database: Database) -> Sealed:
        """Close a candidate for good: all of it in one file, on the disk, and read-only.

        Raises:
            Permanent: a write-ahead log is left beside the file; it would make the file unreadable.
            Transient: it could not be written.
        """
        database.run("CHECKPOINT")
        database.close()
        if database.path is None:
            raise Permanent("a database in memory is no generation")
        return seal_file(database.path)

    def point_current_at(self, file: str) -> bool:
        """Move the link, at once and for good; False if it stood there already.

        Raises:
            Permanent: there is no such file.
        """
        if not self.path_of(file).is_file():
            raise Permanent(f"{file} is missing from {self.folder}", fix="drp rebuild --full")
        if self.current_link.is_symlink() and self.current_link.readlink() == Path(file):
            return False
        fresh = self.folder / f".current-{secrets.token_hex(8)}"
        try:
            fresh.symlink_to(file)
            fresh.replace(self.current_link)
            _sync(self.folder)
        except OSError as error:
            with suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise Transient(f"could not move {self.current_link}", why=str(error)) from error
        return True

    def files(self) -> set[str]:
        """The names of the generations' files that are there.

        Raises:
            Transient: the folder could not be read.
        """
        try:
            if not self.folder.is_dir():
                return set()
            return {entry.name for entry in self.folder.iterdir() if _FILE.fullmatch(entry.name)}
        except OSError as error:
            raise Transient(f"could not read {self.folder}", why=str(error)) from error

    def sha256_of(self, file: str) -> str:
        """Of a generation's file, in hexadecimal.

        Raises:
            Transient: it could not be read; it may be gone.
        """
        path = self.path_of(file)
        try:
            return sha256_of(path)
        except OSError as error:
            raise Transient(f"could not read {path}", why=str(error)) from error

    def prune(self, spare: Collection[str], *, among: Collection[str] | None = None) -> list[str]:
        """Remove every generation's file but those to spare, and what hangs on it; the names removed, sorted.

        The file that the link leads to is always spared. Readers that have a file open keep it.

        Args:
            among: only these are removed, whatever else has come; None means all that are there now.

        Raises:
            Transient: one could not be removed; those before it are.
        """
        current = self.current()
        kept = {*spare, *(() if current is None else (current.name,))}
        doomed = sorted((self.files() if among is None else set(among)) - kept)
        for name in doomed:
            self.remove(name)
        return doomed

    def remove(self, file: str) -> None:
        """Remove a file, if it is there, and what hangs on it.

        Raises:
            Transient: it could not be removed.
        """
        path = self.path_of(file)
        try:
            for leftover in (path, Path(f"{path}.wal")):
                leftover.unlink(missing_ok=True)
        except OSError as error:
            raise Transient(f"could not remove {path}", why=str(error)) from error
        shutil.rmtree(f"{path}.tmp", ignore_errors=True)


def seal_file(path: Path) -> Sealed:
    if Path(f"{path}.wal").exists():
        raise Permanent(f"{path.name} still has a write-ahead log after its checkpoint")
    try:
        with path.open("rb") as file:
            os.fsync(file.fileno())
        path.chmod(_READ_ONLY)
        _sync(path.parent)
        return Sealed(sha256_of(path), path.stat().st_size)
    except OSError as error:
        raise Transient(f"could not seal {path}", why=str(error)) from error


def sha256_of(path: Path) -> str:
    """Of the file's bytes, in hexadecimal; read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _clone(source: Path, target: Path) -> None:
    """Copy a file; on a file system that can, by sharing its blocks."""
    if sys.platform == "linux":
        import fcntl

        with source.open("rb") as old, target.open("wb") as new, suppress(OSError):
            fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
            return
    shutil.copyfile(source, target)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
