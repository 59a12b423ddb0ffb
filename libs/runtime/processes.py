"""Processes known for sure: a pid alone may belong to somebody else by the time it is signalled."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Process", "free_port", "give_way", "is_free", "next_free_port", "wait_for_end"]

LOWEST_PORT: Final = 15_000
_handed_out: Final[set[int]] = set()


@dataclass(frozen=True)
class Process:
    """A running process, told from a later one with the same number by when it was started."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process that has this number now; None if there is none or only its zombie."""
        started = _started(pid)
        return None if started is None else cls(pid, started)

    @property
    def alive(self) -> bool:
        return _started(self.pid) == self.started

    def send(self, number: int) -> None:
        """Send a signal if the process is still the same one."""
        if self.alive:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return

    def end(self, number: int = signal.SIGTERM, *, timeout: float = 10) -> None:
        """Ask it to end, wait, and kill it when the time (seconds) is up."""
        self.send(number)
        if not wait_for_end([self], timeout=timeout):
            self.send(signal.SIGKILL)
            wait_for_end([self], timeout=5)


def wait_for_end(processes: list[Process], *, timeout: float) -> bool:
    """True once none of them is alive, False if one still is after the time (seconds)."""
    deadline = time.monotonic() + timeout
    while any(process.alive for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def give_way(niceness: int) -> None:
    """Leave the processors to other processes that want them, from 0 (nobody) to 19."""
    if niceness:
        os.nice(niceness)
        # A Linux that groups processes by session weighs the sessions against each other, each at 0.
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(niceness))


def free_port() -> int:
    """A port of the loopback that nobody listens on, another one at each call of a process.

    Not one of those that the system hands to outgoing connections: a server that is away for a moment would
    find its port taken by some client, or a client that retries would be connected to itself.
    """
    tries = [secrets.randbelow(_first_of_outgoing() - LOWEST_PORT) + LOWEST_PORT for _ in range(50)]
    # One handed out before may not be listened on yet.
    unused = [port for port in tries if port not in _handed_out]
    found = next((bound for port in (*unused, 0) if (bound := _bound(port))), None)
    if found is None:
        raise OSError("the system has no free port on the loopback")
    _handed_out.add(found)
    return found


def next_free_port(first: int) -> int:
    """The first free one from there on, or any other if none of the next hundred is."""
    return next((port for port in range(first, first + 100) if is_free(port)), None) or free_port()


def is_free(port: int) -> bool:
    """Whether a server could listen on that port of the loopback."""
    return _bound(port) is not None


def _bound(port: int) -> int | None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return None
        return int(probe.getsockname()[1])


def _first_of_outgoing() -> int:
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        first = 32_768
    return first if first > LOWEST_PORT + 1_000 else 32_768


def _started(pid: int) -> str | None:
    if Path("/proc/self/stat").exists():
        return _started_linux(pid)
    listed = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()
    if not listed or listed.startswith("Z"):
        return None
    return listed.split(maxsplit=1)[1]


def _started_linux(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the program's name in parentheses, and may hold anything.
    fields = stat.rpartition(")")[2].split()
    if fields[0] in "ZX":
        return None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}:{fields[19]}"
