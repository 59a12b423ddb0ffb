"""Build a generation's file from landed rows: staging, rejected rows, marts and what the file says of itself.

Applying batches to a clone of an earlier generation gives the same rows as building from all of them anew,
however the events were cut into batches and in whatever order those come. Nothing here knows where the rows
are from: RAW, or an archive that is being replayed.

The steps, each one statement over whole columns:
1. arrivals: the landed rows, typed as the contract says
2. landed: of each key the version with the greatest (event_time, source_system, event_id), unless the file
   has a greater one
3. judged: `staging.sql` over landed, with the row rules that each row breaks
4. staging.<dataset> and staging.<dataset>_rejected: the judged rows in place of their keys' older versions
5. analytics: every mart anew
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from libs.adapters.warehouse import Database, Warehouse
from libs.datasets import Dataset, quoted
from libs.pipeline.build_steps import Built, Recipe, Steps
from libs.pipeline.plan import staging_fingerprint

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Built", "Recipe", "build_generation", "landed_select", "staging_is_stale"]


def build_generation(
    warehouse: Warehouse,
    recipe: Recipe,
    landed: Iterable[pa.RecordBatch | pa.Table],
    *,
    file: str,
    clone_of: str | None = None,
    memory_limit: str | None = None,
    stopped: Callable[[], bool] = lambda: False,
    timed: Callable[[str, float], None] = lambda _step, _seconds: None,
) -> Built:
    """Build and seal one file of the warehouse's folder. Blocks.

    Memory is bounded by the largest piece of `landed` and by memory_limit.

    Args:
        landed: RAW rows in pieces, in any order: the columns of `Dataset.landed_columns`, numbers and ids as
            text or as they are. Read once.
        file: the name to build under; a file of that name is replaced.
        clone_of: the file to build on; None builds from nothing.
        memory_limit: of DuckDB, e.g. `2GB`; what is more is kept on disk beside the file while it is built.
        stopped: looked at between steps; once it says so, the build ends.
        timed: told the name and the seconds of each step.

    Raises:
        Permanent: the SQL of the dataset is wrong, or a batch is in the clone already.
        Transient: it was stopped, or the disk is full.
        Whatever `landed` raises. No file is left then, nor in the other cases.
    """
    with _timing("clone", timed):
        warehouse.prepare(file, clone_of=clone_of)
    database: Database | None = None
    try:
        database = warehouse.open_candidate(file, memory_limit=memory_limit)
        step = Steps(database, recipe, stopped)
        with _timing("load", timed):
            step.arrive(landed)
        with _timing("stage", timed):
            superseded = step.resolve()
            step.judge()
            step.stage()
        with _timing("marts", timed):
            step.model()
        with _timing("hash", timed):
            built = step.describe(superseded)
        with _timing("seal", timed):
            sealed = warehouse.seal(database)
    except BaseException:
        if database is not None:
            database.close()
        warehouse.remove(file)
        raise
    return replace(built, sha256=sealed.sha256, bytes=sealed.size)


def landed_select(dataset: Dataset, condition: str) -> str:
    """The Postgres query whose rows `build_generation` takes; condition is SQL over RAW's columns."""
    columns = ", ".join(
        f"{quoted(name)}::text AS {quoted(name)}"
        if kind == "UUID" or kind.startswith("DECIMAL")
        else quoted(name)
        for name, kind in dataset.landed_columns
    )
    return f"SELECT {columns} FROM {dataset.raw_table} WHERE {condition}"


def staging_is_stale(warehouse: Warehouse, file: str, dataset: Dataset) -> bool:
    """Whether the file's staging rows were made with another staging.sql or other row rules than today's.

    Raises:
        Permanent: there is no such file.
    """
    with warehouse.connect_read_only(warehouse.path_of(file)) as generation:
        made_with = generation.value("SELECT staging_fingerprint FROM meta.build")
    return bool(made_with != staging_fingerprint(dataset))


@contextmanager
def _timing(step: str, timed: Callable[[str, float], None]) -> Iterator[None]:
    began = time.perf_counter()
    yield
    timed(step, time.perf_counter() - began)
