"""Spans on disk: one SQLite file in WAL mode, bounded by age and by count.

One thread writes, one reads. A span is kept as the bytes that OTLP sent, beside the few columns that are
looked for. Traces are no part of the promise: a file that cannot be read gives way to an empty one.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["KeptSpan", "Search", "SpanDisk", "SpanRow"]

FORMAT: Final = 1
PRUNE_EVERY: Final = 20_000
PRUNE_SLICE: Final = 20_000
SCANNED_AT_MOST: Final = 200_000

SCHEMA: Final = """
-- one row per process that sent spans: what it says of itself
CREATE TABLE processes (id INTEGER PRIMARY KEY, service TEXT NOT NULL, document BLOB NOT NULL UNIQUE);
-- one row per service and name of a step
CREATE TABLE operations (service TEXT, name TEXT, PRIMARY KEY (service, name)) WITHOUT ROWID;
-- one row per span
CREATE TABLE spans (
    id INTEGER PRIMARY KEY, trace_id BLOB NOT NULL, span_id BLOB NOT NULL, process INTEGER NOT NULL,
    service TEXT NOT NULL, operation TEXT NOT NULL, start_us INTEGER NOT NULL, duration_us INTEGER NOT NULL,
    document BLOB NOT NULL
);
CREATE UNIQUE INDEX spans_identity ON spans (trace_id, span_id);
CREATE INDEX spans_by_service ON spans (service, start_us);
"""

log = logging.getLogger("drp.traces")


class SpanRow(NamedTuple):
    """A span as it arrives. Times in microseconds; process and document as OTLP protobuf."""

    trace_id: bytes
    span_id: bytes
    service: str
    process: bytes
    operation: str
    start_us: int
    duration_us: int
    document: bytes


class KeptSpan(NamedTuple):
    """A span as it is read."""

    process: int
    document: bytes


@dataclass(frozen=True, slots=True)
class Search:
    """Spans of a service that started between two moments (µs), newest first."""

    service: str
    start_us: int
    end_us: int
    operation: str | None = None
    min_duration_us: int = 0
    max_duration_us: int | None = None


class SpanDisk:
    """The file traces.db in `folder`. Every method blocks. `add` belongs to one thread, the rest to another.

    Args:
        max_age: seconds for which a span is kept.
        max_spans: how many are kept; the oldest go first.
    """

    def __init__(self, folder: Path, *, max_age: float = 7 * 86_400, max_spans: int = 1_000_000) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._max_age_us = int(max_age * 1_000_000)
        self._max_spans = max_spans
        path = folder / "traces.db"
        self._writer = _opened(path)
        self._reader = sqlite3.connect(path, check_same_thread=False)
        self._reader.execute("PRAGMA query_only = on")
        self._processes: dict[bytes, int] = {}
        self._operations: set[tuple[str, str]] = set()
        self._since_pruned = PRUNE_EVERY

    def add(self, rows: Sequence[SpanRow]) -> None:
        """Keep the spans, in one transaction; one that is there already is left as it is."""
        with self._writer:
            processes = [self._process(row) for row in rows]
            seen = {(row.service, row.operation) for row in rows} - self._operations
            self._writer.executemany("INSERT OR IGNORE INTO operations VALUES (?, ?)", seen)
            self._writer.executemany(
                "INSERT OR IGNORE INTO spans (trace_id, span_id, process, service, operation, start_us,"
                " duration_us, document) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (
                        r.trace_id,
                        r.span_id,
                        process,
                        r.service,
                        r.operation,
                        r.start_us,
                        r.duration_us,
                        r.document,
                    )
                    for r, process in zip(rows, processes, strict=True)
                ),
            )
        self._operations |= seen
        self._since_pruned += len(rows)
        if self._since_pruned >= PRUNE_EVERY:
            self.prune(now_us=time.time_ns() // 1000)
            self._since_pruned = 0

    def prune(self, *, now_us: int) -> None:
        """Remove the spans that are too old or too many."""
        with self._writer:
            self._writer.execute(
                "DELETE FROM spans WHERE id <= (SELECT max(id) FROM spans) - ?", (self._max_spans,)
            )
        while True:
            with self._writer:
                # oldest first in the order of arrival: no index for the age, and no long lock
                removed = self._writer.execute(
                    "DELETE FROM spans WHERE id IN (SELECT id FROM spans ORDER BY id LIMIT ?)"
                    " AND start_us < ?",
                    (PRUNE_SLICE, now_us - self._max_age_us),
                ).rowcount
            if removed < PRUNE_SLICE:
                return

    def services(self) -> list[str]:
        return [
            name for (name,) in self._reader.execute("SELECT DISTINCT service FROM operations ORDER BY 1")
        ]

    def operations(self, service: str) -> list[str]:
        found = self._reader.execute("SELECT name FROM operations WHERE service = ? ORDER BY 1", (service,))
        return [name for (name,) in found]

    def find(self, search: Search) -> Iterator[tuple[bytes, bytes]]:
        """(trace id, span document) of the spans searched for, at most SCANNED_AT_MOST."""
        sql = (
            "SELECT trace_id, document FROM spans"
            " WHERE service = ? AND start_us BETWEEN ? AND ? AND duration_us >= ?"
        )
        values: list[object] = [search.service, search.start_us, search.end_us, search.min_duration_us]
        if search.operation is not None:
            sql += " AND operation = ?"
            values.append(search.operation)
        if search.max_duration_us is not None:
            sql += " AND duration_us <= ?"
            values.append(search.max_duration_us)
        yield from self._reader.execute(f"{sql} ORDER BY start_us DESC LIMIT {SCANNED_AT_MOST}", values)

    def spans(self, trace_id: bytes) -> list[KeptSpan]:
        """The trace's spans in order of their start; empty if it isn't known."""
        found = self._reader.execute(
            "SELECT process, document FROM spans WHERE trace_id = ? ORDER BY start_us, id", (trace_id,)
        )
        return [KeptSpan(*row) for row in found]

    def processes(self, ids: Iterable[int]) -> dict[int, tuple[str, bytes]]:
        """(service, OTLP resource) of each."""
        sql = "SELECT service, document FROM processes WHERE id = ?"
        return {one: self._reader.execute(sql, (one,)).fetchone() for one in ids}

    def count(self) -> int:
        (number,) = self._reader.execute("SELECT count(*) FROM spans").fetchone()
        return int(number)

    def close(self) -> None:
        self._reader.close()
        self._writer.close()

    def _process(self, row: SpanRow) -> int:
        known = self._processes.get(row.process)
        if known is None:
            self._writer.execute(
                "INSERT OR IGNORE INTO processes (service, document) VALUES (?, ?)",
                (row.service, row.process),
            )
            found = self._writer.execute("SELECT id FROM processes WHERE document = ?", (row.process,))
            (known,) = found.fetchone()
            self._processes[row.process] = known
        return known


def _opened(path: Path) -> sqlite3.Connection:
    try:
        return _prepared(path)
    except sqlite3.DatabaseError as error:
        aside = path.with_suffix(f".unreadable-{int(time.time())}")
        log.warning("%s cannot be read (%s): it is now %s, and traces start afresh", path, error, aside.name)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        path.rename(aside)
        return _prepared(path)


def _prepared(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("PRAGMA synchronous = normal")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, FORMAT):
            raise sqlite3.DatabaseError(f"format {version}, this version reads {FORMAT}")
        if version == 0:
            connection.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;")
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection
