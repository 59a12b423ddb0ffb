"""The process that answers one question and ends: python -m libs.adapters.warehouse.answering, Asked on its stdin.

Before it hears the SQL it gives up what it won't need: more memory, more time, and writing any file.
"""

from __future__ import annotations

import math
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
import pyarrow as pa

from libs.adapters.warehouse.database import Database
from libs.adapters.warehouse.query import distinct
from libs.adapters.warehouse.question import Asked, Limits, Said, too_hungry, too_slow
from libs.errors import DrpError, Permanent

__all__ = ["main"]

_OF_OURS: Final = 512
"""Megabytes of addresses that programs and libraries take, beside what DuckDB counts."""
_SPARED: Final = 2
"""Seconds after which the system ends what hears no interrupt."""
_ROWS: Final = 2_048
_NICENESS: Final = 10


def main() -> None:
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Asked)
    answers = os.dup(1)
    os.dup2(2, 1)  # nothing else gets between the answers
    try:
        said, rows = _answered(asked)
    except DrpError as error:
        said, rows = Said(what=error.what, why=error.why, fix=error.fix), b""
    with os.fdopen(answers, "wb") as out:
        out.write(msgspec.json.encode(said) + b"\n")
        out.write(rows)
    os._exit(0)


def _answered(asked: Asked) -> tuple[Said, pa.Buffer | bytes]:
    limits = asked.limits
    with Database.generation(Path(asked.path), frank=True, memory_limit=f"{limits.memory}MB") as generation:
        _limit(limits)
        began = time.monotonic()
        with _stopped_after(limits, generation):
            generation.ensure_query(asked.sql)
            reader = generation.arrow(asked.sql, batch_rows=_ROWS)
            most = _most_rows(len(reader.schema), limits)
            table = _first(reader, most, limits)
        said = Said(cut=table.num_rows > most, seconds=time.monotonic() - began)
    return said, _stream(distinct(table.slice(0, most)))


def _most_rows(columns: int, limits: Limits) -> int:
    """How many rows of so many columns are shown.

    Raises:
        Permanent: there are too many columns.
    """
    if columns > limits.columns:
        raise Permanent(
            f"the answer has more than {limits.columns:,} columns",
            why=f"it has {columns:,}",
            fix="fewer columns",
        )
    return min(limits.rows, limits.cells // columns)


def _limit(limits: Limits) -> None:
    memory, seconds = (limits.memory + _OF_OURS) * 2**20, math.ceil(limits.seconds) + _SPARED
    # The greater limit kills without a word of why; and what its start took is not the question's.
    resource.setrlimit(resource.RLIMIT_CPU, (_spent() + seconds, _spent() + seconds + 1))
    for what in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(what, (0, 0))
    if sys.platform != "darwin":  # which limits no addresses: there only DuckDB's own limit and the time hold
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    signal.alarm(seconds)
    os.nice(_NICENESS)


def _spent() -> int:
    """Seconds of a processor that this process took so far."""
    return math.ceil(time.process_time())


@contextmanager
def _stopped_after(limits: Limits, generation: Database) -> Iterator[None]:
    late = threading.Event()

    def stop() -> None:
        late.set()
        generation.interrupt()

    timer = threading.Timer(limits.seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    except DrpError as error:
        if late.is_set():
            raise too_slow(limits) from None
        if "Out of Memory" in (error.why or ""):
            raise too_hungry(limits) from None
        if error.fix is None:  # DuckDB's words, under a headline made of the statement
            raise Permanent("the query is refused", why=error.why) from None
        raise
    except (MemoryError, pa.ArrowMemoryError):
        raise too_hungry(limits) from None
    finally:
        timer.cancel()


def _first(reader: pa.RecordBatchReader, most: int, limits: Limits) -> pa.Table:
    """One row more than may be shown, if there is one: by it we know.

    Raises:
        Permanent: so many rows are too large.
    """
    batches, rows, size = [], 0, 0
    for batch in reader:
        wanted = batch.slice(0, most + 1 - rows)
        batches.append(wanted)
        rows, size = rows + wanted.num_rows, size + wanted.nbytes
        if size > limits.size:
            raise Permanent(
                f"the answer is larger than {limits.size / 1e6:g} MB",
                why="its rows are",
                fix="fewer columns, or rows",
            )
        if rows > most:
            break
    return pa.Table.from_batches(batches, reader.schema)


def _stream(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


if __name__ == "__main__":
    main()
