"""What the processes of a platform hold in memory and spend in time, sampled while something else runs."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psycopg

__all__ = ["Sampler", "Used", "resident"]

EVERY: Final = 0.5
_LANDED: Final = "SELECT coalesce(sum(accepted), 0)::bigint FROM ops.batches"


@dataclass(frozen=True, slots=True)
class Used:
    """Seconds of CPU, and mebibytes: at the start, at 30 % of the landing, at its end, when all was settled."""

    cpu_seconds: float
    start: float
    at_30_percent: float
    at_100_percent: float
    settled: float
    median: float
    highest: float


@dataclass
class Sampler:
    """Samples the processes until it is left. Shared pages of a process tree are counted once."""

    pids: Mapping[str, int]
    postgres_url: str
    orders: int
    samples: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    _spent: dict[str, float] = field(default_factory=dict)
    _left: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Sampler:
        self._spent = {name: -_seconds(pid) for name, pid in self.pids.items()}
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        if self._thread is not None:
            self._thread.join()
        self._spent = {name: self._spent[name] + _seconds(pid) for name, pid in self.pids.items()}

    def found(self) -> dict[str, Used]:
        return {name: self._found(name) for name in self.pids}

    def _found(self, name: str) -> Used:
        held = [sample[name] for _, sample in self.samples]
        return Used(
            cpu_seconds=self._spent[name],
            start=held[0],
            at_30_percent=self._when(name, 0.3),
            at_100_percent=self._when(name, 1.0),
            settled=held[-1],
            median=statistics.median(held),
            highest=max(held),
        )

    def _when(self, name: str, share: float) -> float:
        reached = (sample[name] for landed, sample in self.samples if landed >= share * self.orders)
        return next(reached, self.samples[-1][1][name])

    def _run(self) -> None:
        with psycopg.connect(self.postgres_url, autocommit=True) as connection:
            more = True
            while more:
                began = time.monotonic()
                more = not self._left.is_set()
                (landed,) = connection.execute(_LANDED).fetchone() or (0,)
                self.samples.append((landed, {name: resident(pid) for name, pid in self.pids.items()}))
                self._left.wait(max(0.0, began + EVERY - time.monotonic()))


def resident(pid: int) -> float:
    """Mebibytes that a process and its children hold."""
    tree = [pid, *_children(pid)]
    if len(tree) == 1:
        return _kibibytes(Path(f"/proc/{pid}/status"), "VmRSS:") / 1024
    return sum(_kibibytes(Path(f"/proc/{each}/smaps_rollup"), "Pss:") for each in tree) / 1024


def _seconds(pid: int) -> float:
    """CPU that a process and its children have used, also those that it has seen end."""
    ticks = 0
    for each in [pid, *_children(pid)]:
        try:
            numbers = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += sum(map(int, numbers[11:15] if each == pid else numbers[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _children(pid: int) -> Iterator[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return
    for child in map(int, text.split()):
        yield child
        yield from _children(child)


def _kibibytes(path: Path, line: str) -> int:
    """0 for a process that has just ended."""
    try:
        return next(
            (int(each.split()[1]) for each in path.read_text().splitlines() if each.startswith(line)), 0
        )
    except OSError:
        return 0
