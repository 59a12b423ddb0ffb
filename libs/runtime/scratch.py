"""A container's entry point: temporary files go to the data volume, then the command takes this process' place.

    python -m libs.runtime.scratch COMMAND …

A container's own /tmp is memory. Where TMPDIR is set it becomes a link to a folder of this container's own, below
DRP_HOME/tmp; whatever is run in the container later finds that by the same TMPDIR. Several containers share the
volume: a folder is in use while its lock is held, which the kernel gives back when the container's first process
ends. What nobody uses any more is removed. Without TMPDIR there is only the command.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["main", "take"]

LOCK: Final = ".in-use"


def take(volume: Path, link: Path) -> int:
    """Let link lead to a new folder on the volume, and remove those that nobody uses.

    Returns:
        The descriptor that holds the folder's lock.

    Raises:
        OSError: the volume can't be written to.
    """
    volume.mkdir(parents=True, exist_ok=True)
    for folder in volume.iterdir():
        with suppress(OSError):
            _remove_unused(folder)
    # Somebody else may have removed it in the moment before it was locked.
    while (lock := _locked(folder := _new(volume))) is None:
        pass
    link.unlink(missing_ok=True)
    link.symlink_to(folder)
    return lock


def _new(volume: Path) -> Path:
    return Path(tempfile.mkdtemp(prefix=f"{socket.gethostname()}-", dir=volume))


def _remove_unused(folder: Path) -> None:
    if (lock := _locked(folder)) is not None:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _locked(folder: Path) -> int | None:
    """The folder's lock; None if another has it, or the folder is gone."""
    path = folder / LOCK
    lock = -1
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), path.stat()):
            held, lock = lock, -1
            return held
    except (BlockingIOError, FileNotFoundError):
        pass
    finally:
        if lock >= 0:
            os.close(lock)
    return None


def main(command: list[str]) -> int:
    """Does not return unless the command can't be run."""
    if link := os.environ.get("TMPDIR"):
        try:
            os.set_inheritable(take(Path(os.environ["DRP_HOME"]) / "tmp", Path(link)), True)
        except OSError as error:  # landing, for one, needs no such files
            sys.stderr.write(f"temporary files are in memory, for the volume can't have them: {error}\n")
    try:
        os.execvp(command[0], command)  # noqa: S606 - the container's own command, as it was given
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
